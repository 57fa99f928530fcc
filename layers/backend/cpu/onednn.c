/* onednn.c - convolutions through the C interface of oneDNN 2.x and 3.x.
 * In oneDNN's names src is the image (N,C,H,W), dst the code and weights (D,C,k,k). Images and codes are described
 * as nhwc, weights as `any`, because plain layouts of weights fall to slow implementations.
 * With stride 1 an adjoint is computed as a forward convolution of the code with the flipped, transposed kernel,
 * which is faster than oneDNN's backward-data. Scratchpads belong to the caller, so a run allocates nothing. */
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

#define TRY_DNNL(call)                                                                                      \
    do {                                                                                                    \
        dnnl_status_t result = (call);                                                                      \
        if (result != dnnl_success)                                                                         \
            FAIL(result == dnnl_out_of_memory ? STATUS_NOMEM : STATUS_BUG, "oneDNN: %s returned %s", #call, \
                 status_name(result));                                                                      \
    } while (0)

enum { SRC, WEIGHTS, DST, SCRATCH, PLAIN, ARGUMENTS };

struct onednn_conv {
    enum conv_use use;
    struct conv_shape shape; /* as the caller asked for it */
    bool flipped;            /* an adjoint that is computed as a forward convolution */
    dnnl_primitive_t primitive, reorder;
    dnnl_memory_t memory[ARGUMENTS];
    size_t packed, scratchpad, plain; /* bytes */
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

void onednn_version(char text[32])
{
    const dnnl_version_t *v = dnnl_version();
    snprintf(text, 32, "oneDNN %d.%d.%d", v->major, v->minor, v->patch);
}

static enum status create_engine(void)
{
    enum status status = STATUS_OK;
    if (stream)
        return STATUS_OK;
    TRY_DNNL(dnnl_engine_create(&engine, dnnl_cpu, 0));
    TRY_DNNL(dnnl_stream_create(&stream, engine, dnnl_stream_default_flags));
fail:
    return status;
}

/* Says whether an implementation that oneDNN offers is used. The first accepted one is, so the choice depends on the
 * shape and the machine only.
 * jit_1x1 gathers strided pixels of fewer than 16 channels beyond its scratchpad, which gives wrong sums (oneDNN
 * issue 6035).
 * brgconv is oneDNN's first choice and about as fast as jit, but half as fast on 512 channels of 4x4 pixels (20.8
 * against 10.4 ms), and slower on an image's 3 channels (0.54 against 0.49, 0.21 against 0.14 ms). */
static bool accepts(const struct conv_shape *s, enum conv_use use, const char *implementation)
{
    if (strncmp(implementation, "jit_1x1", 7) == 0)
        return !(use == CONV_GRADIENT && s->stride > 1 && s->c < 16);
    if (strncmp(implementation, "brgconv:", 8) == 0)
        return !(s->c <= 3 || (s->k > 1 && s->c >= 256 && conv_out_w(s) <= 4));
    return true;
}

static const char *implementation_name(const_dnnl_primitive_desc_t pd)
{
    const char *name = "";
    dnnl_primitive_desc_query(pd, dnnl_query_impl_info_str, 0, &name);
    return name;
}

/* What oneDNN is asked for. */
struct conv_request {
    const struct conv_shape *shape;
    enum conv_use use;
    desc_t md[3]; /* SRC, WEIGHTS, DST */
    dnnl_dims_t strides, pad_before, pad_after;
    dnnl_primitive_attr_t attr;
};

/* ---- what differs between oneDNN 2 and 3 ---- */
#if DNNL_VERSION_MAJOR >= 3
static dnnl_status_t desc_init(desc_t *desc, const dnnl_dims_t dims, dnnl_format_tag_t tag)
{
    return dnnl_memory_desc_create_with_tag(desc, 4, dims, dnnl_f32, tag);
}
static void desc_finish(desc_t *desc)
{
    if (*desc)
        dnnl_memory_desc_destroy(*desc);
}
static size_t bytes_of(const_desc_t desc)
{
    return dnnl_memory_desc_get_size(desc);
}
static dnnl_status_t create_first_desc(dnnl_primitive_desc_t *pd, const struct conv_request *r)
{
    const dnnl_dims_t dense = { 0, 0 };
    dnnl_primitive_desc_t hint = NULL;
    dnnl_status_t result = dnnl_convolution_forward_primitive_desc_create(
        &hint, engine, dnnl_forward_training, dnnl_convolution_direct, r->md[SRC], r->md[WEIGHTS], NULL, r->md[DST],
        r->strides, dense, r->pad_before, r->pad_after, r->attr);
    if (r->use == CONV_FORWARD || result != dnnl_success) {
        *pd = hint;
        return result;
    }
    if (r->use == CONV_ADJOINT)
        result = dnnl_convolution_backward_data_primitive_desc_create(pd, engine, dnnl_convolution_direct, r->md[SRC],
                                                                      r->md[WEIGHTS], r->md[DST], r->strides, dense,
                                                                      r->pad_before, r->pad_after, hint, r->attr);
    else
        result = dnnl_convolution_backward_weights_primitive_desc_create(
            pd, engine, dnnl_convolution_direct, r->md[SRC], r->md[WEIGHTS], NULL, r->md[DST], r->strides, dense,
            r->pad_before, r->pad_after, hint, r->attr);
    dnnl_primitive_desc_destroy(hint);
    return result;
}
static dnnl_status_t create_desc(dnnl_primitive_desc_t *pd, const struct conv_request *r)
{
    dnnl_status_t result = create_first_desc(pd, r);
    while (result == dnnl_success && !accepts(r->shape, r->use, implementation_name(*pd)))
        result = dnnl_primitive_desc_next_impl(*pd);
    return result;
}
#else
static dnnl_status_t desc_init(desc_t *desc, const dnnl_dims_t dims, dnnl_format_tag_t tag)
{
    return dnnl_memory_desc_init_by_tag(desc, 4, dims, dnnl_f32, tag);
}
static void desc_finish(desc_t *desc)
{
    (void)desc;
}
static size_t bytes_of(const_desc_t desc)
{
    return dnnl_memory_desc_get_size(desc);
}
/* op must outlive the iterator. */
static dnnl_status_t create_accepted_desc(dnnl_primitive_desc_t *pd, const struct conv_request *r,
                                          const dnnl_convolution_desc_t *op, const_dnnl_primitive_desc_t hint)
{
    dnnl_primitive_desc_iterator_t at = NULL;
    dnnl_status_t result = dnnl_primitive_desc_iterator_create(&at, op, r->attr, engine, hint);
    for (; result == dnnl_success; result = dnnl_primitive_desc_iterator_next(at)) {
        *pd = dnnl_primitive_desc_iterator_fetch(at);
        if (accepts(r->shape, r->use, implementation_name(*pd)))
            break;
        dnnl_primitive_desc_destroy(*pd);
        *pd = NULL;
    }
    dnnl_primitive_desc_iterator_destroy(at);
    return result;
}
static dnnl_status_t create_desc(dnnl_primitive_desc_t *pd, const struct conv_request *r)
{
    dnnl_convolution_desc_t op;
    dnnl_primitive_desc_t hint = NULL;
    dnnl_status_t result = dnnl_convolution_forward_desc_init(&op, dnnl_forward_training, dnnl_convolution_direct,
                                                              &r->md[SRC], &r->md[WEIGHTS], NULL, &r->md[DST],
                                                              r->strides, r->pad_before, r->pad_after);
    if (r->use == CONV_FORWARD)
        return result == dnnl_success ? create_accepted_desc(pd, r, &op, NULL) : result;
    if (result == dnnl_success)
        result = dnnl_primitive_desc_create(&hint, &op, r->attr, engine, NULL);
    if (result == dnnl_success && r->use == CONV_ADJOINT)
        result = dnnl_convolution_backward_data_desc_init(&op, dnnl_convolution_direct, &r->md[SRC], &r->md[WEIGHTS],
                                                          &r->md[DST], r->strides, r->pad_before, r->pad_after);
    else if (result == dnnl_success)
        result = dnnl_convolution_backward_weights_desc_init(&op, dnnl_convolution_direct, &r->md[SRC], &r->md[WEIGHTS],
                                                             NULL, &r->md[DST], r->strides, r->pad_before,
                                                             r->pad_after);
    if (result == dnnl_success)
        result = create_accepted_desc(pd, r, &op, hint);
    dnnl_primitive_desc_destroy(hint);
    return result;
}
#endif

#if DNNL_VERSION_MAJOR >= 3
#define POINTER(desc) (desc)
#else
#define POINTER(desc) (&(desc))
#endif

/* ---- what both have in common ---- */

/* The shape that oneDNN is asked for: the caller's, or the one of the adjoint as a forward convolution. */
static struct conv_shape requested_shape(const struct onednn_conv *c)
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
    TRY_DNNL(dnnl_memory_create(memory, desc, engine, DNNL_MEMORY_NONE));
fail:
    return status;
}

/* Plans the reordering between plain (D,k,k,C) weights and packed ones. */
static enum status make_reorder(struct onednn_conv *c, const_desc_t packed, const_desc_t plain)
{
    enum status status = STATUS_OK;
    dnnl_primitive_desc_t pd = NULL;
    bool unpack = c->use == CONV_GRADIENT;
    TRY_DNNL(dnnl_reorder_primitive_desc_create(&pd, unpack ? packed : plain, engine, unpack ? plain : packed, engine,
                                                NULL));
    TRY_DNNL(dnnl_primitive_create(&c->reorder, pd));
fail:
    dnnl_primitive_desc_destroy(pd);
    return status;
}

static const_desc_t query_desc(const_dnnl_primitive_desc_t pd, dnnl_query_t what)
{
    return dnnl_primitive_desc_query_md(pd, what, 0);
}

static enum status create_primitives(struct onednn_conv *c, dnnl_primitive_desc_t pd, const desc_t md[3])
{
    enum status status = STATUS_OK;
    const_desc_t packed = query_desc(pd, c->use == CONV_GRADIENT ? dnnl_query_diff_weights_md : dnnl_query_weights_md);
    const_desc_t scratchpad = query_desc(pd, dnnl_query_scratchpad_md);
    desc_t plain = { 0 };
    dnnl_dims_t dims;
    struct conv_shape s = requested_shape(c);
    memcpy(dims, (dnnl_dims_t){ s.d, s.c, s.k, s.k }, sizeof dims);
    TRY_DNNL(desc_init(&plain, dims, dnnl_ohwi));

    TRY_DNNL(dnnl_primitive_create(&c->primitive, pd));
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
    desc_finish(&plain);
    return status;
}

enum status onednn_conv_create(struct onednn_conv **conv, enum conv_use use, const struct conv_shape *shape)
{
    enum status status = STATUS_OK;
    dnnl_primitive_desc_t pd = NULL;
    struct conv_request r = { .use = use };
    struct onednn_conv *c = calloc(1, sizeof *c);
    if (!c)
        FAIL(STATUS_NOMEM, "out of memory for a convolution");
    TRY(create_engine());
    c->use = use;
    c->shape = *shape;
    c->flipped = use == CONV_ADJOINT && shape->stride == 1 && shape->pad < shape->k && shape->c > 3;
    struct conv_shape s = requested_shape(c);
    r.shape = &s;
    if (c->flipped)
        r.use = CONV_FORWARD;
    int oh = conv_out_h(&s), ow = conv_out_w(&s);
    const dnnl_dims_t src = { s.n, s.c, s.h, s.w }, weights = { s.d, s.c, s.k, s.k }, dst = { s.n, s.d, oh, ow };
    for (int i = 0; i < 2; i++) {
        r.strides[i] = s.stride;
        r.pad_before[i] = s.pad;
        /* oneDNN wants the exact padding: pixels that a stride leaves over at the end of an axis reduce it */
        r.pad_after[i] = ((i == 0 ? oh : ow) - 1) * s.stride + s.k - (i == 0 ? s.h : s.w) - s.pad;
    }
    TRY_DNNL(desc_init(&r.md[SRC], src, dnnl_nhwc));
    TRY_DNNL(desc_init(&r.md[WEIGHTS], weights, dnnl_format_tag_any));
    TRY_DNNL(desc_init(&r.md[DST], dst, dnnl_nhwc));
    TRY_DNNL(dnnl_primitive_attr_create(&r.attr));
    TRY_DNNL(dnnl_primitive_attr_set_scratchpad_mode(r.attr, dnnl_scratchpad_mode_user));
    TRY_DNNL(create_desc(&pd, &r));
    TRY(create_primitives(c, pd, r.md));
    *conv = c;
    c = NULL;
fail:
    for (int i = 0; i < 3; i++)
        desc_finish(&r.md[i]);
    dnnl_primitive_desc_destroy(pd);
    dnnl_primitive_attr_destroy(r.attr);
    onednn_conv_destroy(c);
    return status;
}

void onednn_conv_destroy(struct onednn_conv *c)
{
    if (!c)
        return;
    for (int i = 0; i < ARGUMENTS; i++)
        dnnl_memory_destroy(c->memory[i]);
    dnnl_primitive_destroy(c->primitive);
    dnnl_primitive_destroy(c->reorder);
    free(c);
}

size_t onednn_packed_bytes(const struct onednn_conv *conv)
{
    return conv->packed;
}

size_t onednn_scratch_bytes(const struct onednn_conv *conv)
{
    return conv->scratchpad > conv->plain ? conv->scratchpad : conv->plain;
}

static enum status set_data(dnnl_memory_t memory, const void *data)
{
    enum status status = STATUS_OK;
    TRY_DNNL(dnnl_memory_set_data_handle(memory, (void *)data));
fail:
    return status;
}

/* (D,k,k,C) to (C,k,k,D), with both axes of the kernel reversed. */
static void flip(const struct conv_shape *s, const float *from, float *to)
{
    int taps = s->k * s->k;
#pragma omp parallel for schedule(static)
    for (int c = 0; c < s->c; c++)
        for (int t = 0; t < taps; t++)
            for (int d = 0; d < s->d; d++)
                to[((size_t)c * taps + t) * s->d + d] = from[((size_t)d * taps + taps - 1 - t) * s->c + c];
}

static enum status reorder(struct onednn_conv *c, const void *packed, const float *plain)
{
    enum status status = STATUS_OK;
    bool unpack = c->use == CONV_GRADIENT;
    TRY(set_data(c->memory[WEIGHTS], packed));
    TRY(set_data(c->memory[PLAIN], plain));
    const dnnl_exec_arg_t arguments[] = {
        { DNNL_ARG_FROM, c->memory[unpack ? WEIGHTS : PLAIN] },
        { DNNL_ARG_TO, c->memory[unpack ? PLAIN : WEIGHTS] },
    };
    TRY_DNNL(dnnl_primitive_execute(c->reorder, stream, 2, arguments));
    TRY_DNNL(dnnl_stream_wait(stream));
fail:
    return status;
}

enum status onednn_pack(struct onednn_conv *c, const float *weights, void *packed, void *scratch)
{
    if (c->flipped) {
        flip(&c->shape, weights, scratch);
        weights = scratch;
    }
    return reorder(c, packed, weights);
}

enum status onednn_unpack(struct onednn_conv *c, const void *packed, float *weights)
{
    return reorder(c, packed, weights);
}

static enum status execute(struct onednn_conv *c, int src_argument, const void *src, int weights_argument,
                           const void *weights, int dst_argument, const void *dst, void *scratch)
{
    enum status status = STATUS_OK;
    TRY(set_data(c->memory[SRC], src));
    TRY(set_data(c->memory[WEIGHTS], weights));
    TRY(set_data(c->memory[DST], dst));
    TRY(set_data(c->memory[SCRATCH], scratch));
    const dnnl_exec_arg_t arguments[] = {
        { src_argument, c->memory[SRC] },
        { weights_argument, c->memory[WEIGHTS] },
        { dst_argument, c->memory[DST] },
        { DNNL_ARG_SCRATCHPAD, c->memory[SCRATCH] },
    };
    TRY_DNNL(dnnl_primitive_execute(c->primitive, stream, 4, arguments));
    TRY_DNNL(dnnl_stream_wait(stream));
fail:
    return status;
}

enum status onednn_run(struct onednn_conv *c, const float *in, const void *packed, float *out, void *scratch)
{
    if (c->use == CONV_FORWARD || c->flipped)
        return execute(c, DNNL_ARG_SRC, in, DNNL_ARG_WEIGHTS, packed, DNNL_ARG_DST, out, scratch);
    return execute(c, DNNL_ARG_DIFF_SRC, out, DNNL_ARG_WEIGHTS, packed, DNNL_ARG_DIFF_DST, in, scratch);
}

enum status onednn_run_gradient(struct onednn_conv *c, const float *image, const float *code, void *packed,
                                void *scratch)
{
    return execute(c, DNNL_ARG_SRC, image, DNNL_ARG_DIFF_WEIGHTS, packed, DNNL_ARG_DIFF_DST, code, scratch);
}
