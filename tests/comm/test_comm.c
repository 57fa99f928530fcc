/* test_comm.c - every operation of a communicator against serial results, on 1 .. n ranks.
 * Usage: test-comm [abort | kill | report], under mpirun or alone. Sizes are odd, zero or longer than a chunk. Guard
 * words surround every buffer that an operation writes. */
#include <signal.h>
#include <stdint.h>
#include <string.h>

#include "base/bf16.h"
#include "base/log.h"
#include "base/philox.h"
#include "comm/comm_internal.h"
#include "comm/create.h"
#include "tests/check.h"

#define GUARD 8 /* elements on each side */

enum { SEED = 7, MAX_RANKS = 8, LONGEST = (1 << 17) + 5 };

static const size_t counts[] = { 0, 1, 3, 1000, 4097, LONGEST };
#define COUNTS (sizeof counts / sizeof *counts)

/* The terms of all ranks; every rank knows all of them. */
static double elements[MAX_RANKS][LONGEST];

static void draw_elements(void)
{
    for (int r = 0; r < MAX_RANKS; r++) {
        struct philox stream;
        philox_init(&stream, SEED, PHILOX_DOMAIN_INIT, (uint64_t)r);
        for (size_t i = 0; i < LONGEST; i++)
            elements[r][i] = philox_normal(&stream);
    }
}

static double element(int rank, uint64_t i)
{
    return elements[rank][i];
}

static void *guarded(size_t count, size_t bytes)
{
    char *memory = malloc((count + 2 * GUARD) * bytes);
    memset(memory, 0xa5, (count + 2 * GUARD) * bytes);
    return memory + GUARD * bytes;
}

static bool guards_hold(const void *data, size_t count, size_t bytes)
{
    const unsigned char *before = (const unsigned char *)data - GUARD * bytes;
    const unsigned char *behind = (const unsigned char *)data + count * bytes;
    for (size_t i = 0; i < GUARD * bytes; i++)
        if (before[i] != 0xa5 || behind[i] != 0xa5)
            return false;
    return true;
}

static void drop(void *data, size_t bytes)
{
    free((char *)data - GUARD * bytes);
}

/* The documented order, in the type that is sent: first the ranks above the power of two are added, then pairs. */
#define TREE(name, type, ADD)                       \
    static type name(type *v, int ranks)            \
    {                                               \
        int power = 1;                              \
        while (power * 2 <= ranks)                  \
            power *= 2;                             \
        for (int r = power; r < ranks; r++)         \
            v[r - power] = ADD(v[r - power], v[r]); \
        for (; power > 1; power /= 2)               \
            for (int r = 0; r < power / 2; r++)     \
                v[r] = ADD(v[2 * r], v[2 * r + 1]); \
        return v[0];                                \
    }
#define PLUS(a, b)      ((a) + (b))
#define PLUS_BF16(a, b) bf16_from_float(bf16_to_float(a) + bf16_to_float(b))
TREE(tree_f32, float, PLUS)
TREE(tree_f64, double, PLUS)
TREE(tree_bf16, uint16_t, PLUS_BF16)

static float expect_deterministic(int ranks, uint64_t i, enum comm_dtype wire)
{
    float f[MAX_RANKS];
    uint16_t b[MAX_RANKS];
    for (int r = 0; r < ranks; r++) {
        f[r] = (float)element(r, i);
        b[r] = bf16_from_float(f[r]);
    }
    return wire == COMM_F32 ? tree_f32(f, ranks) : bf16_to_float(tree_bf16(b, ranks));
}

/* Serial sum in double, and the sum of absolute values, to which rounding errors are relative. */
static double expect_sum(int ranks, uint64_t i, double *size)
{
    double sum = 0;
    *size = 0;
    for (int r = 0; r < ranks; r++) {
        sum += element(r, i);
        *size += fabs(element(r, i));
    }
    return sum;
}

/* Checks that all ranks hold the same bytes. */
static void check_same(struct comm *comm, const void *data, size_t bytes, const char *what)
{
    char *all = malloc(bytes * (size_t)comm->size + 1);
    CHECK(comm->ops->all_gather(comm, data, bytes, all) == STATUS_OK, "%s", status_message());
    for (int r = 1; r < comm->size; r++)
        CHECK(memcmp(all, all + (size_t)r * bytes, bytes) == 0, "%s: rank %d differs from rank 0", what, r);
    free(all);
}

static double tolerance(enum comm_dtype wire)
{
    return wire == COMM_F32 ? 1e-6 : 1.0 / 64; /* bf16: a few roundings of 2^-9 */
}

static void check_f32_values(struct comm *comm, const float *data, size_t count, enum comm_dtype wire,
                             bool deterministic)
{
    size_t wrong = 0;
    for (size_t i = 0; i < count; i++) {
        double size, sum = expect_sum(comm->size, i, &size);
        bool good = fabs(data[i] - sum) <= tolerance(wire) * size;
        if (comm->size == 1)
            good = data[i] == (float)element(0, i);
        else if (deterministic)
            good = data[i] == expect_deterministic(comm->size, i, wire);
        wrong += !good;
    }
    CHECK(wrong == 0, "%zu of %zu sums wrong, wire %d, deterministic %d, %d ranks", wrong, count, wire, deterministic,
          comm->size);
}

static float *own_f32(struct comm *comm, size_t count)
{
    float *data = guarded(count, sizeof *data);
    for (size_t i = 0; i < count; i++)
        data[i] = (float)element(comm->rank, i);
    return data;
}

static void check_all_reduce_f32(struct comm *comm, size_t count, enum comm_dtype wire, bool deterministic)
{
    float *data = own_f32(comm, count);
    CHECK(comm->ops->all_reduce_f32(comm, data, count, wire, deterministic) == STATUS_OK, "%s", status_message());
    check_f32_values(comm, data, count, wire, deterministic);
    CHECK(guards_hold(data, count, sizeof *data), "all_reduce_f32 of %zu wrote outside", count);
    check_same(comm, data, count * sizeof *data, "all_reduce_f32");
    drop(data, sizeof *data);
}

static void check_all_reduce_f64(struct comm *comm, size_t count)
{
    double *data = guarded(count, sizeof *data);
    for (size_t i = 0; i < count; i++)
        data[i] = element(comm->rank, i);
    CHECK(comm->ops->all_reduce_f64(comm, data, count) == STATUS_OK, "%s", status_message());
    size_t wrong = 0;
    for (size_t i = 0; i < count; i++) {
        double v[MAX_RANKS];
        for (int r = 0; r < comm->size; r++)
            v[r] = element(r, i);
        wrong += data[i] != tree_f64(v, comm->size);
    }
    CHECK(wrong == 0, "%zu of %zu double sums wrong", wrong, count);
    CHECK(guards_hold(data, count, sizeof *data), "all_reduce_f64 of %zu wrote outside", count);
    check_same(comm, data, count * sizeof *data, "all_reduce_f64");
    drop(data, sizeof *data);
}

/* Three sums of different kinds in progress at once, waited for in the order of their start, twice. */
static void check_in_progress(struct comm *comm, size_t count)
{
    for (int round = 0; round < 2; round++) {
        float *data[3];
        struct comm_request *requests[3];
        const bool deterministic[3] = { false, true, false };
        const enum comm_dtype wires[3] = { COMM_F32, COMM_F32, COMM_BF16 };
        for (int k = 0; k < 3; k++) {
            data[k] = own_f32(comm, count);
            CHECK(comm->ops->all_reduce_start_f32(comm, data[k], count, wires[k], deterministic[k], &requests[k]) ==
                      STATUS_OK,
                  "%s", status_message());
            CHECK(comm->ops->progress(comm) == STATUS_OK, "%s", status_message());
        }
        for (int k = 0; k < 3; k++) {
            CHECK(comm->ops->wait(comm, requests[k]) == STATUS_OK, "%s", status_message());
            check_f32_values(comm, data[k], count, wires[k], deterministic[k]);
            CHECK(guards_hold(data[k], count, sizeof(float)), "a sum in progress wrote outside");
            drop(data[k], sizeof(float));
        }
    }
}

static void check_broadcast(struct comm *comm, size_t count)
{
    for (int root = 0; root < comm->size; root++) {
        unsigned char *data = guarded(count, 1);
        for (size_t i = 0; i < count; i++)
            data[i] = comm->rank == root ? (unsigned char)(i * 31 + (size_t)root) : 0;
        CHECK(comm->ops->broadcast(comm, data, count, root) == STATUS_OK, "%s", status_message());
        size_t wrong = 0;
        for (size_t i = 0; i < count; i++)
            wrong += data[i] != (unsigned char)(i * 31 + (size_t)root);
        CHECK(wrong == 0 && guards_hold(data, count, 1), "%zu of %zu bytes wrong from root %d", wrong, count, root);
        drop(data, 1);
    }
}

static void check_all_gather(struct comm *comm, size_t count)
{
    unsigned char *data = malloc(count + 1), *out = guarded(count * (size_t)comm->size, 1);
    for (size_t i = 0; i < count; i++)
        data[i] = (unsigned char)(i * 7 + (size_t)comm->rank);
    CHECK(comm->ops->all_gather(comm, data, count, out) == STATUS_OK, "%s", status_message());
    size_t wrong = 0;
    for (int r = 0; r < comm->size; r++)
        for (size_t i = 0; i < count; i++)
            wrong += out[(size_t)r * count + i] != (unsigned char)(i * 7 + (size_t)r);
    CHECK(wrong == 0 && guards_hold(out, count * (size_t)comm->size, 1), "%zu bytes gathered wrong", wrong);
    drop(out, 1);
    free(data);
}

static void check_max(struct comm *comm, size_t count)
{
    int64_t *data = guarded(count, sizeof *data);
    for (size_t i = 0; i < count; i++)
        data[i] = (int64_t)(((int)i + comm->rank) % comm->size) - (INT64_C(1) << 60);
    CHECK(comm->ops->all_reduce_max_i64(comm, data, count) == STATUS_OK, "%s", status_message());
    size_t wrong = 0;
    for (size_t i = 0; i < count; i++)
        wrong += data[i] != comm->size - 1 - (INT64_C(1) << 60);
    CHECK(wrong == 0 && guards_hold(data, count, sizeof *data), "%zu maxima wrong", wrong);
    drop(data, sizeof *data);
}

static void check_operations(struct comm *comm)
{
    for (size_t k = 0; k < COUNTS; k++) {
        for (int deterministic = 0; deterministic < 2; deterministic++) {
            check_all_reduce_f32(comm, counts[k], COMM_F32, deterministic);
            check_all_reduce_f32(comm, counts[k], COMM_BF16, deterministic);
        }
        check_all_reduce_f64(comm, counts[k]);
        check_in_progress(comm, counts[k]);
        check_broadcast(comm, counts[k]);
        check_all_gather(comm, counts[k]);
        check_max(comm, counts[k]);
    }
    CHECK(comm->ops->barrier(comm) == STATUS_OK, "%s", status_message());
}

/* Every set of failing ranks: all learn of the lowest one, which keeps its own message and is the only one to report.
 */
static void check_agree(struct comm *comm)
{
    const enum status codes[MAX_RANKS] = { STATUS_DATA, STATUS_IO, STATUS_NOMEM, STATUS_USAGE, STATUS_NONFINITE };
    for (unsigned set = 0; set < 1u << comm->size; set++) {
        enum status own = STATUS_OK;
        int first = set ? __builtin_ctz(set) : -1;
        char expected[64] = "";
        status_clear();
        if (set >> comm->rank & 1)
            own = status_report(codes[comm->rank], "x.c", 1, "shard %d is damaged", comm->rank);
        if (first >= 0)
            snprintf(expected, sizeof expected, "rank %d failed: shard %d is damaged", first, first);
        const char *message = first == comm->rank ? strchr(expected, ':') + 2 : expected;
        enum status agreed = comm_agree(comm, own);
        CHECK(agreed == (set ? codes[first] : STATUS_OK), "set %u: agreed on %d", set, agreed);
        CHECK(!set || status_code() == agreed, "set %u: the record says %d", set, status_code());
        CHECK(strcmp(status_message(), message) == 0, "set %u: '%s', not '%s'", set, status_message(), message);
        CHECK(comm_should_report(comm) == (!set || first == comm->rank), "set %u: rank %d reports wrongly", set,
              comm->rank);
    }
    status_clear();
}

static void check_ranks(struct comm *comm)
{
    int64_t rank = comm->rank, *ranks = malloc((size_t)comm->size * sizeof *ranks);
    CHECK(strcmp(comm->ops->name, comm->size > 1 ? "mpi" : "self") == 0, "%s", comm->ops->name);
    CHECK(comm->ops->all_gather(comm, &rank, sizeof rank, ranks) == STATUS_OK, "%s", status_message());
    for (int r = 0; r < comm->size; r++)
        CHECK(ranks[r] == r, "rank %d says it is %d", r, (int)ranks[r]);
    CHECK(comm->local_size == comm->size && comm->local_rank == comm->rank, "local %d of %d, global %d of %d",
          comm->local_rank, comm->local_size, comm->rank, comm->size);
    free(ranks);
}

static void check_bf16(void)
{
    static const struct {
        uint32_t bits;
        uint16_t rounded;
    } cases[] = {
        { 0x3f800000, 0x3f80 }, { 0x3f808000, 0x3f80 }, { 0x3f818000, 0x3f82 }, { 0x3f808001, 0x3f81 },
        { 0x80000000, 0x8000 }, { 0x7f7fffff, 0x7f80 }, { 0xff800000, 0xff80 }, { 0x00008001, 0x0001 },
        { 0x7f800001, 0x7fc0 }, { 0xffffffff, 0xffff },
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        float value;
        memcpy(&value, &cases[i].bits, sizeof value);
        CHECK(bf16_from_float(value) == cases[i].rounded, "%08x became %04x", cases[i].bits, bf16_from_float(value));
    }
}

/* How a job ends: the last rank aborts or dies while the others wait for it; or all fail, and one reports. */
static int fail_as_asked(struct comm *comm, const char *how)
{
    bool last = comm->rank == comm->size - 1;
    if (last && strcmp(how, "abort") == 0)
        comm->ops->abort(comm, STATUS_NONFINITE);
    if (last && strcmp(how, "kill") == 0)
        raise(SIGKILL);
    enum status status = comm_agree(comm, status_report(STATUS_DATA, "x.c", 1, "everyone failed"));
    if (comm_should_report(comm))
        log_failure();
    comm_destroy(comm);
    return (int)status;
}

int main(int argc, char **argv)
{
    struct comm *comm = NULL;
    if (comm_create(&comm) != STATUS_OK) {
        if (comm_should_report(comm))
            log_failure();
        return status_code();
    }
    log_init("test-comm", comm->rank, comm->size);
    if (argc > 1)
        return fail_as_asked(comm, argv[1]);
    draw_elements();
    check_ranks(comm);
    check_bf16();
    check_operations(comm);
    comm_max_count = 333; /* as if the arrays were longer than MPI can count */
    check_operations(comm);
    check_agree(comm);
    comm_destroy(comm);
    return check_done("comm");
}
