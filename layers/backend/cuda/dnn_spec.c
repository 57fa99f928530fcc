/* dnn_spec.c - see dnn_spec.h. */
#include "layers/backend/cuda/dnn_spec.h"

#include <cudnn_graph.h>
#include <stdio.h>

void dnn_spec_key(const struct dnn_spec *spec, char key[DNN_SPEC_KEY])
{
    static const char *const kinds[] = { "forward", "adjoint", "gradient" };
    static const char *const epilogues[] = { "plain", "scale", "add", "subtract", "shrink", "shrink-add", "mask-add" };
    const struct conv_shape *s = &spec->shape;
    snprintf(key, DNN_SPEC_KEY, "cudnn.%zu.%s.%s.%dx%dx%dx%d.%d.%d%s.%d.%d.%s%s", cudnnGetVersion(), kinds[spec->kind],
             epilogues[spec->epilogue], s->n, s->h, s->w, s->c, s->d, s->k, spec->k_by_1 ? "r" : "", s->stride, s->pad,
             precision_name(spec->precision),
             spec->float_result && spec->precision == PRECISION_BF16 ? ".to-fp32" : "");
}
