/* plan_timer.h - measures plans of convolutions on buffers of their own. The buffers hold random images and weights,
 * and codes of which four in ten are not 0, as a CSC layer has: on zeros alone some plans look faster than they are. */
#ifndef CSC_LAYERS_BACKEND_CUDA_PLAN_TIMER_H
#define CSC_LAYERS_BACKEND_CUDA_PLAN_TIMER_H

#include "layers/backend/cuda/gpu.h"

struct plan_timer {
    void *image, *code, *weights,
        *epilogue_operand; /* epilogue_operand: read by the epilogue, as large as the result */
    float *scalars;
    cudaEvent_t start, end;
};

/* What is timed: copies of images and codes, a plan `runs` times, an addition to the weight gradient, and a separate
 * epilogue. */
struct timed_work {
    const struct plan *plan;
    int runs;
    size_t accumulated_weights, copied_image, copied_code;
    const struct dnn_spec
        *separate_epilogue; /* the epilogue that follows a plain plan as a pass of its own; NULL: none */
};

/* Allocates and fills buffers for plans of this spec. STATUS_NOMEM if the GPU lacks memory; plan_timer_finish must
 * be called even then. */
enum status plan_timer_init(struct plan_timer *timer, struct gpu *gpu, const struct dnn_spec *spec);
void plan_timer_finish(struct plan_timer *timer);

/* *fastest_ms: the smallest of several times in milliseconds, or INFINITY if the plan cannot run here, which is not
 * an error. Stops early if the plan is clearly slower than to_beat. */
enum status plan_timer_measure(struct gpu *gpu, const struct timed_work *work, struct plan_timer *timer, float to_beat,
                               float *fastest_ms);

#endif
