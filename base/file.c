/* file.c - reads files and writes them atomically. */
#include "base/file.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum status file_open(const char *path, int *fd, struct stat *info)
{
    enum status status = STATUS_OK;
    struct stat own;
    info = info ? info : &own;
    *fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK); /* otherwise this would wait for the writer of a named pipe */
    if (*fd < 0 && errno == ENXIO)
        FAIL(STATUS_IO, "%s: not a regular file", path);
    if (*fd < 0 && errno == EMFILE)
        FAIL(STATUS_IO, "%s: too many open files; raise the limit with ulimit -n", path);
    if (*fd < 0 || fstat(*fd, info) != 0)
        FAIL(STATUS_IO, "%s: %s", path, strerror(errno));
    if (!S_ISREG(info->st_mode))
        FAIL(STATUS_IO, "%s: not a regular file", path);
    return STATUS_OK;
fail:
    if (*fd >= 0)
        close(*fd);
    *fd = -1;
    return status;
}

enum status file_open_stream(const char *path, FILE **file, struct stat *info)
{
    enum status status = STATUS_OK;
    int fd = -1;
    *file = NULL;
    TRY(file_open(path, &fd, info));
    *file = fdopen(fd, "rb");
    if (!*file) {
        close(fd);
        FAIL(STATUS_NOMEM, "%s: out of memory", path);
    }
fail:
    return status;
}

enum status file_read(const char *path, size_t limit, char **data, size_t *bytes)
{
    enum status status = STATUS_OK;
    char *buffer = NULL;
    struct stat info;
    FILE *file = NULL;
    TRY(file_open_stream(path, &file, &info));
    if ((unsigned long long)info.st_size > limit)
        FAIL(STATUS_DATA, "%s: %lld bytes, but such a file may have at most %zu", path, (long long)info.st_size, limit);
    size_t size = (size_t)info.st_size;
    buffer = malloc(size + 1);
    if (!buffer)
        FAIL(STATUS_NOMEM, "%s: out of memory", path);
    if (fread(buffer, 1, size, file) != size)
        FAIL(STATUS_IO, "%s: cannot read %zu bytes", path, size);
    buffer[size] = 0;
    *data = buffer;
    *bytes = size;
    buffer = NULL;
fail:
    free(buffer);
    if (file)
        fclose(file);
    return status;
}

static void folder_of(const char *path, char folder[PATH_MAX])
{
    const char *slash = strrchr(path, '/');
    if (!slash)
        strcpy(folder, ".");
    else
        snprintf(folder, PATH_MAX, "%.*s", slash == path ? 1 : (int)(slash - path), path);
}

enum status file_sync_folder(const char *folder)
{
    enum status status = STATUS_OK;
    int fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0 || (fsync(fd) != 0 && errno != EINVAL))
        FAIL(STATUS_IO, "%s: %s", folder, strerror(errno));
fail:
    if (fd >= 0)
        close(fd);
    return status;
}

ssize_t file_read_at(int fd, void *out, size_t bytes, uint64_t offset)
{
    size_t done = 0;
    while (done < bytes) {
        ssize_t got = pread(fd, (char *)out + done, bytes - done, (off_t)(offset + done));
        if (got < 0 && errno != EINTR)
            return -1;
        if (got == 0)
            break;
        done += got > 0 ? (size_t)got : 0;
    }
    return (ssize_t)done;
}

bool file_write_at(int fd, const void *data, size_t bytes, uint64_t offset)
{
    for (size_t done = 0; done < bytes;) {
        ssize_t wrote = pwrite(fd, (const char *)data + done, bytes - done, (off_t)(offset + done));
        if (wrote < 0 && errno != EINTR)
            return false;
        done += wrote > 0 ? (size_t)wrote : 0;
    }
    return true;
}

bool file_write_all(int fd, const void *data, size_t bytes)
{
    for (size_t done = 0; done < bytes;) {
        ssize_t wrote = write(fd, (const char *)data + done, bytes - done);
        if (wrote < 0 && errno != EINTR)
            return false;
        done += wrote > 0 ? (size_t)wrote : 0;
    }
    return true;
}

static enum status write_all(int fd, const char *path, const void *data, size_t bytes)
{
    enum status status = STATUS_OK;
    if (!file_write_all(fd, data, bytes))
        FAIL(STATUS_IO, "%s: %s", path, strerror(errno));
fail:
    return status;
}

enum status file_write(const char *path, const void *data, size_t bytes)
{
    enum status status = STATUS_OK;
    char temporary[PATH_MAX], folder[PATH_MAX];
    int fd = -1;
    if (snprintf(temporary, sizeof temporary, "%s.tmp-%ld", path, (long)getpid()) >= PATH_MAX)
        return status_report(STATUS_IO, __FILE__, __LINE__, "%s: name too long", path);
    folder_of(path, folder);
    fd = open(temporary, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    if (fd < 0)
        FAIL(STATUS_IO, "%s: %s", temporary, strerror(errno));
    TRY(write_all(fd, temporary, data, bytes));
    if (fsync(fd) != 0)
        FAIL(STATUS_IO, "%s: %s", temporary, strerror(errno));
    int closed = close(fd);
    fd = -1;
    if (closed != 0 || rename(temporary, path) != 0)
        FAIL(STATUS_IO, "%s: %s", path, strerror(errno));
    return file_sync_folder(folder);
fail:
    if (fd >= 0)
        close(fd);
    unlink(temporary);
    return status;
}

/* Returns the descriptor of this process that the path means, or -1 if it is the path of a file. */
static int descriptor_of(const char *path)
{
    static const char *const folders[] = { "/dev/fd/", "/proc/self/fd/" };
    if (strcmp(path, "-") == 0 || strcmp(path, "/dev/stdout") == 0)
        return STDOUT_FILENO;
    if (strcmp(path, "/dev/stderr") == 0)
        return STDERR_FILENO;
    for (int i = 0; i < 2; i++) {
        const char *digits = path + strlen(folders[i]);
        if (strncmp(path, folders[i], strlen(folders[i])) == 0 && *digits && strlen(digits) < 9 &&
            strspn(digits, "0123456789") == strlen(digits))
            return atoi(digits);
    }
    return -1;
}

enum status file_write_output(const char *path, const void *data, size_t bytes)
{
    enum status status = STATUS_OK;
    char target[PATH_MAX];
    struct stat info;
    int fd = descriptor_of(path);
    bool own = fd < 0;
    if (!own && fd == STDOUT_FILENO && fflush(stdout) != 0)
        FAIL(STATUS_IO, "%s: %s", path, strerror(errno));
    if (!own) {
        TRY(write_all(fd, path, data, bytes));
        return status;
    }
    bool there = stat(path, &info) == 0, link = !there && lstat(path, &info) == 0;
    if (there && S_ISREG(info.st_mode) && realpath(path, target))
        return file_write(target, data, bytes);
    if (!there && !link)
        return file_write(path, data, bytes);
    fd = open(path, O_WRONLY | O_CLOEXEC | (link ? O_CREAT : 0), 0666); /* the target of a dangling link is created */
    if (fd < 0)
        FAIL(STATUS_IO, "%s: %s", path, strerror(errno));
    TRY(write_all(fd, path, data, bytes));
fail:
    if (own && fd >= 0 && close(fd) != 0 && status == STATUS_OK)
        status = status_report(STATUS_IO, __FILE__, __LINE__, "%s: %s", path, strerror(errno));
    return status;
}

enum status file_make_folders(const char *path)
{
    enum status status = STATUS_OK;
    char part[PATH_MAX];
    if (snprintf(part, sizeof part, "%s", path) >= PATH_MAX)
        FAIL(STATUS_IO, "%s: name too long", path);
    for (char *slash = part; slash;) {
        slash = strchr(slash + 1, '/');
        if (slash)
            *slash = 0;
        if (mkdir(part, 0777) != 0 && errno != EEXIST)
            FAIL(STATUS_IO, "%s: %s", part, strerror(errno));
        if (slash)
            *slash = '/';
    }
    if (!file_is_folder(path))
        FAIL(STATUS_IO, "%s: not a folder", path);
fail:
    return status;
}

bool file_exists(const char *path)
{
    return access(path, F_OK) == 0;
}

bool file_is_folder(const char *path)
{
    struct stat info;
    return stat(path, &info) == 0 && S_ISDIR(info.st_mode);
}

bool file_is_inside(const char *path, const char *folder, const char *below)
{
    char outer[PATH_MAX], joined[PATH_MAX], inner[PATH_MAX], part[PATH_MAX];
    if (snprintf(joined, sizeof joined, "%s/%s", folder, below ? below : "") >= PATH_MAX || !realpath(joined, outer) ||
        snprintf(part, sizeof part, "%s%s", *path == '/' ? "" : "./", path) >= PATH_MAX)
        return false;
    while (!realpath(part, inner)) { /* the longest part of the path that exists decides */
        char *slash = strrchr(part, '/');
        if (!slash)
            return false;
        slash[slash == part] = 0; /* "/" stays */
    }
    size_t length = strcmp(outer, "/") ? strlen(outer) : 0;
    return !strncmp(inner, outer, length) && (!inner[length] || inner[length] == '/');
}
