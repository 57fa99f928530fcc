/* trial.h - plans of convolutions timed on memory of their own, which is all zeros. */
#ifndef CSC_LAYERS_CUDA_TRIAL_H
#define CSC_LAYERS_CUDA_TRIAL_H

#include "layers/cuda/gpu.h"

struct trial {
    void *image, *code, *weights, *beside; /* beside: what is fused behind reads, as large as the result */
    float *numbers;
    cudaEvent_t start, end;
};

/* What is timed: a plan `runs` times, and elements that are copied before and added to dw after. */
struct work {
    const struct plan *plan;
    int runs;
    size_t added, copied_image, copied_code;
};

/* For plans of this spec. STATUS_NOMEM; finish is due all the same. */
enum status trial_init(struct trial *trial, const struct dnn_spec *spec);
void trial_finish(struct trial *trial);

/* The least of some times, in milliseconds. */
enum status trial_time(struct gpu *gpu, const struct work *work, struct trial *trial, float *least);

#endif
