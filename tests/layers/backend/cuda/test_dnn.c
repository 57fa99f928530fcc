/* test_dnn.c - plans graphs of convolutions with cuDNN, and compiles their kernels, for GPUs that are not there: cuDNN
 * plans from a device's properties, and with the driver of tests/gpu_emulation/driver it also compiles fused kernels.
 *
 *     test-dnn
 *         Plain convolutions in every precision for compute capabilities 8.0, 9.0 and 10.0; some fused ones for 8.0,
 *         10.0 and 12.0; for 9.0 every fused graph with stride 1 of sdnet18-all at 224x224, one of whose candidates
 *         must be a kernel of wgmma instructions.
 *
 *     test-dnn --all CAPABILITY
 *         Builds every candidate of every graph of sdnet18-all; prints kernels and seconds. */
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "layers/backend/cuda/dnn.h"
#include "layers/backend/cuda/nvrtc.h"
#include "tests/check.h"

enum { BATCH = 256 };
#define WORKSPACE ((size_t)256 << 20)

struct card {
    int capability, l2, shared, multiprocessors, threads;
    const char *name;
};
static const struct card cards[] = { /* an A100, an H200, a B200 and an RTX 5090: the properties that plans depend on */
                                     { 80, 41943040, 166912, 108, 2048, "NVIDIA A100-SXM4-80GB" },
                                     { 90, 62914560, 232448, 132, 2048, "NVIDIA H200" },
                                     { 100, 132644864, 232448, 148, 2048, "NVIDIA B200" },
                                     { 120, 100663296, 101376, 170, 1536, "NVIDIA GeForce RTX 5090" }
};
enum { CARDS = sizeof cards / sizeof *cards };

/* NULL if this cuDNN wants other properties. */
static cudnnBackendDescriptor_t properties_of(const struct card *card)
{
    char text[1024];
    cudnnBackendDescriptor_t d = NULL;
    snprintf(text, sizeof text,
             "{\"deviceVer\":%d,\"driverVer\":13000,\"cudaDeviceId\":0,\"deviceName\":\"%s\",\"pciDeviceId\":0,"
             "\"isTccDriver\":0,\"l2CacheSize\":%d,\"maxCtasPerSM\":32,\"maxRegistersPerSM\":65536,"
             "\"maxSharedMemoryPerBlock\":49152,\"maxSharedMemoryPerBlockOptin\":%d,\"maxThreadsPerBlock\":1024,"
             "\"maxThreadsPerSM\":%d,\"memClockRateKHz\":2600000,\"multiProcessorCount\":%d,\"regsPerBlock\":65536,"
             "\"reservedSharedMemoryPerBlock\":1024,\"smClockRateKHz\":1800000,\"supportCoopLaunch\":1,"
             "\"totalGlobalMem\":80000000000,\"warpSize\":32,\"maxBlockSize\":[1024,1024,64],"
             "\"maxGridSize\":[2147483647,65535,65535]}",
             10 * card->capability, card->name, card->l2, card->shared, card->threads, card->multiprocessors);
    if (cudnnBackendCreateDescriptor(CUDNN_BACKEND_DEVICEPROP_DESCRIPTOR, &d) != CUDNN_STATUS_SUCCESS)
        return NULL;
    if (cudnnBackendSetAttribute(d, CUDNN_ATTR_DEVICEPROP_JSON_REPRESENTATION, CUDNN_TYPE_CHAR,
                                 (int64_t)strlen(text) + 1, text) == CUDNN_STATUS_SUCCESS &&
        cudnnBackendFinalize(d) == CUDNN_STATUS_SUCCESS)
        return d;
    cudnnBackendDestroyDescriptor(d);
    return NULL;
}

/* ---- graphs ---- */

/* The convolutions of sdnet18-all at 224x224, batch 256: four stages, those between the stages, pooling, and the
 * folded stem. */
static const struct conv_shape stages[] = { { BATCH, 56, 56, 64, 64, 3, 1, 1 },
                                            { BATCH, 28, 28, 128, 128, 3, 1, 1 },
                                            { BATCH, 14, 14, 256, 256, 3, 1, 1 },
                                            { BATCH, 7, 7, 512, 512, 3, 1, 1 } };
static const struct conv_shape strided[] = { { BATCH, 112, 112, 64, 64, 3, 2, 1 },
                                             { BATCH, 56, 56, 64, 128, 3, 2, 1 },
                                             { BATCH, 28, 28, 128, 256, 3, 2, 1 },
                                             { BATCH, 14, 14, 256, 512, 3, 2, 1 } };
static const struct conv_shape stem = { BATCH, 115, 112, 48, 64, 4, 1, 0 };
static const enum dnn_epilogue forward_epilogues[] = { DNN_SHRINK, DNN_SHRINK_ADD, DNN_MASK_ADD };
static const enum dnn_epilogue adjoint_epilogues[] = { DNN_ADD, DNN_SCALE, DNN_SUBTRACT };

/* Calls act(spec, context) for every fused graph of these shapes. */
static void for_each_fused(const struct conv_shape *shapes, int count, bool rows,
                           void (*act)(const struct dnn_spec *, void *), void *context)
{
    for (int i = 0; i < count; i++)
        for (int t = 0; t < 6; t++) {
            struct dnn_spec spec = { .kind = t < 3 ? DNN_FORWARD : DNN_ADJOINT,
                                     .epilogue = t < 3 ? forward_epilogues[t] : adjoint_epilogues[t - 3],
                                     .shape = shapes[i],
                                     .precision = PRECISION_BF16,
                                     .k_by_1 = rows };
            if (!rows || t < 3) /* the adjoint of a folded image is not fused: unfolding applies the epilogue */
                act(&spec, context);
        }
}

struct planner {
    const struct card *card;
    cudnnBackendDescriptor_t properties;
};

/* Builds choices first .. last - 1 until one has a kernel whose name contains `wanted` (NULL: any plan). */
static bool builds(const struct planner *p, const struct dnn_spec *spec, const struct dnn_proposals *proposals,
                   int first, int last, const char *wanted, char kernel[DNN_KERNEL_NAME])
{
    bool found = false;
    kernel[0] = '\0';
    for (int i = first; i < last && !found; i++) {
        struct dnn_plan *plan = NULL;
        CHECK(dnn_plan_create(&plan, NULL, p->properties, spec, &proposals->choices[i], WORKSPACE) == STATUS_OK, "%s",
              status_message());
        if (plan)
            dnn_plan_kernel(plan, kernel);
        found = plan && (!wanted || strstr(kernel, wanted));
        dnn_plan_destroy(plan);
    }
    return found;
}

static void want_wgmma(const struct dnn_spec *spec, void *context)
{
    const struct planner *p = context;
    struct dnn_proposals proposals;
    char key[DNN_SPEC_KEY], kernel[DNN_KERNEL_NAME];
    dnn_spec_key(spec, key);
    CHECK(dnn_propose(NULL, p->properties, spec, &proposals) == STATUS_OK, "%s", status_message());
    bool found = builds(p, spec, &proposals, proposals.ranked, proposals.count, "xmma_sm90", kernel);
    printf("%s: %d proposed, %d kernels beyond them; %s\n", key, proposals.ranked, proposals.count - proposals.ranked,
           kernel);
    CHECK(found, "%s: none of %d candidates is a wgmma kernel", key, proposals.count);
}

static void want_plan(const struct dnn_spec *spec, void *context)
{
    const struct planner *p = context;
    struct dnn_proposals proposals;
    char key[DNN_SPEC_KEY], kernel[DNN_KERNEL_NAME];
    if (spec->epilogue != DNN_SHRINK_ADD && spec->epilogue != DNN_ADD) /* a sample */
        return;
    dnn_spec_key(spec, key);
    CHECK(dnn_propose(NULL, p->properties, spec, &proposals) == STATUS_OK, "%s", status_message());
    bool found = builds(p, spec, &proposals, 0, proposals.count, NULL, kernel);
    printf("%s, capability %d: %d proposed, %d kernels beyond them; %s\n", key, p->card->capability, proposals.ranked,
           proposals.count - proposals.ranked, kernel);
    CHECK(found && kernel[0], "%s, compute capability %d: no plan, or no name of its kernel", key, p->card->capability);
}

static void print_all(const struct dnn_spec *spec, void *context)
{
    const struct planner *p = context;
    struct dnn_proposals proposals;
    char key[DNN_SPEC_KEY], text[DNN_CHOICE_TEXT], kernel[DNN_KERNEL_NAME];
    int built = 0;
    dnn_spec_key(spec, key);
    CHECK(dnn_propose(NULL, p->properties, spec, &proposals) == STATUS_OK, "%s", status_message());
    printf("%s\n", key);
    for (int i = 0; i < proposals.count; i++) {
        double began = clock_seconds();
        bool found = builds(p, spec, &proposals, i, i + 1, NULL, kernel);
        dnn_choice_print(&proposals.choices[i], text);
        if (found)
            printf("    %-40s %6.2f s  %s\n", text, clock_seconds() - began, kernel);
        built += found;
    }
    printf("    %d of %d candidates have a plan\n", built, proposals.count);
    fflush(stdout);
    CHECK(built > 0, "%s: no plan", key);
}

/* ---- plain convolutions, in every precision ---- */

static bool has_plain_plan(const struct planner *p, const struct dnn_spec *spec, int *candidates)
{
    struct dnn_proposals proposals;
    char kernel[DNN_KERNEL_NAME];
    CHECK(dnn_propose(NULL, p->properties, spec, &proposals) == STATUS_OK, "%s", status_message());
    *candidates = proposals.count;
    return builds(p, spec, &proposals, 0, proposals.count, NULL, kernel);
}

static void check_plain(const struct planner *p)
{
    /* the last two are stems that are folded with k_by_1 */
    static const struct conv_shape shapes[] = { { 64, 32, 32, 64, 64, 3, 1, 1 },
                                                { 64, 32, 32, 64, 128, 3, 2, 1 },
                                                { 64, 115, 112, 48, 64, 4, 1, 0 },
                                                { 64, 34, 32, 16, 64, 3, 1, 0 } };
    for (int i = 0; i < 36; i++) {
        struct dnn_spec spec = { .kind = i % 3,
                                 .precision = i / 3 % 3,
                                 .shape = shapes[i / 9],
                                 .k_by_1 = i / 9 > 1,
                                 .float_result = i % 3 != DNN_GRADIENT };
        char key[DNN_SPEC_KEY];
        int candidates = 0;
        dnn_spec_key(&spec, key);
        bool found = has_plain_plan(p, &spec, &candidates);
        if (!found) { /* as conv.c does */
            spec.float_result = false;
            found = has_plain_plan(p, &spec, &candidates);
        }
        printf("%s, capability %d: %d proposed\n", key, p->card->capability, candidates);
        CHECK(found, "%s, compute capability %d: no plan", key, p->card->capability);
    }
}

static void check_choices(void)
{
    static const char *const wrong[] = {
        "", "3", "e", "e-1", "e2:", "e2:24", "e2:24.", "e2:24.3x", "e2 :24.3", "e1:1.1:1.1:1.1:1.1:1.1:1.1:1.1:1.1:1.1"
    };
    const struct dnn_choice choice = { .engine = 62, .knob_count = 2, .knobs = { { 2, 4 }, { 17, -1 } } };
    struct dnn_choice read;
    char text[DNN_CHOICE_TEXT];
    dnn_choice_print(&choice, text);
    CHECK(strcmp(text, "e62:2.4:17.-1") == 0, "%s", text);
    CHECK(dnn_choice_parse(text, &read) && memcmp(&read, &choice, sizeof read) == 0, "%s is not read back", text);
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++)
        CHECK(!dnn_choice_parse(wrong[i], &read), "'%s' is taken for a choice", wrong[i]);
}

static void check_finds(void)
{
    char name[32];
    CHECK(library_found("libcudnn_graph.so.9"), "a library that is there is not found");
    CHECK(!library_found("libnvrtc.so.0"), "a library that is not there is found");
    printf("%s %s\n", nvrtc_found(name) ? "cuDNN finds" : "cuDNN does not find", name);
}

static const struct card *card_of(int capability)
{
    for (int i = 0; i < CARDS; i++)
        if (cards[i].capability == capability)
            return &cards[i];
    return NULL;
}

static void check_card(const struct planner *p, bool compiles)
{
    if (p->card->capability != 120)
        check_plain(p);
    if (!compiles)
        return;
    if (p->card->capability == 90) {
        for_each_fused(stages, 4, false, want_wgmma, (void *)p);
        for_each_fused(&stem, 1, true, want_wgmma, (void *)p);
    } else
        for_each_fused(stages + 1, 1, false, want_plan, (void *)p);
    for_each_fused(strided + 1, 1, false, want_plan, (void *)p);
}

static void print_card(const struct planner *p)
{
    for_each_fused(&stem, 1, true, print_all, (void *)p);
    for_each_fused(stages, 4, false, print_all, (void *)p);
    for_each_fused(strided, 4, false, print_all, (void *)p);
}

/* Whether there is a driver, which need not be a GPU's: cuDNN loads kernels through it. */
static bool has_offline_driver(void)
{
    void *driver = dlopen("libcuda.so.1", RTLD_NOW);
    int (*version)(int *) = NULL;
    int number = 0;
    if (driver)
        *(void **)&version = dlsym(driver, "cuDriverGetVersion");
    return version && version(&number) == 0;
}

int main(int argc, char **argv)
{
    bool all = argc == 3 && strcmp(argv[1], "--all") == 0;
    bool compiles = has_offline_driver();
    if (argc > 1 && (!all || !card_of(atoi(argv[2])))) {
        fprintf(stderr, "usage: test-dnn [--all 80|90|100|120]\n");
        return 2;
    }
    check_choices();
    check_finds();
    for (int i = 0; i < CARDS; i++) {
        struct planner p = { .card = &cards[i], .properties = properties_of(&cards[i]) };
        if (!p.properties)
            return check_skip("this cuDNN does not plan for a device from these properties");
        if (all && cards[i].capability == atoi(argv[2]))
            print_card(&p);
        else if (!all)
            check_card(&p, compiles);
        cudnnBackendDestroyDescriptor(p.properties);
    }
    if (!compiles)
        printf("fused graphs are not compiled: libcuda.so.1 of tests/gpu_emulation/driver is not in LD_LIBRARY_PATH\n");
    return check_done("dnn");
}
