/* onednn.c - convolutions through oneDNN's C interface, 2.x and 3.x.
 * oneDNN's names: src is the image (N,C,H,W logically), dst the code, weights (D,C,k,k); all are
 * described as nhwc, and weights as `any`, since plain weight layouts fall to slow implementations.
 * With stride 1 the adjoint is a forward convolution of the code with the flipped, transposed kernel,
 * which is faster than oneDNN's backward-data. Scratchpads are the caller's: a run allocates nothing. */
#include "layers/backend/cpu/onednn.h"

#include <dnnl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#if DNNL_VERSION_MAJOR >= 3
typedef dnnl_memory_desc_t desc_t; /* a pointer */
typedef const_dnnl_memory_desc_t const_desc_t;
#else
typedef dnnl_memory_desc_t desc_t; /* a struct */
typedef const dnnl_memory_desc_t *const_desc_t;
#endif

#define DN(call)                                                                                            \
    do {                                                                                                    \
        dnnl_status_t result = (call);                                                                      \
        if (result != dnnl_success)                                                                         \
            FAIL(result == dnnl_out_of_memory ? STATUS_NOMEM : STATUS_BUG, "oneDNN: %s returned %s", #call, \
                 status_name(result));                                                                      \
    } while (0)

enum { SRC, WEIGHTS, DST, SCRATCH, PLAIN, ARGUMENTS };

struct dn_conv {
    enum dn_kind kind;
    struct conv_shape shape; /* as the caller sees it */
    bool flipped;            /* adjoint computed as a forward convolution */
    dnnl_primitive_t primitive, reorder;
    dnnl_memory_t memory[ARGUMENTS];
    size_t packed, scratchpad, plain; /* bytes */
    const char *implementation;
};

static dnnl_engine_t engine;
static dnnl_stream_t stream;

static const char *status_name(dnnl_status_t status)
{
    switch (status) {
    case dnnl_out_of_memory: return "out of memory";
    case dnnl_invalid_arguments: return "invalid arguments";
    case dnnl_unimplemented: return "unimplemented";
    case dnnl_runtime_error: return "run-time error";
    default: return "an error";
    }
}

void dn_version(char text[32])
{
    const dnnl_version_t *v = dnnl_version();
    snprintf(text, 32, "oneDNN %d.%d.%d", v->major, v->minor, v->patch);
}

static enum status start(void)
{
    enum status status = STATUS_OK;
    if (stream)
        return STATUS_OK;
    DN(dnnl_engine_create(&engine, dnnl_cpu, 0));
    DN(dnnl_stream_create(&stream, engine, dnnl_stream_default_flags));
fail:
    return status;
}

/* Whether to take an implementation that oneDNN offers for a convolution as it is asked for; the first that
 * is taken is used, so a choice depends on nothing but the shape and the machine.
 * jit_1x1 gathers strided pixels of less than 16 channels beyond its scratch (oneDNN issue 6035): wrong sums.
 * brgconv is oneDNN's first choice and about as fast as jit, but half as fast on 512 channels of 4x4 pixels
 * (20.8 against 10.4 ms), and slower on an image's 3 channels (0.54 against 0.49, 0.21 against 0.14 ms). */
static bool suitable(const struct conv_shape *s, enum dn_kind kind, const char *implementation)
{
    if (strncmp(implementation, "jit_1x1", 7) == 0)
        return !(kind == DN_GRADIENT && s->stride > 1 && s->c < 16);
    if (strncmp(implementation, "brgconv:", 8) == 0)
        return !(s->c <= 3 || (s->k > 1 && s->c >= 256 && conv_out_w(s) <= 4));
    return true;
}

static const char *implementation_of(const_dnnl_primitive_desc_t pd)
{
    const char *name = "";
    dnnl_primitive_desc_query(pd, dnnl_query_impl_info_str, 0, &name);
    return name;
}

/* A convolution as oneDNN is asked for it. */
struct request {
    const struct conv_shape *shape;
    enum dn_kind kind;
    desc_t md[3]; /* SRC, WEIGHTS, DST */
    dnnl_dims_t strides, before, after;
    dnnl_primitive_attr_t attr;
};

/* ---- what differs between the versions ---- */
#if DNNL_VERSION_MAJOR >= 3
static dnnl_status_t describe(desc_t *desc, const dnnl_dims_t dims, dnnl_format_tag_t tag)
{
    return dnnl_memory_desc_create_with_tag(desc, 4, dims, dnnl_f32, tag);
}
static void forget(desc_t *desc)
{
    if (*desc)
        dnnl_memory_desc_destroy(*desc);
}
static size_t bytes_of(const_desc_t desc)
{
    return dnnl_memory_desc_get_size(desc);
}
static dnnl_status_t first_plan(dnnl_primitive_desc_t *pd, const struct request *r)
{
    const dnnl_dims_t dense = { 0, 0 };
    dnnl_primitive_desc_t hint = NULL;
    dnnl_status_t result = dnnl_convolution_forward_primitive_desc_create(
        &hint, engine, dnnl_forward_training, dnnl_convolution_direct, r->md[SRC], r->md[WEIGHTS], NULL, r->md[DST],
        r->strides, dense, r->before, r->after, r->attr);
    if (r->kind == DN_FORWARD || result != dnnl_success) {
        *pd = hint;
        return result;
    }
    if (r->kind == DN_ADJOINT)
        result = dnnl_convolution_backward_data_primitive_desc_create(pd, engine, dnnl_convolution_direct, r->md[SRC],
                                                                      r->md[WEIGHTS], r->md[DST], r->strides, dense,
                                                                      r->before, r->after, hint, r->attr);
    else
        result = dnnl_convolution_backward_weights_primitive_desc_create(
            pd, engine, dnnl_convolution_direct, r->md[SRC], r->md[WEIGHTS], NULL, r->md[DST], r->strides, dense,
            r->before, r->after, hint, r->attr);
    dnnl_primitive_desc_destroy(hint);
    return result;
}
static dnnl_status_t plan(dnnl_primitive_desc_t *pd, const struct request *r)
{
    dnnl_status_t result = first_plan(pd, r);
    while (result == dnnl_success && !suitable(r->shape, r->kind, implementation_of(*pd)))
        result = dnnl_primitive_desc_next_impl(*pd);
    return result;
}
#else
static dnnl_status_t describe(desc_t *desc, const dnnl_dims_t dims, dnnl_format_tag_t tag)
{
    return dnnl_memory_desc_init_by_tag(desc, 4, dims, dnnl_f32, tag);
}
static void forget(desc_t *desc)
{
    (void)desc;
}
static size_t bytes_of(const_desc_t desc)
{
    return dnnl_memory_desc_get_size(desc);
}
/* The iterator looks at op until it is destroyed. */
static dnnl_status_t choose(dnnl_primitive_desc_t *pd, const struct request *r, const dnnl_convolution_desc_t *op,
                            const_dnnl_primitive_desc_t hint)
{
    dnnl_primitive_desc_iterator_t at = NULL;
    dnnl_status_t result = dnnl_primitive_desc_iterator_create(&at, op, r->attr, engine, hint);
    for (; result == dnnl_success; result = dnnl_primitive_desc_iterator_next(at)) {
        *pd = dnnl_primitive_desc_iterator_fetch(at);
        if (suitable(r->shape, r->kind, implementation_of(*pd)))
            break;
        dnnl_primitive_desc_destroy(*pd);
        *pd = NULL;
    }
    dnnl_primitive_desc_iterator_destroy(at);
    return result;
}
static dnnl_status_t plan(dnnl_primitive_desc_t *pd, const struct request *r)
{
    dnnl_convolution_desc_t op;
    dnnl_primitive_desc_t hint = NULL;
    dnnl_status_t result = dnnl_convolution_forward_desc_init(&op, dnnl_forward_training, dnnl_convolution_direct,
                                                              &r->md[SRC], &r->md[WEIGHTS], NULL, &r->md[DST],
                                                              r->strides, r->before, r->after);
    if (r->kind == DN_FORWARD)
        return result == dnnl_success ? choose(pd, r, &op, NULL) : result;
    if (result == dnnl_success)
        result = dnnl_primitive_desc_create(&hint, &op, r->attr, engine, NULL);
    if (result == dnnl_success && r->kind == DN_ADJOINT)
        result = dnnl_convolution_backward_data_desc_init(&op, dnnl_convolution_direct, &r->md[SRC], &r->md[WEIGHTS],
                                                          &r->md[DST], r->strides, r->before, r->after);
    else if (result == dnnl_success)
        result = dnnl_convolution_backward_weights_desc_init(&op, dnnl_convolution_direct, &r->md[SRC], &r->md[WEIGHTS],
                                                             NULL, &r->md[DST], r->strides, r->before, r->after);
    if (result == dnnl_success)
        result = choose(pd, r, &op, hint);
    dnnl_primitive_desc_destroy(hint);
    return result;
}
#endif

#if DNNL_VERSION_MAJOR >= 3
#define POINTER(desc) (desc)
#else
#define POINTER(desc) (&(desc))
#endif

/* ---- the same for both ---- */

/* The convolution oneDNN is asked for: the caller's, or its adjoint as a forward one. */
static struct conv_shape asked(const struct dn_conv *c)
{
    struct conv_shape s = c->shape;
    if (c->flipped)
        s = (struct conv_shape){ .n = s.n,
                                 .h = conv_out_h(&c->shape),
                                 .w = conv_out_w(&c->shape),
                                 .c = s.d,
                                 .d = s.c,
                                 .k = s.k,
                                 .stride = 1,
                                 .pad = s.k - 1 - s.pad };
    return s;
}

static enum status make_memory(dnnl_memory_t *memory, const_desc_t desc)
{
    enum status status = STATUS_OK;
    DN(dnnl_memory_create(memory, desc, engine, DNNL_MEMORY_NONE));
fail:
    return status;
}

/* The reorder between plain (D,k,k,C) weights and the implementation's layout. */
static enum status make_reorder(struct dn_conv *c, const_desc_t packed, const_desc_t plain)
{
    enum status status = STATUS_OK;
    dnnl_primitive_desc_t pd = NULL;
    bool unpack = c->kind == DN_GRADIENT;
    DN(dnnl_reorder_primitive_desc_create(&pd, unpack ? packed : plain, engine, unpack ? plain : packed, engine, NULL));
    DN(dnnl_primitive_create(&c->reorder, pd));
fail:
    dnnl_primitive_desc_destroy(pd);
    return status;
}

static const_desc_t queried(const_dnnl_primitive_desc_t pd, dnnl_query_t what)
{
    return dnnl_primitive_desc_query_md(pd, what, 0);
}

static enum status take_plan(struct dn_conv *c, dnnl_primitive_desc_t pd, const desc_t md[3])
{
    enum status status = STATUS_OK;
    const_desc_t packed = queried(pd, c->kind == DN_GRADIENT ? dnnl_query_diff_weights_md : dnnl_query_weights_md);
    const_desc_t scratchpad = queried(pd, dnnl_query_scratchpad_md);
    desc_t plain = { 0 };
    dnnl_dims_t dims;
    struct conv_shape s = asked(c);
    memcpy(dims, (dnnl_dims_t){ s.d, s.c, s.k, s.k }, sizeof dims);
    DN(describe(&plain, dims, dnnl_ohwi));
    c->implementation = implementation_of(pd);
    DN(dnnl_primitive_create(&c->primitive, pd));
    TRY(make_memory(&c->memory[SRC], POINTER(md[SRC])));
    TRY(make_memory(&c->memory[DST], POINTER(md[DST])));
    TRY(make_memory(&c->memory[WEIGHTS], packed));
    TRY(make_memory(&c->memory[SCRATCH], scratchpad));
    TRY(make_memory(&c->memory[PLAIN], POINTER(plain)));
    TRY(make_reorder(c, packed, POINTER(plain)));
    c->packed = bytes_of(packed);
    c->scratchpad = bytes_of(scratchpad);
    c->plain = bytes_of(POINTER(plain));
fail:
    forget(&plain);
    return status;
}

enum status dn_conv_create(struct dn_conv **conv, enum dn_kind kind, const struct conv_shape *shape)
{
    enum status status = STATUS_OK;
    dnnl_primitive_desc_t pd = NULL;
    struct request r = { .kind = kind };
    struct dn_conv *c = calloc(1, sizeof *c);
    if (!c)
        FAIL(STATUS_NOMEM, "out of memory for a convolution");
    TRY(start());
    c->kind = kind;
    c->shape = *shape;
    c->flipped = kind == DN_ADJOINT && shape->stride == 1 && shape->pad < shape->k && shape->c > 3;
    struct conv_shape s = asked(c);
    r.shape = &s;
    if (c->flipped)
        r.kind = DN_FORWARD;
    int oh = conv_out_h(&s), ow = conv_out_w(&s);
    const dnnl_dims_t src = { s.n, s.c, s.h, s.w }, weights = { s.d, s.c, s.k, s.k }, dst = { s.n, s.d, oh, ow };
    for (int i = 0; i < 2; i++) {
        r.strides[i] = s.stride;
        r.before[i] = s.pad;
        /* what a stride leaves over at the end of an axis is less padding, not an error */
        r.after[i] = ((i == 0 ? oh : ow) - 1) * s.stride + s.k - (i == 0 ? s.h : s.w) - s.pad;
    }
    DN(describe(&r.md[SRC], src, dnnl_nhwc));
    DN(describe(&r.md[WEIGHTS], weights, dnnl_format_tag_any));
    DN(describe(&r.md[DST], dst, dnnl_nhwc));
    DN(dnnl_primitive_attr_create(&r.attr));
    DN(dnnl_primitive_attr_set_scratchpad_mode(r.attr, dnnl_scratchpad_mode_user));
    DN(plan(&pd, &r));
    TRY(take_plan(c, pd, r.md));
    *conv = c;
    c = NULL;
fail:
    for (int i = 0; i < 3; i++)
        forget(&r.md[i]);
    dnnl_primitive_desc_destroy(pd);
    dnnl_primitive_attr_destroy(r.attr);
    dn_conv_destroy(c);
    return status;
}

void dn_conv_destroy(struct dn_conv *c)
{
    if (!c)
        return;
    for (int i = 0; i < ARGUMENTS; i++)
        dnnl_memory_destroy(c->memory[i]);
    dnnl_primitive_destroy(c->primitive);
    dnnl_primitive_destroy(c->reorder);
    free(c);
}

const char *dn_conv_implementation(const struct dn_conv *conv)
{
    return conv->implementation;
}

size_t dn_packed_bytes(const struct dn_conv *conv)
{
    return conv->packed;
}

size_t dn_scratch_bytes(const struct dn_conv *conv)
{
    return conv->scratchpad > conv->plain ? conv->scratchpad : conv->plain;
}

static enum status point(dnnl_memory_t memory, const void *data)
{
    enum status status = STATUS_OK;
    DN(dnnl_memory_set_data_handle(memory, (void *)data));
fail:
    return status;
}

/* (D,k,k,C) -> (C,k,k,D), both kernel axes reversed. */
static void flip(const struct conv_shape *s, const float *from, float *to)
{
    int taps = s->k * s->k;
#pragma omp parallel for schedule(static)
    for (int c = 0; c < s->c; c++)
        for (int t = 0; t < taps; t++)
            for (int d = 0; d < s->d; d++)
                to[((size_t)c * taps + t) * s->d + d] = from[((size_t)d * taps + taps - 1 - t) * s->c + c];
}

static enum status reorder(struct dn_conv *c, const void *packed, const float *plain)
{
    enum status status = STATUS_OK;
    bool unpack = c->kind == DN_GRADIENT;
    TRY(point(c->memory[WEIGHTS], packed));
    TRY(point(c->memory[PLAIN], plain));
    const dnnl_exec_arg_t arguments[] = {
        { DNNL_ARG_FROM, c->memory[unpack ? WEIGHTS : PLAIN] },
        { DNNL_ARG_TO, c->memory[unpack ? PLAIN : WEIGHTS] },
    };
    DN(dnnl_primitive_execute(c->reorder, stream, 2, arguments));
    DN(dnnl_stream_wait(stream));
fail:
    return status;
}

enum status dn_pack(struct dn_conv *c, const float *weights, void *packed, void *scratch)
{
    if (c->flipped) {
        flip(&c->shape, weights, scratch);
        weights = scratch;
    }
    return reorder(c, packed, weights);
}

enum status dn_unpack(struct dn_conv *c, const void *packed, float *weights, void *scratch)
{
    (void)scratch;
    return reorder(c, packed, weights);
}

static enum status execute(struct dn_conv *c, int src_argument, const void *src, int weights_argument,
                           const void *weights, int dst_argument, const void *dst, void *scratch)
{
    enum status status = STATUS_OK;
    TRY(point(c->memory[SRC], src));
    TRY(point(c->memory[WEIGHTS], weights));
    TRY(point(c->memory[DST], dst));
    TRY(point(c->memory[SCRATCH], scratch));
    const dnnl_exec_arg_t arguments[] = {
        { src_argument, c->memory[SRC] },
        { weights_argument, c->memory[WEIGHTS] },
        { dst_argument, c->memory[DST] },
        { DNNL_ARG_SCRATCHPAD, c->memory[SCRATCH] },
    };
    DN(dnnl_primitive_execute(c->primitive, stream, 4, arguments));
    DN(dnnl_stream_wait(stream));
fail:
    return status;
}

enum status dn_run(struct dn_conv *c, const float *in, const void *packed, float *out, void *scratch)
{
    if (c->kind == DN_FORWARD || c->flipped)
        return execute(c, DNNL_ARG_SRC, in, DNNL_ARG_WEIGHTS, packed, DNNL_ARG_DST, out, scratch);
    return execute(c, DNNL_ARG_DIFF_SRC, out, DNNL_ARG_WEIGHTS, packed, DNNL_ARG_DIFF_DST, in, scratch);
}

enum status dn_run_gradient(struct dn_conv *c, const float *image, const float *code, void *packed, void *scratch)
{
    return execute(c, DNNL_ARG_SRC, image, DNNL_ARG_DIFF_WEIGHTS, packed, DNNL_ARG_DIFF_DST, code, scratch);
}
