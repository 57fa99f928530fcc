/* buckets.h - gradients are summed over the ranks while the backward pass still runs.
 * Parameters lie one after another in a flat gradient buffer, in the order in which the backward pass finishes them, so
 * that a bucket of consecutive parameters is a contiguous range. */
#ifndef CSC_COMM_BUCKETS_H
#define CSC_COMM_BUCKETS_H

#include "base/gradient_sink.h"
#include "comm/comm.h"

struct buckets;

/* gradients: `count` floats, which begin with the parameter that is finished first. offsets[i]: where parameter i
 * begins, in floats, ascending. A bucket is summed as soon as it has bucket_bytes; the first one is smaller, so that
 * communication starts early. `comm` and `gradients` must live longer than the buckets. */
enum status buckets_create(struct buckets **buckets, struct comm *comm, float *gradients, size_t count,
                           const size_t *offsets, int parameters, size_t bucket_bytes, enum comm_dtype wire,
                           bool deterministic);
void buckets_destroy(struct buckets *buckets);
int buckets_count(const struct buckets *buckets);

/* The sink to which every step passes parameters 0, 1, 2 ..., which is collective: it starts the sum of a bucket that
 * is now complete. Valid as long as the buckets. */
const struct gradient_sink *buckets_sink(const struct buckets *buckets);

/* Collective, after all parameters are final: waits until all sums are done, after which the next step may begin.
 * exposed_s, if not NULL, receives the seconds spent waiting. A rank that fails between a step's first parameter and
 * this call must end the job (ops->abort), because the other ranks wait for it here. */
enum status bucket_wait(struct buckets *buckets, double *exposed_s);

#endif
