/* test_run_directory.c - a run has one writer: a living one is respected, a dead one succeeded. Also metrics with torn
 * lines, requests to stop, and the progress bar. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>

#include "base/log.h"
#include "tests/check.h"
#include "tests/trainer/folder.h"
#include "trainer/report/metrics.h"
#include "trainer/report/progress.h"
#include "trainer/train/run_directory.h"
#include "trainer/train/stop.h"

static char directory[128], lock[160];

/* Starts a child that takes the lock, and then waits to be killed (how 0), or ends by exit() (1) or _exit() (2). */
static pid_t holder(int how)
{
    int ready[2];
    char byte;
    if (pipe(ready) != 0)
        abort();
    fflush(stdout);
    pid_t child = fork();
    if (child == 0) {
        struct run_directory *run;
        if (run_directory_open(&run, directory) != STATUS_OK || write(ready[1], "x", 1) != 1)
            _exit(1);
        if (how == 1)
            exit(0);
        if (how == 2)
            _exit(0);
        for (;;)
            pause();
    }
    close(ready[1]);
    CHECK(read(ready[0], &byte, 1) == 1, "the child has no lock");
    close(ready[0]);
    return child;
}

static void check_lock(void)
{
    struct run_directory *run = NULL, *second = NULL;
    char expected[64], path[PATH_MAX];
    snprintf(directory, sizeof directory, "%s/run", folder_root);
    snprintf(lock, sizeof lock, "%s/lock", directory);
    CHECK(run_directory_open(&run, directory) == STATUS_OK, "%s", status_message());
    CHECK(strstr(file_get(lock), "host ") && strstr(file_get(lock), "\npid ") && strstr(file_get(lock), "\njob "), "%s",
          file_get(lock));
    CHECK(run_directory_open(&second, directory) == STATUS_USAGE, "a second writer in the same process");
    run_directory_file(run, "metrics.jsonl", path);
    CHECK(strncmp(path, directory, strlen(directory)) == 0 && strcmp(run_directory_path(run), directory) == 0, "%s",
          path);
    run_directory_close(run);
    CHECK(!path_exists(lock), "let go");

    pid_t child = holder(0);
    CHECK(run_directory_open(&second, directory) == STATUS_USAGE, "a second writer");
    snprintf(expected, sizeof expected, "is being written by pid %ld on ", (long)child);
    CHECK(strstr(status_message(), expected), "%s", status_message());
    kill(child, SIGKILL);
    waitpid(child, NULL, 0);
    CHECK(path_exists(lock), "a killed holder leaves its lock");
    CHECK(run_directory_open(&run, directory) == STATUS_OK, "%s", status_message());
    snprintf(expected, sizeof expected, "pid %ld\n", (long)getpid());
    CHECK(strstr(file_get(lock), expected), "%s", file_get(lock));
    run_directory_close(run);

    waitpid(holder(1), NULL, 0);
    CHECK(!path_exists(lock), "exit() lets go");
    waitpid(holder(2), NULL, 0);
    CHECK(path_exists(lock) && run_directory_open(&run, directory) == STATUS_OK, "%s", status_message());
    run_directory_close(run);
    file_put(lock, "nonsense\x01", 9);
    CHECK(run_directory_open(&run, directory) == STATUS_OK, "a lock that names nobody: %s", status_message());
    run_directory_close(run);
}

/* run_directory_check warns once if the directory was moved or removed. Another run that has taken the name keeps its
 * lock. */
static void check_moved(void)
{
    char moved[160], text[1024];
    for (int removed = 0; removed < 2; removed++) {
        struct run_directory *run = NULL;
        int ends[2], error = dup(STDERR_FILENO);
        snprintf(moved, sizeof moved, "%s/moved%d", folder_root, removed);
        CHECK(pipe(ends) == 0 && run_directory_open(&run, directory) == STATUS_OK, "%s", status_message());
        dup2(ends[1], STDERR_FILENO);
        run_directory_check(run);
        if (removed) {
            unlink(lock);
            rmdir(directory);
        } else {
            rename(directory, moved);
            mkdir(directory, 0777);
            file_put(lock, "other", 5);
        }
        run_directory_check(run);
        run_directory_check(run);
        dup2(error, STDERR_FILENO);
        close(ends[1]);
        ssize_t length = read(ends[0], text, sizeof text - 1);
        text[length < 0 ? 0 : length] = 0;
        CHECK(strstr(text, removed ? "was removed" : moved) && strchr(text, '\n') == strrchr(text, '\n'), "%s", text);
        close(ends[0]);
        close(error);
        run_directory_close(run);
        CHECK(removed || strcmp(file_get(lock), "other") == 0, "another run's lock is gone");
        snprintf(text, sizeof text, "%s/lock", moved);
        CHECK(!path_exists(text), "its own lock stays");
        unlink(lock);
    }
    mkdir(directory, 0777);
}

static double seconds_since(const struct timespec *start)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)(now.tv_sec - start->tv_sec) + (double)(now.tv_nsec - start->tv_nsec) * 1e-9;
}

static void check_other_host(void)
{
    static const char foreign[] = "host elsewhere\npid 1\njob 5 restart 0\n";
    struct run_directory *run = NULL;
    struct timespec start;
    run_lock_touch_s = 0.2;
    run_lock_stale_s = 1.5;
    file_put(lock, foreign, sizeof foreign - 1);
    clock_gettime(CLOCK_MONOTONIC, &start);
    CHECK(run_directory_open(&run, directory) == STATUS_OK, "%s", status_message());
    CHECK(seconds_since(&start) >= 1.4, "taken over after only %.2f s", seconds_since(&start));
    struct stat before, after;
    stat(lock, &before);
    usleep(600000);
    stat(lock, &after);
    CHECK(before.st_mtim.tv_sec != after.st_mtim.tv_sec || before.st_mtim.tv_nsec != after.st_mtim.tv_nsec,
          "no sign of life");
    run_directory_close(run);

    file_put(lock, foreign, sizeof foreign - 1);
    fflush(stdout);
    pid_t child = fork(); /* touches the lock without the kernel's lock, as a process on another host */
    if (child == 0) {
        for (int i = 0; i < 100; i++) {
            usleep(200000);
            utimensat(AT_FDCWD, lock, NULL, 0);
        }
        _exit(0);
    }
    CHECK(run_directory_open(&run, directory) == STATUS_USAGE && strstr(status_message(), "pid 1 on elsewhere (job 5)"),
          "%s", status_message());
    kill(child, SIGKILL);
    waitpid(child, NULL, 0);

    setenv("SLURM_JOB_ID", "5", 1); /* the same job, started again elsewhere */
    setenv("SLURM_RESTART_COUNT", "1", 1);
    run_lock_stale_s = 1000;
    file_put(lock, foreign, sizeof foreign - 1);
    CHECK(run_directory_open(&run, directory) == STATUS_OK, "%s", status_message());
    CHECK(strstr(file_get(lock), "job 5 restart 1\n"), "%s", file_get(lock));
    run_directory_close(run);
    unsetenv("SLURM_JOB_ID");
    unsetenv("SLURM_RESTART_COUNT");
}

static void check_metrics(void)
{
    struct metrics *metrics = NULL;
    char path[128];
    const double numbers[] = { 1, 0.5, INFINITY };
    snprintf(path, sizeof path, "%s/metrics.jsonl", folder_root);
    CHECK(metrics_open(&metrics, path) == STATUS_OK, "%s", status_message());
    CHECK(metrics_write(metrics, "step", METRIC_INT("step", 20), METRIC_NUMBER("loss", 2.302585124969482),
                        METRIC_NUMBER("lr", 1e-5), METRIC_NUMBER("bad", NAN)) == STATUS_OK,
          "%s", status_message());
    CHECK(metrics_write(metrics, "a\"b", METRIC_TEXT("path", "x\\y\n\xff\xc3\xa9"), METRIC_TEXT("none", NULL),
                        METRIC_BOOL("ok", true), METRIC_NUMBERS("list", numbers, 3)) == STATUS_OK,
          "%s", status_message());
    metrics_close(metrics);
    static const char whole[] = "{\"event\":\"step\",\"step\":20,\"loss\":2.30258512,\"lr\":1e-05,\"bad\":null}\n"
                                "{\"event\":\"a\\\"b\",\"path\":\"x\\\\y\\u000a\\ufffd\xc3\xa9\",\"none\":null,\"ok\":"
                                "true,\"list\":[1,0.5,null]}\n";
    CHECK(strcmp(file_get(path), whole) == 0, "%s", file_get(path));

    const struct {
        const char *tail, *kept;
        size_t bytes;
    } torn[] = {
        { "", "", 0 },         { "{\"event\":\"st", "", 12 },
        { "{", "", 1 },        { "{\"event\":\"step\"}", "{\"event\":\"step\"}\n", 16 },
        { "\0\0\0\0", "", 4 }, { "garbage", "", 7 },
        { "12", "", 2 },
    };
    for (size_t i = 0; i < sizeof torn / sizeof torn[0]; i++) {
        char text[1024], expected[1024];
        memcpy(text, whole, sizeof whole - 1);
        memcpy(text + sizeof whole - 1, torn[i].tail, torn[i].bytes);
        file_put(path, text, sizeof whole - 1 + torn[i].bytes);
        CHECK(metrics_open(&metrics, path) == STATUS_OK &&
                  metrics_write(metrics, "end", METRIC_INT("x", 1)) == STATUS_OK,
              "%s", status_message());
        metrics_close(metrics);
        snprintf(expected, sizeof expected, "%s%s{\"event\":\"end\",\"x\":1}\n", whole, torn[i].kept);
        CHECK(strcmp(file_get(path), expected) == 0, "case %zu:\n%s", i, file_get(path));
    }
    file_put(path, "{\"ev", 4); /* a torn only line */
    CHECK(metrics_open(&metrics, path) == STATUS_OK && file_get(path)[0] == 0, "%s", file_get(path));

    struct rlimit before, limit;
    signal(SIGXFSZ, SIG_IGN);
    getrlimit(RLIMIT_FSIZE, &before);
    limit = before;
    limit.rlim_cur = 50;
    CHECK(metrics_write(metrics, "first", METRIC_INT("x", 1)) == STATUS_OK, "%s", status_message());
    setrlimit(RLIMIT_FSIZE, &limit);
    enum status full = metrics_write(metrics, "second", METRIC_INT("a", 123456789), METRIC_INT("b", 123456789));
    setrlimit(RLIMIT_FSIZE, &before);
    CHECK(full == STATUS_IO && strcmp(file_get(path), "{\"event\":\"first\",\"x\":1}\n") == 0, "%d %s", full,
          file_get(path));
    metrics_close(metrics);
}

/* Sends signals to a child; 0 stands for a pause that is longer than a keystroke. Returns its exit status, or minus the
 * signal that ended it. */
static int signalled(const int *numbers, int count)
{
    int how;
    fflush(stdout);
    pid_t child = fork();
    if (child == 0) {
        if (stop_install() != STATUS_OK || stop_requested() || stop_reason()[0])
            _exit(1);
        for (int i = 0; i < count; i++)
            numbers[i] ? raise(numbers[i]) : usleep(600000);
        char expected[16];
        snprintf(expected, sizeof expected, "SIG%s", sigabbrev_np(numbers[0]));
        _exit(stop_requested() && strcmp(stop_reason(), expected) == 0 ? 75 : 2);
    }
    waitpid(child, &how, 0);
    return WIFSIGNALED(how) ? -WTERMSIG(how) : WEXITSTATUS(how);
}

static void check_stop(void)
{
    signal(SIGUSR2, SIG_DFL); /* whoever started the tests may ignore them, as nohup does */
    signal(SIGXCPU, SIG_DFL);
    signal(SIGHUP, SIG_DFL);
    CHECK(signalled((int[]){ SIGUSR1 }, 1) == 75, "USR1");
    CHECK(signalled((int[]){ SIGTERM, SIGTERM }, 2) == 75, "TERM twice");
    CHECK(signalled((int[]){ SIGINT }, 1) == 75, "INT");
    CHECK(signalled((int[]){ SIGUSR1, SIGINT }, 2) == 75, "USR1, then INT");
    CHECK(signalled((int[]){ SIGINT, SIGINT }, 2) == 75, "one keystroke that comes twice");
    CHECK(signalled((int[]){ SIGINT, 0, SIGINT }, 3) == -SIGINT, "INT twice ends at once");
    CHECK(signalled((int[]){ SIGUSR1, SIGINT, 0, SIGINT }, 4) == -SIGINT, "INT twice after USR1");
    CHECK(signalled((int[]){ SIGUSR2 }, 1) == 75 && signalled((int[]){ SIGXCPU }, 1) == 75 &&
              signalled((int[]){ SIGHUP }, 1) == 75,
          "USR2, XCPU, HUP");
    signal(SIGHUP, SIG_IGN);
    CHECK(signalled((int[]){ SIGHUP }, 1) == 2, "nohup");
    CHECK(signalled((int[]){ SIGUSR1, SIGHUP }, 2) == 75, "USR1 under nohup");
    signal(SIGHUP, SIG_DFL);
    CHECK(!stop_requested(), "nobody asked yet");
    stop_request("--stop-after");
    CHECK(stop_requested() && strcmp(stop_reason(), "--stop-after") == 0, "%s", stop_reason());
}

/* Shows progress in a child whose standard output and error are `out` and `err`. */
static void run_progress(int out, int err)
{
    fflush(stdout);
    pid_t child = fork();
    if (child == 0) {
        struct progress *progress;
        struct progress_metrics numbers = { 1.41234, 0.1, 2314.4, 0.012 };
        dup2(out, STDOUT_FILENO);
        dup2(err, STDERR_FILENO);
        setenv("TERM", "xterm", 1);
        if (progress_create(&progress, 0, 780, 390) != STATUS_OK)
            _exit(1);
        progress_step(progress, 1);
        progress_report(progress, 400, &numbers);
        progress_phase(progress, "evaluating", 0, 4);
        progress_phase(progress, "evaluating", 1, 4); /* too soon to draw */
        progress_phase(progress, "evaluating", 4, 4);
        log_info("a line");
        progress_destroy(progress);
        _exit(0);
    }
    waitpid(child, NULL, 0);
}

static size_t drain(int fd, char *out, size_t capacity)
{
    size_t length = 0;
    fcntl(fd, F_SETFL, O_NONBLOCK);
    for (ssize_t got; length < capacity - 1 && (got = read(fd, out + length, capacity - 1 - length)) > 0;)
        length += (size_t)got;
    out[length] = 0;
    return length;
}

static void check_progress(void)
{
    char text[4096];
    int ends[2];
    if (pipe(ends) != 0)
        abort();
    run_progress(ends[1], ends[1]);
    drain(ends[0], text, sizeof text);
    CHECK(strncmp(text, "epoch 2/2  step 400/780  loss 1.4123  lr 0.1  2314 img/s  wait 1%  ETA 0:00:0", 75) == 0, "%s",
          text);
    CHECK(strstr(text, "\na line\n") && !strchr(text, '\r') && !strchr(text, '\033') && !strstr(text, "evaluating"),
          "%s", text);

    int terminal = posix_openpt(O_RDWR | O_NOCTTY);
    CHECK(terminal >= 0 && grantpt(terminal) == 0 && unlockpt(terminal) == 0, "no terminal: %s", strerror(errno));
    int slave = open(ptsname(terminal), O_RDWR | O_NOCTTY);
    CHECK(slave >= 0, "no terminal: %s", strerror(errno));
    run_progress(slave, slave);
    drain(terminal, text, sizeof text);
    CHECK(strstr(text, "\repoch 2/2 [============>           ] 400/780"), "%s", text);
    CHECK(strstr(text, "\revaluating [>                       ] 0/4") && !strstr(text, "1/4"), "%s", text);
    CHECK(strstr(text, "\revaluating [========================] 4/4"), "%s", text);
    CHECK(strstr(text, "\r\033[Ka line\r\n"), "the bar steps aside: %s", text);
    close(slave);
    close(terminal);
}

int main(void)
{
    folder_make();
    check_lock();
    check_moved();
    check_other_host();
    check_metrics();
    check_stop();
    check_progress();
    folder_remove();
    return check_done("run");
}
