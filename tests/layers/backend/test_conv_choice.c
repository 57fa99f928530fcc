/* test_conv_choice.c - which algorithm computes a convolution on CPUs, with every kernel set of this machine: the first
 * of the list that fits, in fp32. A convolution of too many channels for the memory is refused. */
#include <string.h>
#include <sys/resource.h>

#include "layers/backend/cpu/conv.h"
#include "layers/backend/cpu/cpu.h"
#include "layers/backend/device.h"
#include "tests/check.h"

static const struct {
    const char *what;
    struct conv_shape shape;
    unsigned uses;
    const char *forward, *adjoint, *gradient;
} cases[] = {
    { "64 channels of 3x3", { 2, 8, 8, 64, 64, 3, 1, 1 }, 7, "winograd", "winograd", "winograd" },
    { "gradients need fewer channels", { 2, 8, 8, 32, 32, 3, 1, 1 }, 7, "oneDNN", "oneDNN", "winograd" },
    { "a stride", { 2, 8, 8, 64, 64, 3, 2, 1 }, 7, "oneDNN", "oneDNN", "oneDNN" },
    { "an image's channels", { 2, 8, 8, 3, 64, 7, 2, 3 }, 7, "oneDNN", "few_channels", "oneDNN" },
    { "few atoms, too", { 2, 8, 8, 3, 16, 3, 1, 1 }, 7, "oneDNN", "oneDNN", "oneDNN" },
    { "a power iteration", { 1, 2, 2, 256, 256, 3, 1, 1 }, 3, "single_image", "single_image", NULL },
    { "one image of a batch", { 1, 2, 2, 256, 256, 3, 1, 1 }, 7, "oneDNN", "oneDNN", "oneDNN" },
    { "a larger image", { 1, 64, 64, 64, 64, 3, 1, 1 }, 3, "oneDNN", "oneDNN", NULL },
};

static void must(enum status status)
{
    if (status == STATUS_OK)
        return;
    fprintf(stderr, "%s (%s)\n", status_message(), status_origin());
    exit(1);
}

static bool same(const char *a, const char *b)
{
    return a && b ? strcmp(a, b) == 0 : a == b;
}

static void check_out_of_memory(void)
{
    struct device *device;
    struct conv *conv;
    const struct conv_shape shape = { 1, 1, 1, 1, 1 << 26, 1, 1, 0 }; /* norms of these channels sum in 4 GB */
    must(device_open(&device, "cpu", PRECISION_FP32, 2));
    if (setrlimit(RLIMIT_AS, &(struct rlimit){ 1u << 31, 1u << 31 }) == 0) {
        enum status status = device->ops->conv_create(device, &shape, PRECISION_FP32, CONV_FORWARD, &conv);
        CHECK(status == STATUS_NOMEM, "status %d: %s", status, status_message());
    }
    device_close(device);
}

/* Sanitizers reserve far more address space than the limit. gcc names them by macros, clang by features. */
#ifndef __has_feature
#define __has_feature(feature) 0
#endif
#if defined __SANITIZE_ADDRESS__ || defined __SANITIZE_THREAD__ || __has_feature(address_sanitizer) || \
    __has_feature(thread_sanitizer)
enum { CAN_LIMIT_MEMORY = 0 };
#else
enum { CAN_LIMIT_MEMORY = 1 };
#endif

int main(void)
{
    const struct kernels *sets[CPU_KERNEL_SETS];
    for (int k = cpu_kernel_sets(sets) - 1; k >= 0; k--) {
        struct device *device;
        must(cpu_open_with(&device, PRECISION_FP32, 2, sets[k]));
        for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
            struct conv *conv;
            must(device->ops->conv_create(device, &cases[i].shape, PRECISION_FP32, cases[i].uses, &conv));
            const char *wanted[] = { cases[i].forward, cases[i].adjoint, cases[i].gradient };
            for (int use = 0; use < 3; use++) {
                const char *algorithm = cpu_conv_algorithm(conv, 1 << use);
                CHECK(same(algorithm, wanted[use]), "%s, kernels %s, use %d: %s, not %s", cases[i].what, sets[k]->name,
                      use, algorithm ? algorithm : "none", wanted[use] ? wanted[use] : "none");
            }
            device->ops->conv_destroy(conv);
        }
        device_close(device);
    }
    if (CAN_LIMIT_MEMORY)
        check_out_of_memory();
    return check_done("test_conv_choice");
}
