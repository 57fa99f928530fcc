/* bench_allreduce.c - csc-bench allreduce: how fast these ranks sum gradients. Every size is summed as the
 * trainer does it: at once, and in buckets that are in flight together; as fp32, as bf16, and in the fixed order
 * of deterministic runs; in host memory by MPI, or in GPU memory by NCCL. The bus bandwidth is 2 (ranks - 1) /
 * ranks times bytes over seconds, the traffic of a ring. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/options.h"
#include "comm/create.h"
#include "comm/nccl.h"
#include "layers/backend/device.h"
#include "trainer/bench/bench.h"

static const char help[] =
    "Run it under mpirun or srun. It sums vectors over all ranks, and prints for each size the median time of the\n"
    "slowest rank and the bus bandwidth: as fp32, as bf16, and in the fixed order of run.deterministic (not on\n"
    "GPUs); `buckets` is fp32 in buckets of --bucket-mb, all in flight at once. One rank sends nothing: the\n"
    "bandwidths are 0, and the times are those of the calls alone.\n\n"
    "  --device KIND       cpu: host memory, summed by MPI; cuda: by NCCL, one GPU per rank (default cpu)\n"
    "  --max-mb N          size of the largest vector; sizes double from 64 kB up (default 64)\n"
    "  --bucket-mb X       size of a bucket (default 4)\n"
    "  --rounds N          timed rounds for each size (default 9), after two for warm-up\n"
    "  --json FILE         write the results (- for standard output)\n"
    "  --help              print this text\n";

struct arguments {
    int max_mb, rounds;
    double bucket_mb;
    const char *json;
    bool gpus;
};

enum { FP32, BF16, DETERMINISTIC, BUCKETS, MODES };
static const char *const mode_names[MODES] = { "fp32", "bf16", "ordered", "buckets" };

static enum status parse(int argc, char **argv, struct arguments *a)
{
    enum status status = STATUS_OK;
    static const char *const devices[] = { "cpu", "cuda", NULL };
    int first, device = 0;
    const struct option_row rows[] = {
        { "max-mb", .integer = &a->max_mb, .low = 1, .high = 16384 },
        { "bucket-mb", .number = &a->bucket_mb, .low = 0.01, .high = 16384 },
        { "rounds", .integer = &a->rounds, .low = 1, .high = 10000 },
        { "device", .choice = &device, .names = devices },
        { "json", .text = &a->json },
        { .name = NULL },
    };
    TRY(options_parse(rows, NULL, argc, argv, "csc-bench allreduce", help, &first, NULL));
    if (first < argc)
        FAIL(STATUS_USAGE, "%s: unexpected argument; see csc-bench allreduce --help", argv[first]);
    a->gpus = device;
fail:
    return status;
}

/* The vector, and the communicators. */
struct bench {
    struct comm *ranks, *sums; /* sums is NCCL's, or the same as ranks */
    struct device *device;     /* NULL for host memory */
    float *data;               /* (count), zeros, in device or host memory */
    size_t count;
};

static enum status open_gpu(struct bench *b)
{
    enum status status = STATUS_OK;
    char kind[32];
    snprintf(kind, sizeof kind, "cuda:%d", b->ranks->local_rank);
    TRY(device_open(&b->device, kind, PRECISION_FP32, 1));
fail:
    return status;
}

static enum status allocate_data(struct bench *b)
{
    enum status status = STATUS_OK;
    void *memory = NULL;
    if (!b->device) {
        b->data = calloc(b->count, sizeof *b->data);
        if (!b->data)
            FAIL(STATUS_NOMEM, "out of memory for %zu floats", b->count);
        return STATUS_OK;
    }
    TRY(comm_nccl_allocate(&memory, b->count * sizeof *b->data));
    b->data = memory;
    b->device->ops->zero(b->device, b->data, b->count * sizeof *b->data);
fail:
    return status;
}

static enum status open_bench(struct bench *b, struct comm *comm, const struct arguments *a)
{
    enum status status = STATUS_OK;
    enum { TIMEOUT_S = 120 };
    *b = (struct bench){ .ranks = comm, .sums = comm, .count = (size_t)a->max_mb * 1000000 / sizeof(float) };
    if (a->gpus) {
        TRY(comm_agree(comm, open_gpu(b)));
        TRY(comm_agree(comm, comm_nccl_check(comm)));
    }
    TRY(comm_agree(comm, allocate_data(b)));
    if (a->gpus)
        TRY(comm_agree(comm, comm_nccl_create(&b->sums, comm, b->device->ops->stream(b->device), b->data, b->count,
                                              COMM_BF16, TIMEOUT_S)));
fail:
    return status;
}

static void close_bench(struct bench *b)
{
    if (b->sums != b->ranks)
        comm_destroy(b->sums);
    if (b->device)
        comm_nccl_free(b->data);
    else
        free(b->data);
    device_close(b->device);
}

static enum status sum_in_buckets(struct comm *comm, float *data, size_t count, size_t piece)
{
    enum status status = STATUS_OK;
    struct comm_request *requests[64];
    int started = 0;
    piece = piece > count / 64 + 1 ? piece : count / 64 + 1;
    for (size_t at = 0; at < count; at += piece, started++)
        TRY(comm->ops->all_reduce_start_f32(comm, data + at, count - at < piece ? count - at : piece, COMM_F32, false,
                                            &requests[started]));
    for (int i = 0; i < started; i++)
        TRY(comm->ops->wait(comm, requests[i]));
fail:
    return status;
}

static int ascending(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return x < y ? -1 : x > y;
}

/* NCCL has no deterministic order. */
static bool is_unsupported(const struct arguments *a, int mode)
{
    return a->gpus && mode == DETERMINISTIC;
}

/* The median over the rounds of the slowest rank's seconds. */
static enum status time_all_reduce(const struct bench *b, const struct arguments *a, int mode, size_t count,
                                   int64_t *times, double *seconds)
{
    enum status status = STATUS_OK;
    struct comm *ranks = b->ranks, *sums = b->sums;
    for (int round = -2; round < a->rounds; round++) {
        TRY(ranks->ops->barrier(ranks));
        double start = clock_seconds();
        if (mode == BUCKETS)
            TRY(sum_in_buckets(sums, b->data, count, (size_t)(a->bucket_mb * 1e6 / sizeof(float))));
        else
            TRY(sums->ops->all_reduce_f32(sums, b->data, count, mode == BF16 ? COMM_BF16 : COMM_F32,
                                          mode == DETERMINISTIC));
        if (round >= 0)
            times[round] = (int64_t)((clock_seconds() - start) * 1e9);
    }
    TRY(ranks->ops->all_reduce_max_i64(ranks, times, (size_t)a->rounds));
    qsort(times, (size_t)a->rounds, sizeof *times, ascending);
    *seconds = 1e-9 * (double)times[a->rounds / 2];
fail:
    return status;
}

static enum status measure(struct comm *comm, const struct arguments *a, json_t *rows)
{
    enum status status = STATUS_OK;
    struct bench b = { 0 };
    int64_t *times = calloc((size_t)a->rounds, sizeof *times);
    TRY(comm_agree(comm, times ? STATUS_OK : status_report(STATUS_NOMEM, __FILE__, __LINE__, "out of memory")));
    TRY(open_bench(&b, comm, a));
    if (comm->rank == 0) {
        printf("%d %s%s\n%12s", comm->size, a->gpus ? "GPU" : "rank", comm->size == 1 ? "" : "s", "bytes");
        for (int mode = 0; mode < MODES; mode++)
            if (!is_unsupported(a, mode))
                printf("%9s ms  GB/s", mode_names[mode]);
        printf("\n");
    }
    for (size_t bytes = 64000; bytes <= b.count * sizeof(float); bytes *= 2) {
        json_t *row = json_pack("{sI}", "bytes", (json_int_t)bytes);
        if (comm->rank == 0)
            printf("%12zu", bytes);
        for (int mode = 0; mode < MODES; mode++) {
            double seconds;
            if (is_unsupported(a, mode))
                continue;
            TRY(time_all_reduce(&b, a, mode, bytes / sizeof(float), times, &seconds));
            double rate = 2.0 * (comm->size - 1) / comm->size * (double)bytes / fmax(seconds, 1e-9) / 1e9;
            json_object_set_new(row, mode_names[mode], json_pack("{sf sf}", "seconds", seconds, "bus_gb_s", rate));
            if (comm->rank == 0)
                printf("%12.3f %5.2f", 1e3 * seconds, rate);
        }
        json_array_append_new(rows, row);
        if (comm->rank == 0) {
            printf("\n");
            fflush(stdout);
        }
    }
fail:
    close_bench(&b);
    free(times);
    return status;
}

static enum status run(int argc, char **argv)
{
    enum status status = STATUS_OK;
    struct comm *comm = NULL;
    struct arguments a = { .max_mb = 64, .rounds = 9, .bucket_mb = 4 };
    json_t *rows = json_array();
    TRY(comm_create(&comm));
    log_init("csc-bench", comm->rank, comm->size);
    TRY(comm_agree(comm, parse(argc, argv, &a)));
    TRY(measure(comm, &a, rows));
    if (comm->rank == 0)
        status = bench_write_json(
            json_pack("{si ss sO}", "ranks", comm->size, "device", a.gpus ? "cuda" : "cpu", "sizes", rows), a.json);
    TRY(comm_agree(comm, status));
fail:;
    bool silent = status != STATUS_OK && comm && !comm_should_report(comm);
    json_decref(rows);
    comm_destroy(comm);
    if (silent) /* another rank reports the error */
        exit((int)status);
    return status;
}

const struct bench_command bench_allreduce = {
    .name = "allreduce",
    .operands = "[options]",
    .summary = "how fast these ranks sum gradients",
    .help = help,
    .run = run,
};
