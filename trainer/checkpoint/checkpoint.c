/* checkpoint.c - writes a checkpoint so that a crash or a full disk leaves older ones as they were, and opens one. */
#include "trainer/checkpoint/checkpoint.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "base/hash.h"
#include "trainer/checkpoint/checkpoint_internal.h"

enum { MAX_CONFIG = 1 << 20 };

int64_t checkpoint_step_of_name(const char *name)
{
    if (strncmp(name, "step-", 5) != 0 || strspn(name + 5, "0123456789") != 8 || name[13])
        return -1;
    return strtoll(name + 5, NULL, 10);
}

void checkpoint_step_name(char name[16], int64_t step)
{
    snprintf(name, 16, "step-%08lld", (long long)step);
}

enum status checkpoint_remove(const char *folder)
{
    enum status status = STATUS_OK;
    DIR *list = NULL;
    int fd = open(folder, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0 || !(list = fdopendir(fd)))
        FAIL(STATUS_IO, "%s: %s", folder, strerror(errno));
    for (struct dirent *entry; (entry = readdir(list));)
        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0 &&
            unlinkat(fd, entry->d_name, 0) != 0 && errno != ENOENT)
            FAIL(STATUS_IO, "%s/%s: cannot remove: %s", folder, entry->d_name, strerror(errno));
    if (rmdir(folder) != 0)
        FAIL(STATUS_IO, "%s: cannot remove: %s", folder, strerror(errno));
fail:
    if (list)
        closedir(list); /* closes fd too */
    else if (fd >= 0)
        close(fd);
    return status;
}

static enum status write_tensors(const char *folder, const char *name, const struct safetensor *tensors, int count)
{
    enum status status = STATUS_OK;
    char path[PATH_MAX];
    TRY(checkpoint_join(path, folder, name));
    TRY(safetensors_write(path, tensors, count));
fail:
    return status;
}

static enum status write_files(const char *folder, const struct checkpoint_contents *contents)
{
    enum status status = STATUS_OK;
    char path[PATH_MAX], name[CHECKPOINT_NAME];
    checkpoint_part_name(name, 0, 1);
    TRY(write_tensors(folder, CHECKPOINT_MODEL, contents->model, contents->model_count));
    TRY(write_tensors(folder, name, contents->optimizer, contents->optimizer_count));
    TRY(checkpoint_write_state(folder, contents->state));
    TRY(checkpoint_join(path, folder, CHECKPOINT_CONFIG));
    TRY(file_write(path, contents->config, strlen(contents->config)));
    TRY(checkpoint_write_manifest(folder));
    TRY(file_sync_folder(folder));
fail:
    return status;
}

/* Renames `fresh` to `target`. If that exists, the two are exchanged, so that there is a whole checkpoint at any time.
 * If the file system cannot do that, the old one gets a third name in between. */
static enum status replace_checkpoint(const char *fresh, const char *target)
{
    enum status status = STATUS_OK;
    char old[PATH_MAX];
    struct stat info;
    if (lstat(target, &info) != 0) {
        if (rename(fresh, target) != 0)
            FAIL(STATUS_IO, "%s: cannot rename to %s: %s", fresh, target, strerror(errno));
        return status;
    }
    if (!S_ISDIR(info.st_mode))
        FAIL(STATUS_IO, "%s: exists and is not a folder", target);
    if (renameat2(AT_FDCWD, fresh, AT_FDCWD, target, RENAME_EXCHANGE) == 0)
        return checkpoint_remove(fresh);
    if (errno != EINVAL && errno != ENOSYS && errno != EOPNOTSUPP)
        FAIL(STATUS_IO, "%s: cannot exchange with %s: %s", fresh, target, strerror(errno));
    if (snprintf(old, sizeof old, "%s-old", fresh) >= (int)sizeof old)
        FAIL(STATUS_IO, "%s: name too long", fresh);
    if (rename(target, old) != 0)
        FAIL(STATUS_IO, "%s: cannot rename: %s", target, strerror(errno));
    if (rename(fresh, target) != 0) {
        status = status_report(STATUS_IO, __FILE__, __LINE__, "%s: cannot replace: %s", target, strerror(errno));
        if (rename(old, target) != 0)
            return status; /* checkpoint_clean renames it back */
        goto fail;
    }
    status = checkpoint_remove(old);
fail:
    return status;
}

enum status checkpoint_write(const char *run, const struct checkpoint_contents *contents, char path[PATH_MAX])
{
    enum status status = STATUS_OK;
    struct status_record record;
    char folder[PATH_MAX], fresh[PATH_MAX] = "", name[16], hidden[48];
    int64_t step = contents->state->step;
    if (step < 0 || step > CHECKPOINT_LAST_STEP)
        FAIL(STATUS_BUG, "step %lld has no name", (long long)step);
    checkpoint_step_name(name, step);
    TRY(checkpoint_join(folder, run, "checkpoints"));
    TRY(checkpoint_join(path, folder, name));
    snprintf(hidden, sizeof hidden, ".tmp-%s-%ld", name, (long)getpid());
    TRY(checkpoint_join(fresh, folder, hidden));
    TRY(file_make_folders(fresh));
    TRY(write_files(fresh, contents));
    TRY(replace_checkpoint(fresh, path));
    TRY(file_sync_folder(folder));
    return status;
fail:
    status_save(&record);
    if (fresh[0] && file_is_folder(fresh))
        checkpoint_remove(fresh);
    status_restore(&record);
    return status;
}

enum status checkpoint_open(struct checkpoint **out, const char *path)
{
    enum status status = STATUS_OK;
    char file[PATH_MAX], name[CHECKPOINT_NAME];
    size_t bytes;
    struct checkpoint_manifest manifest;
    struct checkpoint *checkpoint = calloc(1, sizeof *checkpoint);
    if (!checkpoint)
        FAIL(STATUS_NOMEM, "%s: out of memory", path);
    snprintf(checkpoint->path, sizeof checkpoint->path, "%s", path);
    TRY(checkpoint_check(path, &checkpoint->state));
    TRY(checkpoint_join(file, path, CHECKPOINT_MODEL));
    TRY(safetensors_open(&checkpoint->model, file));
    TRY(checkpoint_read_manifest(path, &manifest));
    for (; checkpoint->parts < manifest.parts; checkpoint->parts++) {
        checkpoint_part_name(name, checkpoint->parts, manifest.parts);
        TRY(checkpoint_join(file, path, name));
        TRY(safetensors_open(&checkpoint->optimizer[checkpoint->parts], file));
    }
    TRY(checkpoint_join(file, path, CHECKPOINT_CONFIG));
    TRY(file_read(file, MAX_CONFIG, &checkpoint->config, &bytes));
    *out = checkpoint;
    return status;
fail:
    checkpoint_close(checkpoint);
    return status;
}

void checkpoint_close(struct checkpoint *checkpoint)
{
    if (!checkpoint)
        return;
    safetensors_close(checkpoint->model);
    for (int i = 0; i < checkpoint->parts; i++)
        safetensors_close(checkpoint->optimizer[i]);
    json_decref(checkpoint->state.extra);
    free(checkpoint->config);
    free(checkpoint);
}

const struct safetensor *checkpoint_find(const struct checkpoint *checkpoint, const char *name)
{
    const struct safetensor *found = NULL;
    for (int i = 0; i < checkpoint->parts && !found; i++)
        found = safetensors_find(checkpoint->optimizer[i], name);
    return found;
}

enum status checkpoint_tensor(void *checkpoint, const char *name, int dims, const int *shape, float **data)
{
    const struct checkpoint *c = checkpoint;
    return safetensors_require(checkpoint_find(c, name), c->path, name, dims, shape, data);
}
