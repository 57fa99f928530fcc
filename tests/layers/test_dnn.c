/* test_dnn.c - cuDNN graphs of convolutions are planned for GPUs that are not here: forward, adjoint and weight gradient, in
 * every precision, for compute capabilities 8.0, 9.0 and 10.0. cuDNN plans from a device's properties; fused graphs are
 * compiled for the GPU and need its driver, so they are not among these. */
#include <stdio.h>
#include <string.h>

#include "layers/cuda/dnn.h"
#include "tests/check.h"

/* An A100, an H200 and a B200, as far as plans depend on it. NULL if this cuDNN reads other properties. */
static cudnnBackendDescriptor_t properties_of(int capability)
{
    char text[1024];
    bool old = capability == 80;
    cudnnBackendDescriptor_t d = NULL;
    snprintf(text, sizeof text,
             "{\"deviceVer\":%d,\"driverVer\":13000,\"cudaDeviceId\":0,\"deviceName\":\"a GPU\",\"pciDeviceId\":0,"
             "\"isTccDriver\":0,\"l2CacheSize\":%d,\"maxCtasPerSM\":32,\"maxRegistersPerSM\":65536,"
             "\"maxSharedMemoryPerBlock\":49152,\"maxSharedMemoryPerBlockOptin\":%d,\"maxThreadsPerBlock\":1024,"
             "\"maxThreadsPerSM\":2048,\"memClockRateKHz\":2600000,\"multiProcessorCount\":%d,\"regsPerBlock\":65536,"
             "\"reservedSharedMemoryPerBlock\":1024,\"smClockRateKHz\":1800000,\"supportCoopLaunch\":1,"
             "\"totalGlobalMem\":80000000000,\"warpSize\":32,\"maxBlockSize\":[1024,1024,64],"
             "\"maxGridSize\":[2147483647,65535,65535]}",
             10 * capability, old ? 41943040 : 62914560, old ? 166912 : 232448, old ? 108 : 132);
    if (cudnnBackendCreateDescriptor(CUDNN_BACKEND_DEVICEPROP_DESCRIPTOR, &d) != CUDNN_STATUS_SUCCESS)
        return NULL;
    if (cudnnBackendSetAttribute(d, CUDNN_ATTR_DEVICEPROP_JSON_REPRESENTATION, CUDNN_TYPE_CHAR, (int64_t)strlen(text) + 1,
                                 text) == CUDNN_STATUS_SUCCESS &&
        cudnnBackendFinalize(d) == CUDNN_STATUS_SUCCESS)
        return d;
    cudnnBackendDestroyDescriptor(d);
    return NULL;
}

static enum status first_plan(cudnnBackendDescriptor_t properties, const struct dnn_spec *spec, struct dnn_plan **plan)
{
    enum status status = STATUS_OK;
    int choices[DNN_PROPOSALS], count;
    TRY(dnn_proposals(NULL, properties, spec, DNN_PROPOSALS, choices, &count));
    for (int i = 0; i < count && !*plan; i++)
        TRY(dnn_plan_create(plan, NULL, properties, spec, choices[i], (size_t)256 << 20));
fail:
    return status;
}

int main(void)
{
    static const int capabilities[] = { 80, 90, 100 };
    /* the last two: stems, folded by rows */
    static const struct conv_shape shapes[] = { { 64, 32, 32, 64, 64, 3, 1, 1 }, { 64, 32, 32, 64, 128, 3, 2, 1 },
                                                { 64, 115, 112, 48, 64, 4, 1, 0 }, { 64, 34, 32, 16, 64, 3, 1, 0 } };
    for (int c = 0; c < 3; c++) {
        cudnnBackendDescriptor_t properties = properties_of(capabilities[c]);
        if (!properties)
            return check_skip("this cuDNN does not plan for a device from these properties");
        for (int i = 0; i < 36; i++) {
            struct dnn_spec spec = { .kind = i % 3, .precision = i / 3 % 3, .shape = shapes[i / 9], .rows = i / 9 > 1, .float_result = i % 3 != DNN_GRADIENT };
            struct dnn_plan *plan = NULL;
            char key[128];
            dnn_spec_key(&spec, key);
            enum status status = first_plan(properties, &spec, &plan);
            if (status == STATUS_OK && !plan) { /* as conv.c does */
                spec.float_result = false;
                status = first_plan(properties, &spec, &plan);
            }
            CHECK(status == STATUS_OK && plan, "%s, compute capability %d: no plan", key, capabilities[c]);
            dnn_plan_destroy(plan);
        }
        cudnnBackendDestroyDescriptor(properties);
    }
    return check_done("dnn");
}
