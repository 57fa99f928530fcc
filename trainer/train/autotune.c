/* autotune.c - measures the best size of the gradient buckets when a run starts. It chooses the smallest size with
 * which the whole gradient travels nearly as fast as with the best one: the smaller the last bucket, the less is left
 * to wait for when the backward pass ends. The choice is kept under "comm.bucket_mb.RANKS.TYPE", so that a resume on as
 * many ranks sums in the same order. */
#include <stdio.h>

#include "base/clock.h"
#include "base/log.h"
#include "trainer/train/training_parts.h"

enum { ROUNDS = 4, CANDIDATES = 7 };
static const double candidates[CANDIDATES] = { 1, 2, 4, 8, 16, 25, 50 };
#define FIXED_MB 25.0
#define NEARLY   1.1

/* The seconds that a sum of the whole reduce buffer takes in pieces of mb megabytes. */
static enum status measure(struct training *t, struct comm *comm, double mb, double *seconds)
{
    enum status status = STATUS_OK;
    struct comm_request *requests[256];
    size_t piece = (size_t)(mb * 1e6 / sizeof(float)), smallest = (t->reduce_layout.count + 255) / 256;
    int count = 0;
    piece = piece < smallest ? smallest : piece;
    TRY(t->comm->ops->barrier(t->comm));
    double start = clock_seconds();
    for (size_t at = 0; at < t->reduce_layout.count; at += piece, count++)
        TRY(comm->ops->all_reduce_start_f32(comm, t->reduce_buffer + at,
                                            t->reduce_layout.count - at < piece ? t->reduce_layout.count - at : piece,
                                            t->config->comm.grad_dtype, false, &requests[count]));
    for (int i = 0; i < count; i++)
        TRY(comm->ops->wait(comm, requests[i]));
    *seconds = clock_seconds() - start;
fail:
    return status;
}

/* All ranks choose the same size, by the time of the slowest rank. */
static enum status choose(struct training *t, struct comm *comm, double *mb)
{
    enum status status = STATUS_OK;
    int64_t best[CANDIDATES], fastest = INT64_MAX;
    int count = 1; /* candidates no larger than the whole buffer */
    while (count < CANDIDATES && candidates[count - 1] * 1e6 < (double)t->reduce_layout.count * sizeof(float))
        count++;
    t->device->ops->zero(t->device, t->reduce_buffer, t->reduce_layout.count * sizeof *t->reduce_buffer);
    for (int round = 0; round < ROUNDS; round++)
        for (int i = 0; i < count; i++) {
            double seconds;
            TRY(measure(t, comm, candidates[i], &seconds));
            int64_t ns = (int64_t)(seconds * 1e9);
            if (round < 2 || ns < best[i]) /* the first round warms up */
                best[i] = ns;
        }
    TRY(t->comm->ops->all_reduce_max_i64(t->comm, best, (size_t)count));
    for (int i = 0; i < count; i++)
        fastest = best[i] < fastest ? best[i] : fastest;
    for (int i = count - 1; i >= 0; i--)
        if ((double)best[i] <= NEARLY * (double)fastest)
            *mb = candidates[i];
fail:
    return status;
}

enum status training_autotune_bucket_mb(struct training *t, struct comm *comm, double *mb)
{
    enum status status = STATUS_OK;
    char key[64], value[32];
    snprintf(key, sizeof key, "comm.bucket_mb.%d.%s", t->comm->size,
             t->config->comm.grad_dtype == COMM_BF16 ? "bf16" : "fp32");
    *mb = t->config->comm.bucket_mb > 0 ? t->config->comm.bucket_mb : FIXED_MB;
    if (t->config->comm.bucket_mb > 0 || t->config->run.deterministic || t->comm->size == 1)
        return STATUS_OK;
    if (tuned_get_number(t->tuned, key, mb) && *mb > 0 && *mb <= 65536)
        return STATUS_OK;
    TRY(choose(t, comm, mb));
    snprintf(value, sizeof value, "%g", *mb);
    TRY(tuned_set(t->tuned, key, value));
fail:
    return status;
}
