/* compare_decode.c PILLOW_COMMAND TAR SHORT256 ORIGINAL JPEG [ROUNDS] - processor time from stored image to a
 * normalised random-resized-crop of 224 pixels, in one thread, page cache warm, over all images of a tar and three
 * datasets of it. Each round times every way once, one after the other; the table gives each way's median and the
 * median of its ratios. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/philox.h"
#include "data/image/decode.h"
#include "data/read/sample_reader.h"

enum { SIZE = 224, MAX_IMAGES = 4096, MAX_ROUNDS = 99, WAYS = 6 };
enum way { PLAIN, WIDE_RESIZE, PILLOW, SETS };
static const char *const names[WAYS] = { "plain C: whole JPEG, resize", "the same, resize in vectors", "Pillow",
                                         "rgbz, short side 256",        "rgbz, original size",         "jpeg" };

static struct {
    uint8_t *data;
    size_t bytes;
} files[MAX_IMAGES];
static int images;
static float out[SIZE * SIZE * 3];

static void die(const char *what)
{
    fprintf(stderr, "%s: %s\n", what, status_message());
    exit(1);
}

static double processor(void)
{
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static void read_tar(const char *path)
{
    FILE *tar = fopen(path, "rb");
    unsigned char header[512];
    while (tar && images < MAX_IMAGES && fread(header, 1, sizeof header, tar) == sizeof header && header[0]) {
        size_t bytes = strtoul((char *)header + 124, NULL, 8), padded_bytes = (bytes + 511) / 512 * 512;
        uint8_t *data = malloc(padded_bytes ? padded_bytes : 1);
        if (!data || fread(data, 1, padded_bytes, tar) != padded_bytes)
            break;
        if (decode_is_jpeg(data, bytes)) {
            files[images].data = data;
            files[images++].bytes = bytes;
        } else {
            free(data);
        }
    }
    if (!images)
        die(path);
    fclose(tar);
}

/* The time of a straightforward loop, which decodes the whole image, crops, resizes and normalises. */
static double time_whole(const struct augmenter *a, struct augment_scratch *scratch, int round)
{
    static struct image image;
    double began = processor();
    for (int i = 0; i < images; i++) {
        unsigned notes = 0;
        if (decode_jpeg(files[i].data, files[i].bytes, "file", &image, &notes) != STATUS_OK)
            die("a JPEG");
        struct augment_plan p = augment_plan(a, image.width, image.height, round, (uint64_t)i);
        struct view view = view_crop(view_image(&image), p.input.x, p.input.y, p.input.width, p.input.height);
        if (augment_begin(a, scratch, &p, view) != STATUS_OK || augment_end(a, scratch, &p, out) != STATUS_OK)
            die("resizing");
    }
    return processor() - began;
}

/* The time of what a worker of the loader does. */
static double time_set(struct sample_reader *reader, struct sample_scratch *scratch, int round)
{
    double began = processor();
    for (int i = 0; i < images; i++) {
        uint64_t id = (uint64_t)i;
        int32_t label;
        if (sample_reader_read(reader, scratch, round, &id, out, &label) != STATUS_OK)
            die("a sample");
    }
    return processor() - began;
}

/* The time that Pillow needs; NAN if it cannot be measured. */
static double time_pillow(const char *python, const char *tar)
{
    char command[1024];
    double seconds = NAN;
    snprintf(command, sizeof command, "%s '%s'", python, tar);
    FILE *pipe = *python ? popen(command, "r") : NULL;
    if (!pipe || fscanf(pipe, "%lf", &seconds) != 1)
        seconds = NAN;
    if (pipe)
        pclose(pipe);
    return seconds;
}

static int compare(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double median(double *values, int count)
{
    qsort(values, (size_t)count, sizeof *values, compare);
    return values[count / 2];
}

static double ratio(double times[WAYS][MAX_ROUNDS], int rounds, int over, int way)
{
    double values[MAX_ROUNDS];
    for (int r = 0; r < rounds; r++)
        values[r] = times[over][r] / times[way][r];
    return median(values, rounds);
}

int main(int count, char **arguments)
{
    static double times[WAYS][MAX_ROUNDS];
    static struct sample_reader readers[WAYS];
    static struct sample_scratch scratches[WAYS];
    const struct pixel_kernels *sets[PIXEL_KERNEL_SETS];
    const double mean[3] = { .485, .456, .406 }, std[3] = { .229, .224, .225 };
    struct augmenter plain, wide;
    struct augment_scratch scratch[2] = { { .line = NULL }, { .line = NULL } };
    if (count < 6)
        die("usage: compare_decode PILLOW_COMMAND TAR SHORT256 ORIGINAL JPEG [ROUNDS]");
    int rounds = count > 6 ? atoi(arguments[6]) : 5, kernels = pixel_kernel_sets(sets);
    rounds = rounds < 1 ? 1 : rounds > MAX_ROUNDS ? MAX_ROUNDS : rounds;
    augmenter_init(&wide, AUGMENT_IMAGENET, true, SIZE, 1, mean, std);
    plain = wide;
    plain.kernels = sets[kernels - 1];
    read_tar(arguments[2]);
    for (int k = SETS; k < WAYS; k++) {
        struct dataset *d = NULL;
        if (dataset_open(&d, arguments[k]) != STATUS_OK || block_cache_init(&readers[k].cache, d) != STATUS_OK)
            die(arguments[k]);
        free(readers[k].cache.slots); /* nothing is kept in memory: every block is read, hashed and decompressed */
        readers[k].cache.slots = NULL;
        readers[k].dataset = d;
        readers[k].augmenter = wide;
        scratches[k].block_index = -1;
        time_set(&readers[k], &scratches[k], 0);
    }
    for (int r = 0; r < rounds; r++) {
        times[PLAIN][r] = time_whole(&plain, &scratch[0], r);
        for (int k = SETS; k < WAYS; k++)
            times[k][r] = time_set(&readers[k], &scratches[k], r);
        times[WIDE_RESIZE][r] = time_whole(&wide, &scratch[1], r);
        times[PILLOW][r] = time_pillow(arguments[1], arguments[2]);
    }
    printf("%d images, %d rounds, kernels %s\n%-32s %9s %12s %12s\n", images, rounds, sets[0]->name, "", "images/s",
           "x plain C", "x Pillow");
    for (int k = 0; k < WAYS; k++) {
        double to_plain = ratio(times, rounds, PLAIN, k), to_pillow = ratio(times, rounds, PILLOW, k);
        printf("%-32s %9.0f %12.2f %12.2f\n", names[k], images / median(times[k], rounds), to_plain, to_pillow);
    }
    return 0;
}
