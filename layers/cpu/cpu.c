/* cpu.c - the CPU backend's device and its convolutions.
 * A convolution is a oneDNN primitive followed by one fused pass over its result (struct epilogue); weight
 * gradients are summed in the packed layout and unpacked once. Without oneDNN the plain convolutions serve. */
#include "layers/cpu/cpu.h"

#include <stdlib.h>
#include <string.h>
#ifdef _OPENMP
#include <omp.h>
#endif

#include "base/log.h"
#include "layers/ref/ref.h"

double *cpu_partials(struct device *device, int channels)
{
    struct cpu_device *cpu = (struct cpu_device *)device;
    size_t count = (size_t)CPU_PARTIALS * channels * device->threads;
    if (count > cpu->partials_count) {
        free(cpu->partials);
        cpu->partials = aligned_alloc(ARENA_ALIGN, (count * sizeof(double) + ARENA_ALIGN - 1) / ARENA_ALIGN * ARENA_ALIGN);
        if (!cpu->partials)
            abort(); /* a few kilobytes, asked for while planning */
        cpu->partials_count = count;
    }
    return cpu->partials;
}

#ifdef CSC_HAVE_ONEDNN
#include "layers/cpu/onednn.h"

enum { KINDS = 3 }; /* enum dn_kind */

struct cpu_conv {
    struct conv base;
    struct dn_conv *dn[KINDS];
    void *packed[KINDS]; /* weights for DN_FORWARD and DN_ADJOINT */
};

static const unsigned use_of[KINDS] = { CONV_FORWARD, CONV_ADJOINT, CONV_GRADIENT };

static size_t rounded(size_t bytes)
{
    return (bytes + ARENA_ALIGN - 1) / ARENA_ALIGN * ARENA_ALIGN;
}

static void conv_destroy(struct conv *conv)
{
    struct cpu_conv *c = (struct cpu_conv *)conv;
    for (int kind = 0; c && kind < KINDS; kind++)
        dn_conv_destroy(c->dn[kind]);
    free(c);
}

/* Scratch: oneDNN's own, then a result that cannot go to its destination at once, or weight gradients:
 * the sum and one term, packed, and the sum unpacked. */
static size_t scratch_bytes(const struct cpu_conv *c)
{
    const struct conv_shape *s = &c->base.shape;
    size_t most = 0;
    for (int kind = 0; kind < KINDS; kind++) {
        if (!c->dn[kind])
            continue;
        size_t extra = kind == DN_FORWARD   ? conv_out_count(s) * sizeof(float)
                       : kind == DN_ADJOINT ? conv_in_count(s) * sizeof(float)
                                            : 2 * rounded(dn_packed_bytes(c->dn[kind])) +
                                                  conv_weight_count(s) * sizeof(float);
        size_t bytes = rounded(dn_scratch_bytes(c->dn[kind])) + rounded(extra);
        most = bytes > most ? bytes : most;
    }
    return most;
}

static enum status conv_create(struct device *device, const struct conv_shape *shape, unsigned uses,
                               struct conv **conv)
{
    enum status status = STATUS_OK;
    struct cpu_conv *c = NULL;
    TRY(conv_shape_check(shape));
    c = calloc(1, sizeof *c);
    if (!c)
        FAIL(STATUS_NOMEM, "out of memory for a convolution");
    c->base = (struct conv){ .device = device, .shape = *shape, .uses = uses };
    for (int kind = 0; kind < KINDS; kind++)
        if (uses & use_of[kind])
            TRY(dn_conv_create(&c->dn[kind], kind, shape));
    c->base.scratch = scratch_bytes(c);
    cpu_partials(device, shape->d);
    *conv = &c->base;
    c = NULL;
fail:
    conv_destroy((struct conv *)c);
    return status;
}

static void conv_place(struct conv *conv, struct arena *arena)
{
    struct cpu_conv *c = (struct cpu_conv *)conv;
    for (int kind = DN_FORWARD; kind <= DN_ADJOINT; kind++)
        if (c->dn[kind])
            c->packed[kind] = arena_take(arena, dn_packed_bytes(c->dn[kind]));
}

static enum status conv_load(struct conv *conv, const float *weights, void *scratch)
{
    enum status status = STATUS_OK;
    struct cpu_conv *c = (struct cpu_conv *)conv;
    for (int kind = DN_FORWARD; kind <= DN_ADJOINT; kind++)
        if (c->dn[kind])
            TRY(dn_pack(c->dn[kind], weights, c->packed[kind], scratch));
fail:
    return status;
}

static bool plain(const struct epilogue *e)
{
    return e->kind == EPILOGUE_LINEAR && e->alpha == 1 && !e->add;
}

static enum status run(struct cpu_conv *c, enum dn_kind kind, const float *in, float *out, size_t count,
                       const struct epilogue *e, char *scratch)
{
    enum status status = STATUS_OK;
    struct cpu_device *cpu = (struct cpu_device *)c->base.device;
    float *result = e->add == out || e->mask == out ? (float *)(scratch + rounded(dn_scratch_bytes(c->dn[kind]))) : out;
    TRY(dn_run(c->dn[kind], in, c->packed[kind], result, scratch));
    if (!plain(e))
        cpu->kernels->epilogue(e, result, out, count);
fail:
    return status;
}

static enum status conv_forward(struct conv *conv, const float *in, float *out, const struct epilogue *e,
                                void *scratch)
{
    return run((struct cpu_conv *)conv, DN_FORWARD, in, out, conv_out_count(&conv->shape), e, scratch);
}

static enum status conv_adjoint(struct conv *conv, const float *in, float *out, const struct epilogue *e,
                                void *scratch)
{
    return run((struct cpu_conv *)conv, DN_ADJOINT, in, out, conv_in_count(&conv->shape), e, scratch);
}

static enum status conv_gradient(struct conv *conv, const struct gradient_term *terms, int count, float *dw,
                                 void *scratch)
{
    enum status status = STATUS_OK;
    struct cpu_conv *c = (struct cpu_conv *)conv;
    struct dn_conv *dn = c->dn[DN_GRADIENT];
    const struct kernels *kernels = ((struct cpu_device *)conv->device)->kernels;
    size_t packed = rounded(dn_packed_bytes(dn));
    char *sum = (char *)scratch + rounded(dn_scratch_bytes(dn)), *term = sum + packed, *unpacked = term + packed;
    while (count > 0 && terms->alpha == 0) { /* the first term's factor is the unit below */
        terms++;
        count--;
    }
    if (count == 0)
        return STATUS_OK;
    TRY(dn_run_gradient(dn, terms[0].x, terms[0].d, sum, scratch));
    for (int t = 1; t < count; t++) {
        TRY(dn_run_gradient(dn, terms[t].x, terms[t].d, term, scratch));
        kernels->add_scaled((float *)sum, terms[t].alpha / terms[0].alpha, (float *)term,
                            dn_packed_bytes(dn) / sizeof(float));
    }
    TRY(dn_unpack(dn, sum, (float *)unpacked, scratch));
    kernels->add_scaled(dw, terms[0].alpha, (float *)unpacked, conv_weight_count(&conv->shape));
fail:
    return status;
}
#endif

static void close_device(struct device *device)
{
    struct cpu_device *cpu = (struct cpu_device *)device;
    free(cpu->partials);
    free(cpu);
}

int cpu_kernel_sets(const struct kernels *sets[CPU_KERNEL_SETS])
{
    int count = 0;
#if defined(__x86_64__)
    __builtin_cpu_init();
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512bw") &&
        __builtin_cpu_supports("avx512dq"))
        sets[count++] = &kernels_v4;
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"))
        sets[count++] = &kernels_v3;
#endif
    sets[count++] = &kernels_base;
    return count;
}

enum status cpu_open_with(struct device **device, int threads, const struct kernels *kernels)
{
    enum status status = STATUS_OK;
    struct cpu_device *cpu = calloc(1, sizeof *cpu);
    if (!cpu)
        FAIL(STATUS_NOMEM, "out of memory");
#ifdef _OPENMP
    omp_set_dynamic(0);
    omp_set_num_threads(threads);
#else
    threads = 1;
#endif
    cpu->kernels = kernels;
    cpu->table = ref_backend;
    cpu->table.name = "cpu";
    cpu->table.close = close_device;
    cpu->kernels->fill_table(&cpu->table);
#ifdef CSC_HAVE_ONEDNN
    cpu->table.conv_create = conv_create;
    cpu->table.conv_destroy = conv_destroy;
    cpu->table.conv_place = conv_place;
    cpu->table.conv_load = conv_load;
    cpu->table.conv_forward = conv_forward;
    cpu->table.conv_adjoint = conv_adjoint;
    cpu->table.conv_gradient = conv_gradient;
#else
    log_warn("built without oneDNN: convolutions are the plain reference ones, and very slow");
#endif
    cpu->base = (struct device){ .ops = &cpu->table, .threads = threads };
    *device = &cpu->base;
fail:
    return status;
}

enum status cpu_open(struct device **device, int threads)
{
    const struct kernels *sets[CPU_KERNEL_SETS];
    cpu_kernel_sets(sets);
    return cpu_open_with(device, threads, sets[0]);
}
