/* plans.c - the plans of convolutions. The fastest of those that cuDNN, and cuBLASLt for 1x1 kernels, propose is
 * measured once for each kind of GPU. Choices are kept in the checkpoint and in a table of this machine. */
#include "base/memory.h"
#include "layers/backend/cuda/plan_search.h"

#include <ctype.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/log.h"
#include "base/tuned.h"
#include "layers/backend/cuda/cuda.h"
#include "layers/backend/cuda/plan_timer.h"

/* Stacking that copies at most so many bytes pays without a measurement: an estimate of what is moved in the time of
 * two short convolutions and two passes over dw. */
#define MAX_STACKING_COPY ((size_t)32 << 20)
#define WRITE_INTERVAL_S  2.0 /* seconds between two writings of the table while plans are measured */

/* Set by cuda_plan_files. plans_path "": the machine's own table; candidates_path "": candidates are not written. */
static char plans_path[PLAN_PATH], candidates_path[PLAN_PATH];

enum status cuda_plan_files(const char *plans, const char *candidates)
{
    enum status status = STATUS_OK;
    if (snprintf(plans_path, PLAN_PATH, "%s", plans ? plans : "") >= PLAN_PATH ||
        snprintf(candidates_path, PLAN_PATH, "%s", candidates ? candidates : "") >= PLAN_PATH) {
        plans_path[0] = candidates_path[0] = '\0';
        FAIL(STATUS_USAGE, "a file of plans has a path of more than %d characters", PLAN_PATH - 1);
    }
fail:
    return status;
}

bool gpu_plan_exists(const struct plan *plan)
{
    return plan->dnn || plan->gemm;
}

enum status gpu_run_plan(struct gpu *gpu, const struct plan *plan, const struct dnn_operands *operands)
{
    enum status status;
    int selected = gpu->stream_index;
    if ((plan->gemm ? gemm_workspace(plan->gemm) : plan->dnn->workspace) > gpu->streams[selected].workspace_bytes)
        gpu_switch_stream(gpu, 0); /* its workspace is large enough for every plan */
    status = plan->gemm ? gemm_run(plan->gemm, gpu->gemm, gpu->stream, operands, 0, gpu->workspace)
                        : dnn_run(plan->dnn, gpu->dnn, operands, gpu->workspace);
    if (gpu->stream_index != selected)
        gpu_switch_stream(gpu, selected);
    return status;
}

/* "cudnn.91900.forward.plain.8x32x32x64.64.1.1.0.bf16.cublaslt.130000": a choice is valid for these versions only. */
static void plan_key(const struct dnn_spec *spec, char key[PLAN_KEY])
{
    dnn_spec_key(spec, key);
    if (gemm_fits(spec))
        snprintf(key + strlen(key), PLAN_KEY - strlen(key), ".cublaslt.%zu", cublasLtGetVersion());
}

/* ---- the table of measured choices ---- */

/* "$XDG_CACHE_HOME/csc-train/plans-NAME-cudnn91900.txt", or "" if there is no such folder or its path is too long. */
static void plan_table_path(const char *gpu_name, char path[PLAN_PATH])
{
    const char *cache = getenv("XDG_CACHE_HOME"), *home = getenv("HOME");
    char name[64];
    size_t length = 0;
    int written = 0;
    for (; length < sizeof name - 1 && gpu_name[length]; length++)
        name[length] = (char)(isalnum((unsigned char)gpu_name[length]) ? gpu_name[length] : '-');
    name[length] = '\0';
    path[0] = '\0';
    if (plans_path[0])
        written = snprintf(path, PLAN_PATH, "%s", plans_path);
    else if (cache && cache[0] == '/')
        written = snprintf(path, PLAN_PATH, "%s/csc-train/plans-%s-cudnn%zu.txt", cache, name, cudnnGetVersion());
    else if (home && home[0] == '/')
        written = snprintf(path, PLAN_PATH, "%s/.cache/csc-train/plans-%s-cudnn%zu.txt", home, name, cudnnGetVersion());
    if (written >= PLAN_PATH)
        path[0] = '\0';
}

static enum status read_plan_table(struct gpu *gpu)
{
    return gpu->plan_table_path[0] && file_exists(gpu->plan_table_path)
               ? plan_table_read(&gpu->plan_table, gpu->plan_table_path)
               : STATUS_OK;
}

enum status gpu_init_plans(struct gpu *gpu, int index)
{
    enum status status = STATUS_OK;
    struct cudaDeviceProp properties;
    if (cudaGetDeviceProperties(&properties, index) == cudaSuccess) {
        plan_table_path(properties.name, gpu->plan_table_path);
        snprintf(gpu->name, sizeof gpu->name, "%s", properties.name);
    }
    status = read_plan_table(gpu);
    if (status != STATUS_OK) {
        if (plans_path[0]) /* a file that the user named is neither ignored nor overwritten */
            return status;
        log_warn("%s is ignored and will be replaced: %s", gpu->plan_table_path, status_message());
        status_clear();
        status = STATUS_OK;
        plan_table_finish(&gpu->plan_table);
    }
    return status;
}

/* Writes the table, merged with what other processes have written since it was read. */
static enum status write_plan_table(struct gpu *gpu)
{
    enum status status = STATUS_OK;
    char folder[PLAN_PATH], heading[256], *slash;
    struct plan_table learnt = gpu->plan_table;
    snprintf(folder, sizeof folder, "%s", gpu->plan_table_path);
    snprintf(heading, sizeof heading, "%s, cuDNN %zu: the fastest plans of convolutions", gpu->name, cudnnGetVersion());
    gpu->plan_table = (struct plan_table){ 0 };
    if (read_plan_table(gpu) != STATUS_OK)
        status_clear();
    for (int i = 0; i < learnt.count && status == STATUS_OK; i++)
        status = plan_table_set(&gpu->plan_table, &learnt.entries[i]);
    plan_table_finish(&learnt);
    slash = strrchr(folder, '/');
    if (slash && slash > folder) {
        *slash = '\0';
        TRY(file_make_folders(folder));
    }
    TRY(plan_table_write(&gpu->plan_table, gpu->plan_table_path, heading));
    gpu->plan_table_changed = false;
fail:
    gpu->plan_table_written_s = clock_seconds();
    return status;
}

/* A failure to write gives one warning and is no error. */
static void save_plan_table(struct gpu *gpu)
{
    struct status_record before;
    if (!gpu->plan_table_changed || !gpu->plan_table_path[0] || gpu->plan_table_unwritable)
        return;
    status_save(&before);
    if (write_plan_table(gpu) != STATUS_OK) {
        log_warn("the measured plans cannot be saved: %s", status_message());
        gpu->plan_table_unwritable = true;
    }
    status_restore(&before);
}

void gpu_finish_plans(struct gpu *gpu)
{
    save_plan_table(gpu);
    plan_table_finish(&gpu->plan_table);
    for (int i = 0; i < gpu->plan_count; i++)
        plan_destroy(&gpu->plans[i].plan);
    free(gpu->plans);
}

static enum status record_choice(struct gpu *gpu, const struct plan_entry *entry)
{
    enum status status = STATUS_OK;
    TRY(tuned_set(gpu->base.base.tuned, entry->key, entry->choice));
    TRY(plan_table_set(&gpu->plan_table, entry));
    gpu->plan_table_changed = true;
fail:
    return status;
}

/* Looks a choice up in the checkpoint, then in the machine's table. *choice: NULL if there is none. */
static enum status recorded_choice(struct gpu *gpu, const char *key, const char **choice)
{
    enum status status = STATUS_OK;
    struct tuned *tuned = gpu->base.base.tuned;
    *choice = tuned_get(tuned, key);
    const struct plan_entry *known = *choice ? NULL : plan_table_find(&gpu->plan_table, key);
    if (known) {
        TRY(tuned_set(tuned, key, known->choice));
        *choice = known->choice;
    }
fail:
    return status;
}

/* ---- plans ---- */

/* Describes the kernel of a fused plan. Hopper also runs kernels that were made for Ampere. */
static const char *fused_label(const struct plan *plan)
{
    static const struct {
        const char *mark, *label;
    } kinds[] = { { "sm80_", "fused in one pass, sm80 kernel" },
                  { "sm90_", "fused in one pass, sm90 kernel" },
                  { "sm100_", "fused in one pass, sm100 kernel" },
                  { "sm120_", "fused in one pass, sm120 kernel" } };
    char kernel[DNN_KERNEL_NAME] = "";
    if (plan->dnn)
        dnn_plan_kernel(plan->dnn, kernel);
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++)
        if (strstr(kernel, kinds[i].mark))
            return kinds[i].label;
    return "fused in one pass";
}

static enum status add_plan(struct gpu *gpu, const char *key, const struct plan *plan)
{
    enum status status = STATUS_OK;
    TRY(array_grow(&gpu->plans, &gpu->plan_capacity, (size_t)gpu->plan_count + 1, sizeof *gpu->plans));
    struct gpu_plan_entry *entry = &gpu->plans[gpu->plan_count++];
    entry->plan = *plan;
    memcpy(entry->key, key, sizeof entry->key);
fail:
    return status;
}

/* bf16 and tf32 have plans for fused epilogues, unless something is wrong with cuDNN. */
static void warn_unfused(struct gpu *gpu, const struct plan_search *s)
{
    if (s->spec->epilogue == DNN_PLAIN || s->spec->precision == PRECISION_FP32 || gpu->warned_unfused)
        return;
    log_warn_rank0(
        "cuDNN has no plan for %s, and perhaps for others: the epilogues of such convolutions are separate passes, "
        "which is slower",
        s->key);
    gpu->warned_unfused = true;
}

/* Keeps the fastest candidate's plan, and enters its choice in the tables. An empty plan is kept if there is no
 * candidate. */
static enum status keep_fastest(struct gpu *gpu, struct plan_search *s)
{
    enum status status = STATUS_OK;
    static const struct plan none;
    struct plan_entry entry;
    int best = -1, built = 0;
    for (int i = 0; i < s->count; i++) {
        best = best < 0 && gpu_plan_exists(&s->candidates[i].plan) ? i : best;
        built += gpu_plan_exists(&s->candidates[i].plan);
    }
    if (built == 0 && !s->chosen)
        warn_unfused(gpu, s);
    if (gpu->base.base.tuned && !s->chosen && built > 0) {
        TRY(search_measure(gpu, s, &best, &entry, candidates_path[0] ? candidates_path : NULL));
        if (entry.ms > 0)
            TRY(record_choice(gpu, &entry));
        else /* all ranks follow this run's choice, but the machine's table does not get it */
            TRY(tuned_set(gpu->base.base.tuned, entry.key, entry.choice));
    }
    if (best >= 0 && s->spec->epilogue != DNN_PLAIN)
        s->candidates[best].plan.label = fused_label(&s->candidates[best].plan);
    TRY(add_plan(gpu, s->key, best >= 0 ? &s->candidates[best].plan : &none));
    if (best >= 0)
        s->candidates[best].plan = none;
fail:
    return status;
}

/* Returns NULL if there is none. */
static const struct plan *find_plan(const struct gpu *gpu, const char *key)
{
    for (int i = 0; i < gpu->plan_count; i++)
        if (strcmp(gpu->plans[i].key, key) == 0)
            return &gpu->plans[i].plan;
    return NULL;
}

/* Prepares searches for the specs that have no plan yet. A known choice that this version cannot parse is measured
 * again. */
static enum status add_searches(struct gpu *gpu, const struct dnn_spec *specs, int count, struct plan_search *searches,
                                int *added)
{
    enum status status = STATUS_OK;
    *added = 0;
    for (int i = 0; i < count; i++) {
        struct plan_search *s = &searches[*added];
        const char *choice = NULL;
        s->spec = &specs[i];
        plan_key(&specs[i], s->key);
        if (find_plan(gpu, s->key))
            continue;
        if (gpu->base.base.tuned)
            TRY(recorded_choice(gpu, s->key, &choice));
        s->chosen = choice && plan_choice_parse(choice, &s->candidates[0].choice);
        s->count = s->chosen;
        ++*added;
    }
fail:
    return status;
}

/* A plan that was chosen on a machine with more memory, or with another driver, may not exist here. */
static enum status search_again(struct gpu *gpu, struct plan_search *s)
{
    search_finish(s);
    s->chosen = false;
    return search_build(gpu, s, 1);
}

enum status gpu_prepare_plans(struct gpu *gpu, const struct dnn_spec *specs, int count)
{
    enum status status = STATUS_OK;
    int added = 0;
    struct plan plain;
    struct plan_search *searches = calloc((size_t)count + 1, sizeof *searches);
    if (!searches)
        FAIL(STATUS_NOMEM, "out of memory for plans of convolutions");
    TRY(add_searches(gpu, specs, count, searches, &added));
    TRY(search_build(gpu, searches, added));
    for (int i = 0; i < added; i++) {
        struct plan_search *s = &searches[i];
        bool unfused = s->chosen && s->candidates[0].choice.source == PLAN_UNFUSED;
        if (s->chosen && !unfused && !gpu_plan_exists(&s->candidates[0].plan))
            TRY(search_again(gpu, s));
        if (unfused) /* a capture will look for it */
            TRY(gpu_get_plain_plan(gpu, s->spec, &plain));
        TRY(keep_fastest(gpu, s));
    }
    if (clock_seconds() - gpu->plan_table_written_s > WRITE_INTERVAL_S)
        save_plan_table(gpu);
fail:
    for (int i = 0; searches && i < added; i++)
        search_finish(&searches[i]);
    free(searches);
    return status;
}

enum status gpu_get_plain_plan(struct gpu *gpu, const struct dnn_spec *fused, struct plan *plan)
{
    enum status status = STATUS_OK;
    struct dnn_spec spec = *fused;
    spec.epilogue = DNN_PLAIN;
    spec.float_result = true;
    TRY(gpu_get_plan(gpu, &spec, plan));
    spec.float_result = false;
    if (!gpu_plan_exists(plan))
        TRY(gpu_get_plan(gpu, &spec, plan));
fail:
    return status;
}

enum status gpu_get_plan(struct gpu *gpu, const struct dnn_spec *spec, struct plan *plan)
{
    enum status status = STATUS_OK;
    char key[PLAN_KEY];
    plan_key(spec, key);
    const struct plan *found = find_plan(gpu, key);
    if (!found && gpu->capturing) /* creating a plan measures candidates and allocates memory */
        FAIL(STATUS_USAGE, "there is no plan for %s yet", key);
    if (!found)
        TRY(gpu_prepare_plans(gpu, spec, 1));
    *plan = *find_plan(gpu, key);
fail:
    return status;
}

/* Whether a measurement needs at most half of the free memory. */
static bool fits_memory(const struct dnn_spec *spec)
{
    size_t free_bytes = 0, total_bytes = 0,
           needs = (conv_in_count(&spec->shape) + dnn_code_count(spec)) * sizeof(float);
    return cudaMemGetInfo(&free_bytes, &total_bytes) == cudaSuccess && needs <= free_bytes / 2;
}

static enum status measure_stacking(struct gpu *gpu, const struct dnn_spec *one, const struct dnn_spec *all,
                                    bool copies_images, bool *stacks)
{
    enum status status = STATUS_OK;
    struct plan_timer timer = { 0 };
    struct plan one_term, stacked;
    float separate_ms, stacked_ms;
    size_t weights = dnn_weight_count(one);
    TRY(gpu_get_plan(gpu, one, &one_term));
    TRY(gpu_get_plan(gpu, all, &stacked));
    if (!gpu_plan_exists(&one_term) || !gpu_plan_exists(&stacked))
        return STATUS_OK;
    const struct timed_work unfused = { .plan = &one_term, .runs = CONV_TERMS, .accumulated_weights = weights };
    const struct timed_work together = { .plan = &stacked,
                                         .runs = 1,
                                         .accumulated_weights = weights,
                                         .copied_image = copies_images ? conv_in_count(&one->shape) : 0,
                                         .copied_code = dnn_code_count(one) };
    TRY(plan_timer_init(&timer, gpu, all));
    TRY(plan_timer_measure(gpu, &unfused, &timer, INFINITY, &separate_ms));
    TRY(plan_timer_measure(gpu, &together, &timer, separate_ms, &stacked_ms));
    *stacks = stacked_ms <= separate_ms && stacked_ms < INFINITY;
fail:
    plan_timer_finish(&timer);
    return status;
}

enum status gpu_choose_stacking(struct gpu *gpu, const struct dnn_spec *one, bool copies_images, bool *stacks)
{
    enum status status = STATUS_OK;
    struct dnn_spec all = *one;
    struct plan plan = { 0 };
    struct plan_entry entry = { 0 };
    const char *choice = NULL;
    size_t copied = dnn_code_count(one) + (copies_images ? conv_in_count(&one->shape) : 0);
    all.shape.n *= CONV_TERMS;
    plan_key(&all, entry.key);
    snprintf(entry.key + strlen(entry.key), sizeof entry.key - strlen(entry.key), ".stacked");
    *stacks = !gpu->base.base.tuned && 2 * copied * precision_bytes(one->precision) <= MAX_STACKING_COPY;
    if (gpu->base.base.tuned)
        TRY(recorded_choice(gpu, entry.key, &choice));
    if (gpu->base.base.tuned && !choice) {
        bool fits = fits_memory(&all);
        if (fits)
            TRY(measure_stacking(gpu, one, &all, copies_images, stacks));
        snprintf(entry.choice, sizeof entry.choice, "%d", *stacks);
        if (fits)
            return record_choice(gpu, &entry);
        return tuned_set(gpu->base.base.tuned, entry.key, entry.choice); /* of this run, not of the machine */
    }
    if (choice)
        *stacks = strcmp(choice, "1") == 0;
    if (*stacks)
        TRY(gpu_get_plan(gpu, &all, &plan));
    *stacks = gpu_plan_exists(&plan);
fail:
    return status;
}
