/* device.h - what the CUDA device and its emulation share: a queue for kernels, and the table's slots over it. */
#ifndef CSC_LAYERS_BACKEND_CUDA_DEVICE_H
#define CSC_LAYERS_BACKEND_CUDA_DEVICE_H

#include "layers/backend/backend.h"
#include "layers/backend/cuda/kernels/kernels.h"

enum { CUDA_RESULT_COUNT = 1 };

struct cuda_device {
    struct device base;
    struct backend table;
    struct queue queue;
    void *staging; /* device: floats on their way to or from activations; grows with the largest transfer */
    size_t staging_bytes;
    double *result; /* device: CUDA_RESULT_COUNT sums */
    /* The convolution that wrote `summed` left its per-channel sums in queue.partials, in `parts` parts. Any other
     * operation forgets that: they are there for a batch norm that follows at once. */
    const void *statistics_of;
    int statistics_parts;
};

/* The queue for an operation on activations; forgets sums. */
const struct queue *cuda_queue(struct device *device);

/* The same for activations of the convolution's precision. */
struct queue cuda_conv_queue(const struct conv *conv);

/* Writes a convolution's result (rows, c) through its epilogue, with sums for a batch norm. */
void cuda_epilogue(const struct conv *conv, const struct epilogue *epilogue, enum element type, const void *result,
                   void *out, size_t rows, int c);

/* Elementwise operations, batch norm, pooling, classifier, loss and optimizer. */
void cuda_fill_table(struct backend *table);

/* What `stage` copied from there, on the device and ready for what is queued next; NULL if it did not. The host's is
 * free then. Done: its user has been queued. */
const void *cuda_prefetched(struct cuda_device *device, const void *from, size_t bytes);
void cuda_prefetched_done(struct cuda_device *device);

/* Grows staging to `bytes`; the device's own way to take memory. NULL if there is none. */
void *cuda_staging_buffer(struct cuda_device *device, size_t bytes);

#endif
