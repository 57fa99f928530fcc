/* loader.h - batches from a sharded dataset, the same whatever the number of ranks and workers.
 * Position is (epoch, step); seeking is O(1). Worker threads read, decode and augment ahead. */
#ifndef CSC_DATA_READ_LOADER_H
#define CSC_DATA_READ_LOADER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/status.h"
#include "data/read/augment.h"
#include "data/read/loader_stats.h"
#include "data/read/order.h"

struct pixel_scale; /* base/pixels.h */
struct dataset;     /* an open directory of shards: data/read/dataset.h */
struct loader;

struct loader_config {
    struct dataset *dataset; /* must outlive the loader */
    bool training;           /* false: every image once, in order, no augmentation, last batch partial */
    uint64_t seed;
    enum shuffle shuffle; /* training only */
    int64_t window;       /* samples, for SHUFFLE_WINDOW */
    /* Training: what is drawn. Evaluation: AUGMENT_IMAGENET resizes the short side to image_size * 256 / 224 and crops
     * the center; any other resizes the whole image if need be. */
    enum augment augment;
    int image_size;                      /* S: batches are (n,S,S,3) */
    double mean[3], std[3];              /* of values in 0..1 */
    const struct corruption *corruption; /* evaluation: of every image; NULL: none. Must outlive the loader */
    int batch;                           /* samples per step over all ranks */
    int micro_batch;                     /* divides batch */
    int rank, ranks;                     /* training: this rank does its contiguous share of a step's micro-batches;
                                            evaluation: micro-batches rank, rank + ranks, ... */
    int workers, prefetch;               /* threads >= 1; micro-batches ready ahead >= 1 */
    bool skip_bad;            /* data.bad_sample: a damaged sample is replaced by the next good one in training and left
                                 out of an evaluation, with a warning and counted; else STATUS_DATA */
    const int32_t *label_map; /* (the dataset's classes): the label that batches give for each; NULL: the same.
                                 Must outlive the loader */
    bool raw;                 /* batches are bytes, for a device that normalises */
    bool scaled_jpeg;         /* training with AUGMENT_IMAGENET: decode JPEGs at a fraction of their size where the crop
                                 allows; faster, not exact */
};

/* One micro-batch, owned by the loader. */
struct micro_batch {
    const float *images; /* (n,S,S,3), normalised; NULL with raw: */
    const void *raw;     /* raw_bytes: first n struct image_cut (base/pixels.h), then what they cut from; else NULL */
    size_t raw_bytes;
    const struct pixel_scale *scale; /* what normalises raw images */
    const int32_t *labels;           /* n */
    const uint64_t *ids;             /* n, positions in the dataset */
    int count;           /* n: micro_batch, or fewer in an evaluation: at its end, and where samples are left out */
    int64_t epoch, step; /* step within the epoch, from 0 */
    int index;           /* micro-batch within the step (training), or within the set (evaluation) */
};

enum status loader_create(struct loader **loader, const struct loader_config *config);
void loader_destroy(struct loader *loader); /* stops its threads; NULL is fine */

/* The memory of all images of micro-batch i of those that exist at once, for a device that wants to know it; NULL
 * behind the last. */
void *loader_memory(const struct loader *loader, int i, size_t *bytes);

/* Optimizer steps in an epoch: samples / batch, the partial last one dropped. */
int64_t loader_steps_per_epoch(const struct loader *loader);

/* The next micro-batch will be this rank's first of (epoch, step). Evaluation: epoch and step 0 rewinds. */
enum status loader_seek(struct loader *loader, int64_t epoch, int64_t step);

/* The next micro-batch, valid until the next call; training goes on into the next epoch by itself.
 * Evaluation: *batch is NULL when this rank's share is done. */
enum status loader_next(struct loader *loader, const struct micro_batch **batch);

void loader_stats(const struct loader *loader, struct loader_stats *stats);

#endif
