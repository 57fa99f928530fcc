/* plan_timer.h - plans of convolutions timed on memory of their own. It holds what a CSC-layer has: images and weights
 * of random numbers, and codes of which four in ten are not zero. On zeros alone some plans look faster than they are.
 */
#ifndef CSC_LAYERS_BACKEND_CUDA_PLAN_TIMER_H
#define CSC_LAYERS_BACKEND_CUDA_PLAN_TIMER_H

#include "layers/backend/cuda/gpu.h"

struct plan_timer {
    void *image, *code, *weights, *epilogue_operand; /* beside: what is fused behind reads, as large as the result */
    float *numbers;
    cudaEvent_t start, end;
};

/* What is timed: a plan `runs` times, elements that are copied before and added to dw after, and a pass of its own over
 * the result. */
struct timed_work {
    const struct plan *plan;
    int runs;
    size_t accumulated_weights, copied_image, copied_code;
    const struct dnn_spec *separate_epilogue; /* whose tail follows the plan, which is plain; NULL: none */
};

/* For plans of this spec. STATUS_NOMEM where the GPU has no memory for it; finish is due all the same. */
enum status plan_timer_init(struct plan_timer *timer, struct gpu *gpu, const struct dnn_spec *spec);
void plan_timer_finish(struct plan_timer *timer);

/* *least: the least of some times, in milliseconds; INFINITY if the plan cannot run here, which is not an error. Stops
 * early where that cannot become less than `enough`. */
enum status plan_timer_measure(struct gpu *gpu, const struct timed_work *work, struct plan_timer *timer, float to_beat,
                               float *fastest_ms);

#endif
