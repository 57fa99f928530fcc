/* csc_stacked.c - the backward pass of a CSC-layer of two steps whose weight gradient's three terms are contiguous, so
 * that they are one convolution of three times the batch (see csc_assign_memory_all).
 * The terms have no factors: where one would be -1, the sign is in q. q, d, z_0 and r are computed where they have to
 * lie. g gets there by the pass that masks it, or by a copy where batch norm has masked it; x is copied. This saves the
 * start and end of two convolutions and two passes over dw, and moves 2 codes and 2 images in addition to the 3 and 3
 * that the convolution reads. Small images gain much, large ones nothing: the backend measures it. */
#include "base/integer.h"
#include "layers/csc_internal.h"

static size_t term_bytes(const struct csc *csc, bool image)
{
    return (image ? conv_in_count(&csc->shape) : conv_out_count(&csc->shape)) * precision_bytes(csc->device->precision);
}

/* Assigns the stacks of codes, or of images, of all layers. What a layer keeps is the first of its codes and the last
 * of its images. So codes lie in the layers' order and images in reverse: the rest of a stack lies over what later
 * layers keep. */
static void assign_stack(struct csc *const *layers, int count, struct arena *arena, bool images)
{
    size_t bytes = 0;
    for (int pass = 0; pass < 2; pass++) {
        char *memory = pass == 1 ? arena_take(arena, bytes) : NULL;
        size_t at = 0;
        for (int i = 0; i < count; i++) {
            struct csc *csc = layers[i];
            if (images ? !csc->conv->prefers_stacked_inputs : !csc->conv->prefers_stacked)
                continue;
            size_t one = term_bytes(csc, images), end = at + CONV_TERMS * one;
            bytes = round_up(end, ARENA_ALIGN) > bytes ? round_up(end, ARENA_ALIGN) : bytes;
            char **stack = images ? &csc->image_stack : &csc->code_stack;
            *stack = !memory ? NULL : images ? memory + (bytes - end) : memory + at;
            at += round_up(one, ARENA_ALIGN);
        }
    }
}

void *csc_stacked_gradient(const struct csc *csc)
{
    return csc->code_stack + 2 * term_bytes(csc, false);
}

void csc_assign_stacks(struct csc *const *layers, int count, struct arena *arena)
{
    assign_stack(layers, count, arena, false);
    assign_stack(layers, count, arena, true);
}

/* For two steps, with g = eta times the gradient of the code and every term's factor 1:
 *     q = -A g   d = 1[z_0 != 0] nu (g + eta A^T q)   dw += wg(q, z_0) + wg(x, d) + wg(r, g)   dx += A d - q */
enum status csc_backward_stacked(struct csc *csc, const void *x, float eta, void *dx, bool accumulate, float *dw,
                                 void *q, void *scratch)
{
    enum status status = STATUS_OK;
    const struct backend *ops = csc->device->ops;
    size_t pixels = conv_in_count(&csc->shape);
    void *d = csc->code_stack + term_bytes(csc, false), *g = csc_stacked_gradient(csc);
    q = csc->image_stack ? csc->image_stack : q;
    struct epilogue negative = { .alpha = -1 };
    struct epilogue inner = { .kind = EPILOGUE_MASK,
                              .alpha = eta,
                              .beta = 1,
                              .add = g,
                              .mask = csc->z[0],
                              .nu = 1 / (1 + csc->config.mu * eta),
                              .device_scalars = csc->device_scalars };
    struct epilogue rest = { .alpha = 1, .beta = accumulate ? 1 : -1, .add = accumulate ? dx : q };
    TRY(ops->conv_adjoint(csc->conv, g, q, &negative, scratch));
    TRY(ops->conv_forward(csc->conv, q, d, &inner, scratch));
    if (dw && csc->image_stack) {
        void *copy = csc->image_stack + term_bytes(csc, true);
        ops->axpby_act(csc->device, 1, x, 0, x, copy, pixels);
        x = copy;
    }
    const struct gradient_term terms[CONV_TERMS] = { { q, csc->z[0], 1, NULL },
                                                     { x, d, 1, NULL },
                                                     { csc->r[1], g, 1, NULL } };
    if (dw)
        TRY(ops->conv_gradient(csc->conv, terms, CONV_TERMS, dw, scratch));
    if (dx)
        TRY(ops->conv_adjoint(csc->conv, d, dx, &rest, scratch));
    if (dx && accumulate)
        ops->axpby_act(csc->device, 1, dx, -1, q, dx, pixels);
fail:
    return status;
}
