/* plans.c - plans of convolutions: the fastest of those that cuDNN, and of a pointwise one cuBLASLt too, propose, timed
 * once for a GPU and kept, beside the checkpoint, in a file of this machine's. */
#include <ctype.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#ifdef _OPENMP
#include <omp.h>
#endif

#include "base/file.h"
#include "base/log.h"
#include "base/tuned.h"
#include "layers/cuda/trial.h"

enum { TRIED = 8, FILE_MOST = 1 << 20 }; /* plans of a source that are tried; bytes */
/* Bytes that move in the time of two short convolutions and passes over dw: an estimate. */
#define COPIED_MOST ((size_t)32 << 20)

/* Where plans come from. */
enum source { CUDNN, CUBLAS, SOURCES };

/* What is asked of that source for a spec; false: it has no such thing. A gradient in bf16 is stored as bf16 by cuDNN, whose
 * quick engines store nothing else, and as fp32 by cuBLASLt. */
static bool spec_for(const struct dnn_spec *asked, enum source source, struct dnn_spec *spec)
{
    *spec = *asked;
    spec->float_result |= source == CUBLAS && asked->kind == DNN_GRADIENT && asked->precision == PRECISION_BF16;
    return source == CUDNN || gemm_fits(asked);
}

bool gpu_has(const struct plan *plan)
{
    return plan->dnn || plan->gemm;
}

enum status gpu_run(struct gpu *gpu, const struct plan *plan, const struct dnn_operands *operands)
{
    enum status status;
    int lane = gpu->lane;
    if ((plan->gemm ? gemm_workspace(plan->gemm) : plan->dnn->workspace) > gpu->lanes[lane].workspace_bytes)
        gpu_move_to_lane(gpu, 0); /* which has enough for all */
    status = plan->gemm ? gemm_run(plan->gemm, gpu->gemm, gpu->stream, operands, 0, gpu->workspace)
                        : dnn_run(plan->dnn, gpu->dnn, operands, gpu->workspace);
    if (gpu->lane != lane)
        gpu_move_to_lane(gpu, lane);
    return status;
}

/* choice: of the source's proposals, and the source. */
static enum status create_plan(struct gpu *gpu, cudnnHandle_t handle, const struct dnn_spec *asked, int choice,
                               struct plan *plan)
{
    enum source source = choice / DNN_PROPOSALS;
    struct dnn_spec spec;
    *plan = (struct plan){ 0 };
    if (choice < 0 || source >= SOURCES || !spec_for(asked, source, &spec))
        return STATUS_OK;
    plan->float_result = spec.float_result || spec.precision != PRECISION_BF16;
    choice %= DNN_PROPOSALS;
    return source == CUBLAS ? gemm_plan_create(&plan->gemm, gpu->gemm, &spec, choice, GPU_WORKSPACE, 16)
                            : dnn_plan_create(&plan->dnn, handle, NULL, &spec, choice, GPU_WORKSPACE);
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

/* ---- building ---- */

/* A graph that is to have a plan, and what it may be. */
struct search {
    const struct dnn_spec *spec;
    char key[128];
    int choices[SOURCES * TRIED], count;
    struct plan plans[SOURCES * TRIED];
    bool chosen; /* before: there is one choice only */
};

/* A handle for each thread that builds, since cuDNN's are one thread's at a time. */
static enum status builder(struct gpu *gpu, cudnnHandle_t *handle)
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
    if (!gpu->builders[thread] && (cudaSetDevice(gpu->index) != cudaSuccess ||
                                   cudnnCreate(&gpu->builders[thread]) != CUDNN_STATUS_SUCCESS))
        FAIL(STATUS_LOST, "cuDNN does not start in another thread");
    *handle = gpu->builders[thread];
fail:
    return status;
}

/* What is to be built. With a table of choices some of each source, without one a single plan. */
static enum status list(struct gpu *gpu, struct search *s)
{
    enum status status = STATUS_OK;
    cudnnHandle_t handle;
    int most = gpu->base.base.tuned ? TRIED : DNN_PROPOSALS;
    if (s->chosen)
        return STATUS_OK;
    TRY(builder(gpu, &handle));
    for (enum source source = 0; source < SOURCES && (most == TRIED || s->count == 0); source++) {
        int choices[DNN_PROPOSALS] = { 0, 1, 2, 3, 4, 5, 6, 7 }, count = TRIED;
        struct dnn_spec spec;
        if (!spec_for(s->spec, source, &spec))
            continue;
        if (source != CUBLAS)
            TRY(dnn_proposals(handle, NULL, &spec, most, choices, &count));
        for (int i = 0; i < count; i++)
            s->choices[s->count++] = source * DNN_PROPOSALS + choices[i];
    }
fail:
    return status;
}

static enum status build_one(struct gpu *gpu, struct search *s, int i)
{
    enum status status = STATUS_OK;
    cudnnHandle_t handle;
    TRY(builder(gpu, &handle));
    TRY(create_plan(gpu, handle, s->spec, s->choices[i], &s->plans[i]));
fail:
    return status;
}

/* Engines that are compiled when they are asked for take a third of a second each, of one core. */
static enum status build_all(struct gpu *gpu, struct search *searches, int count)
{
    struct status_record failure = { .code = STATUS_OK };
    int threads = gpu->base.base.threads < GPU_BUILDERS ? gpu->base.base.threads : GPU_BUILDERS;
    (void)threads;
#pragma omp parallel for schedule(dynamic) num_threads(threads)
    for (int i = 0; i < count; i++)
        if (list(gpu, &searches[i]) != STATUS_OK)
#pragma omp critical
            status_save(&failure);
    if (failure.code != STATUS_OK)
        return status_restore(&failure);
    bool measures = gpu->base.base.tuned != NULL;
#pragma omp parallel for schedule(dynamic) num_threads(threads)
    for (int i = 0; i < count * SOURCES * TRIED; i++) {
        struct search *s = &searches[i / (SOURCES * TRIED)];
        int at = i % (SOURCES * TRIED);
        enum status status = STATUS_OK;
        if (measures && at < s->count)
            status = build_one(gpu, s, at);
        for (at = 0; !measures && i % (SOURCES * TRIED) == 0 && at < s->count && status == STATUS_OK; at++) {
            status = build_one(gpu, s, at);
            s->count = gpu_has(&s->plans[at]) ? at + 1 : s->count;
        }
        if (status != STATUS_OK)
#pragma omp critical
            status_save(&failure);
    }
    return failure.code != STATUS_OK ? status_restore(&failure) : STATUS_OK;
}

/* The fastest of what was built. */
static enum status measure(struct gpu *gpu, struct search *s, int *best)
{
    enum status status = STATUS_OK;
    struct trial trial = { 0 };
    float best_ms = INFINITY, ms;
    TRY(trial_init(&trial, s->spec));
    for (int i = 0; i < s->count; i++) {
        const struct work work = { .plan = &s->plans[i], .runs = 1 };
        if (!gpu_has(work.plan))
            continue;
        TRY(trial_time(gpu, &work, &trial, &ms));
        if (ms < best_ms) {
            best_ms = ms;
            *best = i;
        }
    }
fail:
    trial_finish(&trial);
    return status;
}

static enum status keep(struct gpu *gpu, const char *key, const struct plan *plan)
{
    enum status status = STATUS_OK;
    if (gpu->plan_count == gpu->plan_room) {
        int room = gpu->plan_room ? 2 * gpu->plan_room : 64;
        struct gpu_plan *plans = realloc(gpu->plans, (size_t)room * sizeof *plans);
        if (!plans)
            FAIL(STATUS_NOMEM, "out of memory for plans of convolutions");
        gpu->plans = plans;
        gpu->plan_room = room;
    }
    struct gpu_plan *entry = &gpu->plans[gpu->plan_count++];
    entry->plan = *plan;
    memcpy(entry->key, key, sizeof entry->key);
fail:
    return status;
}

static enum status settle(struct gpu *gpu, struct search *s)
{
    enum status status = STATUS_OK;
    int best = -1, built = 0;
    for (int i = 0; i < s->count; i++) {
        best = best < 0 && gpu_has(&s->plans[i]) ? i : best;
        built += gpu_has(&s->plans[i]);
    }
    if (best >= 0 && gpu->base.base.tuned && !s->chosen) {
        if (built > 1)
            TRY(measure(gpu, s, &best));
        TRY(record(gpu, s->key, s->choices[best]));
    }
    static const struct plan none;
    TRY(keep(gpu, s->key, best >= 0 ? &s->plans[best] : &none));
    if (best >= 0)
        s->plans[best] = none;
fail:
    return status;
}

/* NULL: not there. */
static const struct plan *find(const struct gpu *gpu, const char *key)
{
    for (int i = 0; i < gpu->plan_count; i++)
        if (strcmp(gpu->plans[i].key, key) == 0)
            return &gpu->plans[i].plan;
    return NULL;
}

static enum status add_searches(struct gpu *gpu, const struct dnn_spec *specs, int count, struct search *searches, int *added)
{
    enum status status = STATUS_OK;
    *added = 0;
    for (int i = 0; i < count; i++) {
        struct search *s = &searches[*added];
        double choice = 0;
        *s = (struct search){ .spec = &specs[i] };
        key_of(&specs[i], s->key);
        if (find(gpu, s->key))
            continue;
        if (gpu->base.base.tuned)
            TRY(choose(gpu, s->key, &choice, &s->chosen));
        if (s->chosen)
            s->choices[s->count++] = (int)choice;
        ++*added;
    }
fail:
    return status;
}

enum status gpu_plans(struct gpu *gpu, const struct dnn_spec *specs, int count)
{
    enum status status = STATUS_OK;
    int added = 0;
    struct search *searches = calloc((size_t)count + 1, sizeof *searches);
    if (!searches)
        FAIL(STATUS_NOMEM, "out of memory for plans of convolutions");
    TRY(add_searches(gpu, specs, count, searches, &added));
    TRY(build_all(gpu, searches, added));
    for (int i = 0; i < added; i++) {
        struct search *s = &searches[i];
        if (s->chosen && !gpu_has(&s->plans[0])) { /* chosen where there was more */
            s->chosen = false;
            s->count = 0;
            TRY(build_all(gpu, s, 1));
        }
        TRY(settle(gpu, s));
    }
fail:
    for (int i = 0; searches && i < added; i++)
        for (int at = 0; at < searches[i].count; at++)
            destroy_plan(&searches[i].plans[at]);
    free(searches);
    return status;
}

enum status gpu_plan(struct gpu *gpu, const struct dnn_spec *spec, struct plan *plan)
{
    enum status status = STATUS_OK;
    char key[128];
    key_of(spec, key);
    const struct plan *there = find(gpu, key);
    if (!there && gpu->recording) /* plans are measured, and cuDNN takes memory for them */
        FAIL(STATUS_USAGE, "no plan yet for %s", key);
    if (!there)
        TRY(gpu_plans(gpu, spec, 1));
    *plan = *find(gpu, key);
fail:
    return status;
}

/* Half the memory stays: what needs more is not tried. */
static bool has_room(const struct dnn_spec *spec)
{
    size_t there = 0, all = 0, needs = (conv_in_count(&spec->shape) + dnn_code_count(spec)) * sizeof(float);
    return cudaMemGetInfo(&there, &all) == cudaSuccess && needs <= there / 2;
}

static enum status measure_stacks(struct gpu *gpu, const struct dnn_spec *one, const struct dnn_spec *all,
                                  bool copies_images, bool *stacks)
{
    enum status status = STATUS_OK;
    struct trial trial = { 0 };
    struct plan single, stacked;
    float apart_ms, together_ms;
    size_t weights = dnn_weight_count(one);
    TRY(gpu_plan(gpu, one, &single));
    TRY(gpu_plan(gpu, all, &stacked));
    if (!gpu_has(&single) || !gpu_has(&stacked))
        return STATUS_OK;
    const struct work apart = { .plan = &single, .runs = CONV_TERMS, .added = weights };
    const struct work together = { .plan = &stacked, .runs = 1, .added = weights,
                                   .copied_image = copies_images ? conv_in_count(&one->shape) : 0,
                                   .copied_code = dnn_code_count(one) };
    TRY(trial_init(&trial, all));
    TRY(trial_time(gpu, &apart, &trial, &apart_ms));
    TRY(trial_time(gpu, &together, &trial, &together_ms));
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
    size_t copied = dnn_code_count(one) + (copies_images ? conv_in_count(&one->shape) : 0);
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
