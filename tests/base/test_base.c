/* test_base.c - command lines, affinity, status, random numbers, arena, choices, files, log and control groups. */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/affinity.h"
#include "base/arena.h"
#include "base/cgroup.h"
#include "base/file.h"
#include "base/hash.h"
#include "base/integer.h"
#include "base/log.h"
#include "base/memory.h"
#include "base/options.h"
#include "base/philox.h"
#include "base/thread.h"
#include "base/tuned.h"
#include "tests/check.h"

static enum status inner(void)
{
    enum status status = STATUS_OK;
    FAIL(STATUS_DATA, "block %d", 7);
fail:
    return status;
}

static enum status outer(void)
{
    enum status status = STATUS_OK;
    TRY(inner());
fail:
    return status;
}

static void check_status(void)
{
    CHECK(outer() == STATUS_DATA, "code not passed on");
    CHECK(strcmp(status_message(), "block 7") == 0, "%s", status_message());
    CHECK(strncmp(status_origin(), "tests/base/test_base.c:", 23) == 0, "%s", status_origin());
    struct status_record record;
    status_save(&record);
    status_clear();
    CHECK(status_code() == STATUS_OK, "not cleared");
    CHECK(status_restore(&record) == STATUS_DATA && strcmp(status_message(), "block 7") == 0, "not restored");
}

/* Known answers of Random123 (kat_vectors, philox4x32 10). */
static void check_philox(void)
{
    uint32_t out[4];
    philox4x32((uint32_t[]){ 0, 0, 0, 0 }, (uint32_t[]){ 0, 0 }, out);
    CHECK(out[0] == 0x6627e8d5 && out[1] == 0xe169c58d && out[2] == 0xbc57ac4c && out[3] == 0x9b00dbd8, "zeros");
    philox4x32((uint32_t[]){ ~0u, ~0u, ~0u, ~0u }, (uint32_t[]){ ~0u, ~0u }, out);
    CHECK(out[0] == 0x408f276d && out[1] == 0x41c83b0e && out[2] == 0xa20bc7c6 && out[3] == 0x6d5451fd, "ones");
    philox4x32((uint32_t[]){ 0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344 }, (uint32_t[]){ 0xa4093822, 0x299f31d0 },
               out);
    CHECK(out[0] == 0xd16cfe09 && out[1] == 0x94fdcceb && out[2] == 0x5001e420 && out[3] == 0x24126ea1, "pi");

    struct philox stream;
    philox_init(&stream, 5, PHILOX_DOMAIN_INIT, 3);
    double sum = 0, squares = 0;
    int counts[7] = { 0 };
    enum { DRAWS = 70000 };
    for (int i = 0; i < DRAWS; i++) {
        double v = philox_normal(&stream);
        sum += v;
        squares += v * v;
        counts[philox_below(&stream, 7)]++;
    }
    CHECK(fabs(sum / DRAWS) < 0.02 && fabs(squares / DRAWS - 1) < 0.03, "mean %g square %g", sum / DRAWS,
          squares / DRAWS);
    for (int i = 0; i < 7; i++)
        CHECK(abs(counts[i] - DRAWS / 7) < 500, "%d draws of %d", counts[i], i);
}

/* A message is one line of printable UTF-8, whatever is in it. */
static void check_plain(void)
{
    static const char *const pairs[][2] = {
        { "caf\xc3\xa9 \xf0\x9f\x90\x9d", "caf\xc3\xa9 \xf0\x9f\x90\x9d" },
        { "a\nb\x1b[31m\x7f", "a?b?[31m?" },
        { "caf\xe9", "caf?" },
        { "\xc0\x80\xf5", "???" },
        { "a\xc2\x9b", "a??" },
        { "\xe2\x82", "??" },
        { "", "" },
    };
    for (size_t i = 0; i < sizeof pairs / sizeof *pairs; i++) {
        char text[32];
        strcpy(text, pairs[i][0]);
        status_sanitize(text);
        CHECK(!strcmp(text, pairs[i][1]), "%zu: %s", i, text);
        status_report(STATUS_DATA, __FILE__, __LINE__, "%s", pairs[i][0]);
        CHECK(!strcmp(status_message(), pairs[i][1]), "%zu: %s", i, status_message());
    }
    status_clear();
}

static void check_arena(void)
{
    struct arena arena = { 0 };
    CHECK(!arena_take(&arena, 1) && !arena_take(&arena, 100), "memory while measuring");
    CHECK(arena.used == 192, "%zu bytes", arena.used);
    CHECK(arena_allocate(&arena) == STATUS_OK, "allocate");
    char *first = arena_take(&arena, 1), *second = arena_take(&arena, 100);
    CHECK(second - first == ARENA_ALIGN && (uintptr_t)first % ARENA_ALIGN == 0, "not carved");
    arena_finish(&arena);
    arena_finish(&arena);
}

static enum status count_letters(void *context, const char *text)
{
    *(int *)context += (int)strlen(text);
    return STATUS_OK;
}

static void check_options(void)
{
    static const char *const names[] = { "low", "high", NULL };
    static const char help[] =
        "usage\n\n  --all             .\n  --count N         .\n  --long N          .\n"
        "  --number X        .\n  --level low|high  .\n  --key VALUE       .\n  --text=TEXT       .\n"
        "  --letters TEXT    .\n";
    static const struct {
        const char *argument, *says;
    } bad[] = {
        { "--hidden", "x has no option --hidden; see x --help" },
        { "--frob", "x has no option --frob; see x --help" },
        { "--help", "x has no option --help; see x --help" },
        { "--count", "--count needs a value; see x --help" },
        { "--count=9", "--count 9: must be an integer between 1 and 8" },
        { "--count= 3", "--count  3: must be an integer between 1 and 8" },
        { "--number=nan", "--number nan: must be a number between 0.5 and 2" },
        { "--level=middle", "--level middle: must be low or high" },
    };
    bool all = false, hidden = false;
    int count = 0, level = 0, letters = 0, first;
    int64_t large = 0;
    double number = 0;
    const char *text = NULL;
    char setting[OPTION_SETTING_BYTES];
    const struct option_row rows[] = {
        { "all", .on = &all },
        { "hidden", .on = &hidden },
        { "count", .integer = &count, .low = 1, .high = 8 },
        { "long", .integer64 = &large, .low = 0, .high = 0x1p63 },
        { "number", .number = &number, .low = 0.5, .high = 2 },
        { "level", .choice = &level, .names = names },
        { "key", .setting = setting, .key = "a.b" },
        { "text", .text = &text },
        { "letters", .parse = count_letters },
        { .name = NULL },
    };
    char *good[] = { "x",        "operand",   "--all",   "--count=8", "--long",  "9223372036854775807",
                     "--number", "2",         "--level", "high",      "--key=5", "--text",
                     "t",        "--letters", "abc",     "--letters", "de",      NULL };
    optind = 1;
    CHECK(options_parse(rows, &letters, 17, good, "x", help, &first, NULL) == STATUS_OK && first == 16, "%s",
          status_message());
    CHECK(all && count == 8 && large == INT64_MAX && number == 2 && level == 1 && letters == 5, "values");
    CHECK(!strcmp(setting, "a.b=5") && !strcmp(text, "t"), "%s, %s", setting, text);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        char *arguments[] = { "x", (char *)bad[i].argument, NULL };
        optind = 1;
        CHECK(options_parse(rows, &letters, 2, arguments, "x", help, &first, NULL) == STATUS_USAGE &&
                  !strcmp(status_message(), bad[i].says),
              "%s: %s", bad[i].argument, status_message());
    }
    char *version[] = { "x", "--version", "--frob", NULL };
    bool done = false;
    optind = 1;
    CHECK(options_parse(rows, &letters, 3, version, "x", help, &first, &done) == STATUS_OK && done, "--version");
    optind = 1;
}

static void check_memory(void)
{
    int *array = NULL;
    size_t capacity = 0;
    for (int i = 0; i < 100; i++) {
        CHECK(array_grow(&array, &capacity, (size_t)i + 1, sizeof *array) == STATUS_OK, "%s", status_message());
        array[i] = i;
    }
    CHECK(array[0] == 0 && array[99] == 99 && capacity == 128, "%zu items", capacity);
    int *before = array;
    CHECK(array_grow(&array, &capacity, SIZE_MAX / 8, sizeof *array) == STATUS_NOMEM && array == before, "too many");
    free(array);
}

static void *blocked_signals(void *context)
{
    sigset_t set;
    pthread_sigmask(SIG_SETMASK, NULL, &set);
    atomic_fetch_add((atomic_int *)context, sigismember(&set, SIGINT) && sigismember(&set, SIGTERM));
    return NULL;
}

static void check_threads(void)
{
    struct threads threads = { 0 };
    atomic_int blocked = 0;
    sigset_t set;
    threads_join(&threads);
    CHECK(threads_start(&threads, 3, blocked_signals, &blocked) == 3, "%d started", threads.count);
    threads_join(&threads);
    pthread_sigmask(SIG_SETMASK, NULL, &set);
    CHECK(blocked == 3 && !sigismember(&set, SIGINT), "%d threads have blocked the signals", blocked);
    CHECK(ceil_div(7, 3) == 3 && ceil_div(6, 3) == 2 && round_up(0, 64) == 0 && round_up(65, 64) == 128, "rounding");
}

static void check_files(void)
{
    char folder[] = "/tmp/csc-base-XXXXXX", path[128], deep[128];
    CHECK(mkdtemp(folder) != NULL, "mkdtemp");
    snprintf(deep, sizeof deep, "%s/a/b", folder);
    CHECK(file_make_folders(deep) == STATUS_OK && file_is_folder(deep), "%s", status_message());
    snprintf(path, sizeof path, "%s/file", deep);
    CHECK(file_write(path, "abc", 3) == STATUS_OK, "%s", status_message());
    char *data = NULL;
    size_t bytes = 0;
    CHECK(file_read(path, 3, &data, &bytes) == STATUS_OK && bytes == 3 && !strcmp(data, "abc"), "read back");
    free(data);
    CHECK(file_read(path, 2, &data, &bytes) == STATUS_DATA, "limit ignored");
    CHECK(file_read(deep, 9, &data, &bytes) == STATUS_IO, "read a folder");
    int fd = open(path, O_RDWR);
    char part[8] = "";
    CHECK(file_read_at(fd, part, sizeof part, 1) == 2 && !memcmp(part, "bc", 2), "the file's end");
    CHECK(file_read_at(fd, part, 1, 3) == 0 && file_read_at(-1, part, 1, 0) == -1 && errno == EBADF, "nothing");
    CHECK(file_write_at(fd, "c", 1, 2) && !file_write_at(-1, "c", 1, 2) && !file_write_all(-1, "c", 1), "written");
    close(fd);
    uint64_t hash, length;
    CHECK(hash_file(path, &hash, &length) == STATUS_OK && hash == 0x44bc2cf5ad770999 && length == 3, "XXH64(abc)");
    CHECK(hash_bytes("abc", 3) == hash, "hashes differ");
    char text[17];
    hash_text(10, text);
    CHECK(!strcmp(text, "000000000000000a"), "%s", text);
    unlink(path);
    CHECK(mkfifo(path, 0600) == 0, "mkfifo"); /* nobody writes into it */
    CHECK(file_read(path, 9, &data, &bytes) == STATUS_IO && strstr(status_message(), "not a regular file"), "a pipe");
    CHECK(hash_file(path, &hash, &length) == STATUS_IO, "hashed a pipe");
    CHECK(file_is_inside(path, folder, NULL) && file_is_inside(path, folder, "a") &&
              file_is_inside(folder, folder, "."),
          "inside");
    snprintf(text, sizeof text, "%s", "x");
    CHECK(!file_is_inside(folder, deep, NULL) && !file_is_inside(text, folder, NULL), "not inside");
    CHECK(!file_is_inside("/tmp", folder, NULL), "above is not inside");
    CHECK(file_write("/nonexistent/x", "", 0) == STATUS_IO, "wrote nowhere");
    unlink(path);
    rmdir(deep);
    snprintf(deep, sizeof deep, "%s/a", folder);
    rmdir(deep);
    CHECK(rmdir(folder) == 0, "left something behind");
}

/* Output goes into pipes and descriptors and through links; only regular files are replaced. */
static void check_outputs(void)
{
    char folder[] = "/tmp/csc-base-XXXXXX", path[128], link[128], text[16] = "", *data = NULL;
    struct stat info;
    size_t bytes = 0;
    int ends[2];
    CHECK(mkdtemp(folder) != NULL && pipe(ends) == 0, "a folder and a pipe");
    snprintf(path, sizeof path, "%s/target", folder);
    snprintf(link, sizeof link, "%s/link", folder);
    CHECK(symlink("target", link) == 0, "a link to nowhere");
    for (int round = 0; round < 2; round++) { /* first the target is created, then replaced */
        CHECK(file_write_output(link, "abc", 3) == STATUS_OK, "%s", status_message());
        CHECK(lstat(link, &info) == 0 && S_ISLNK(info.st_mode), "the link is gone");
        CHECK(file_read(path, 3, &data, &bytes) == STATUS_OK && bytes == 3, "%s", status_message());
        free(data);
    }
    unlink(link);
    CHECK(mkfifo(link, 0600) == 0, "mkfifo");
    int reader = open(link, O_RDONLY | O_NONBLOCK);
    CHECK(file_write_output(link, "abc", 3) == STATUS_OK && read(reader, text, 16) == 3, "%s", status_message());
    CHECK(lstat(link, &info) == 0 && S_ISFIFO(info.st_mode), "the pipe is gone");
    static const char *const forms[] = { "/dev/fd/%d", "/proc/self/fd/%d" };
    for (int i = 0; i < 2; i++) {
        snprintf(link, sizeof link, forms[i], ends[1]);
        CHECK(file_write_output(link, "abc", 3) == STATUS_OK && read(ends[0], text, 16) == 3, "%s", status_message());
    }
    int appended = open(path, O_WRONLY | O_APPEND); /* a descriptor of a regular file: its content stays */
    snprintf(link, sizeof link, "/dev/fd/%d", appended);
    CHECK(file_write_output(link, "def", 3) == STATUS_OK && file_read(path, 9, &data, &bytes) == STATUS_OK &&
              bytes == 6,
          "%s", status_message());
    free(data);
    CHECK(file_write_output("/dev/full", "abc", 3) == STATUS_IO, "written to a full device");
    CHECK(file_write_output(folder, "abc", 3) == STATUS_IO, "written to a folder");
    close(ends[0]);
    close(ends[1]);
    close(reader);
    close(appended);
    unlink(path);
    snprintf(link, sizeof link, "%s/link", folder);
    unlink(link);
    CHECK(rmdir(folder) == 0, "left something behind");
}

/* Runs a program that writes two lines, as a log or as results, to the descriptor `out` (-1: closed). Returns its exit
 * code and what it wrote to standard error. */
static int two_lines(bool results, int out, char errors[512])
{
    int ends[2], how;
    if (pipe(ends) != 0)
        abort();
    fflush(stdout);
    pid_t child = fork();
    if (child == 0) {
        out < 0 ? close(STDOUT_FILENO) : dup2(out, STDOUT_FILENO);
        dup2(ends[1], STDERR_FILENO);
        log_init("test", 0, 1);
        if (results)
            log_stdout_is_results();
        log_info("first");
        log_info("second");
        enum status status = log_finish(STATUS_OK);
        if (status != STATUS_OK)
            log_failure();
        _exit(status);
    }
    close(ends[1]);
    ssize_t length = read(ends[0], errors, 511);
    errors[length < 0 ? 0 : length] = 0;
    close(ends[0]);
    waitpid(child, &how, 0);
    return WIFSIGNALED(how) ? -WTERMSIG(how) : WEXITSTATUS(how);
}

static void check_lost_lines(void)
{
    char errors[512];
    int ends[2], full = open("/dev/full", O_WRONLY);
    CHECK(full >= 0 && pipe(ends) == 0, "a full device and a pipe");
    CHECK(two_lines(true, ends[1], errors) == 0 && !errors[0], "%s", errors);
    close(ends[0]); /* the reader goes away */
    const int outputs[] = { full, ends[1], -1 };
    for (int i = 0; i < 3; i++) {
        CHECK(two_lines(false, outputs[i], errors) == 0, "a log: %s", errors);
        CHECK(strstr(errors, "warning: standard output: ") && strchr(errors, '\n') == strrchr(errors, '\n'), "%s",
              errors);
        CHECK(two_lines(true, outputs[i], errors) == STATUS_IO, "results: %s", errors);
        CHECK(strstr(errors, "error: standard output: ") && strchr(errors, '\n') == strrchr(errors, '\n'), "%s",
              errors);
    }
    close(full);
    close(ends[1]);
}

/* ---- limits of control groups, in folders that look like /proc and /sys/fs/cgroup ---- */

static char tree[] = "/tmp/csc-limits-XXXXXX";

static void put(const char *path, const char *text)
{
    char whole[256], folder[256];
    snprintf(whole, sizeof whole, "%s/%s", tree, path);
    snprintf(folder, sizeof folder, "%.*s", (int)(strrchr(whole, '/') - whole), whole);
    CHECK(file_make_folders(folder) == STATUS_OK, "%s", status_message());
    CHECK(file_write(whole, text, strlen(text)) == STATUS_OK, "%s", status_message());
}

static void check_cgroup_2(void)
{
    put("proc/self/cgroup", "0::/user.slice/job\n");
    put("proc/self/mountinfo", "22 1 0:20 / /sys rw - sysfs sysfs rw\n"
                               "30 22 0:27 / /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw,nsdelegate\n");
    CHECK(isinf(cgroup_cpus(tree)) && cgroup_memory(tree) == SIZE_MAX && cgroup_cpuset(tree) == 0, "no limits");
    put("sys/fs/cgroup/user.slice/job/cpu.max", "max 100000\n");
    put("sys/fs/cgroup/user.slice/job/memory.max", "max\n");
    put("sys/fs/cgroup/user.slice/job/memory.current", "1000\n");
    CHECK(isinf(cgroup_cpus(tree)) && cgroup_memory(tree) == SIZE_MAX, "max is none");
    put("sys/fs/cgroup/user.slice/job/cpu.max", "250000 100000\n");
    put("sys/fs/cgroup/user.slice/job/cpuset.cpus.effective", "0-3,8,10-11\n");
    put("sys/fs/cgroup/user.slice/job/memory.max", "1000000\n");
    put("sys/fs/cgroup/user.slice/job/memory.current", "700000\n");
    put("sys/fs/cgroup/user.slice/job/memory.stat",
        "anon 500000\nfile 200000\ninactive_file 150000\nactive_file 50000\n");
    CHECK(cgroup_cpus(tree) == 2.5 && cgroup_cpuset(tree) == 7, "%g of %d", cgroup_cpus(tree), cgroup_cpuset(tree));
    CHECK(cgroup_memory(tree) == 500000, "%zu: files are taken back", cgroup_memory(tree));
    put("sys/fs/cgroup/user.slice/cpu.max", "50000 100000\n");
    put("sys/fs/cgroup/user.slice/memory.max", "2000000\n");
    put("sys/fs/cgroup/user.slice/memory.current", "1900000\n");
    CHECK(cgroup_cpus(tree) == 0.5 && cgroup_memory(tree) == 100000, "a group above: %g, %zu", cgroup_cpus(tree),
          cgroup_memory(tree));
    put("sys/fs/cgroup/user.slice/memory.current", "2100000\n");
    CHECK(cgroup_memory(tree) == 0, "%zu: nothing is left", cgroup_memory(tree));
    put("proc/self/cgroup", "0::/../../elsewhere\n"); /* in a namespace: the mounted group counts */
    put("sys/fs/cgroup/cpu.max", "100000 100000\n");
    CHECK(cgroup_cpus(tree) == 1, "%g", cgroup_cpus(tree));
}

static void check_cgroup_1(void)
{
    put("proc/self/cgroup", "5:cpu,cpuacct:/docker/abc\n4:memory:/docker/abc\n3:cpuset:/docker/abc\n0::/docker/abc\n");
    put("proc/self/mountinfo", "31 22 0:28 /docker/abc /sys/fs/cgroup/cpu,cpuacct ro - cgroup cgroup rw,cpu,cpuacct\n"
                               "32 22 0:29 /docker/abc /sys/fs/cgroup/memory ro - cgroup cgroup rw,memory\n"
                               "33 22 0:29 / /sys/fs/cgroup/cpuset ro - cgroup cgroup rw,cpuset\n"
                               "34 22 0:27 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n");
    put("sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us", "-1\n");
    put("sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us", "50000\n");
    put("sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n");
    put("sys/fs/cgroup/memory/memory.usage_in_bytes", "700000\n");
    CHECK(isinf(cgroup_cpus(tree)) && cgroup_memory(tree) == SIZE_MAX, "%g, %zu", cgroup_cpus(tree),
          cgroup_memory(tree));
    put("sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us", "75000\n");
    put("sys/fs/cgroup/memory/memory.limit_in_bytes", "1000000\n");
    put("sys/fs/cgroup/memory/memory.stat", "inactive_file 1\nactive_file 1\ntotal_inactive_file 100000\n");
    put("sys/fs/cgroup/cpuset/docker/abc/cpuset.effective_cpus", "1\n");
    CHECK(cgroup_cpus(tree) == 1.5 && cgroup_memory(tree) == 400000 && cgroup_cpuset(tree) == 1, "%g, %zu, %d",
          cgroup_cpus(tree), cgroup_memory(tree), cgroup_cpuset(tree));
}

static void check_cgroup(void)
{
    char command[64];
    CHECK(mkdtemp(tree) != NULL, "mkdtemp");
    CHECK(isinf(cgroup_cpus(tree)) && cgroup_memory(tree) == SIZE_MAX && cgroup_cpuset(tree) == 0, "no /proc");
    check_cgroup_2();
    check_cgroup_1();
    snprintf(command, sizeof command, "rm -rf %s", tree);
    CHECK(system(command) == 0, "left something behind");
}

static void check_tuned(void)
{
    struct tuned *t = NULL, *copy = NULL;
    double number = 0;
    char long_key[TUNED_MAX_KEY + 2] = "";
    memset(long_key, 'k', sizeof long_key - 1);
    CHECK(tuned_create(&t) == STATUS_OK && tuned_create(&copy) == STATUS_OK, "create");
    CHECK(!tuned_get(t, "a") && !tuned_get(NULL, "a") && tuned_set(NULL, "a", "1") == STATUS_OK, "empty or none");
    CHECK(tuned_set(t, "b", "jit:3") == STATUS_OK && tuned_set(t, "a", "1.5") == STATUS_OK &&
              tuned_set(t, "c", "x") == STATUS_OK && tuned_set(t, "c", "y") == STATUS_OK,
          "set");
    CHECK(tuned_count(t) == 3 && strcmp(tuned_get(t, "c"), "y") == 0, "replaced");
    CHECK(tuned_get_number(t, "a", &number) && number == 1.5 && !tuned_get_number(t, "b", &number), "number");
    CHECK(tuned_set(t, "", "1") == STATUS_DATA && tuned_set(t, "a b", "1") == STATUS_DATA &&
              tuned_set(t, "a", "") == STATUS_DATA && tuned_set(t, "a=", "1") == STATUS_DATA &&
              tuned_set(t, long_key, "1") == STATUS_DATA,
          "out of form");
    char *text = tuned_print(t);
    CHECK(text && strcmp(text, "a=1.5\nb=jit:3\nc=y\n") == 0, "%s", text);
    CHECK(tuned_parse(copy, text, strlen(text)) == STATUS_OK && tuned_count(copy) == 3 &&
              strcmp(tuned_get(copy, "b"), "jit:3") == 0,
          "read back");
    CHECK(tuned_parse(copy, text, strlen(text) - 1) == STATUS_DATA && tuned_parse(copy, "a\n", 2) == STATUS_DATA &&
              tuned_parse(copy, "a\0=1\n", 5) == STATUS_DATA && tuned_parse(copy, "=1\n", 3) == STATUS_DATA,
          "damaged");
    free(text);
    for (int i = 0; i < TUNED_MAX_ENTRIES; i++) {
        char key[16];
        snprintf(key, sizeof key, "%d", i);
        tuned_set(t, key, "1");
    }
    CHECK(tuned_count(t) == TUNED_MAX_ENTRIES && tuned_set(t, "one-more", "1") == STATUS_DATA, "full");
    tuned_destroy(t);
    tuned_destroy(copy);
}

/* Two processes are bound to the halves of the cores, which together are all of them. */
static void check_affinity(void)
{
    int cores = affinity_cores(), sum = 0;
    CHECK(cores >= 1 && cores < 1 << 20, "%d cores", cores);
    bool whole = cores == sysconf(_SC_NPROCESSORS_ONLN) && cores < 500;
    for (int part = 0; part < 3; part++) {
        int status = 0;
        pid_t child = fork();
        if (child == 0) {
            if (part == 2)
                setenv("OMP_PROC_BIND", "FALSE", 1);
            int pinned = affinity_pin(part % 2, 2, 1);
            _exit(affinity_pin(0, 1, cores + 1) != 0 || (pinned && pinned != affinity_cores()) ? 255 : pinned);
        }
        waitpid(child, &status, 0);
        CHECK(WIFEXITED(status) && WEXITSTATUS(status) != 255, "part %d: status %d", part, status);
        CHECK(part < 2 || WEXITSTATUS(status) == 0, "OMP_PROC_BIND is not obeyed");
        sum += part < 2 ? WEXITSTATUS(status) : 0;
    }
    CHECK(sum == (whole && cores >= 4 ? cores : 0), "halves of %d and both %d cores", cores, sum);
}

/* Unexpanded paths are refused, but not those that only look like it. */
static void check_arguments(void)
{
    char *plain[] = { "csc", "run.dir=~/x",    "./~",          "a$", "a~", "-x", "--json",
                      "$",   "--lambda=0:1:5", "run.on=$HOME", NULL };
    static char *const refused[] = { "~",    "~/x",        "~user/x",    "$HOME/x", "/scratch/$USER",
                                     "${A}", "--json=~/x", "--out=/$X/y" };
    setenv("POSIXLY_CORRECT", "1", 1);
    CHECK(options_check(plain) == STATUS_OK && !getenv("POSIXLY_CORRECT"), "%s", status_message());
    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++) {
        char *words[] = { "csc", refused[i], NULL };
        CHECK(options_check(words) == STATUS_USAGE && strstr(status_message(), refused[i]), "%s", refused[i]);
    }
}

int main(void)
{
    check_arguments();
    check_affinity();
    check_status();
    check_philox();
    check_arena();
    check_tuned();
    check_plain();
    check_options();
    check_memory();
    check_threads();
    check_files();
    check_outputs();
    check_lost_lines();
    check_cgroup();
    return check_done("base");
}
