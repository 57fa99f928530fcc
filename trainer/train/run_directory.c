/* run_directory.c - RUN/lock holds three lines: host, process and job. The process holds a kernel lock on it as long as
 * it lives. A thread touches the file every few seconds, so that processes on other hosts see that it is alive even if
 * the file system does not share kernel locks. */
#include "trainer/train/run_directory.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdbool.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/host.h"
#include "base/log.h"
#include "base/thread.h"
#include "trainer/train/stop.h"

double run_lock_touch_s = 10, run_lock_stale_s = 45;

struct run_directory {
    char directory[PATH_MAX], lock[PATH_MAX];
    int fd, folder; /* open files: the lock and the directory, even if they are moved */
    pid_t owner;    /* the process that took the lock; a forked child must not release it */
    pthread_t toucher;
    bool touching, ending;
    bool missing; /* the directory was moved or removed, and a warning said so */
    bool created; /* this process created the directory, and removes it if it stays empty */
    pthread_mutex_t mutex;
    pthread_cond_t wake;
};

struct holder {
    char host[64], job[64];
    int restart; /* how often the scheduler has restarted the job */
    long pid;
};

static struct run_directory *current; /* for remove_lock_at_exit */

static void describe_self(struct holder *self)
{
    static const char *const variables[] = { "SLURM_JOB_ID", "PBS_JOBID", "LSB_JOBID", "JOB_ID" };
    const char *restart = getenv("SLURM_RESTART_COUNT");
    *self = (struct holder){ .job = "none", .pid = (long)getpid(), .restart = restart ? atoi(restart) : 0 };
    host_name(self->host, sizeof self->host);
    for (size_t i = 0; i < sizeof variables / sizeof variables[0]; i++) {
        const char *job = getenv(variables[i]);
        if (job && job[0] && !strpbrk(job, " \n")) {
            snprintf(self->job, sizeof self->job, "%s", job);
            break;
        }
    }
}

/* Returns false if the file names nobody. Its text is shown in messages, so other characters than printable ones become
 * '?'. */
static bool read_holder(int fd, struct holder *holder)
{
    char text[256] = "";
    *holder = (struct holder){ 0 };
    ssize_t got = pread(fd, text, sizeof text - 1, 0);
    if (got <= 0)
        return false;
    for (ssize_t i = 0; i < got; i++)
        if (!isprint((unsigned char)text[i]) && text[i] != '\n')
            text[i] = '?';
    return sscanf(text, "host %63s\npid %ld\njob %63s restart %d", holder->host, &holder->pid, holder->job,
                  &holder->restart) >= 3;
}

static enum status write_holder(const struct run_directory *run)
{
    struct holder self;
    char text[256];
    describe_self(&self);
    int length = snprintf(text, sizeof text, "host %s\npid %ld\njob %s restart %d\n", self.host, self.pid, self.job,
                          self.restart);
    if (ftruncate(run->fd, 0) != 0 || pwrite(run->fd, text, (size_t)length, 0) != length || fsync(run->fd) != 0)
        return status_report(STATUS_IO, __FILE__, __LINE__, "%s: cannot write: %s", run->lock, strerror(errno));
    return STATUS_OK;
}

static enum status refuse_holder(const struct run_directory *run, const struct holder *holder)
{
    return status_report(STATUS_USAGE, __FILE__, __LINE__,
                         "%s is being written by pid %ld on %s (job %s): a run can have only one writer (%s)",
                         run->directory, holder->pid, holder->host[0] ? holder->host : "an unknown host",
                         holder->job[0] ? holder->job : "unknown", run->lock);
}

/* Opens the lock file and takes the kernel's lock on it. *locked is false if this file system has no such locks. */
static enum status open_lock(struct run_directory *run, bool *locked)
{
    enum status status = STATUS_OK;
    struct holder holder;
    struct flock whole = { .l_type = F_WRLCK, .l_whence = SEEK_SET };
    for (int tries = 0; tries < 100; tries++) {
        struct stat ours, named;
        run->fd = open(run->lock, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0666);
        if (run->fd < 0)
            FAIL(STATUS_IO, "%s: %s", run->lock, strerror(errno));
        *locked = fcntl(run->fd, F_OFD_SETLK, &whole) == 0;
        if (!*locked && (errno == EAGAIN || errno == EACCES)) {
            read_holder(run->fd, &holder);
            return refuse_holder(run, &holder);
        }
        if (fstat(run->fd, &ours) == 0 && stat(run->lock, &named) == 0 && ours.st_ino == named.st_ino &&
            ours.st_dev == named.st_dev)
            return status;
        close(run->fd); /* its holder removed it between the two calls */
        run->fd = -1;
    }
    FAIL(STATUS_IO, "%s: the file is removed again and again", run->lock);
fail:
    return status;
}

static bool modified(const char *path, struct timespec *when)
{
    struct stat info;
    int fd = open(path, O_RDONLY | O_CLOEXEC); /* opening a file makes a network file system ask the server again */
    bool known = fd >= 0 && fstat(fd, &info) == 0;
    if (known)
        *when = info.st_mtim;
    if (fd >= 0)
        close(fd);
    return known;
}

/* Watches the lock of a process on another host: STATUS_OK if it has not been touched for run_lock_stale_s. */
static enum status wait_for_holder(const struct run_directory *run, const struct holder *holder)
{
    enum status status = STATUS_OK;
    struct timespec before, now, nap = { .tv_nsec = 100 * 1000 * 1000 };
    if (!modified(run->lock, &before))
        return status;
    log_info("%s is held by pid %ld on %s (job %s); waiting %.0f s to see whether it is alive", run->lock, holder->pid,
             holder->host, holder->job, run_lock_stale_s);
    for (double waited = 0; waited < run_lock_stale_s; waited += 0.1) {
        nanosleep(&nap, NULL);
        if (stop_requested())
            FAIL(STATUS_STOPPED, "%s: stopped while waiting for the lock", run->lock);
        if (!modified(run->lock, &now))
            return status;
        if (now.tv_sec != before.tv_sec || now.tv_nsec != before.tv_nsec)
            return refuse_holder(run, holder);
    }
fail:
    return status;
}

/* Takes over the lock of the process that the file names if that has ended; refuses to if it lives. */
static enum status check_former_holder(struct run_directory *run, bool kernel_lock)
{
    enum status status = STATUS_OK;
    struct holder holder, self;
    if (!read_holder(run->fd, &holder))
        return status;
    describe_self(&self);
    bool here = strcmp(holder.host, self.host) == 0;
    bool former = strcmp(holder.job, "none") != 0 && strcmp(holder.job, self.job) == 0 && holder.restart < self.restart;
    bool alive = holder.pid > 0 && holder.pid != self.pid && (kill((pid_t)holder.pid, 0) == 0 || errno == EPERM);
    if (here && !kernel_lock && alive)
        return refuse_holder(run, &holder);
    if (!here && !former)
        TRY(wait_for_holder(run, &holder));
    log_info("%s: taken over from pid %ld on %s (job %s), which has ended", run->lock, holder.pid, holder.host,
             holder.job);
fail:
    return status;
}

static void *touch_lock(void *argument)
{
    struct run_directory *run = argument;
    pthread_mutex_lock(&run->mutex);
    while (!run->ending) {
        struct timespec until = clock_deadline(run_lock_touch_s);
        pthread_cond_timedwait(&run->wake, &run->mutex, &until);
        futimens(run->fd, NULL);
    }
    pthread_mutex_unlock(&run->mutex);
    return NULL;
}

static enum status start_touching(struct run_directory *run)
{
    pthread_mutex_init(&run->mutex, NULL);
    clock_condition_init(&run->wake);
    int error = thread_start(&run->toucher, touch_lock, run);
    if (error)
        return status_report(STATUS_IO, __FILE__, __LINE__, "%s: cannot start a thread: %s", run->lock,
                             strerror(error));
    run->touching = true;
    return STATUS_OK;
}

static void remove_lock_at_exit(void)
{
    if (current && current->owner == getpid())
        unlinkat(current->folder, "lock", 0);
}

enum status run_directory_open(struct run_directory **out, const char *directory)
{
    static bool registered;
    enum status status = STATUS_OK;
    bool kernel_lock = false;
    struct run_directory *run = calloc(1, sizeof *run);
    if (!run)
        return status_report(STATUS_NOMEM, __FILE__, __LINE__, "out of memory");
    run->fd = run->folder = -1;
    if (snprintf(run->directory, PATH_MAX, "%s", directory) >= PATH_MAX ||
        snprintf(run->lock, PATH_MAX, "%s/lock", directory) >= PATH_MAX)
        FAIL(STATUS_IO, "%.200s...: name too long", directory);
    run->created = !file_exists(directory);
    TRY(file_make_folders(directory));
    run->folder = open(directory, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (run->folder < 0)
        FAIL(STATUS_IO, "%s: %s", directory, strerror(errno));
    TRY(open_lock(run, &kernel_lock));
    TRY(check_former_holder(run, kernel_lock));
    TRY(write_holder(run));
    run->owner = getpid();
    TRY(start_touching(run));
    current = run;
    if (!registered)
        atexit(remove_lock_at_exit);
    registered = true;
    *out = run;
    return status;
fail:
    if (run->owner) /* the lock was taken, but nothing would touch it */
        unlink(run->lock);
    if (run->fd >= 0)
        close(run->fd);
    if (run->folder >= 0)
        close(run->folder);
    free(run);
    return status;
}

void run_directory_close(struct run_directory *run)
{
    if (!run)
        return;
    if (run->touching) {
        pthread_mutex_lock(&run->mutex);
        run->ending = true;
        pthread_cond_signal(&run->wake);
        pthread_mutex_unlock(&run->mutex);
        pthread_join(run->toucher, NULL);
    }
    if (run->owner == getpid()) {
        unlinkat(run->folder, "lock", 0);
        if (run->created)
            rmdir(run->directory);
    }
    close(run->fd);
    close(run->folder);
    pthread_mutex_destroy(&run->mutex);
    pthread_cond_destroy(&run->wake);
    if (current == run)
        current = NULL;
    free(run);
}

void run_directory_check(struct run_directory *run)
{
    char link[64], now[PATH_MAX] = "";
    struct stat ours, named;
    if (run->missing || fstat(run->folder, &ours) != 0)
        return;
    bool there = stat(run->directory, &named) == 0;
    if ((there && ours.st_ino == named.st_ino && ours.st_dev == named.st_dev) || (!there && errno != ENOENT))
        return;
    run->missing = true;
    snprintf(link, sizeof link, "/proc/self/fd/%d", run->folder);
    ssize_t length = readlink(link, now, sizeof now - 1);
    if (ours.st_nlink && length > 0)
        log_warn(
            "%s was moved to %.*s while training: metrics.jsonl is continued there, later checkpoints go into a new %s",
            run->directory, (int)length, now, run->directory);
    else
        log_warn("%s was removed while training: its metrics.jsonl is lost, later checkpoints go into a new %s",
                 run->directory, run->directory);
}

const char *run_directory_path(const struct run_directory *run)
{
    return run->directory;
}

void run_directory_file(const struct run_directory *run, const char *name, char path[PATH_MAX])
{
    snprintf(path, PATH_MAX, "%s/%s", run->directory, name);
}
