/* loader.h - makes micro-batches from a dataset; worker threads read, decode and augment ahead of the caller.
 * What a micro-batch holds depends on its position (epoch, step) only, not on the numbers of ranks and workers. A seek
 * takes constant time. */
#ifndef CSC_DATA_READ_LOADER_H
#define CSC_DATA_READ_LOADER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/status.h"
#include "data/read/augment.h"
#include "data/read/loader_stats.h"
#include "data/read/order.h"

struct dataset;
struct loader;
struct pixel_scale;

/* The dataset, the corruption and the label map must outlive the loader. */
struct loader_config {
    struct dataset *dataset;
    bool training; /* false, evaluation: every image once, in order, without augmentation */
    uint64_t seed;
    enum shuffle shuffle; /* in training */
    int64_t window;       /* samples, for SHUFFLE_WINDOW */
    /* In evaluation AUGMENT_IMAGENET resizes the short side to image_size * 256 / 224, the others to image_size; then
     * the centre is taken. */
    enum augment augment;
    int image_size;                      /* S: batches are (n,S,S,3) */
    double mean[3], std[3];              /* of values in 0 .. 1 */
    const struct corruption *corruption; /* of every image in evaluation; NULL: none */
    int batch;                           /* samples of a step over all ranks, in training */
    int micro_batch;                     /* divides batch */
    /* In training a rank makes a contiguous part of a step's micro-batches, in evaluation micro-batches rank, rank +
     * ranks and so on. */
    int rank, ranks;
    int workers;  /* threads, at least 1 */
    int prefetch; /* micro-batches that are made ahead, at least 1 */
    /* A damaged sample is replaced by the next good one in training and left out in evaluation, with a warning. If
     * false, it is STATUS_DATA. */
    bool skip_bad;
    const int32_t *label_map; /* (classes): the label to return for each of the dataset's; NULL: the same */
    bool raw;                 /* batches are bytes, for a device that normalises */
    /* In training with AUGMENT_IMAGENET, JPEGs are decoded at a fraction of their size where the crop allows it. This
     * is faster but not exact. */
    bool scaled_jpeg;
};

/* One micro-batch of n = count samples, owned by the loader. */
struct micro_batch {
    const float *images; /* (n,S,S,3), normalised; NULL if the loader is raw */
    const void *raw;     /* if the loader is raw: n struct image_crop (base/pixels.h), then pixels; else NULL */
    size_t raw_bytes;
    const struct pixel_scale *scale; /* with which a device normalises raw images */
    const int32_t *labels;           /* (n) */
    const uint64_t *ids;             /* (n), indices in the dataset */
    int count;                       /* micro_batch; less at the end of an evaluation or where samples are left out */
    int64_t epoch, step;             /* step within the epoch, from 0 */
    int index; /* of the micro-batch, in training within the step, in evaluation within the dataset */
};

/* Starts a loader at epoch 0, step 0. Errors: STATUS_USAGE for an impossible configuration, STATUS_NOMEM. */
enum status loader_create(struct loader **loader, const struct loader_config *config);

/* Stops the threads. NULL is allowed. */
void loader_destroy(struct loader *loader);

/* The memory of all images of slot i; each micro-batch lies in one of these slots. A device can register it. Returns
 * NULL if there is no such slot. */
void *loader_memory(const struct loader *loader, int i, size_t *bytes);

/* Optimizer steps of an epoch: samples / batch, without a partial last one. */
int64_t loader_steps_per_epoch(const struct loader *loader);

/* Makes the next micro-batch this rank's first one of (epoch, step). In evaluation both must be 0, which rewinds.
 * Errors: STATUS_USAGE. */
enum status loader_seek(struct loader *loader, int64_t epoch, int64_t step);

/* Returns the next micro-batch, which is valid until the next call. Training continues into the next epoch by itself.
 * In evaluation *batch is NULL after this rank's last one. Only one thread may call this. Errors: STATUS_DATA,
 * STATUS_IO, STATUS_NOMEM; the next call returns the same error. */
enum status loader_next(struct loader *loader, const struct micro_batch **batch);

/* The thread that calls loader_next may call this. */
void loader_stats(const struct loader *loader, struct loader_stats *stats);

#endif
