/* checkpoint_scan.c - looks at all checkpoints of a run: which one to resume from, which ones to keep, and a list of
 * them. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/file.h"
#include "base/log.h"
#include "base/memory.h"
#include "trainer/checkpoint/checkpoint_internal.h"

static int newest_first(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return x < y ? 1 : x > y ? -1 : 0;
}

enum status checkpoint_list_steps(const char *run, int64_t **steps, int *count)
{
    enum status status = STATUS_OK;
    char folder[PATH_MAX];
    size_t capacity = 0;
    struct stat info;
    DIR *list = NULL;
    *steps = NULL;
    *count = 0;
    TRY(checkpoint_join(folder, run, "checkpoints"));
    list = opendir(folder);
    if (!list && errno == ENOENT)
        return status;
    if (!list)
        FAIL(STATUS_IO, "%s: %s", folder, strerror(errno));
    for (struct dirent *entry; (entry = readdir(list));) {
        int64_t step = checkpoint_step_of_name(entry->d_name);
        if (step < 0 || fstatat(dirfd(list), entry->d_name, &info, AT_SYMLINK_NOFOLLOW) != 0 || !S_ISDIR(info.st_mode))
            continue;
        TRY(array_grow(steps, &capacity, (size_t)*count + 1, sizeof **steps));
        (*steps)[(*count)++] = step;
    }
    if (*count)
        qsort(*steps, (size_t)*count, sizeof **steps, newest_first);
fail:
    if (status != STATUS_OK) {
        free(*steps);
        *steps = NULL;
        *count = 0;
    }
    if (list)
        closedir(list);
    return status;
}

static enum status step_path(char path[PATH_MAX], const char *run, int64_t step)
{
    enum status status = STATUS_OK;
    char folder[PATH_MAX], name[16];
    checkpoint_step_name(name, step);
    TRY(checkpoint_join(folder, run, "checkpoints"));
    TRY(checkpoint_join(path, folder, name));
fail:
    return status;
}

/* After a failed check: whether the checkpoint could not be read, so that it may still be good. */
static bool is_unreadable(enum status status, const char *path)
{
    return status == STATUS_IO && !checkpoint_lacks_file(path);
}

/* The error if none of the checkpoints is good. */
static enum status refuse_all(const char *run, int count, int unreadable)
{
    if (unreadable == count)
        return status_report(STATUS_IO, __FILE__, __LINE__, "%s: none of its %d checkpoints can be read", run, count);
    return status_report(STATUS_DATA, __FILE__, __LINE__, "%s: none of its %d checkpoints is whole", run, count);
}

/* *good: whether a checkpoint verifies; *top1: its accuracy. Damage is no failure: with `warn` a warning tells of it,
 * and *unreadable counts checkpoints that could not be read. Other failures are returned. */
static enum status check_step(const char *run, int64_t step, bool warn, bool *good, double *top1, int *unreadable)
{
    enum status status = STATUS_OK;
    struct checkpoint_state state = { 0 };
    char path[PATH_MAX];
    TRY(step_path(path, run, step));
    status = checkpoint_check(path, &state);
    *good = status == STATUS_OK;
    *top1 = *good ? state.top1 : NAN;
    json_decref(state.extra);
    if (status != STATUS_DATA && status != STATUS_IO)
        return status;
    *unreadable += is_unreadable(status, path);
    if (warn)
        log_warn("checkpoint passed over: %s", status_message());
    status_clear();
    status = STATUS_OK;
fail:
    return status;
}

/* Whether the weights of a checkpoint are finite. If not, a warning says so. */
static enum status has_finite_weights(const char *path, bool *finite)
{
    enum status status = STATUS_OK;
    char name[PATH_MAX];
    struct safetensors *file = NULL;
    *finite = true;
    TRY(checkpoint_join(name, path, CHECKPOINT_MODEL));
    TRY(safetensors_open(&file, name));
    for (int i = 0; i < safetensors_count(file) && *finite; i++) {
        const struct safetensor *t = safetensors_at(file, i);
        *finite = t->dtype != SAFETENSORS_F32 || safetensors_check_finite(path, t) == STATUS_OK;
    }
    if (!*finite)
        log_warn("checkpoint passed over: %s", status_message());
    status_clear();
fail:
    safetensors_close(file);
    return status;
}

enum status checkpoint_find_newest(const char *run, char path[PATH_MAX])
{
    enum status status = STATUS_OK;
    int64_t *steps = NULL;
    int count, unreadable = 0, unusable = 0;
    path[0] = 0;
    TRY(checkpoint_list_steps(run, &steps, &count));
    for (int i = 0; i < count; i++) {
        bool good;
        double top1;
        TRY(check_step(run, steps[i], true, &good, &top1, &unreadable));
        if (!good)
            continue;
        TRY(step_path(path, run, steps[i]));
        TRY(has_finite_weights(path, &good));
        if (good)
            goto fail;
        path[0] = 0;
        unusable++;
    }
    if (unusable)
        FAIL(STATUS_DATA,
             "%s: none of its %d checkpoints is whole and has finite weights: start again in another "
             "run.dir",
             run, count);
    if (count)
        TRY(refuse_all(run, count, unreadable));
fail:
    free(steps);
    return status;
}

enum status checkpoint_resume_path(const char *run, const char *resume, char path[PATH_MAX])
{
    enum status status = STATUS_OK;
    struct checkpoint_state state = { 0 };
    int64_t *steps = NULL;
    int count;
    path[0] = 0;
    if (resume && strcmp(resume, "auto") == 0)
        return checkpoint_find_newest(run, path);
    if (resume) {
        size_t length = strlen(resume);
        while (length > 1 && resume[length - 1] == '/')
            length--;
        if (length == 0 || length >= PATH_MAX)
            FAIL(STATUS_IO, "--resume=%.200s: not a checkpoint's name", resume);
        snprintf(path, PATH_MAX, "%.*s", (int)length, resume);
        status = checkpoint_check(path, &state);
        if (status == STATUS_DATA || status == STATUS_IO)
            FAIL(STATUS_IO, "--resume: %s", status_message());
        TRY(status);
        goto fail;
    }
    TRY(checkpoint_list_steps(run, &steps, &count));
    if (count)
        FAIL(STATUS_USAGE,
             "%s holds checkpoints, the newest of step %lld: resume it with --resume=auto, or choose another "
             "run.dir",
             run, (long long)steps[0]);
fail:
    json_decref(state.extra);
    free(steps);
    return status;
}

/* Renames a checkpoint to abandoned-NAME, or to abandoned-NAME.2 and so on if that exists. */
static enum status abandon_one(const char *folder, int64_t step)
{
    enum status status = STATUS_OK;
    char path[PATH_MAX], aside[PATH_MAX], name[16], other[48];
    checkpoint_step_name(name, step);
    TRY(checkpoint_join(path, folder, name));
    for (int n = 1; n == 1 || file_exists(aside); n++) {
        snprintf(other, sizeof other, n == 1 ? "abandoned-%s" : "abandoned-%s.%d", name, n);
        TRY(checkpoint_join(aside, folder, other));
    }
    if (rename(path, aside) != 0)
        FAIL(STATUS_IO, "%s: cannot rename to %s: %s", path, aside, strerror(errno));
    log_info("%s is later than the step that this run resumes from; it was renamed to %s", path, other);
fail:
    return status;
}

enum status checkpoint_abandon_later(const char *run, int64_t step)
{
    enum status status = STATUS_OK;
    char folder[PATH_MAX];
    int64_t *steps = NULL;
    int count, unreadable = 0;
    TRY(checkpoint_join(folder, run, "checkpoints"));
    TRY(checkpoint_list_steps(run, &steps, &count));
    for (int i = 0; i < count && steps[i] > step; i++) {
        bool good;
        double top1;
        TRY(check_step(run, steps[i], false, &good, &top1, &unreadable));
        if (good)
            TRY(abandon_one(folder, steps[i]));
    }
    if (count)
        TRY(file_sync_folder(folder));
fail:
    free(steps);
    return status;
}

/* An accuracy from state.json, and the fingerprint of the images on which it was measured. */
struct claimed_accuracy {
    double top1; /* NAN if there is none, or if it cannot be read */
    char val[17];
};

static struct claimed_accuracy read_accuracy(const char *run, int64_t step)
{
    struct checkpoint_state state = { 0 };
    struct claimed_accuracy accuracy = { .top1 = NAN };
    char path[PATH_MAX];
    if (step_path(path, run, step) == STATUS_OK && checkpoint_read_state(path, &state) == STATUS_OK) {
        accuracy.top1 = state.top1;
        memcpy(accuracy.val, state.val, sizeof accuracy.val);
    }
    json_decref(state.extra);
    status_clear();
    return accuracy;
}

/* Drops accuracies that were measured on other images than the newest checkpoint's, since they cannot be compared. */
static void drop_other_datasets(struct claimed_accuracy *accuracies, int count, int newest)
{
    for (int i = 0; newest >= 0 && i < count; i++)
        if (accuracies[newest].val[0] && strcmp(accuracies[i].val, accuracies[newest].val) != 0)
            accuracies[i].top1 = NAN;
}

/* *best: the index of the checkpoint with the highest accuracy that verifies, the newest of equals; -1 if none was
 * evaluated. *newest: the index of the newest that verifies; -1 if none does, of which *unreadable could not be read.
 * Only candidates are read whole. */
static enum status find_best_and_newest(const char *run, const int64_t *steps, int count, int *best, int *newest,
                                        int *unreadable)
{
    enum status status = STATUS_OK;
    bool good = false;
    int again = 0;
    double ignored;
    struct claimed_accuracy *accuracies = malloc((size_t)count * sizeof *accuracies + 1);
    if (!accuracies)
        FAIL(STATUS_NOMEM, "%s: out of memory", run);
    *best = *newest = -1;
    *unreadable = 0;
    for (int i = 0; i < count; i++)
        accuracies[i] = read_accuracy(run, steps[i]);
    for (int i = 0; i < count && *newest < 0; i++) {
        TRY(check_step(run, steps[i], false, &good, &ignored, unreadable));
        if (good)
            *newest = i;
    }
    drop_other_datasets(accuracies, count, *newest);
    for (good = false; !good;) {
        *best = -1;
        for (int i = 0; i < count; i++)
            if (accuracies[i].top1 > (*best < 0 ? -INFINITY : accuracies[*best].top1))
                *best = i;
        if (*best < 0)
            break;
        TRY(check_step(run, steps[*best], false, &good, &ignored, &again));
        accuracies[*best].top1 = good ? accuracies[*best].top1 : NAN;
    }
fail:
    free(accuracies);
    return status;
}

enum status checkpoint_find_best(const char *path, char found[PATH_MAX])
{
    enum status status = STATUS_OK;
    int64_t *steps = NULL;
    int count, best, newest, unreadable;
    TRY(checkpoint_join(found, path, CHECKPOINT_MANIFEST));
    if (file_exists(found)) {
        snprintf(found, PATH_MAX, "%s", path);
        return status;
    }
    TRY(checkpoint_list_steps(path, &steps, &count));
    if (!count)
        FAIL(STATUS_IO, "%s: neither a checkpoint nor a run that has one", path);
    TRY(find_best_and_newest(path, steps, count, &best, &newest, &unreadable));
    if (newest < 0)
        TRY(refuse_all(path, count, unreadable));
    TRY(step_path(found, path, steps[best >= 0 ? best : newest]));
fail:
    free(steps);
    return status;
}

/* Hides the folder before it deletes the files, so that a crash in between leaves nothing that looks like a
 * checkpoint. */
static enum status delete_step(const char *run, int64_t step)
{
    enum status status = STATUS_OK;
    char path[PATH_MAX], folder[PATH_MAX], hidden[PATH_MAX], name[48];
    TRY(step_path(path, run, step));
    TRY(checkpoint_join(folder, run, "checkpoints"));
    snprintf(name, sizeof name, ".tmp-delete-%08lld-%ld", (long long)step, (long)getpid());
    TRY(checkpoint_join(hidden, folder, name));
    if (rename(path, hidden) != 0)
        FAIL(STATUS_IO, "%s: cannot remove: %s", path, strerror(errno));
    TRY(checkpoint_remove(hidden));
fail:
    return status;
}

enum status checkpoint_retain(const char *run, int keep)
{
    enum status status = STATUS_OK;
    int64_t *steps = NULL;
    int count, best, newest, unreadable;
    TRY(checkpoint_list_steps(run, &steps, &count));
    if (count > keep) {
        TRY(find_best_and_newest(run, steps, count, &best, &newest, &unreadable));
        for (int i = count - 1; i >= keep; i--)
            if (i != best && i != newest)
                TRY(delete_step(run, steps[i]));
    }
fail:
    free(steps);
    return status;
}

/* Cleans up a hidden folder that an interrupted writer has left. If its name ends in -old, it is a checkpoint that was
 * about to be replaced: it gets its name back if that is free. Others are removed. */
static enum status clean_one(const char *folder, const char *name)
{
    enum status status = STATUS_OK;
    char path[PATH_MAX], target[PATH_MAX], step[16];
    size_t length = strlen(name);
    TRY(checkpoint_join(path, folder, name));
    snprintf(step, sizeof step, "%.13s", name + 5);
    TRY(checkpoint_join(target, folder, step));
    if (length > 4 && strcmp(name + length - 4, "-old") == 0 && checkpoint_step_of_name(step) >= 0 &&
        !file_exists(target)) {
        if (rename(path, target) != 0)
            FAIL(STATUS_IO, "%s: cannot rename to %s: %s", path, target, strerror(errno));
        log_info("restored %s, which an interrupted write had moved aside", target);
        return status;
    }
    if (checkpoint_remove(path) == STATUS_OK)
        log_info("removed %s, which was never finished", path);
    else
        log_warn("%s", status_message());
    status_clear();
fail:
    return status;
}

enum status checkpoint_clean(const char *run)
{
    enum status status = STATUS_OK;
    char folder[PATH_MAX];
    struct stat info;
    DIR *list = NULL;
    TRY(checkpoint_join(folder, run, "checkpoints"));
    list = opendir(folder);
    if (!list && errno == ENOENT)
        return status;
    if (!list)
        FAIL(STATUS_IO, "%s: %s", folder, strerror(errno));
    for (struct dirent *entry; (entry = readdir(list));) {
        if (strncmp(entry->d_name, ".tmp-", 5) != 0)
            continue;
        if (fstatat(dirfd(list), entry->d_name, &info, AT_SYMLINK_NOFOLLOW) == 0 && S_ISDIR(info.st_mode))
            TRY(clean_one(folder, entry->d_name));
    }
fail:
    if (list)
        closedir(list);
    return status;
}

/* The bytes of a checkpoint's files, and the time of its manifest. */
static void measure_folder(const char *folder, int64_t *bytes, char date[32])
{
    struct stat info;
    struct tm when;
    DIR *list = opendir(folder);
    *bytes = 0;
    strcpy(date, "-");
    for (struct dirent *entry; list && (entry = readdir(list));) {
        if (fstatat(dirfd(list), entry->d_name, &info, AT_SYMLINK_NOFOLLOW) != 0 || !S_ISREG(info.st_mode))
            continue;
        *bytes += info.st_size;
        if (strcmp(entry->d_name, CHECKPOINT_MANIFEST) == 0 && localtime_r(&info.st_mtime, &when))
            strftime(date, 32, "%Y-%m-%d %H:%M:%S", &when);
    }
    if (list)
        closedir(list);
}

static enum status print_row(const char *run, int64_t step, bool best, int *damaged, int *unreadable)
{
    enum status status = STATUS_OK;
    struct checkpoint_state state = { 0 };
    char path[PATH_MAX], date[32], top1[32] = "-";
    int64_t bytes;
    TRY(step_path(path, run, step));
    status = checkpoint_check(path, &state);
    if (status != STATUS_OK && status != STATUS_DATA && status != STATUS_IO)
        return status;
    bool good = status == STATUS_OK, read = !is_unreadable(status, path);
    *unreadable += !read;
    *damaged += read && !good;
    measure_folder(path, &bytes, date);
    if (good && isfinite(state.top1))
        snprintf(top1, sizeof top1, "%.4f", state.top1);
    printf("%c %08lld  %-19s  %12lld  %-6s  %s\n", best ? '*' : ' ', (long long)step, date, (long long)bytes, top1,
           good ? "ok" : status_message());
    json_decref(state.extra);
    status_clear();
    status = STATUS_OK;
fail:
    return status;
}

enum status checkpoint_list(const char *run)
{
    enum status status = STATUS_OK;
    int64_t *steps = NULL;
    int count, best, newest, damaged = 0, unreadable = 0;
    if (!file_is_folder(run))
        FAIL(STATUS_IO, "%s: no such run", run);
    TRY(checkpoint_list_steps(run, &steps, &count));
    if (!count) {
        printf("%s: no checkpoints\n", run);
        goto fail;
    }
    TRY(find_best_and_newest(run, steps, count, &best, &newest, &unreadable));
    unreadable = 0;
    printf("  step      date                        bytes  top1    status (* best)\n");
    for (int i = 0; i < count; i++)
        TRY(print_row(run, steps[i], i == best, &damaged, &unreadable));
    if (damaged)
        FAIL(STATUS_DATA, "%s: %d of %d checkpoints damaged", run, damaged, count);
    if (unreadable)
        FAIL(STATUS_IO, "%s: %d of %d checkpoints cannot be read", run, unreadable, count);
fail:
    free(steps);
    return status;
}
