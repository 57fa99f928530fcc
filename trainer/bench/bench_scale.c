/* bench_scale.c - csc-bench scale: predicts a training step on many ranks from one that is measured here. A
 * communicator that does not communicate, but records when each bucket of gradients is ready, gives the step
 * without communication. Under mpirun the ranks also take real steps in between; comparing these with the
 * prediction shows how good the model is. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/options.h"
#include "comm/create.h"
#include "data/read/dataset_internal.h"
#include "trainer/bench/bench.h"
#include "trainer/bench/scaling_model.h"
#include "trainer/model/load_model.h"
#include "trainer/train/training_parts.h"

static const char help[] =
    "Measures training steps of a configuration here and when their gradients are ready, and predicts the step\n"
    "on 2 to 4096 ranks with the same number of micro-batches each. Under mpirun or srun it also measures the\n"
    "all-reduces and the real steps of these ranks, and compares them with the prediction.\n\n"
    "  --micro-batches N   micro-batches of each rank in a step (default 1)\n"
    "  --steps N           measured steps (default 10), after two for warm-up\n"
    "  --per-node N        ranks per node (default 8)\n"
    "  --node-gbs X        bandwidth of the link within a node, GB/s per rank (default 300)\n"
    "  --node-us X         its latency in microseconds (default 3)\n"
    "  --net-gbs X         bandwidth of the network, GB/s per rank (default 45)\n"
    "  --net-us X          its latency in microseconds (default 5)\n"
    "  --link measured     use latency and bandwidth of the all-reduces measured here, with one rank per node\n"
    "  --algorithm NAME    ring, tree or best over the network (default best)\n"
    "  --overlap X         share of an all-reduce that does not need the rank's processor, 0 to 1 (default 1)\n"
    "  --storage-gbs X     GB/s that all nodes together can read and write (default 0: no limit)\n"
    "  --json FILE         write the results (- for standard output)\n"
    "  --help              print this text\n";

struct arguments {
    const char *config, *json;
    char **overrides;
    int overrides_count;
    int micro_batches, steps;
    struct scaling_cluster cluster;
    double overlap, storage; /* storage in bytes/s; 0: unlimited */
    bool link_measured;
};

/* The measurements. Times are in seconds, medians over the steps, of the slowest rank. */
struct profile {
    int count;                      /* buckets */
    struct scaling_bucket *buckets; /* (count) */
    int parameters_count;
    struct scaling_bucket *per_parameter; /* (parameters): one bucket per parameter, the head first */
    double compute_s, real_s;             /* a step without and with communication; real_s is 0 on one rank */
    double checkpoint_s;                  /* interval between checkpoints */
    double bytes_image, bytes_checkpoint;
    int batch;                /* images of a rank's step */
    struct scaling_link link; /* fitted to the all-reduces, with one rank per node */
};

/* ---- a communicator that records when gradients are ready ---- */

struct readiness_recorder {
    struct comm base;
    struct device *device;
    double start_s;
    int count;
    struct scaling_bucket *ready_times;
};

static enum status record_ready(struct comm *comm, float *data, size_t count, enum comm_dtype wire, bool deterministic,
                                struct comm_request **request)
{
    struct readiness_recorder *r = (struct readiness_recorder *)comm;
    float last;
    (void)deterministic;
    /* waits until the device has computed the last gradient */
    r->device->ops->copy_out(r->device, &last, data + count - 1, sizeof last);
    r->ready_times[r->count++] = (struct scaling_bucket){ clock_seconds() - r->start_s,
                                                          (double)count * (wire == COMM_BF16 ? 2 : sizeof(float)), 0 };
    *request = NULL;
    return STATUS_OK;
}

static enum status record_progress(struct comm *comm)
{
    (void)comm;
    return STATUS_OK;
}

static enum status record_wait(struct comm *comm, struct comm_request *request)
{
    (void)comm, (void)request;
    return STATUS_OK;
}

static enum status record_all_gather(struct comm *comm, const void *data, size_t bytes, void *out)
{
    for (int r = 0; r < comm->size; r++)
        memcpy((char *)out + (size_t)r * bytes, data, bytes);
    return STATUS_OK;
}

/* The operations that a step calls. Gradients stay this rank's own. */
static const struct comm_ops recorder_ops = { .name = "recorder",
                                              .all_reduce_start_f32 = record_ready,
                                              .progress = record_progress,
                                              .wait = record_wait,
                                              .all_gather = record_all_gather };

/* ---- measuring ---- */

struct scaling_bench {
    struct training t;
    struct comm *comm; /* MPI's */
    struct comm *sums; /* for gradients: the same as comm, or NCCL's */
    struct readiness_recorder recorder;
    struct buckets *real, *recording, *per_parameter;
};

static enum status prepare(struct scaling_bench *bench, struct config *config, const struct arguments *a)
{
    enum status status = STATUS_OK;
    struct training *t = &bench->t;
    int ranks = bench->comm->size;
    if (!config->train.micro_batch)
        config->train.micro_batch = config->train.batch;
    config->train.batch = config->train.micro_batch * a->micro_batches * ranks;
    config->train.lr = 1e-3; /* so that a few steps of any network stay finite */
    config->run.deterministic = false;
    TRY(training_plan_data(t));
    TRY(training_plan_nets(t));
    TRY(training_agree(t, training_allocate(t)));
    TRY(training_create_buckets(t));
    TRY(training_agree(t, model_init(t->model, config->run.seed)));
    optimizer_start_ema(t->optimizer);
    TRY(training_agree(t, model_converge_step_sizes(t->model)));
    schedule_init(&t->schedule, config, t->total_steps, t->steps_per_epoch);
    TRY(training_agree(t, loader_seek(t->loader, 0, 0)));
    struct readiness_recorder *r = &bench->recorder;
    *r = (struct readiness_recorder){ .base = *bench->comm, .device = t->device };
    r->base.ops = &recorder_ops;
    if (r->base.size == 1)
        r->base.size = 2; /* a single rank would not send buckets */
    r->ready_times = calloc((size_t)t->model->params_count + 1, sizeof *r->ready_times);
    if (!r->ready_times)
        FAIL(STATUS_NOMEM, "out of memory for %d ready times", t->model->params_count + 1);
    double mb = config->comm.bucket_mb > 0 ? config->comm.bucket_mb : 25;
    bench->sums = t->device_comm ? t->device_comm : bench->comm;
    TRY(training_divide_buckets(t, bench->sums, mb, &bench->real));
    TRY(training_divide_buckets(t, &r->base, mb, &bench->recording));
    TRY(training_divide_buckets(t, &r->base, 1e-6, &bench->per_parameter));
fail:
    return status;
}

/* Times one step of all ranks; *seconds is that of the slowest. */
static enum status time_step(struct scaling_bench *bench, struct comm *comm, struct buckets *buckets, double *seconds)
{
    enum status status = STATUS_OK;
    struct training *t = &bench->t;
    struct buckets *own = t->buckets;
    TRY(bench->comm->ops->barrier(bench->comm));
    t->comm = comm;
    t->buckets = buckets;
    bench->recorder.count = 0;
    double start = bench->recorder.start_s = clock_seconds();
    status = training_step(t);
    int64_t elapsed_ns = (int64_t)(1e9 * (clock_seconds() - start));
    t->comm = bench->comm;
    t->buckets = own;
    if (status != STATUS_OK)
        return status;
    TRY(bench->comm->ops->all_reduce_max_i64(bench->comm, &elapsed_ns, 1));
    *seconds = 1e-9 * (double)elapsed_ns;
fail:
    return status;
}

static int by_size(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double median(double *values, int count)
{
    qsort(values, (size_t)count, sizeof *values, by_size);
    return count % 2 ? values[count / 2] : (values[count / 2 - 1] + values[count / 2]) / 2;
}

/* Adds the ready times of a step, as fractions of its time. */
static enum status add_ready_times(const struct readiness_recorder *r, double own_s, struct scaling_bucket **sums,
                                   int *count)
{
    enum status status = STATUS_OK;
    if (!*sums) {
        *count = r->count;
        *sums = calloc((size_t)r->count, sizeof **sums);
        if (!*sums)
            FAIL(STATUS_NOMEM, "out of memory for %d ready times", r->count);
    }
    for (int i = 0; i < r->count; i++) {
        (*sums)[i].ready_s += r->ready_times[i].ready_s / own_s;
        (*sums)[i].bytes = r->ready_times[i].bytes;
    }
fail:
    return status;
}

/* Times the all-reduce of n floats on all ranks: the median and the best. */
static enum status time_all_reduce(struct scaling_bench *bench, float *data, size_t n, double *seconds, double *best)
{
    enum status status = STATUS_OK;
    enum { TIMES = 9 };
    double times[TIMES];
    const struct comm_ops *ops = bench->comm->ops, *sums = bench->sums->ops;
    for (int i = 0; i < TIMES; i++) {
        struct comm_request *request;
        TRY(ops->barrier(bench->comm));
        double start = clock_seconds();
        TRY(sums->all_reduce_start_f32(bench->sums, data, n, bench->t.config->comm.grad_dtype, false, &request));
        TRY(sums->wait(bench->sums, request));
        int64_t ns = (int64_t)(1e9 * (clock_seconds() - start));
        TRY(ops->all_reduce_max_i64(bench->comm, &ns, 1));
        times[i] = 1e-9 * (double)ns;
    }
    *seconds = median(times, TIMES); /* sorts */
    *best = times[0];
fail:
    return status;
}

/* Measures all_reduce_s of every bucket, and the link with which a ring of these ranks would take the times of
 * the smallest and the largest all-reduce. */
static enum status measure_all_reduces(struct scaling_bench *bench, struct profile *p)
{
    enum status status = STATUS_OK;
    size_t largest = 0;
    int ranks = bench->comm->size;
    double small, wire = bench->t.config->comm.grad_dtype == COMM_BF16 ? 2 : sizeof(float);
    for (int i = 0; i < p->count; i++)
        largest = (size_t)(p->buckets[i].bytes / wire) > largest ? (size_t)(p->buckets[i].bytes / wire) : largest;
    struct training *t = &bench->t;
    float *own = bench->sums == bench->comm ? calloc(largest, sizeof *own) : NULL, *data = own ? own : t->reduce_buffer;
    if (bench->sums == bench->comm && !own)
        FAIL(STATUS_NOMEM, "out of memory for all-reduces of %zu floats", largest);
    if (!own)
        t->device->ops->zero(t->device, data, largest * sizeof *data);
    double large = 0, bytes = 0, usual, best;
    TRY(time_all_reduce(bench, data, 1, &usual, &small));
    for (int i = 0; i < p->count; i++) {
        TRY(time_all_reduce(bench, data, (size_t)(p->buckets[i].bytes / wire), &p->buckets[i].all_reduce_s, &best));
        if (p->buckets[i].bytes > bytes) {
            bytes = p->buckets[i].bytes;
            large = best;
        }
    }
    p->link.latency_s = small / (2 * (ranks - 1));
    p->link.bytes_s = 2.0 * (ranks - 1) / ranks * bytes / fmax(large - small, 1e-9);
fail:
    free(own);
    return status;
}

/* Alternates steps with and without communication, so that other load on this machine affects both. */
static enum status measure_steps(struct scaling_bench *bench, const struct arguments *a, struct profile *p)
{
    enum status status = STATUS_OK;
    int steps = a->steps, warm_up = 2;
    bool several = bench->comm->size > 1;
    double *plain = calloc((size_t)steps, sizeof *plain), *real = calloc((size_t)steps, sizeof *real), ignored;
    if (!plain || !real)
        FAIL(STATUS_NOMEM, "out of memory for %d steps", steps);
    for (int i = -warm_up; i < steps; i++) {
        double *seconds = i < 0 ? &ignored : &plain[i];
        TRY(time_step(bench, &bench->recorder.base, bench->recording, seconds));
        if (i >= 0)
            TRY(add_ready_times(&bench->recorder, *seconds, &p->buckets, &p->count));
        if (several)
            TRY(time_step(bench, bench->comm, bench->real, i < 0 ? &ignored : &real[i]));
        TRY(time_step(bench, &bench->recorder.base, bench->per_parameter, &ignored));
        if (i >= 0)
            TRY(add_ready_times(&bench->recorder, ignored, &p->per_parameter, &p->parameters_count));
    }
    p->compute_s = median(plain, steps);
    p->real_s = several ? median(real, steps) : 0;
    for (int i = 0; i < p->count; i++)
        p->buckets[i].ready_s *= p->compute_s / steps;
    for (int i = 0; i < p->parameters_count; i++)
        p->per_parameter[i].ready_s *= p->compute_s / steps;
    if (several)
        TRY(measure_all_reduces(bench, p));
fail:
    free(plain);
    free(real);
    return status;
}

static void measure_sizes(const struct scaling_bench *bench, struct profile *p)
{
    const struct training *t = &bench->t;
    double bytes = 0;
    for (int i = 0; i < t->train_set->index.shard_count; i++)
        bytes += (double)t->train_set->index.shards[i].bytes;
    p->bytes_image = bytes / (double)dataset_samples(t->train_set);
    p->bytes_checkpoint = (double)training_checkpoint_bytes(t);
    p->checkpoint_s = t->config->checkpoint.every_minutes > 0 ? 60 * t->config->checkpoint.every_minutes : 1800;
    p->batch = t->config->train.micro_batch * t->local_micro_batches;
}

/* ---- results ---- */

struct row {
    int ranks;
    struct scaling_step step;
    double efficiency, img_s, read_s, write_s; /* read_s: bytes/s of the loaders; write_s: seconds of a checkpoint */
    bool storage_bound;
};

/* Predicts a step: first the time that the links need, then the limit of storage, from which loaders read all
 * images while one checkpoint is written per interval. */
static struct row predict(const struct profile *p, const struct arguments *a, int ranks, struct scaling_bucket *scratch)
{
    struct row row = { .ranks = ranks };
    memcpy(scratch, p->buckets, (size_t)p->count * sizeof *scratch);
    for (int i = 0; i < p->count; i++)
        scratch[i].all_reduce_s = scaling_all_reduce(&a->cluster, ranks, scratch[i].bytes);
    row.step = scaling_step(scratch, p->count, p->compute_s, a->overlap);
    double batch = (double)p->batch * ranks;
    if (a->storage > 0) {
        double left = fmax(a->storage - p->bytes_checkpoint / p->checkpoint_s, 1);
        double read = batch * p->bytes_image / left;
        row.storage_bound = read > row.step.step_s;
        row.step.step_s = fmax(row.step.step_s, read);
        row.write_s = p->bytes_checkpoint / a->storage;
    }
    row.efficiency = p->compute_s / row.step.step_s;
    row.img_s = batch / row.step.step_s;
    row.read_s = row.img_s * p->bytes_image;
    return row;
}

/* All-reduces on the host need the ranks' processors; NCCL's run beside the backward pass. */
static double predicted_here(const struct scaling_bench *bench, const struct profile *p)
{
    return scaling_step(p->buckets, p->count, p->compute_s, bench->sums == bench->comm ? 0 : 1).step_s;
}

static void print_readiness(const struct profile *p)
{
    double total = 0, done = 0;
    int quarter = 1;
    for (int i = 0; i < p->parameters_count; i++)
        total += p->per_parameter[i].bytes;
    printf("gradients %.2f MB in %d buckets;", total / 1e6, p->count);
    for (int i = 0; i < p->parameters_count; i++) {
        done += p->per_parameter[i].bytes;
        for (; quarter <= 4 && done >= 0.25 * quarter * total; quarter++)
            printf(" %d%% ready after %.1f ms%s", 25 * quarter, 1e3 * p->per_parameter[i].ready_s,
                   quarter < 4 ? "," : "\n");
    }
}

static void print_here(const struct scaling_bench *bench, const struct profile *p)
{
    printf("a rank's step of %d images: %.1f ms without communication\n", p->batch, 1e3 * p->compute_s);
    print_readiness(p);
    printf("data      %.1f kB an image; a checkpoint %.1f MB every %.0f minutes\n", p->bytes_image / 1e3,
           p->bytes_checkpoint / 1e6, p->checkpoint_s / 60);
    if (p->real_s == 0)
        return;
    double here = predicted_here(bench, p);
    printf("on these %d ranks%s: predicted %.1f ms, measured %.1f ms: %+.1f%%\n", bench->comm->size,
           bench->sums == bench->comm ? ", whose processors do the all-reduces"
                                      : ", with NCCL beside the backward pass",
           1e3 * here, 1e3 * p->real_s, 100 * (here / p->real_s - 1));
    printf("the link of these ranks, as a ring: %.1f us, %.2f GB/s\n", 1e6 * p->link.latency_s, p->link.bytes_s / 1e9);
}

static json_t *buckets_json(const struct scaling_bucket *buckets, int count)
{
    json_t *list = json_array();
    for (int i = 0; i < count; i++)
        json_array_append_new(list, json_pack("{s:f, s:f}", "ready_s", buckets[i].ready_s, "bytes", buckets[i].bytes));
    return list;
}

static json_t *row_json(const struct row *r)
{
    return json_pack("{s:i, s:f, s:f, s:f, s:f, s:f, s:f, s:b}", "ranks", r->ranks, "step_s", r->step.step_s,
                     "exposed_s", r->step.exposed_s, "efficiency", r->efficiency, "img_s", r->img_s, "read_bytes_s",
                     r->read_s, "checkpoint_write_s", r->write_s, "storage_bound", r->storage_bound);
}

static enum status report(const struct scaling_bench *bench, const struct profile *p, const struct arguments *a)
{
    enum status status = STATUS_OK;
    bool text = !a->json || strcmp(a->json, "-") != 0;
    struct scaling_bucket *scratch = calloc((size_t)p->count + 1, sizeof *scratch);
    json_t *rows = json_array();
    if (!scratch || !rows)
        FAIL(STATUS_NOMEM, "out of memory for the results");
    if (text) {
        print_here(bench, p);
        printf("\n ranks   step ms  exposed ms  efficiency       img/s  reads GB/s\n");
    }
    for (int ranks = 1; ranks <= 4096; ranks *= 2) {
        struct row r = predict(p, a, ranks, scratch);
        if (text)
            printf("%6d %9.2f %11.3f %10.1f%% %11.0f %11.3f%s\n", ranks, 1e3 * r.step.step_s, 1e3 * r.step.exposed_s,
                   100 * r.efficiency, r.img_s, r.read_s / 1e9, r.storage_bound ? "  storage is the limit" : "");
        json_array_append_new(rows, row_json(&r));
    }
    json_t *all = json_pack("{s:i, s:f, s:f, s:f, s:f, s:f, s:f, s:o, s:o, s:o}", "ranks_here", bench->comm->size,
                            "compute_s", p->compute_s, "measured_s", p->real_s, "predicted_s",
                            p->real_s > 0 ? predicted_here(bench, p) : 0.0, "link_latency_s", p->link.latency_s,
                            "link_bytes_s", p->link.bytes_s, "checkpoint_bytes", p->bytes_checkpoint, "buckets",
                            buckets_json(p->buckets, p->count), "parameters",
                            buckets_json(p->per_parameter, p->parameters_count), "rows", rows);
    rows = NULL;
    if (!all)
        FAIL(STATUS_NOMEM, "out of memory for the results");
    TRY(bench_write_json(all, a->json));
fail:
    json_decref(rows);
    free(scratch);
    return status;
}

/* ---- options ---- */

static enum status parse(int argc, char **argv, struct arguments *a)
{
    enum status status = STATUS_OK;
    struct scaling_cluster *c = &a->cluster;
    static const char *const links[] = { "measured", NULL };
    static const char *const algorithms[] = {
        [SCALING_RING] = "ring", [SCALING_TREE] = "tree", [SCALING_BEST] = "best", NULL
    };
    int first, link = -1;
    const struct option_row rows[] = {
        { "micro-batches", .integer = &a->micro_batches, .low = 1, .high = 65536 },
        { "steps", .integer = &a->steps, .low = 1, .high = 100000 },
        { "per-node", .integer = &c->per_node, .low = 1, .high = 4096 },
        { "node-gbs", .number = &c->node.bytes_s, .low = 1e-6, .high = 1e6, .unit = 1e9 },
        { "node-us", .number = &c->node.latency_s, .low = 0, .high = 1e6, .unit = 1e-6 },
        { "net-gbs", .number = &c->net.bytes_s, .low = 1e-6, .high = 1e6, .unit = 1e9 },
        { "net-us", .number = &c->net.latency_s, .low = 0, .high = 1e6, .unit = 1e-6 },
        { "link", .choice = &link, .names = links },
        { "algorithm", .choice = (int *)&c->algorithm, .names = algorithms },
        { "overlap", .number = &a->overlap, .low = 0, .high = 1 },
        { "storage-gbs", .number = &a->storage, .low = 0, .high = 1e6, .unit = 1e9 },
        { "json", .text = &a->json },
        { .name = NULL },
    };
    TRY(options_parse(rows, NULL, argc, argv, "csc-bench scale", help, &first, NULL));
    if (first == argc)
        FAIL(STATUS_USAGE, "a configuration is needed; see csc-bench scale --help");
    a->link_measured = link == 0;
    a->config = argv[first];
    a->overrides = argv + first + 1;
    a->overrides_count = argc - first - 1;
fail:
    return status;
}

static enum status measure(struct scaling_bench *bench, struct config *config, struct arguments *a)
{
    enum status status = STATUS_OK;
    struct profile p = { 0 };
    TRY(prepare(bench, config, a));
    TRY(measure_steps(bench, a, &p));
    measure_sizes(bench, &p);
    if (a->link_measured) {
        if (bench->comm->size == 1)
            FAIL(STATUS_USAGE, "--link measured: one rank has no link; start several ranks with mpirun");
        a->cluster.per_node = 1;
        a->cluster.net = p.link;
    }
    if (bench->comm->rank == 0)
        TRY(report(bench, &p, a));
fail:
    free(p.buckets);
    free(p.per_parameter);
    return status;
}

static enum status run(int argc, char **argv)
{
    enum status status = STATUS_OK;
    struct config config = { 0 };
    bool agreed = false;
    struct arguments a = {
        .micro_batches = 1,
        .steps = 10,
        .overlap = 1,
        .cluster = { .per_node = 8, .node = { 3e-6, 300e9 }, .net = { 5e-6, 45e9 }, .algorithm = SCALING_BEST }
    };
    struct scaling_bench bench = { 0 };
    TRY(comm_create(&bench.comm));
    log_init("csc-bench", bench.comm->rank, bench.comm->size);
    bench.t.comm = bench.comm;
    bench.t.config = &config;
    bench.t.agreed = &agreed;
    TRY(training_agree(&bench.t, parse(argc, argv, &a)));
    TRY(training_agree(&bench.t, config_load(&config, a.config, a.overrides, a.overrides_count)));
    TRY(measure(&bench, &config, &a));
fail:;
    bool silent = status != STATUS_OK && agreed && !comm_should_report(bench.comm);
    if (status != STATUS_OK && !agreed && bench.comm && bench.comm->size > 1) {
        log_failure();
        bench.comm->ops->abort(bench.comm, (int)status); /* the other ranks wait in a step */
    }
    buckets_destroy(bench.real);
    buckets_destroy(bench.recording);
    buckets_destroy(bench.per_parameter);
    free(bench.recorder.ready_times);
    training_finish(&bench.t);
    config_finish(&config);
    comm_destroy(bench.comm);
    if (silent) /* another rank reports the error */
        exit((int)status);
    return status;
}

const struct bench_command bench_scale = {
    .name = "scale",
    .operands = "CONFIG.yaml [key=value ...] [options]",
    .summary = "a training step on 2 to 4096 ranks, from one measured here",
    .help = help,
    .run = run,
};
