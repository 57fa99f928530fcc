/* test_checkpoint.c - checkpoints that were written open again, with the optimizer state in one file or in parts.
 * Damage in any file is found, and an older checkpoint is used instead. Retention keeps what it must. A full disk and a
 * killed writer leave older checkpoints intact. */
#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>

#include "base/hash.h"
#include "tests/check.h"
#include "tests/trainer/folder.h"
#include "trainer/checkpoint/checkpoint_internal.h"
#include "trainer/checkpoint/checkpoint_writer.h"

static const char *const names[] = { "model.safetensors", "optimizer.safetensors", "state.json", "config.yaml",
                                     "MANIFEST" };
static char run[PATH_MAX];

static void new_run(const char *name)
{
    snprintf(run, sizeof run, "%s/%s", folder_root, name);
}

static const char *step_path(int64_t step)
{
    static char path[4][PATH_MAX];
    static int next;
    char *out = path[next++ % 4];
    snprintf(out, PATH_MAX, "%.3000s/checkpoints/step-%08lld", run, (long long)step);
    return out;
}

static const char *in_step(int64_t step, const char *name)
{
    static char path[4][PATH_MAX];
    static int next;
    char *out = path[next++ % 4];
    snprintf(out, PATH_MAX, "%.3500s/%s", step_path(step), name);
    return out;
}

/* Writes a checkpoint whose weights are step + version. */
static enum status write_version(int64_t step, double top1, float version)
{
    float weights[256], momentum[3] = { 1, 2, 3 };
    char path[PATH_MAX];
    for (int i = 0; i < 256; i++)
        weights[i] = (float)step + version;
    struct safetensor model = { "linear.weight", SAFETENSORS_F32, 2, { 16, 16 }, weights };
    struct safetensor optimizer = { "momentum.linear.weight", SAFETENSORS_F32, 1, { 3 }, momentum };
    json_t *extra = json_pack("{s{si}}", "tuned", "bucket", 7);
    struct checkpoint_state state = { .step = step,
                                      .epoch = 2,
                                      .epoch_step = 5,
                                      .seed = INT64_MAX,
                                      .ranks = 2,
                                      .seconds = 0.1,
                                      .top1 = top1,
                                      .best_top1 = NAN,
                                      .train = "0123456789abcdef",
                                      .extra = extra };
    struct checkpoint_contents contents = { .model = &model,
                                            .model_count = 1,
                                            .optimizer = &optimizer,
                                            .optimizer_count = 1,
                                            .state = &state,
                                            .config = "model:\n  arch: sdnet18\n" };
    enum status status = checkpoint_write(run, &contents, path);
    if (status == STATUS_OK)
        CHECK(strcmp(path, step_path(step)) == 0, "%s", path);
    json_decref(extra);
    return status;
}

static void write_step(int64_t step, double top1)
{
    CHECK(write_version(step, top1, 0) == STATUS_OK, "%s", status_message());
}

static int count_hidden(void)
{
    char folder[PATH_MAX];
    int count = 0;
    snprintf(folder, sizeof folder, "%.3000s/checkpoints", run);
    DIR *list = opendir(folder);
    for (struct dirent *entry; list && (entry = readdir(list));)
        count += strncmp(entry->d_name, ".tmp-", 5) == 0;
    if (list)
        closedir(list);
    return count;
}

static float first_weight(int64_t step)
{
    struct checkpoint *checkpoint = NULL;
    CHECK(checkpoint_open(&checkpoint, step_path(step)) == STATUS_OK, "%s", status_message());
    if (!checkpoint)
        return -1;
    float weight = *(const float *)safetensors_at(checkpoint->model, 0)->data;
    checkpoint_close(checkpoint);
    return weight;
}

static void check_contents(void)
{
    new_run("contents");
    write_step(390, 0.5);
    struct checkpoint *checkpoint = NULL;
    CHECK(checkpoint_open(&checkpoint, step_path(390)) == STATUS_OK, "%s", status_message());
    if (!checkpoint)
        return;
    const struct checkpoint_state *s = &checkpoint->state;
    CHECK(s->step == 390 && s->epoch == 2 && s->epoch_step == 5 && s->seed == INT64_MAX && s->ranks == 2 &&
              s->seconds == 0.1 && s->top1 == 0.5 && isnan(s->best_top1) && s->best_step == 0,
          "state");
    CHECK(strcmp(s->train, "0123456789abcdef") == 0 && !s->val[0], "fingerprints");
    CHECK(json_integer_value(json_object_get(json_object_get(s->extra, "tuned"), "bucket")) == 7, "extra");
    CHECK(strcmp(checkpoint->config, "model:\n  arch: sdnet18\n") == 0, "%s", checkpoint->config);
    const struct safetensor *weight = safetensors_find(checkpoint->model, "linear.weight");
    CHECK(weight && weight->shape[1] == 16 && ((const float *)weight->data)[255] == 390, "model");
    CHECK(checkpoint_find(checkpoint, "momentum.linear.weight") && checkpoint->parts == 1, "optimizer");
    checkpoint_close(checkpoint);

    CHECK(write_version(390, 0.6, 0.25f) == STATUS_OK, "%s", status_message()); /* the same step again */
    CHECK(first_weight(390) == 390.25f && count_hidden() == 0, "replaced, nothing left over");
    file_flip(in_step(390, names[0]), -1);
    CHECK(write_version(390, 0.6, 0.5f) == STATUS_OK && first_weight(390) == 390.5f, "a damaged one is replaced");
    CHECK(write_version(100000000, 0, 0) == STATUS_BUG, "nine digits");
}

/* Divides the optimizer state of a checkpoint as an older csc-train did. Part i holds the tensor "momentum.I" of i + 1
 * floats with the value i. */
static void divide_state(int64_t step, int parts)
{
    float data[CHECKPOINT_PARTS];
    char text[4096] = "csc-train checkpoint 1\n", name[CHECKPOINT_NAME], digits[17];
    unlink(in_step(step, names[1]));
    for (int i = 0; i < parts + 3; i++) {
        uint64_t hash, bytes;
        char tensor_name[32];
        struct safetensor tensor = { tensor_name, SAFETENSORS_F32, 1, { i }, data };
        if (i == 0 || i > parts) {
            strcpy(name, names[i ? i - parts + 1 : 0]);
        } else {
            checkpoint_part_name(name, i - 1, parts);
            snprintf(tensor_name, sizeof tensor_name, "momentum.%d", i - 1);
            for (int k = 0; k < i; k++)
                data[k] = (float)(i - 1);
            CHECK(safetensors_write(in_step(step, name), &tensor, 1) == STATUS_OK, "%s", status_message());
        }
        CHECK(hash_file(in_step(step, name), &hash, &bytes) == STATUS_OK, "%s", status_message());
        hash_text(hash, digits);
        sprintf(text + strlen(text), "%s %llu %s\n", digits, (unsigned long long)bytes, name);
    }
    hash_text(hash_bytes(text, strlen(text)), digits);
    sprintf(text + strlen(text), "%s MANIFEST\n", digits);
    unlink(in_step(step, names[4]));
    file_put(in_step(step, names[4]), text, strlen(text));
}

/* With two parts up to the largest number: all parts are read, and damage of each is found. */
static void check_parts(void)
{
    char path[PATH_MAX], name[64];
    new_run("parts");
    write_step(1, 0.1);
    for (int parts = 2; parts <= CHECKPOINT_PARTS; parts += 7) {
        struct checkpoint *checkpoint = NULL;
        write_step(parts, 0.2);
        divide_state(parts, parts);
        CHECK(checkpoint_open(&checkpoint, step_path(parts)) == STATUS_OK, "%s", status_message());
        for (int i = 0; checkpoint && i < parts; i++) {
            snprintf(name, sizeof name, "momentum.%d", i);
            const struct safetensor *tensor = checkpoint_find(checkpoint, name);
            CHECK(tensor && tensor->shape[0] == i + 1 && ((const float *)tensor->data)[i] == (float)i, "%d of %d", i,
                  parts);
        }
        CHECK(checkpoint && !checkpoint_find(checkpoint, "momentum"), "what is not there");
        checkpoint_close(checkpoint);
        snprintf(name, sizeof name, "optimizer-%05d-of-%05d.safetensors", parts, parts);
        file_flip(in_step(parts, name), -1);
        CHECK(checkpoint_verify(step_path(parts)) == STATUS_DATA && strstr(status_message(), "XXH64"), "%s",
              status_message());
        unlink(in_step(parts, name));
        CHECK(checkpoint_verify(step_path(parts)) == STATUS_IO, "%s", status_message());
        CHECK(checkpoint_find_newest(run, path) == STATUS_OK && strcmp(path, step_path(1)) == 0, "%s", path);
        CHECK(write_version(parts, 0, 0.5f) == STATUS_OK && first_weight(parts) == (float)parts + 0.5f, "replaced");
        CHECK(checkpoint_remove(step_path(parts)) == STATUS_OK, "%s", status_message());
    }
}

static void check_damage(void)
{
    char path[PATH_MAX], renamed[PATH_MAX];
    for (int i = 0; i < 5; i++) {
        for (int kind = 0; kind < 4; kind++) {
            char name[32];
            snprintf(name, sizeof name, "damage-%d-%d", i, kind);
            new_run(name);
            write_step(10, 0.1);
            write_step(20, 0.2);
            const char *file = in_step(20, names[i]);
            if (kind == 0)
                file_flip(file, 0);
            else if (kind == 1)
                file_flip(file, -1);
            else if (kind == 2)
                file_shorten(file, 1);
            else
                unlink(file);
            enum status status = checkpoint_verify(step_path(20));
            CHECK(status == (kind == 3 ? STATUS_IO : STATUS_DATA) && strstr(status_message(), names[i]),
                  "%s, kind %d: %d %s", names[i], kind, status, status_message());
            CHECK(checkpoint_find_newest(run, path) == STATUS_OK && strcmp(path, step_path(10)) == 0, "%s: %s",
                  names[i], path);
        }
    }
    FILE *manifest = fopen(in_step(10, "MANIFEST"), "a");
    fputs("\n", manifest);
    fclose(manifest);
    CHECK(checkpoint_verify(step_path(10)) == STATUS_DATA, "a manifest with something behind it");
    CHECK(checkpoint_find_newest(run, path) == STATUS_DATA &&
              strstr(status_message(), "none of its 2 checkpoints is whole"),
          "%s", status_message());

    new_run("renamed");
    write_step(10, 0.1);
    snprintf(renamed, sizeof renamed, "%s", step_path(30));
    CHECK(rename(step_path(10), renamed) == 0 && checkpoint_verify(renamed) == STATUS_OK, "%s", status_message());
    struct checkpoint *checkpoint;
    CHECK(checkpoint_open(&checkpoint, renamed) == STATUS_DATA && strstr(status_message(), "holds step 10"), "%s",
          status_message());
}

/* The bytes of a file; the caller frees them. */
static unsigned char *whole_file(const char *path, size_t *bytes)
{
    struct stat info;
    unsigned char *data = stat(path, &info) == 0 ? malloc((size_t)info.st_size + 1) : NULL;
    FILE *file = fopen(path, "rb");
    if (!data || !file || fread(data, 1, (size_t)info.st_size, file) != (size_t)info.st_size)
        abort();
    fclose(file);
    *bytes = (size_t)info.st_size;
    return data;
}

/* Flips bits in every byte of every file, and shortens the files to every length: all of it is found. A few cases of
 * each file also check that checkpoint_find_newest falls back to the older checkpoint. */
static void check_every_byte(void)
{
    char path[PATH_MAX];
    int flips = 0, cuts = 0, missed = 0;
    new_run("every-byte");
    write_step(10, 0.1);
    write_step(20, 0.2);
    for (int i = 0; i < 5; i++) {
        const char *file = in_step(20, names[i]);
        char name[PATH_MAX];
        size_t bytes;
        snprintf(name, sizeof name, "%s", file);
        unsigned char *good = whole_file(name, &bytes);
        for (size_t at = 0; at < 2 * bytes; at++) { /* first flips, then cuts */
            bool cut = at >= bytes;
            int fd = open(name, O_RDWR); /* not O_TRUNC: some file systems then write to disk at every close */
            for (int bit = 0; bit < (cut ? 1 : at % 16 ? 4 : 8); bit++) {
                unsigned char byte = good[at % bytes] ^ (unsigned char)(1 << (bit + at) % 8);
                if (cut ? ftruncate(fd, (off_t)(at - bytes)) != 0 : pwrite(fd, &byte, 1, (off_t)at) != 1)
                    abort();
                enum status status = checkpoint_verify(step_path(20));
                missed += status != STATUS_DATA || !strstr(status_message(), names[i]);
                *(cut ? &cuts : &flips) += 1;
            }
            if (at % (bytes / 2) == 1)
                CHECK(checkpoint_find_newest(run, path) == STATUS_OK && strcmp(path, step_path(10)) == 0, "%s: %s",
                      names[i], path);
            if (pwrite(fd, good, bytes, 0) != (ssize_t)bytes)
                abort();
            close(fd);
        }
        free(good);
        CHECK(checkpoint_verify(step_path(20)) == STATUS_OK, "%s", status_message());
    }
    printf("%d flips and %d cuts, %d missed\n", flips, cuts, missed);
    CHECK(flips >= 5000 && cuts >= 1500 && missed == 0, "%d flips, %d cuts, %d missed", flips, cuts, missed);
}

static void check_resume(void)
{
    char path[PATH_MAX], with_slash[PATH_MAX + 2];
    new_run("resume");
    CHECK(checkpoint_resume_path(run, NULL, path) == STATUS_OK && !path[0], "a new run");
    CHECK(checkpoint_resume_path(run, "auto", path) == STATUS_OK && !path[0], "auto on a new run");
    write_step(5, NAN);
    write_step(7, NAN);
    CHECK(checkpoint_resume_path(run, NULL, path) == STATUS_USAGE && strstr(status_message(), "the newest of step 7"),
          "%s", status_message());
    CHECK(checkpoint_resume_path(run, "auto", path) == STATUS_OK && strcmp(path, step_path(7)) == 0, "%s", path);
    snprintf(with_slash, sizeof with_slash, "%s//", step_path(5));
    CHECK(checkpoint_resume_path(run, with_slash, path) == STATUS_OK && strcmp(path, step_path(5)) == 0, "%s", path);
    CHECK(checkpoint_resume_path(run, step_path(6), path) == STATUS_IO, "absent");
    CHECK(checkpoint_resume_path(run, "", path) == STATUS_IO, "empty");
    file_flip(in_step(7, names[1]), 100);
    CHECK(checkpoint_resume_path(run, step_path(7), path) == STATUS_IO && strstr(status_message(), names[1]), "%s",
          status_message());
    CHECK(checkpoint_resume_path(run, "auto", path) == STATUS_OK && strcmp(path, step_path(5)) == 0, "%s", path);
    file_flip(in_step(5, names[2]), 3);
    CHECK(checkpoint_resume_path(run, "auto", path) == STATUS_DATA, "none valid");
}

static void check_locate(void)
{
    char path[PATH_MAX];
    new_run("locate");
    CHECK(checkpoint_find_best(run, path) == STATUS_IO, "nothing there");
    write_step(1, NAN);
    write_step(2, NAN);
    CHECK(checkpoint_find_best(run, path) == STATUS_OK && strcmp(path, step_path(2)) == 0, "newest: %s", path);
    write_step(3, 0.9);
    write_step(4, 0.8);
    CHECK(checkpoint_find_best(run, path) == STATUS_OK && strcmp(path, step_path(3)) == 0, "best: %s", path);
    CHECK(checkpoint_find_best(step_path(2), path) == STATUS_OK && strcmp(path, step_path(2)) == 0, "itself: %s", path);
    file_flip(in_step(3, names[0]), -2);
    CHECK(checkpoint_find_best(run, path) == STATUS_OK && strcmp(path, step_path(4)) == 0, "best whole: %s", path);
}

static void expect_steps(const char *what, const char *present)
{
    for (int64_t step = 1; step <= 9; step++)
        CHECK(path_exists(step_path(step)) == (strchr(present, (char)('0' + step)) != NULL), "%s: step %lld", what,
              (long long)step);
    CHECK(count_hidden() == 0, "%s: leftovers", what);
}

static void check_retention(void)
{
    char link[PATH_MAX], other[PATH_MAX];
    new_run("retention");
    const double top1[10] = { 0, 0.1, 0.9, 0.3, NAN, 0.5, 0.6, 0.7 };
    for (int64_t step = 1; step <= 7; step++)
        write_step(step, top1[step]);
    snprintf(other, sizeof other, "%s-old", step_path(1));
    mkdir(other, 0777);
    snprintf(link, sizeof link, "%.3000s/checkpoints/step-00000009", run);
    CHECK(symlink("/", link) == 0, "symlink");
    CHECK(checkpoint_retain(run, 3) == STATUS_OK, "%s", status_message());
    expect_steps("the newest three and the best", "25679");
    CHECK(path_exists(other), "another name stays");
    unlink(link);

    file_flip(in_step(6, names[0]), -1);
    file_flip(in_step(7, names[0]), -1);
    CHECK(checkpoint_retain(run, 2) == STATUS_OK, "%s", status_message());
    expect_steps("the newest that verifies", "2567");
    file_flip(in_step(2, names[0]), -1);
    CHECK(checkpoint_retain(run, 1) == STATUS_OK, "%s", status_message());
    expect_steps("a damaged best is not kept", "57");
    write_step(8, 0.1);
    CHECK(checkpoint_retain(run, 1) == STATUS_OK, "%s", status_message());
    expect_steps("best and newest", "58");
}

static void check_clean(void)
{
    char path[PATH_MAX];
    new_run("clean");
    CHECK(checkpoint_clean(run) == STATUS_OK, "no folder yet");
    write_step(1, 0);
    write_step(2, 0);
    snprintf(path, sizeof path, "%.3000s/checkpoints/.tmp-step-00000003-77", run);
    mkdir(path, 0777);
    file_put(strcat(path, "/model.safetensors"), "x", 1);
    snprintf(path, sizeof path, "%.3000s/checkpoints/.tmp-step-00000002-77-old", run);
    CHECK(rename(step_path(2), path) == 0, "rename");
    CHECK(count_hidden() == 2 && checkpoint_clean(run) == STATUS_OK, "%s", status_message());
    expect_steps("what was set aside is put back, the unfinished one goes", "12");
    CHECK(first_weight(2) == 2, "whole");
    snprintf(path, sizeof path, "%.3000s/checkpoints/.tmp-step-00000003-78", run);
    mkdir(path, 0777);
    mkdir(strcat(path, "/cannot-go"), 0777);
    CHECK(checkpoint_clean(run) == STATUS_OK && count_hidden() == 1, "what cannot go is no obstacle: %s",
          status_message());
}

/* A resume from an older step renames later checkpoints, and leaves them intact. */
static void check_set_aside(void)
{
    char path[PATH_MAX];
    new_run("aside");
    CHECK(checkpoint_abandon_later(run, 0) == STATUS_OK, "no folder yet");
    for (int64_t step = 1; step <= 5; step++)
        write_step(step, 0.1 * (double)step);
    file_flip(in_step(4, names[0]), -1);
    CHECK(checkpoint_abandon_later(run, 5) == STATUS_OK, "%s", status_message());
    expect_steps("nothing is later", "12345");
    CHECK(checkpoint_abandon_later(run, 2) == STATUS_OK, "%s", status_message());
    expect_steps("later and whole", "124");
    write_step(3, 0.1);
    CHECK(checkpoint_retain(run, 1) == STATUS_OK && checkpoint_find_newest(run, path) == STATUS_OK &&
              strcmp(path, step_path(3)) == 0,
          "the new course is the newest: %s", path);
    CHECK(checkpoint_abandon_later(run, 2) == STATUS_OK, "%s", status_message());
    snprintf(path, sizeof path, "%.3000s/checkpoints/abandoned-step-00000003.2", run);
    CHECK(checkpoint_verify(path) == STATUS_OK, "%s", status_message());
    path[strlen(path) - 2] = 0;
    CHECK(checkpoint_verify(path) == STATUS_OK, "%s", status_message());
}

/* Writes in the background succeed or fail one by one, and the end waits for the last one. */
static void check_writer(void)
{
    struct checkpoint_writer *writer = NULL;
    struct checkpoint_result result = { 0 };
    float data[4] = { 1, 2, 3, 4 };
    struct safetensor tensor = { "linear.weight", SAFETENSORS_F32, 1, { 4 }, data };
    struct checkpoint_state state = { .ranks = 2, .top1 = NAN, .best_top1 = NAN };
    struct checkpoint_contents contents = {
        .model = &tensor, .model_count = 1, .optimizer = &tensor, .optimizer_count = 1, .state = &state, .config = ""
    };
    new_run("writer");
    CHECK(checkpoint_writer_create(&writer, run, 2) == STATUS_OK, "%s", status_message());
    CHECK(!checkpoint_writer_result(writer, true, &result), "nothing was started");
    for (state.step = 1; state.step <= 5; state.step++) {
        if (state.step == 4) /* something with its name is in the way */
            file_put(step_path(4), "", 0);
        CHECK(checkpoint_writer_start(writer, &contents) == STATUS_OK, "%s", status_message());
        if (state.step == 5)
            break;
        while (state.step == 2 && !checkpoint_writer_result(writer, false, &result))
            usleep(1000);
        CHECK(checkpoint_writer_result(writer, true, &result) == (state.step != 2), "the result is taken once");
        CHECK(result.record.code == (state.step == 4 ? STATUS_IO : STATUS_OK) && result.step == state.step, "%s",
              result.record.message);
        CHECK(state.step == 4 || strcmp(result.path, step_path(state.step)) == 0, "%s", result.path);
    }
    checkpoint_writer_destroy(writer);
    unlink(step_path(4));
    expect_steps("the newest two", "35");
    CHECK(checkpoint_verify(step_path(5)) == STATUS_OK, "%s", status_message());
}

/* A limit on a file's size stands for a full disk. */
static void check_full_disk(void)
{
    char path[PATH_MAX];
    struct rlimit before, limit;
    new_run("full");
    write_step(1, 0);
    signal(SIGXFSZ, SIG_IGN);
    getrlimit(RLIMIT_FSIZE, &before);
    for (rlim_t bytes = 0; bytes <= 1000; bytes += 250) {
        limit = before;
        limit.rlim_cur = bytes;
        setrlimit(RLIMIT_FSIZE, &limit);
        enum status new_step = write_version(2, 0, 0), same_step = write_version(1, 0, 0.5f);
        setrlimit(RLIMIT_FSIZE, &before);
        CHECK(new_step == STATUS_IO && same_step == STATUS_IO, "%d %d", new_step, same_step);
        expect_steps("a full disk", "1");
    }
    CHECK(first_weight(1) == 1, "the older one is as it was");
    CHECK(checkpoint_find_newest(run, path) == STATUS_OK && strcmp(path, step_path(1)) == 0, "%s", path);
    write_step(2, 0);
}

/* A writer killed at any moment leaves the newest checkpoint or the one before it intact. */
static void check_killed_writer(void)
{
    char path[PATH_MAX];
    new_run("killed");
    write_step(1, 0);
    for (int round = 0; round < 12; round++) {
        pid_t child = fork();
        if (child == 0) {
            for (int64_t step = 2;; step = step % 8 + 1) /* the same steps again and again */
                if (write_version(step, 0, 0.5f) != STATUS_OK || checkpoint_retain(run, 2) != STATUS_OK)
                    _exit(1);
        }
        usleep((useconds_t)(3000 + 79190 * round % 400000));
        kill(child, SIGKILL);
        int how;
        waitpid(child, &how, 0);
        CHECK(WIFSIGNALED(how), "the writer failed by itself");
        CHECK(checkpoint_find_newest(run, path) == STATUS_OK && path[0], "round %d: %s", round, status_message());
        int64_t step = strtoll(strrchr(path, '-') + 1, NULL, 10);
        struct checkpoint *checkpoint = NULL;
        CHECK(checkpoint_open(&checkpoint, path) == STATUS_OK && checkpoint->state.step == step, "%s",
              status_message());
        checkpoint_close(checkpoint);
        CHECK(checkpoint_clean(run) == STATUS_OK && count_hidden() == 0, "%s", status_message());
    }
}

/* What --list-checkpoints prints, from a child's standard output. */
static int list(char *out, size_t capacity)
{
    int ends[2], how;
    size_t length = 0;
    if (pipe(ends) != 0)
        abort();
    fflush(stdout);
    pid_t child = fork();
    if (child == 0) {
        dup2(ends[1], STDOUT_FILENO);
        enum status status = checkpoint_list(run);
        fflush(stdout);
        _exit(status);
    }
    close(ends[1]);
    for (ssize_t got; (got = read(ends[0], out + length, capacity - 1 - length)) > 0;)
        length += (size_t)got;
    out[length] = 0;
    close(ends[0]);
    waitpid(child, &how, 0);
    return WIFEXITED(how) ? WEXITSTATUS(how) : -1;
}

static void check_list(void)
{
    char text[8192];
    new_run("list");
    CHECK(list(text, sizeof text) == STATUS_IO, "no run");
    mkdir(run, 0777);
    CHECK(list(text, sizeof text) == STATUS_OK && strstr(text, "no checkpoints"), "%s", text);
    write_step(1, 0.25);
    write_step(2, 0.75);
    write_step(3, NAN);
    CHECK(list(text, sizeof text) == STATUS_OK, "%s", text);
    CHECK(strstr(text, "* 00000002") && strstr(text, "0.7500  ok") && strstr(text, "  00000003"), "%s", text);
    file_flip(in_step(3, names[3]), 0);
    CHECK(list(text, sizeof text) == STATUS_DATA, "%s", text);
    CHECK(strstr(text, "config.yaml: damaged: XXH64") && strstr(text, "  00000001"), "%s", text);
}

/* A run does not resume from weights that are not finite, although the checkpoint is intact, but from the one
 * before. */
static void check_not_finite(void)
{
    char path[PATH_MAX];
    new_run("finite");
    mkdir(run, 0777);
    write_step(1, NAN);
    CHECK(write_version(2, NAN, INFINITY) == STATUS_OK, "%s", status_message());
    CHECK(checkpoint_find_newest(run, path) == STATUS_OK && strstr(path, "00000001"), "%s: %s", path, status_message());
    CHECK(write_version(1, NAN, NAN) == STATUS_OK, "%s", status_message());
    CHECK(checkpoint_find_newest(run, path) == STATUS_DATA && !path[0] &&
              strstr(status_message(), "none of its 2 checkpoints is whole and has finite weights"),
          "%s", status_message());
}

/* A checkpoint that cannot be read may be intact: the exit code is 74, not 65. Root cannot read a link to itself
 * either. */
static void check_unreadable(void)
{
    char text[8192], path[PATH_MAX];
    new_run("unreadable");
    mkdir(run, 0777);
    write_step(1, 0.25);
    write_step(2, 0.75);
    unlink(in_step(2, names[3]));
    if (symlink(names[3], in_step(2, names[3])) != 0)
        abort();
    CHECK(list(text, sizeof text) == STATUS_IO && strstr(text, "* 00000001"), "%s", text);
    CHECK(checkpoint_find_newest(run, path) == STATUS_OK && strstr(path, "00000001"), "%s: %s", path, status_message());
    unlink(in_step(1, names[3]));
    CHECK(list(text, sizeof text) == STATUS_DATA, "one lacks a file: %s", text);
    CHECK(checkpoint_find_newest(run, path) == STATUS_DATA && strstr(status_message(), "is whole"), "%s",
          status_message());
    if (symlink(names[3], in_step(1, names[3])) != 0)
        abort();
    CHECK(checkpoint_find_newest(run, path) == STATUS_IO &&
              strstr(status_message(), "none of its 2 checkpoints can be read"),
          "%s", status_message());
    CHECK(checkpoint_find_best(run, path) == STATUS_IO, "%s", status_message());
}

int main(void)
{
    folder_make();
    check_contents();
    check_parts();
    check_damage();
    check_every_byte();
    check_resume();
    check_locate();
    check_retention();
    check_clean();
    check_set_aside();
    check_writer();
    check_full_disk();
    check_killed_writer();
    check_list();
    check_not_finite();
    check_unreadable();
    folder_remove();
    return check_done("checkpoint");
}
