/* device.h - the part of the CUDA device that its operations use: the queue that kernels are launched on, and the
 * filling of the backend's table. It needs no header of CUDA. */
#ifndef CSC_LAYERS_BACKEND_CUDA_DEVICE_H
#define CSC_LAYERS_BACKEND_CUDA_DEVICE_H

#include "layers/backend/backend.h"
#include "layers/backend/cuda/kernels/kernels.h"

enum { CUDA_RESULT_COUNT = 1 };

struct cuda_device {
    struct device base;
    struct backend table;
    struct queue queue;
    void *staging; /* device memory for transfers between floats and activations; grows with the largest transfer */
    size_t staging_bytes;
    double *result; /* device memory, CUDA_RESULT_COUNT sums */
    /* The last operation was a convolution that wrote `statistics_of` and left the sums of its channels in
     * queue.partials, in `statistics_parts` parts, for a batch norm that follows at once. NULL after any other
     * operation. */
    const void *statistics_of;
    int statistics_parts;
};

/* Returns the queue for one operation. Clears statistics_of. */
const struct queue *cuda_queue(struct device *device);

/* Like cuda_queue, with the element type of the convolution's precision, which may differ from the device's. */
struct queue cuda_conv_queue(const struct conv *conv);

/* Applies the epilogue to a convolution's result (rows, c), whose elements have `type`, and writes `out` in the
 * convolution's precision. A shrinking epilogue also leaves the channels' sums for a batch norm. */
void cuda_epilogue(const struct conv *conv, const struct epilogue *epilogue, enum element type, const void *result,
                   void *out, size_t rows, int c);

/* Fills the slots that kernels serve: elementwise operations, batch norm, pooling, loss and optimizer. */
void cuda_fill_table(struct backend *table);

/* Returns the device copy of the host memory `from` if a prefetch of exactly these bytes was started, else NULL.
 * Work queued from now on sees the copy, and the host memory may be reused. Call cuda_prefetched_done once the work
 * that reads the copy is queued. */
const void *cuda_prefetched(struct cuda_device *device, const void *from, size_t bytes);
void cuda_prefetched_done(struct cuda_device *device);

/* Returns device memory of at least `bytes`, valid until the next call, or NULL if there is not enough. */
void *cuda_staging_buffer(struct cuda_device *device, size_t bytes);

#endif
