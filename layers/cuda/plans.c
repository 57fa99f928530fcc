/* plans.c - plans of convolutions: the fastest of those that cuDNN proposes, timed once for a GPU and kept, beside the
 * checkpoint, in a file of this machine's. */
#include <ctype.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/log.h"
#include "base/tuned.h"
#include "layers/cuda/gpu.h"

enum { TRIED = 4, TIMED = 5, FILE_MOST = 1 << 20 }; /* plans tried, runs of each; bytes */

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

/* The least of some runs, in milliseconds. */
static enum status time_plan(struct gpu *gpu, const struct dnn_plan *plan, struct trial *trial, float *least)
{
    enum status status = STATUS_OK;
    const struct dnn_operands operands = { .image = trial->image, .code = trial->code, .weights = trial->weights };
    *least = INFINITY;
    for (int i = 0; i <= TIMED; i++) { /* the first one warms up */
        float ms = INFINITY;
        cudaError_t error = cudaEventRecord(trial->start, gpu->stream);
        TRY(dnn_run(plan, gpu->dnn, &operands, gpu->workspace));
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

static enum status fastest_plan(struct gpu *gpu, const struct dnn_spec *spec, const char *key, struct dnn_plan **best)
{
    enum status status = STATUS_OK;
    struct trial trial = { 0 };
    struct dnn_plan *plan = NULL;
    float best_ms = INFINITY, ms;
    int chosen = 0;
    char text[16];
    TRY(trial_init(&trial, spec));
    for (int choice = 0; choice < TRIED; choice++) {
        TRY(dnn_plan_create(&plan, gpu->dnn, NULL, spec, choice, GPU_WORKSPACE));
        if (!plan)
            break;
        TRY(time_plan(gpu, plan, &trial, &ms));
        if (ms < best_ms) {
            struct dnn_plan *slower = *best;
            *best = plan;
            plan = slower;
            best_ms = ms;
            chosen = choice;
        }
        dnn_plan_destroy(plan);
        plan = NULL;
    }
    if (*best) {
        snprintf(text, sizeof text, "%d", chosen);
        TRY(tuned_set(gpu->base.base.tuned, key, text));
        TRY(tuned_set(gpu->known, key, text));
        gpu->learnt = true;
    }
fail:
    dnn_plan_destroy(plan);
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

enum status gpu_plan(struct gpu *gpu, const struct dnn_spec *spec, struct dnn_plan **plan)
{
    enum status status = STATUS_OK;
    struct tuned *tuned = gpu->base.base.tuned;
    struct gpu_plan entry = { .plan = NULL };
    double choice = 0;
    bool chosen = true;
    dnn_spec_key(spec, entry.key);
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
        TRY(dnn_plan_create(&entry.plan, gpu->dnn, NULL, spec, (int)choice, GPU_WORKSPACE));
    if (!chosen || (!entry.plan && choice != 0)) /* or chosen where there were more */
        TRY(fastest_plan(gpu, spec, entry.key, &entry.plan));
    *plan = entry.plan;
    gpu->plans[gpu->plan_count++] = entry;
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
        dnn_plan_destroy(gpu->plans[i].plan);
    free(gpu->plans);
}
