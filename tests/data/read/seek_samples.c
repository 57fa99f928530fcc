/* seek_samples.c DATASET - opens a set made by tests/runs/imagenet_size.py, whose images say in their first two pixels
 * which they are, and reads from it far into training: as rank 31 of 32, at positions all over a hundred epochs. Checks
 * what comes out, and prints times and memory as JSON. */
#include "base/clock.h"
#include "data/read/dataset.h"
#include "data/read/loader.h"
#include "tests/check.h"

enum { SIDE = 8, MICRO = 64, RANKS = 32, EPOCHS = 100, SEEKS = 200 };

static struct loader_config config_of(struct dataset *dataset)
{
    return (struct loader_config){
        .dataset = dataset,
        .training = true,
        .seed = 1,
        .shuffle = SHUFFLE_FULL,
        .augment = AUGMENT_NONE,
        .image_size = SIDE,
        .std = { 1, 1, 1 },
        .batch = MICRO * RANKS,
        .micro_batch = MICRO,
        .rank = RANKS - 1,
        .ranks = RANKS,
        .workers = 1,
        .prefetch = 1,
    };
}

/* The 24-bit number in the three bytes of a pixel. */
static long number(const float *pixel)
{
    return lrintf(pixel[0] * 255) | lrintf(pixel[1] * 255) << 8 | lrintf(pixel[2] * 255) << 16;
}

/* Seeks to (epoch, step) and checks that the images and labels there are those of their ids. */
static double seek(struct loader *loader, int64_t epoch, int64_t step)
{
    double start = clock_seconds();
    const struct micro_batch *batch = NULL;
    CHECK(loader_seek(loader, epoch, step) == STATUS_OK, "%s", status_message());
    CHECK(loader_next(loader, &batch) == STATUS_OK, "%s", status_message());
    double seconds = clock_seconds() - start;
    CHECK(batch && batch->epoch == epoch && batch->step == step && batch->count == MICRO, "epoch %ld step %ld",
          (long)epoch, (long)step);
    for (int i = 0; batch && i < batch->count; i++) {
        const float *image = batch->images + (size_t)i * SIDE * SIDE * 3;
        long class = number(image + 3);
        CHECK(number(image) == (long)batch->ids[i], "sample %ld holds image %ld", (long)batch->ids[i], number(image));
        CHECK(class == batch->labels[i], "label %d of an image of class %ld", batch->labels[i], class);
    }
    return seconds;
}

/* The anonymous memory of this process, without mapped libraries and files. */
static long memory_kilobytes(void)
{
    char line[256];
    long kilobytes = -1;
    FILE *file = fopen("/proc/self/status", "r");
    while (file && fgets(line, sizeof line, file))
        if (sscanf(line, "RssAnon: %ld", &kilobytes) == 1)
            break;
    if (file)
        fclose(file);
    CHECK(kilobytes >= 0, "/proc/self/status does not say");
    return kilobytes;
}

int main(int argc, char **argv)
{
    struct dataset *dataset = NULL;
    struct loader *loader = NULL;
    double start = clock_seconds(), longest = 0, sum = 0;
    if (argc != 2 || dataset_open(&dataset, argv[1]) != STATUS_OK) {
        fprintf(stderr, "usage: seek_samples DATASET (%s)\n", status_message());
        return 1;
    }
    double opened = clock_seconds() - start;
    long opened_kb = memory_kilobytes();
    struct loader_config config = config_of(dataset);
    if (loader_create(&loader, &config) != STATUS_OK) {
        fprintf(stderr, "%s\n", status_message());
        return 1;
    }
    int64_t steps = loader_steps_per_epoch(loader);
    CHECK(steps == dataset_samples(dataset) / config.batch, "%ld steps an epoch", (long)steps);
    for (int64_t i = 0; i < SEEKS; i++) {
        double seconds = seek(loader, i * 37 % EPOCHS, i == 0 ? steps - 1 : i * 7919 % steps);
        longest = fmax(longest, seconds);
        sum += seconds;
    }
    printf("{\"samples\": %ld, \"classes\": %d, \"open_s\": %.4f, \"open_kb\": %ld, ", (long)dataset_samples(dataset),
           dataset_classes(dataset), opened, opened_kb);
    printf("\"seek_s\": %.4f, \"longest_seek_s\": %.4f, \"end_kb\": %ld}\n", sum / SEEKS, longest, memory_kilobytes());
    loader_destroy(loader);
    dataset_close(dataset);
    return check_failures ? 1 : 0;
}
