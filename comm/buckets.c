/* buckets.c - the flat gradient buffer is divided into buckets, which are summed over the ranks as they become
 * complete.
 *     gradients  [ p0 p1 p2 | p3 | p4 p5 ... ]   A bucket is a range of whole parameters.
 * It has at least bucket_bytes, except the first, which is shorter so that communication starts early, and the last. */
#include "comm/buckets.h"

#include <assert.h>
#include <stdlib.h>

#include "base/clock.h"

struct bucket {
    size_t begin, end; /* in floats */
    int last;          /* the parameter that completes it */
    struct comm_request *request;
};

struct buckets {
    struct gradient_sink sink;
    struct comm *comm;
    float *gradients;
    enum comm_dtype wire;
    bool deterministic;
    int parameters, count;
    int pushed;  /* parameters that are final in this step */
    int started; /* buckets in this step */
    struct bucket list[];
};

static void partition(struct buckets *b, const size_t *offsets, size_t count, size_t bucket_bytes)
{
    size_t min_bytes = bucket_bytes / 8;
    struct bucket *current = NULL;
    for (int i = 0; i < b->parameters; i++) {
        size_t end = i + 1 < b->parameters ? offsets[i + 1] : count;
        assert(offsets[i] <= end && end <= count);
        if (!current) {
            current = &b->list[b->count++];
            current->begin = offsets[i];
        }
        current->end = end;
        current->last = i;
        if ((current->end - current->begin) * sizeof(float) < min_bytes)
            continue;
        current = NULL;
        min_bytes = bucket_bytes;
    }
}

static enum status ready(void *buckets, int parameter)
{
    enum status status = STATUS_OK;
    struct buckets *b = buckets;
    assert(parameter == b->pushed && parameter < b->parameters);
    b->pushed++;
    if (b->comm->size == 1)
        return STATUS_OK;
    struct bucket *next = &b->list[b->started];
    if (parameter == next->last) {
        TRY(b->comm->ops->all_reduce_start_f32(b->comm, b->gradients + next->begin, next->end - next->begin, b->wire,
                                               b->deterministic, &next->request));
        b->started++;
    } else {
        TRY(b->comm->ops->progress(b->comm));
    }
fail:
    return status;
}

/* Whether this parameter completes a bucket. */
static bool must_flush(void *buckets, int parameter)
{
    const struct buckets *b = buckets;
    for (int i = 0; b->comm->size > 1 && i < b->count; i++)
        if (b->list[i].last == parameter)
            return true;
    return false;
}

enum status buckets_create(struct buckets **out, struct comm *comm, float *gradients, size_t count,
                           const size_t *offsets, int parameters, size_t bucket_bytes, enum comm_dtype wire,
                           bool deterministic)
{
    enum status status = STATUS_OK;
    assert(parameters >= 0 && (parameters == 0 || offsets[0] == 0));
    struct buckets *b = calloc(1, sizeof *b + (size_t)parameters * sizeof *b->list);
    if (!b)
        FAIL(STATUS_NOMEM, "out of memory for the gradient buckets of %d parameters", parameters);
    b->sink = (struct gradient_sink){ ready, must_flush, b };
    b->comm = comm;
    b->gradients = gradients;
    b->wire = wire;
    b->deterministic = deterministic;
    b->parameters = parameters;
    partition(b, offsets, count, bucket_bytes);
    *out = b;
fail:
    return status;
}

void buckets_destroy(struct buckets *b)
{
    free(b);
}

int buckets_count(const struct buckets *b)
{
    return b->count;
}

const struct gradient_sink *buckets_sink(const struct buckets *b)
{
    return &b->sink;
}

enum status bucket_wait(struct buckets *b, double *exposed_s)
{
    enum status status = STATUS_OK;
    double start = clock_seconds();
    assert(b->pushed == b->parameters);
    for (int i = 0; b->comm->size > 1 && i < b->count; i++)
        TRY(b->comm->ops->wait(b->comm, b->list[i].request));
    b->pushed = b->started = 0;
    if (exposed_s)
        *exposed_s = b->comm->size > 1 ? clock_seconds() - start : 0;
fail:
    return status;
}
