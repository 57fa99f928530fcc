/* plans.c - plans of convolutions: the fastest of those that cuDNN, and of a pointwise one cuBLASLt too, propose, timed
 * once for a GPU and kept, beside the checkpoint, in a file of this machine's. */
#include <ctype.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/log.h"
#include "base/tuned.h"
#include "layers/cuda/gpu.h"

enum { TRIED = 4, TIMED = 5, FILE_MOST = 1 << 20 }; /* plans of a library that are tried, runs of each; bytes */
enum { GEMM_FIRST = 16 }; /* a choice from here on is cuBLASLt's, below cuDNN's */
/* Bytes that move in the time of two short convolutions and passes over dw: an estimate. */
#define COPIED_MOST ((size_t)32 << 20)

bool gpu_has(const struct plan *plan)
{
    return plan->dnn || plan->gemm;
}

enum status gpu_run(struct gpu *gpu, const struct plan *plan, const struct dnn_operands *operands)
{
    return plan->gemm ? gemm_run(plan->gemm, gpu->gemm, gpu->stream, operands, gpu->workspace)
                      : dnn_run(plan->dnn, gpu->dnn, operands, gpu->workspace);
}

static enum status create_plan(struct gpu *gpu, const struct dnn_spec *spec, int choice, struct plan *plan)
{
    *plan = (struct plan){ 0 };
    if (choice < GEMM_FIRST)
        return dnn_plan_create(&plan->dnn, gpu->dnn, NULL, spec, choice, GPU_WORKSPACE);
    if (!gemm_fits(spec))
        return STATUS_OK;
    return gemm_plan_create(&plan->gemm, gpu->gemm, spec, choice - GEMM_FIRST, GPU_WORKSPACE);
}

static void destroy_plan(struct plan *plan)
{
    dnn_plan_destroy(plan->dnn);
    gemm_plan_destroy(plan->gemm);
    *plan = (struct plan){ 0 };
}

/* "cudnn.91900.forward.plain.8x32x32x64.64.1.1.0.bf16.cublaslt.130000": a choice holds for these versions. */
static void key_of(const struct dnn_spec *spec, char key[128])
{
    dnn_spec_key(spec, key);
    if (gemm_fits(spec))
        snprintf(key + strlen(key), 128 - strlen(key), ".cublaslt.%zu", cublasLtGetVersion());
}

struct trial {
    void *image, *code, *weights;
    cudaEvent_t start, end;
};

static enum status trial_init(struct trial *trial, const struct dnn_spec *spec)
{
    enum status status = STATUS_OK;
    const struct conv_shape *s = &spec->shape;
    size_t bytes = spec->float_result ? sizeof(float) : precision_bytes(spec->precision);
    if (cudaMalloc(&trial->image, conv_in_count(s) * bytes) != cudaSuccess ||
        cudaMalloc(&trial->code, conv_out_count(s) * bytes) != cudaSuccess ||
        cudaMalloc(&trial->weights, conv_weight_count(s) * sizeof(float)) != cudaSuccess ||
        cudaMemset(trial->image, 0, conv_in_count(s) * bytes) != cudaSuccess ||
        cudaMemset(trial->code, 0, conv_out_count(s) * bytes) != cudaSuccess ||
        cudaMemset(trial->weights, 0, conv_weight_count(s) * sizeof(float)) != cudaSuccess ||
        cudaEventCreate(&trial->start) != cudaSuccess || cudaEventCreate(&trial->end) != cudaSuccess)
        FAIL(STATUS_NOMEM, "the GPU has no memory to measure a convolution: %s", cudaGetErrorString(cudaGetLastError()));
fail:
    return status;
}

static void trial_finish(struct trial *trial)
{
    cudaFree(trial->image);
    cudaFree(trial->code);
    cudaFree(trial->weights);
    if (trial->start)
        cudaEventDestroy(trial->start);
    if (trial->end)
        cudaEventDestroy(trial->end);
}

/* What is timed: a plan `runs` times, and elements that are added to dw after each run, and copied once. */
struct work {
    const struct plan *plan;
    int runs;
    size_t added, copied_image, copied_code;
};

static enum status do_work(struct gpu *gpu, const struct work *work, const struct trial *trial)
{
    enum status status = STATUS_OK;
    const struct dnn_operands operands = { .image = trial->image, .code = trial->code, .weights = trial->weights };
    const struct queue *q = cuda_queue(&gpu->base.base);
    size_t one = precision_bytes(gpu->base.base.precision);
    char *image = trial->image, *code = trial->code;
    kernel_blend(q, 1, image, 0, image, image + work->copied_image * one, work->copied_image);
    kernel_blend(q, 1, code, 0, code, code + work->copied_code * one, work->copied_code);
    for (int i = 0; i < work->runs; i++) {
        TRY(gpu_run(gpu, work->plan, &operands));
        kernel_lincomb(q, 1, trial->weights, 1, trial->weights, trial->weights, work->added);
    }
fail:
    return status;
}

/* The least of some times, in milliseconds. */
static enum status time_work(struct gpu *gpu, const struct work *work, struct trial *trial, float *least)
{
    enum status status = STATUS_OK;
    *least = INFINITY;
    for (int i = 0; i <= TIMED; i++) { /* the first one warms up */
        float ms = INFINITY;
        cudaError_t error = cudaEventRecord(trial->start, gpu->stream);
        TRY(do_work(gpu, work, trial));
        if (error == cudaSuccess)
            error = cudaEventRecord(trial->end, gpu->stream);
        if (error == cudaSuccess)
            error = cudaEventSynchronize(trial->end);
        if (error == cudaSuccess)
            error = cudaEventElapsedTime(&ms, trial->start, trial->end);
        if (error != cudaSuccess)
            FAIL(STATUS_LOST, "the GPU failed: %s", cudaGetErrorString(error));
        if (i > 0)
            *least = ms < *least ? ms : *least;
    }
fail:
    return status;
}

static enum status record(struct gpu *gpu, const char *key, int choice)
{
    enum status status = STATUS_OK;
    char text[16];
    snprintf(text, sizeof text, "%d", choice);
    TRY(tuned_set(gpu->base.base.tuned, key, text));
    TRY(tuned_set(gpu->known, key, text));
    gpu->learnt = true;
fail:
    return status;
}

static enum status fastest_plan(struct gpu *gpu, const struct dnn_spec *spec, const char *key, struct plan *best)
{
    enum status status = STATUS_OK;
    struct trial trial = { 0 };
    struct plan plan = { 0 };
    const struct work work = { .plan = &plan, .runs = 1 };
    float best_ms = INFINITY, ms;
    int chosen = 0;
    TRY(trial_init(&trial, spec));
    for (int i = 0; i < 2 * TRIED; i++) {
        int choice = i < TRIED ? i : GEMM_FIRST + i - TRIED;
        TRY(create_plan(gpu, spec, choice, &plan));
        if (!gpu_has(&plan))
            continue;
        TRY(time_work(gpu, &work, &trial, &ms));
        if (ms < best_ms) {
            struct plan slower = *best;
            *best = plan;
            plan = slower;
            best_ms = ms;
            chosen = choice;
        }
        destroy_plan(&plan);
    }
    if (gpu_has(best))
        TRY(record(gpu, key, chosen));
fail:
    destroy_plan(&plan);
    trial_finish(&trial);
    return status;
}

/* What was measured before on such a GPU counts as measured. */
static enum status choose(struct gpu *gpu, const char *key, double *choice, bool *chosen)
{
    enum status status = STATUS_OK;
    struct tuned *tuned = gpu->base.base.tuned;
    *chosen = tuned_number(tuned, key, choice);
    if (*chosen || !tuned_number(gpu->known, key, choice))
        return STATUS_OK;
    TRY(tuned_set(tuned, key, tuned_get(gpu->known, key)));
    *chosen = true;
fail:
    return status;
}

enum status gpu_plan(struct gpu *gpu, const struct dnn_spec *spec, struct plan *plan)
{
    enum status status = STATUS_OK;
    struct tuned *tuned = gpu->base.base.tuned;
    struct gpu_plan entry = { .plan = { 0 } };
    double choice = 0;
    bool chosen = true;
    key_of(spec, entry.key);
    for (int i = 0; i < gpu->plan_count; i++)
        if (strcmp(gpu->plans[i].key, entry.key) == 0) {
            *plan = gpu->plans[i].plan;
            return STATUS_OK;
        }
    if (gpu->recording) /* plans are measured, and cuDNN takes memory for them */
        FAIL(STATUS_USAGE, "no plan yet for %s", entry.key);
    if (gpu->plan_count == gpu->plan_room) {
        int room = gpu->plan_room ? 2 * gpu->plan_room : 64;
        struct gpu_plan *plans = realloc(gpu->plans, (size_t)room * sizeof *plans);
        if (!plans)
            FAIL(STATUS_NOMEM, "out of memory for plans of convolutions");
        gpu->plans = plans;
        gpu->plan_room = room;
    }
    if (spec->tail == DNN_PLAIN && tuned)
        TRY(choose(gpu, entry.key, &choice, &chosen));
    if (chosen)
        TRY(create_plan(gpu, spec, (int)choice, &entry.plan));
    if (!chosen || (!gpu_has(&entry.plan) && choice != 0)) /* or chosen where there were more */
        TRY(fastest_plan(gpu, spec, entry.key, &entry.plan));
    *plan = entry.plan;
    gpu->plans[gpu->plan_count++] = entry;
fail:
    return status;
}

/* Half the memory stays: what needs more is not tried. */
static bool has_room(const struct dnn_spec *spec)
{
    size_t there = 0, all = 0, needs = (conv_in_count(&spec->shape) + conv_out_count(&spec->shape)) * sizeof(float);
    return cudaMemGetInfo(&there, &all) == cudaSuccess && needs <= there / 2;
}

static enum status measure_stacks(struct gpu *gpu, const struct dnn_spec *one, const struct dnn_spec *all,
                                  bool copies_images, bool *stacks)
{
    enum status status = STATUS_OK;
    struct trial trial = { 0 };
    struct plan single, stacked;
    float apart_ms, together_ms;
    size_t weights = conv_weight_count(&one->shape);
    TRY(gpu_plan(gpu, one, &single));
    TRY(gpu_plan(gpu, all, &stacked));
    if (!gpu_has(&single) || !gpu_has(&stacked))
        return STATUS_OK;
    const struct work apart = { .plan = &single, .runs = CONV_TERMS, .added = weights };
    const struct work together = { .plan = &stacked, .runs = 1, .added = weights,
                                   .copied_image = copies_images ? conv_in_count(&one->shape) : 0,
                                   .copied_code = conv_out_count(&one->shape) };
    TRY(trial_init(&trial, all));
    TRY(time_work(gpu, &apart, &trial, &apart_ms));
    TRY(time_work(gpu, &together, &trial, &together_ms));
    *stacks = together_ms <= apart_ms;
fail:
    trial_finish(&trial);
    return status;
}

enum status gpu_stacks(struct gpu *gpu, const struct dnn_spec *one, bool copies_images, bool *stacks)
{
    enum status status = STATUS_OK;
    struct dnn_spec all = *one;
    struct plan plan = { 0 };
    char key[128];
    double choice = 0;
    bool chosen = true;
    size_t copied = conv_out_count(&one->shape) + (copies_images ? conv_in_count(&one->shape) : 0);
    all.shape.n *= CONV_TERMS;
    key_of(&all, key);
    snprintf(key + strlen(key), sizeof key - strlen(key), ".stacked");
    if (gpu->base.base.tuned)
        TRY(choose(gpu, key, &choice, &chosen));
    else
        choice = 2 * copied * precision_bytes(one->precision) <= COPIED_MOST;
    *stacks = false;
    if (!chosen && !has_room(&all)) /* this run's choice, so that all ranks make it, but not the machine's */
        return tuned_set(gpu->base.base.tuned, key, "0");
    if (!chosen) {
        TRY(measure_stacks(gpu, one, &all, copies_images, stacks));
        TRY(record(gpu, key, *stacks));
        return STATUS_OK;
    }
    if (choice != 0)
        TRY(gpu_plan(gpu, &all, &plan));
    *stacks = gpu_has(&plan);
fail:
    return status;
}

/* ---- what is known of this GPU ---- */

/* "$XDG_CACHE_HOME/csc-train/plans-NAME-cudnn91900.txt"; "" where there is no such folder. */
static void name_file(const char *gpu_name, char path[512])
{
    const char *cache = getenv("XDG_CACHE_HOME"), *home = getenv("HOME");
    char name[64];
    size_t length = 0;
    for (; length < sizeof name - 1 && gpu_name[length]; length++)
        name[length] = (char)(isalnum((unsigned char)gpu_name[length]) ? gpu_name[length] : '-');
    name[length] = '\0';
    path[0] = '\0';
    if (cache && cache[0] == '/')
        snprintf(path, 512, "%s/csc-train/plans-%s-cudnn%zu.txt", cache, name, cudnnGetVersion());
    else if (home && home[0] == '/')
        snprintf(path, 512, "%s/.cache/csc-train/plans-%s-cudnn%zu.txt", home, name, cudnnGetVersion());
}

static enum status read_known(struct gpu *gpu)
{
    enum status status = STATUS_OK;
    char *text = NULL;
    size_t bytes = 0;
    if (!gpu->known_path[0] || !file_exists(gpu->known_path))
        return STATUS_OK;
    TRY(file_read(gpu->known_path, FILE_MOST, &text, &bytes));
    TRY(tuned_parse(gpu->known, text, bytes));
fail:
    free(text);
    return status;
}

enum status gpu_init_plans(struct gpu *gpu, int index)
{
    enum status status = STATUS_OK;
    struct cudaDeviceProp properties;
    TRY(tuned_create(&gpu->known));
    if (cudaGetDeviceProperties(&properties, index) == cudaSuccess)
        name_file(properties.name, gpu->known_path);
    if (read_known(gpu) != STATUS_OK) {
        log_warn("%s is not used, and written anew: %s", gpu->known_path, status_message());
        status_clear();
        tuned_destroy(gpu->known);
        gpu->known = NULL;
        TRY(tuned_create(&gpu->known));
    }
fail:
    return status;
}

/* With what others have found out since. */
static enum status write_known(struct gpu *gpu)
{
    enum status status = STATUS_OK;
    char folder[512], *text = NULL;
    snprintf(folder, sizeof folder, "%s", gpu->known_path);
    *strrchr(folder, '/') = '\0';
    if (read_known(gpu) != STATUS_OK)
        status_clear();
    text = tuned_print(gpu->known);
    if (!text)
        FAIL(STATUS_NOMEM, "out of memory");
    TRY(file_make_folders(folder));
    TRY(file_write(gpu->known_path, text, strlen(text)));
fail:
    free(text);
    return status;
}

void gpu_finish_plans(struct gpu *gpu)
{
    struct status_record before;
    status_save(&before);
    if (gpu->learnt && gpu->known_path[0] && write_known(gpu) != STATUS_OK)
        log_warn("the plans that were measured are not kept: %s", status_message());
    status_restore(&before);
    tuned_destroy(gpu->known);
    for (int i = 0; i < gpu->plan_count; i++)
        destroy_plan(&gpu->plans[i].plan);
    free(gpu->plans);
}
