/* cpu.c - opens the CPU backend's device with the best kernel set of this machine. Without oneDNN the reference's
 * convolutions serve. */
#include "layers/backend/cpu/cpu.h"

#include <stdlib.h>
#ifdef CSC_HAVE_BF16
#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif
#ifdef _OPENMP
#include <omp.h>
#endif

#include "base/isa.h"
#include "base/log.h"
#include "layers/backend/cpu/conv.h"
#include "layers/backend/cpu/device.h"
#include "layers/backend/cpu/onednn.h"
#include "layers/backend/ref/ref.h"

static void close_device(struct device *device)
{
    struct cpu_device *cpu = (struct cpu_device *)device;
    free(cpu->partials);
    free(cpu);
}

#ifdef CSC_HAVE_BF16
static bool has_bf16(void)
{
    unsigned a, b, c, d;
    return __get_cpuid_count(7, 1, &a, &b, &c, &d) && (a & 1u << 5);
}

/* A process must ask Linux for AMX's registers (Documentation/arch/x86/xstate.rst). */
static bool enable_amx(void)
{
    enum { REQUEST_PERMISSION = 0x1023, TILE_DATA = 18 };
    unsigned a, b, c, d;
    return __get_cpuid_count(7, 0, &a, &b, &c, &d) && (d & 1u << 22) && (d & 1u << 24) &&
           syscall(SYS_arch_prctl, REQUEST_PERMISSION, TILE_DATA) == 0;
}
#endif

int cpu_kernel_sets(const struct kernels *sets[CPU_KERNEL_SETS])
{
    int count = 0;
#if defined(__x86_64__)
    if (isa_has_v4()) {
#ifdef CSC_HAVE_BF16
        if (has_bf16() && enable_amx())
            sets[count++] = &kernels_amx;
        if (has_bf16())
            sets[count++] = &kernels_bf16;
#endif
        sets[count++] = &kernels_v4;
    }
    if (isa_has_v3())
        sets[count++] = &kernels_v3;
#endif
    sets[count++] = &kernels_base;
    return count;
}

enum status cpu_open_with(struct device **device, enum precision precision, int threads, const struct kernels *kernels)
{
    enum status status = STATUS_OK;
    struct cpu_device *cpu = calloc(1, sizeof *cpu);
    if (!cpu)
        FAIL(STATUS_NOMEM, "out of memory");
#ifdef _OPENMP
    if (threads > omp_get_thread_limit()) { /* oneDNN would wait for ever for the others */
        log_warn("OMP_THREAD_LIMIT allows %d of %d threads", omp_get_thread_limit(), threads);
        threads = omp_get_thread_limit();
    }
    omp_set_dynamic(0);
    omp_set_num_threads(threads);
#else
    threads = 1;
#endif
    cpu->kernels = kernels;
    cpu->table = ref_backend;
    cpu->table.name = "cpu";
    cpu->table.close = close_device;
    cpu->kernels->fill_table(&cpu->table, precision);
#ifdef CSC_HAVE_ONEDNN
    cpu_conv_fill_table(&cpu->table);
#else
    log_warn("built without oneDNN: convolutions are the plain reference ones, and very slow");
#endif
    cpu->base = (struct device){ .ops = &cpu->table, .precision = precision, .threads = threads };
#ifdef CSC_HAVE_ONEDNN
    onednn_version(cpu->base.library);
#endif
    *device = &cpu->base;
fail:
    return status;
}

enum status cpu_open(struct device **device, enum precision precision, int threads)
{
    enum status status = STATUS_OK;
    const struct kernels *sets[CPU_KERNEL_SETS];
    cpu_kernel_sets(sets);
    if (precision == PRECISION_TF32)
        FAIL(STATUS_USAGE, "device.precision: tf32 exists on cuda only; use fp32");
    if (precision == PRECISION_BF16 && !sets[0]->algorithms[PRECISION_BF16][0])
        FAIL(STATUS_USAGE,
             "device.precision: this processor, or the compiler of this program, has no bf16 instructions "
             "(avx512_bf16 or amx_bf16); use fp32");
    TRY(cpu_open_with(device, precision, threads, sets[0]));
fail:
    return status;
}
