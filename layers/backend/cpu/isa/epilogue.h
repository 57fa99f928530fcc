/* epilogue.h - a convolution's epilogue, on a register of its results. */
#ifndef CSC_LAYERS_BACKEND_CPU_ISA_EPILOGUE_H
#define CSC_LAYERS_BACKEND_CPU_ISA_EPILOGUE_H

#include "layers/backend/backend.h"
#include "layers/backend/cpu/isa/vector.h"

/* The epilogue with nu multiplied into alpha and beta, as epilogue_apply expects it. */
static inline struct epilogue epilogue_fold_nu(const struct epilogue *e)
{
    struct epilogue scaled = *e;
    if (e->kind != EPILOGUE_LINEAR) {
        scaled.alpha *= e->nu;
        scaled.beta *= e->nu;
    }
    return scaled;
}

/* f(alpha v + beta add), for the results v that belong at float `at` of the output. */
static inline vec epilogue_apply(const struct epilogue *e, vec v, size_t at)
{
    v = e->alpha * v;
    if (e->add)
        v += e->beta * load((const float *)e->add + at);
    if (e->kind == EPILOGUE_MASK)
        return (vec)((ivec)v & (load((const float *)e->mask + at) != 0));
    if (e->kind == EPILOGUE_LINEAR)
        return v;
    if (e->nonnegative) {
        v -= e->threshold;
        return (vec)((ivec)v & ~(v < 0)); /* NaN passes */
    }
    ivec sign = (ivec)v & INT32_MIN;
    vec shrunk = (vec)((ivec)v ^ sign) - e->threshold;
    return (vec)(((ivec)shrunk | sign) & ~(shrunk <= 0));
}

#endif
