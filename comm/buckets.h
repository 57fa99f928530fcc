/* buckets.h - gradients summed over ranks while the backward pass goes on.
 * Parameters lie one after another in one flat gradient buffer, in the order in which the backward pass
 * finishes them, so that a bucket is a contiguous range. */
#ifndef CSC_COMM_BUCKETS_H
#define CSC_COMM_BUCKETS_H

#include "comm/comm.h"

struct buckets;

/* gradients (count floats) starts with the parameter that is ready first. offsets[i] is where parameter i
 * begins, in floats, ascending; parameters i = 0 .. parameters-1. bucket_bytes: the size from which a bucket is sent;
 * the first bucket is smaller, so that sending starts early. */
enum status buckets_create(struct buckets **buckets, struct comm *comm, float *gradients, size_t count,
                           const size_t *offsets, int parameters, size_t bucket_bytes, enum comm_dtype wire,
                           bool deterministic);
void buckets_destroy(struct buckets *buckets);
int buckets_count(const struct buckets *buckets);

/* Parameter i's gradient is final on this rank; starts the sum of every bucket that is now complete.
 * Parameters must be pushed in order 0, 1, 2 ...; on a single rank a no-op. */
enum status bucket_push(struct buckets *buckets, int parameter);

/* Whether pushing this parameter, in its turn, starts a sum. */
bool bucket_completes(const struct buckets *buckets, int parameter);

/* All parameters must have been pushed: a rank that fails in between must end the job (ops->abort), since
 * the others wait for it here. Waits for all; afterwards the next step may push again. exposed_s, if not NULL,
 * gets the seconds spent waiting. */
enum status bucket_wait(struct buckets *buckets, double *exposed_s);

#endif
