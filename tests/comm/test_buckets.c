/* test_buckets.c - on 1 .. n ranks, every gradient becomes the sum however the buckets are divided, in every step. */
#include <stdint.h>
#include <string.h>

#include "base/log.h"
#include "base/philox.h"
#include "comm/buckets.h"
#include "comm/create.h"
#include "tests/check.h"

#define GUARD 16
enum { STEPS = 3, SEED = 11 };

struct shape {
    const char *name;
    int parameters;
    size_t sizes[6];
    size_t bucket_bytes;
    int buckets; /* expected */
};

static const struct shape shapes[] = {
    { "one parameter", 1, { 5 }, 1 << 20, 1 },
    { "one small bucket", 3, { 7, 1, 2 }, 1 << 20, 1 },
    { "a bucket each", 4, { 7, 1, 9, 3 }, 1, 4 },
    { "first bucket early", 6, { 300, 300, 900, 900, 900, 5 }, 8000, 3 },
    { "an empty parameter", 3, { 4, 0, 6 }, 1, 2 },
    { "large", 3, { 40001, 100003, 17 }, 65536, 3 },
};

static double value(int rank, int step, size_t i)
{
    struct philox stream;
    philox_init(&stream, SEED, PHILOX_DOMAIN_INIT + (uint32_t)(rank * STEPS + step), i);
    return (float)philox_uniform(&stream);
}

/* Fills in only the parameter that is pushed next: a sum that started earlier would add what is not there yet. */
static void push_all(struct buckets *buckets, const struct shape *s, float *gradients, int rank, int step)
{
    const struct gradient_sink *sink = buckets_sink(buckets);
    size_t begin = 0;
    for (int p = 0; p < s->parameters; p++) {
        for (size_t i = begin; i < begin + s->sizes[p]; i++)
            gradients[i] = (float)value(rank, step, i);
        begin += s->sizes[p];
        CHECK(sink->ready(sink->context, p) == STATUS_OK, "%s", status_message());
    }
}

static void check_sum(struct comm *comm, const struct shape *s, const float *g, size_t count, int step,
                      enum comm_dtype wire)
{
    size_t wrong = 0;
    for (size_t i = 0; i < count; i++) {
        double sum = 0;
        for (int r = 0; r < comm->size; r++)
            sum += value(r, step, i);
        double error = wire == COMM_F32 || comm->size == 1 ? 1e-6 : 1.0 / 64;
        wrong += !(fabs(g[i] - sum) <= error * sum);
    }
    CHECK(wrong == 0, "%s, step %d: %zu of %zu sums wrong", s->name, step, wrong, count);
}

static void check_same(struct comm *comm, const float *g, size_t count)
{
    float *all = malloc(count * sizeof *g * (size_t)comm->size);
    CHECK(comm->ops->all_gather(comm, g, count * sizeof *g, all) == STATUS_OK, "%s", status_message());
    for (int r = 1; r < comm->size; r++)
        CHECK(memcmp(all, all + (size_t)r * count, count * sizeof *g) == 0, "rank %d differs", r);
    free(all);
}

static void check_shape(struct comm *comm, const struct shape *s, enum comm_dtype wire, bool deterministic)
{
    size_t offsets[6], count = 0;
    for (int p = 0; p < s->parameters; p++) {
        offsets[p] = count;
        count += s->sizes[p];
    }
    float *memory = malloc((count + 2 * GUARD) * sizeof *memory), *g = memory + GUARD;
    for (size_t i = 0; i < count + 2 * GUARD; i++)
        memory[i] = 1e30f;
    struct buckets *buckets = NULL;
    CHECK(buckets_create(&buckets, comm, g, count, offsets, s->parameters, s->bucket_bytes, wire, deterministic) ==
              STATUS_OK,
          "%s", status_message());
    CHECK(buckets_count(buckets) == s->buckets, "%s: %d buckets, not %d", s->name, buckets_count(buckets), s->buckets);
    for (int step = 0; step < STEPS; step++) {
        double exposed = -1;
        push_all(buckets, s, g, comm->rank, step);
        CHECK(bucket_wait(buckets, &exposed) == STATUS_OK, "%s", status_message());
        CHECK(exposed >= 0 && exposed < 60 && (comm->size > 1 || exposed == 0), "exposed %g s", exposed);
        check_sum(comm, s, g, count, step, wire);
        check_same(comm, g, count);
    }
    for (size_t i = 0; i < GUARD; i++)
        CHECK(memory[i] == 1e30f && g[count + i] == 1e30f, "%s wrote outside", s->name);
    buckets_destroy(buckets);
    free(memory);
}

/* Deterministic sums are exactly a + b on two ranks and (a + b) + (c + d) on four. */
static void check_order(struct comm *comm)
{
    if (comm->size != 2 && comm->size != 4)
        return;
    enum { N = 1001 };
    float g[N];
    size_t offset = 0, wrong = 0;
    struct buckets *buckets = NULL;
    CHECK(buckets_create(&buckets, comm, g, N, &offset, 1, 4, COMM_F32, true) == STATUS_OK, "%s", status_message());
    push_all(buckets, &(struct shape){ .parameters = 1, .sizes = { N } }, g, comm->rank, 0);
    CHECK(bucket_wait(buckets, NULL) == STATUS_OK, "%s", status_message());
    for (size_t i = 0; i < N; i++) {
        float sum = (float)value(0, 0, i) + (float)value(1, 0, i);
        if (comm->size == 4)
            sum += (float)value(2, 0, i) + (float)value(3, 0, i);
        wrong += g[i] != sum;
    }
    CHECK(wrong == 0, "%zu of %d deterministic sums differ", wrong, N);
    buckets_destroy(buckets);
}

int main(void)
{
    struct comm *comm = NULL;
    if (comm_create(&comm) != STATUS_OK) {
        if (comm_should_report(comm))
            log_failure();
        return status_code();
    }
    log_init("test-bucket", comm->rank, comm->size);
    for (size_t k = 0; k < sizeof shapes / sizeof *shapes; k++)
        for (int deterministic = 0; deterministic < 2; deterministic++) {
            check_shape(comm, &shapes[k], COMM_F32, deterministic);
            check_shape(comm, &shapes[k], COMM_BF16, deterministic);
        }
    check_order(comm);
    buckets_destroy(NULL);
    comm_destroy(comm);
    return check_done("bucket");
}
