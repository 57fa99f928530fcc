/* plan_search.c - see plan_search.h. Candidates are built by OpenMP's threads, each with its own cuDNN handle, and
 * then measured one after another. */
#include "layers/backend/cuda/plan_search.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#ifdef _OPENMP
#include <omp.h>
#endif

#include "base/clock.h"
#include "layers/backend/cuda/plan_timer.h"

#define SEARCH_SECONDS 150.0 /* of each process; when it is used up, only ranked candidates are built */

void plan_choice_print(const struct plan_choice *choice, char text[DNN_CHOICE_TEXT])
{
    if (choice->source == PLAN_CUDNN)
        dnn_choice_print(&choice->dnn, text);
    else if (choice->source == PLAN_CUBLAS)
        snprintf(text, DNN_CHOICE_TEXT, "b%d", choice->gemm);
    else
        snprintf(text, DNN_CHOICE_TEXT, "apart");
}

bool plan_choice_parse(const char *text, struct plan_choice *choice)
{
    int length = 0;
    *choice = (struct plan_choice){ .source = PLAN_UNFUSED };
    if (strcmp(text, "apart") == 0)
        return true;
    choice->source = PLAN_CUBLAS;
    if (sscanf(text, "b%d%n", &choice->gemm, &length) == 1)
        return !text[length] && choice->gemm >= 0;
    choice->source = PLAN_CUDNN;
    return dnn_choice_parse(text, &choice->dnn);
}

void plan_destroy(struct plan *plan)
{
    dnn_plan_destroy(plan->dnn);
    gemm_plan_destroy(plan->gemm);
    *plan = (struct plan){ 0 };
}

void search_finish(struct plan_search *search)
{
    for (int i = 0; i < search->count; i++)
        plan_destroy(&search->candidates[i].plan);
    search->count = 0;
}

/* ---- building ---- */

/* The handle of the calling thread: cuDNN's handles must not be shared by threads. */
static enum status thread_handle(struct gpu *gpu, cudnnHandle_t *handle)
{
    enum status status = STATUS_OK;
#ifdef _OPENMP
    int thread = omp_get_thread_num();
#else
    int thread = 0;
#endif
    *handle = gpu->dnn;
    if (thread == 0)
        return STATUS_OK;
    if (!gpu->build_handles[thread] &&
        (cudaSetDevice(gpu->index) != cudaSuccess || cudnnCreate(&gpu->build_handles[thread]) != CUDNN_STATUS_SUCCESS))
        FAIL(STATUS_LOST, "cuDNN cannot be used in another thread");
    *handle = gpu->build_handles[thread];
fail:
    return status;
}

static enum status list_candidates(struct gpu *gpu, struct plan_search *s)
{
    enum status status = STATUS_OK;
    cudnnHandle_t handle;
    struct dnn_proposals proposals;
    if (s->chosen)
        return STATUS_OK;
    TRY(thread_handle(gpu, &handle));
    TRY(dnn_propose(handle, NULL, s->spec, &proposals));
    for (int i = 0; i < proposals.count; i++)
        s->candidates[s->count++] = (struct candidate){ .choice = { .source = PLAN_CUDNN, .dnn = proposals.choices[i] },
                                                        .unranked = i >= proposals.ranked };
    for (int i = 0; i < SEARCH_CUBLAS_PROPOSALS && gemm_fits(s->spec); i++)
        s->candidates[s->count++] = (struct candidate){ .choice = { .source = PLAN_CUBLAS, .gemm = i } };
fail:
    return status;
}

/* Builds a candidate's plan, which stays empty if the library does not have it. A bf16 gradient is stored as bf16 by
 * cuDNN, whose fast engines store nothing else, and as fp32 by cuBLASLt. */
static enum status build_one(struct gpu *gpu, const struct plan_search *s, struct candidate *candidate)
{
    enum status status = STATUS_OK;
    cudnnHandle_t handle;
    struct dnn_spec spec = *s->spec;
    struct plan *plan = &candidate->plan;
    if (candidate->choice.source == PLAN_UNFUSED || (candidate->choice.source == PLAN_CUBLAS && !gemm_fits(&spec)))
        return STATUS_OK;
    TRY(thread_handle(gpu, &handle));
    if (candidate->choice.source == PLAN_CUBLAS) {
        spec.float_result |= spec.kind == DNN_GRADIENT && spec.precision == PRECISION_BF16;
        TRY(gemm_plan_create(&plan->gemm, gpu->gemm, &spec, candidate->choice.gemm, GPU_WORKSPACE, 16));
    } else
        TRY(dnn_plan_create(&plan->dnn, handle, NULL, &spec, &candidate->choice.dnn, GPU_WORKSPACE));
    plan->float_result = spec.float_result || spec.precision != PRECISION_BF16;
fail:
    return status;
}

/* Builds candidates up to the first that can be built. */
static enum status build_first(struct gpu *gpu, struct plan_search *s)
{
    enum status status = STATUS_OK;
    for (int i = 0; i < s->count; i++) {
        TRY(build_one(gpu, s, &s->candidates[i]));
        if (gpu_plan_exists(&s->candidates[i].plan))
            s->count = i + 1;
    }
fail:
    return status;
}

/* cuDNN compiles some engines when their plan is built, which takes a third of a second each on one core. */
enum status search_build(struct gpu *gpu, struct plan_search *searches, int count)
{
    struct status_record failure = { .code = STATUS_OK };
    int threads = gpu->base.base.threads < GPU_BUILD_THREADS ? gpu->base.base.threads : GPU_BUILD_THREADS;
    bool all = gpu->base.base.tuned != NULL;
    double began = clock_seconds(), left = SEARCH_SECONDS - gpu->search_seconds;
    (void)threads;
#pragma omp parallel for schedule(dynamic) num_threads(threads)
    for (int i = 0; i < count; i++)
        if (list_candidates(gpu, &searches[i]) != STATUS_OK || (!all && build_first(gpu, &searches[i]) != STATUS_OK))
#pragma omp critical
            status_save(&failure);
    if (failure.code != STATUS_OK || !all)
        return failure.code != STATUS_OK ? status_restore(&failure) : STATUS_OK;
#pragma omp parallel for schedule(dynamic) num_threads(threads)
    for (int i = 0; i < count * SEARCH_CANDIDATES; i++) {
        struct plan_search *s = &searches[i % count];
        struct candidate *candidate = &s->candidates[i / count];
        if (i / count < s->count && (!candidate->unranked || clock_seconds() - began < left) &&
            build_one(gpu, s, candidate) != STATUS_OK)
#pragma omp critical
            status_save(&failure);
    }
    gpu->search_seconds += clock_seconds() - began;
    return failure.code != STATUS_OK ? status_restore(&failure) : STATUS_OK;
}

/* ---- measuring ---- */

static void fill_entry(const struct plan_search *s, const struct candidate *candidate, float ms,
                       struct plan_entry *entry)
{
    *entry = (struct plan_entry){ .ms = ms };
    snprintf(entry->key, sizeof entry->key, "%s", s->key);
    plan_choice_print(&candidate->choice, entry->choice);
    if (ms > 0)
        entry->tflops = (float)(1e-9 * dnn_flops(s->spec) / ms);
    if (candidate->plan.dnn)
        dnn_plan_kernel(candidate->plan.dnn, entry->kernel);
}

static void append_candidate(FILE *f, const struct plan_search *s, const struct candidate *candidate, float ms)
{
    struct plan_entry entry;
    char line[PLAN_LINE];
    if (!f || !(ms < INFINITY))
        return;
    fill_entry(s, candidate, ms, &entry);
    plan_entry_print(&entry, line);
    fputs(line, f);
}

/* Milliseconds of a plain convolution with a separate epilogue, as conv.c runs it. INFINITY if there is no such
 * plan, or no memory to measure it. */
static enum status time_unfused(struct gpu *gpu, const struct dnn_spec *fused, float to_beat, float *ms)
{
    enum status status = STATUS_OK;
    struct plan_timer timer = { 0 };
    struct dnn_spec memory = *fused;
    struct plan plan;
    *ms = INFINITY;
    TRY(gpu_get_plain_plan(gpu, fused, &plan));
    if (!gpu_plan_exists(&plan))
        return STATUS_OK;
    memory.float_result = plan.float_result;
    const struct timed_work work = { .plan = &plan, .runs = 1, .separate_epilogue = fused };
    if (plan_timer_init(&timer, gpu, &memory) == STATUS_NOMEM)
        status_clear();
    else
        TRY(plan_timer_measure(gpu, &work, &timer, to_beat, ms));
fail:
    plan_timer_finish(&timer);
    return status;
}

/* Measures every candidate that was built. Too little device memory is not an error: then *best stays as it is. */
static enum status time_candidates(struct gpu *gpu, struct plan_search *s, FILE *candidates, int *best, float *best_ms)
{
    enum status status = STATUS_OK;
    struct plan_timer timer = { 0 };
    float ms;
    status = plan_timer_init(&timer, gpu, s->spec);
    if (status == STATUS_NOMEM) {
        status_clear();
        status = STATUS_OK;
        goto fail; /* not an error */
    }
    for (int i = 0; i < s->count && status == STATUS_OK; i++) {
        const struct timed_work work = { .plan = &s->candidates[i].plan, .runs = 1 };
        if (!gpu_plan_exists(work.plan))
            continue;
        TRY(plan_timer_measure(gpu, &work, &timer, *best_ms, &ms));
        append_candidate(candidates, s, &s->candidates[i], ms);
        if (ms < *best_ms) {
            *best_ms = ms;
            *best = i;
        }
    }
fail:
    plan_timer_finish(&timer);
    return status;
}

enum status search_measure(struct gpu *gpu, struct plan_search *s, int *best, struct plan_entry *entry,
                           const char *candidates_path)
{
    enum status status = STATUS_OK;
    FILE *f = candidates_path ? fopen(candidates_path, "a") : NULL;
    const struct candidate unfused = { .choice = { .source = PLAN_UNFUSED } };
    float best_ms = INFINITY, unfused_ms = INFINITY;
    int fastest = -1;
    if (candidates_path && !f)
        FAIL(STATUS_IO, "%s: %s", candidates_path, strerror(errno));
    TRY(time_candidates(gpu, s, f, &fastest, &best_ms));
    if (s->spec->epilogue != DNN_PLAIN && fastest >= 0)
        TRY(time_unfused(gpu, s->spec, best_ms, &unfused_ms));
    append_candidate(f, s, &unfused, unfused_ms);
    *best = unfused_ms < best_ms ? -1 : fastest >= 0 ? fastest : *best;
    fill_entry(s, *best < 0 ? &unfused : &s->candidates[*best], fastest < 0 ? 0 : fminf(best_ms, unfused_ms), entry);
fail:
    if (f && fclose(f) != 0 && status == STATUS_OK)
        status = status_report(STATUS_IO, __FILE__, __LINE__, "%s: %s", candidates_path, strerror(errno));
    return status;
}
