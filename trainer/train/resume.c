/* resume.c - from the plan to the first step: opens the run's directory and restores or draws the state on all ranks.
 * Every phase ends in training_agree, so that a failure is reported once. */
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/log.h"
#include "trainer/checkpoint/checkpoint.h"
#include "trainer/model/load_model.h"
#include "trainer/train/live_pictures.h"
#include "trainer/train/training_parts.h"

enum { MAX_CONFIG = 1 << 20 };

/* ---- the run's directory and its checkpoints ---- */

/* Rank 0 takes the lock, reads the checkpoint to resume from, if any, and restores the choices that it holds. */
static enum status open_run(struct training *t)
{
    enum status status = STATUS_OK;
    char path[PATH_MAX];
    TRY(run_directory_open(&t->run_directory, t->config->run.dir));
    TRY(checkpoint_clean(run_directory_path(t->run_directory)));
    TRY(checkpoint_writer_create(&t->writer, run_directory_path(t->run_directory), t->config->checkpoint.keep));
    TRY(checkpoint_resume_path(run_directory_path(t->run_directory), t->options.resume, path));
    if (!path[0])
        goto fail;
    TRY(checkpoint_open(&t->resume_checkpoint, path));
    TRY(training_restore_tuned(t));
fail:
    return status;
}

enum status training_check_start(struct training *t)
{
    enum status status = STATUS_OK;
    char path[PATH_MAX] = "";
    if (t->options.resume)
        TRY(checkpoint_resume_path(t->config->run.dir, t->options.resume, path));
    if (path[0]) {
        TRY(checkpoint_open(&t->resume_checkpoint, path));
        TRY(training_check_resume(t));
    } else if (t->config->model.init_from) {
        TRY(load_model_init(t->model, t->config->model.init_from, true));
    }
fail:
    return status;
}

enum status training_open_run_directory(struct training *t)
{
    return training_agree(t, t->comm->rank == 0 ? open_run(t) : STATUS_OK);
}

static enum status open_metrics(struct training *t)
{
    char path[PATH_MAX];
    if (t->comm->rank != 0)
        return STATUS_OK;
    run_directory_file(t->run_directory, "metrics.jsonl", path);
    return metrics_open(&t->metrics, path);
}

/* ---- reports, rank 0 ---- */

static void report_start(struct training *t)
{
    const struct config *c = t->config;
    char *arch = config_text(c, "model.arch");
    log_info("%s: %s, %zu parameters; %lld images; %d rank%s x %d thread%s, batch %d; %lld steps in %s", c->run.name,
             arch ? arch : "", t->model->parameters, (long long)dataset_samples(t->train_set), t->comm->size,
             t->comm->size == 1 ? "" : "s", t->device->threads, t->device->threads == 1 ? "" : "s", c->train.batch,
             (long long)t->total_steps, run_directory_path(t->run_directory));
    free(arch);
}

static void report_origin(const struct training *t)
{
    if (t->resume_checkpoint)
        log_info("resuming from %s%s%s", t->resume_checkpoint->path, t->recipe_changes ? ", changed: " : "",
                 t->recipe_changes ? t->recipe_changes : "");
    else if (t->options.resume)
        log_info("--resume=%s: nothing to resume in %s, which holds no checkpoint; starting at step 1",
                 t->options.resume, run_directory_path(t->run_directory));
}

static enum status record_start(struct training *t, const char *resumed)
{
    enum status status = STATUS_OK;
    char started[32] = "", *arch = config_text(t->config, "model.arch");
    time_t now = time(NULL);
    struct tm utc;
    strftime(started, sizeof started, "%Y-%m-%dT%H:%M:%SZ", gmtime_r(&now, &utc));
    if (resumed)
        TRY(metrics_write(t->metrics, "resume", METRIC_INT("step", t->step), METRIC_TEXT("path", resumed),
                          METRIC_TEXT("changed", t->recipe_changes), METRIC_INT("ranks", t->comm->size),
                          METRIC_INT("threads", t->device->threads), METRIC_TEXT("time", started)));
    else
        TRY(metrics_write(
            t->metrics, "start", METRIC_INT("ranks", t->comm->size), METRIC_TEXT("device", t->device->ops->name),
            METRIC_TEXT("precision", precision_name(t->device->precision)),
            METRIC_INT("params", (int64_t)t->model->parameters), METRIC_TEXT("arch", arch),
            METRIC_INT("threads", t->device->threads), METRIC_INT("workers", t->config->data.workers),
            METRIC_INT("batch", t->config->train.batch), METRIC_INT("micro_batch", t->config->train.micro_batch),
            METRIC_INT("images", dataset_samples(t->train_set)), METRIC_INT("steps_per_epoch", t->steps_per_epoch),
            METRIC_INT("steps", t->total_steps), METRIC_TEXT("version", CSC_VERSION), METRIC_TEXT("time", started)));
fail:
    free(arch);
    return status;
}

/* ---- the state to start from ---- */

static enum status initial_state(struct training *t, bool resumes)
{
    enum status status = STATUS_OK;
    if (resumes)
        return t->comm->rank == 0 ? training_restore_state(t) : STATUS_OK;
    TRY(model_init(t->model, t->config->run.seed));
    if (t->config->model.init_from)
        TRY(load_model_init(t->model, t->config->model.init_from, false));
    optimizer_start_ema(t->optimizer);
    TRY(model_converge_step_sizes(t->model));
fail:
    return status;
}

/* Whether somebody has written or edited this file: csc-train did not print it, or it has comments. */
static bool has_own_words(const char *text)
{
    bool quoted = false;
    const char *s = strchr(text, '\n');
    for (; s && *s; s++) {
        if (*s == '#' && !quoted)
            return true;
        if (*s == '\\' && quoted && s[1])
            s++;
        else
            quoted ^= *s == '"';
    }
    return !config_is_printed(text);
}

/* Renames a config.yaml in the run's folder that csc-train has not written, or that is a link. */
static enum status keep_own_config(const struct training *t, const char *path)
{
    enum status status = STATUS_OK;
    char kept[PATH_MAX], name[48], *text = NULL;
    size_t bytes;
    struct stat info;
    if (lstat(path, &info) != 0)
        return STATUS_OK;
    if (!S_ISLNK(info.st_mode)) {
        TRY(file_read(path, MAX_CONFIG, &text, &bytes));
        if (!has_own_words(text))
            goto fail;
    }
    for (int n = 1; n == 1 || lstat(kept, &info) == 0; n++) {
        snprintf(name, sizeof name, n == 1 ? "own-config.yaml" : "own-config.%d.yaml", n);
        run_directory_file(t->run_directory, name, kept);
    }
    if (rename(path, kept) != 0)
        FAIL(STATUS_IO, "%s: cannot rename to %s: %s", path, kept, strerror(errno));
    log_info("%s was not written by csc-train; it was renamed to %s, and the resolved configuration takes its place",
             path, name);
fail:
    free(text);
    return status;
}

static enum status write_config(struct training *t)
{
    enum status status = STATUS_OK;
    char path[PATH_MAX], *text = NULL;
    if (t->comm->rank != 0)
        return STATUS_OK;
    run_directory_file(t->run_directory, "config.yaml", path);
    TRY(config_print(t->config, &text));
    TRY(keep_own_config(t, path));
    TRY(file_write(path, text, strlen(text)));
fail:
    free(text);
    return status;
}

enum status training_start(struct training *t)
{
    enum status status = STATUS_OK;
    bool resumes = t->resume_checkpoint != NULL;
    TRY(t->comm->ops->broadcast(t->comm, &resumes, sizeof resumes, 0));
    TRY(training_agree(t, initial_state(t, resumes)));
    TRY(training_broadcast_state(t));
    TRY(training_agree(t, open_metrics(t))); /* a start that fails earlier leaves no file */
    if (t->resume_checkpoint)                /* checkpoints of later steps are no longer of this run */
        status = checkpoint_abandon_later(run_directory_path(t->run_directory), t->step);
    TRY(training_agree(t, status));
    TRY(training_agree(t, write_config(t)));
    t->first_step = t->step;
    schedule_init(&t->schedule, t->config, t->total_steps, t->steps_per_epoch);
    TRY(training_agree(t, loader_seek(t->loader, t->step / t->steps_per_epoch, t->step % t->steps_per_epoch)));
    t->started_s = t->checkpoint_s = clock_seconds();
    if (t->comm->rank == 0) {
        report_start(t);
        report_origin(t);
        status = record_start(t, resumes ? t->resume_checkpoint->path : NULL);
        if (status == STATUS_OK)
            status = progress_create(&t->progress, t->step, t->total_steps, t->steps_per_epoch);
        if (status == STATUS_OK)
            status = live_pictures_create(&t->live_pictures, t);
    }
    TRY(training_agree(t, status));
    checkpoint_close(t->resume_checkpoint);
    t->resume_checkpoint = NULL;
    training_start_interval(t);
fail:
    return status;
}
