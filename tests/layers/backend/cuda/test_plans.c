/* test_plans.c - how the CUDA backend chooses plans of convolutions, on the emulated GPU, whose cuDNN (fake_dnn.c)
 * has plans of known cost. The fastest is taken, be it a kernel that cuDNN does not rank or a plain convolution with
 * a separate epilogue; choices are kept in a table and a file; plans that fail and a lack of memory are no errors. */
#include <cuda_runtime_api.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "base/tuned.h"
#include "layers/backend/backend.h"
#include "layers/backend/cuda/cuda.h"
#include "layers/backend/cuda/dnn_choice.h"
#include "layers/backend/cuda/kernels/kernels.h"
#include "layers/backend/cuda/plan_table.h"
#include "layers/backend/device.h"
#include "tests/check.h"
#include "tests/gpu_emulation/emulated.h"

static char folder[] = "/tmp/csc-plans-XXXXXX", plans_file[64], candidates_file[64];
static const struct conv_shape plain = { 2, 8, 8, 16, 16, 3, 1, 1 }, strided = { 2, 8, 8, 16, 16, 3, 2, 1 };
static const unsigned all_uses = CONV_FORWARD | CONV_ADJOINT | CONV_GRADIENT | CONV_HINT_CODE_EPILOGUE |
                                 CONV_HINT_ACCUMULATE;

/* A device with a table of choices, and a convolution on it. */
struct bench {
    struct device *device;
    struct tuned *tuned;
    struct conv *conv;
};

static enum status open_bench(struct bench *b)
{
    enum status status = STATUS_OK;
    *b = (struct bench){ 0 };
    TRY(tuned_create(&b->tuned));
    TRY(any_device_open(&b->device, "emulated", PRECISION_BF16, 1));
    b->device->tuned = b->tuned;
fail:
    return status;
}

static void close_bench(struct bench *b)
{
    if (b->conv)
        b->device->ops->conv_destroy(b->conv);
    device_close(b->device);
    tuned_destroy(b->tuned);
}

/* The choice of the graph whose key contains `part`; "" if there is none. */
static const char *choice_of(const struct tuned *tuned, const char *part)
{
    const char *key, *value;
    for (int i = 0; i < tuned_count(tuned); i++) {
        tuned_at(tuned, i, &key, &value);
        if (strstr(key, part))
            return value;
    }
    return "";
}

static void plan(struct bench *b, const struct conv_shape *shape)
{
    CHECK(b->device->ops->conv_create(b->device, shape, PRECISION_BF16, all_uses, &b->conv) == STATUS_OK, "%s",
          status_message());
}

/* fake_dnn.c's keys: "fake.KIND.EPILOGUE.NxHxWxC.D.K.STRIDE...." */
static void fastest_is_chosen(void)
{
    struct bench b;
    struct plan_table table = { 0 };
    CHECK(open_bench(&b) == STATUS_OK, "%s", status_message());
    plan(&b, &plain);
    CHECK(strcmp(choice_of(b.tuned, "fake.0.4.2x8x8x16.16.3.1."), "e2:24.5") == 0, "a fused forward convolution: %s",
          choice_of(b.tuned, "fake.0.4.2x8x8x16.16.3.1."));
    CHECK(strcmp(choice_of(b.tuned, "fake.1.2.2x8x8x16.16.3.1."), "e2:24.5") == 0, "a fused adjoint");
    CHECK(strcmp(choice_of(b.tuned, "fake.2.0.2x8x8x16.16.3.1."), "e0") == 0, "a gradient, whose engine 1 fails");
    b.device->ops->conv_destroy(b.conv);
    plan(&b, &strided);
    CHECK(strcmp(choice_of(b.tuned, "fake.1.2.2x8x8x16.16.3.2."), "apart") == 0, "a strided adjoint: %s",
          choice_of(b.tuned, "fake.1.2.2x8x8x16.16.3.2."));
    close_bench(&b);
    CHECK(plan_table_read(&table, plans_file) == STATUS_OK, "%s", status_message());
    const struct plan_entry *entry = NULL;
    for (int i = 0; i < table.count; i++)
        if (strncmp(table.entries[i].key, "fake.1.2.2x8x8x16.16.3.1.", 25) == 0)
            entry = &table.entries[i];
    CHECK(entry && entry->ms == 0.5f && strcmp(entry->kernel, "fake_sm90_kernel_0.5_ms") == 0,
          "the table has neither time nor kernel");
    CHECK(entry && entry->tflops > 0, "nor speed");
    plan_table_finish(&table);
}

/* The file of candidates has everything that was measured, not only the fastest. */
static void all_candidates_are_written(void)
{
    char *text = NULL;
    size_t bytes;
    CHECK(file_read(candidates_file, 1 << 20, &text, &bytes) == STATUS_OK, "%s", status_message());
    CHECK(text && strstr(text, "=e0 1.0000 ") && strstr(text, "=e2:24.5 0.5000 ") && strstr(text, "=apart "), "%s",
          text ? text : "nothing");
    free(text);
}

/* A choice from the file is used without measuring. One that cannot be parsed is measured again, and so is a bare
 * number, which older checkpoints have. */
static void file_is_used(void)
{
    struct bench b;
    struct plan_table table = { 0 };
    CHECK(plan_table_read(&table, plans_file) == STATUS_OK, "%s", status_message());
    for (int i = 0; i < table.count; i++)
        if (strncmp(table.entries[i].key, "fake.0.4.2x8x8x16.16.3.1.", 25) == 0)
            strcpy(table.entries[i].choice, "e0");
        else if (strncmp(table.entries[i].key, "fake.0.5.2x8x8x16.16.3.1.", 25) == 0)
            strcpy(table.entries[i].choice, "3");
    CHECK(plan_table_write(&table, plans_file, "changed") == STATUS_OK, "%s", status_message());
    unlink(candidates_file);
    CHECK(open_bench(&b) == STATUS_OK, "%s", status_message());
    plan(&b, &plain);
    CHECK(strcmp(choice_of(b.tuned, "fake.0.4.2x8x8x16.16.3.1."), "e0") == 0, "the file's choice is not taken");
    CHECK(strcmp(choice_of(b.tuned, "fake.0.5.2x8x8x16.16.3.1."), "e2:24.5") == 0, "a number is taken for a choice");
    close_bench(&b);
    plan_table_finish(&table);
}

static void damaged_file_is_refused(void)
{
    static const char *const wrong[] = { "no table\n",       "=e1 1 1\n",       "key=\n",     "key=e1 x 1 k\n",
                                         "key=e1 1 1 k k\n", "key=e1 -1 1 k\n", "k\x01y=e1\n" };
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        struct bench b;
        CHECK(file_write(plans_file, wrong[i], strlen(wrong[i])) == STATUS_OK, "%s", status_message());
        CHECK(open_bench(&b) == STATUS_DATA && strstr(status_message(), ":1: "), "'%s': %s", wrong[i],
              status_message());
        status_clear();
        close_bench(&b);
    }
    unlink(plans_file);
}

/* Without memory to measure, the first plan is taken, for this run only. */
static void full_memory_ends_nothing(void)
{
    struct bench b;
    struct plan_table table = { 0 };
    void *blocks[64];
    int count = 0;
    CHECK(open_bench(&b) == STATUS_OK, "%s", status_message());
    for (size_t bytes = (size_t)1 << 31; bytes >= 4096; bytes /= 2)
        while (count < 64 && cudaMalloc(&blocks[count], bytes) == cudaSuccess)
            count++;
    cudaFree(blocks[--count]); /* enough for the smallest buffers */
    plan(&b, &plain);
    CHECK(strcmp(choice_of(b.tuned, "fake.0.4.2x8x8x16.16.3.1."), "e0") == 0, "not the first plan: %s",
          choice_of(b.tuned, "fake.0.4.2x8x8x16.16.3.1."));
    while (count > 0)
        cudaFree(blocks[--count]);
    close_bench(&b);
    CHECK(!file_exists(plans_file) || plan_table_read(&table, plans_file) == STATUS_OK, "%s", status_message());
    CHECK(table.count == 0, "%d plans that were not timed are kept", table.count);
    plan_table_finish(&table);
}

/* A choice that is cut short would be read back as another one. */
static void long_choices_are_refused(void)
{
    struct dnn_choice choice = { .engine = 123, .knob_count = DNN_MAX_KNOBS }, parsed;
    char text[DNN_CHOICE_TEXT];
    for (int i = 0; i < DNN_MAX_KNOBS; i++)
        choice.knobs[i] = (struct dnn_knob){ 10 + i, 100 + i };
    CHECK(dnn_choice_print(&choice, text), "a choice of %zu characters does not fit", strlen(text));
    CHECK(dnn_choice_parse(text, &parsed) && memcmp(&parsed, &choice, sizeof choice) == 0, "%s is read as another",
          text);
    choice.knobs[0].value = 1234567;
    CHECK(!dnn_choice_print(&choice, text), "%s is cut short", text);
}

/* A path that is cut short would name another file. */
static void long_paths_are_refused(void)
{
    char path[PLAN_PATH + 1];
    memset(path, 'a', sizeof path - 1);
    path[PLAN_PATH] = '\0';
    CHECK(cuda_plan_files(path, NULL) == STATUS_USAGE, "a path of %zu characters is taken for the plans", strlen(path));
    CHECK(cuda_plan_files(NULL, path) == STATUS_USAGE, "and for the candidates");
    CHECK(cuda_plan_files(path + 1, NULL) == STATUS_OK, "%s", status_message());
    status_clear();
}

/* The kernels of batch norm have memory for a limited number of channels. */
static void many_channels_are_refused(void)
{
    static const struct conv_shape wide = { 1, 1, 1, 8, KERNELS_MAX_CHANNELS + 1, 1, 1, 0 };
    struct bench b;
    CHECK(open_bench(&b) == STATUS_OK, "%s", status_message());
    CHECK(b.device->ops->conv_create(b.device, &wide, PRECISION_BF16, CONV_FORWARD, &b.conv) == STATUS_USAGE,
          "%d channels are taken", wide.d);
    status_clear();
    close_bench(&b);
}

int main(void)
{
    const char *missing = any_device_missing("emulated");
    if (missing)
        return check_skip(missing);
    if (!mkdtemp(folder))
        return check_skip("no folder for temporary files");
    snprintf(plans_file, sizeof plans_file, "%s/plans.txt", folder);
    snprintf(candidates_file, sizeof candidates_file, "%s/tried.txt", folder);
    long_paths_are_refused();
    CHECK(cuda_plan_files(plans_file, candidates_file) == STATUS_OK, "%s", status_message());
    fastest_is_chosen();
    all_candidates_are_written();
    file_is_used();
    damaged_file_is_refused();
    full_memory_ends_nothing();
    long_choices_are_refused();
    many_channels_are_refused();
    unlink(plans_file);
    unlink(candidates_file);
    rmdir(folder);
    return check_done("plans");
}
