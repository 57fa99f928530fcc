/* make.h - makes small datasets of random images for the tests, in a temporary folder. */
#ifndef CSC_TESTS_DATA_MAKE_H
#define CSC_TESTS_DATA_MAKE_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/philox.h"
#include "data/image/decode.h"
#include "data/image/encode_jpeg.h"
#include "data/write/pack.h"

/* A source of random images. Image i has the size sizes[i % kinds] and the label i % class_count. */
struct random_source {
    struct pack_source source; /* must be first: pointers to it are cast to the random_source */
    const int (*sizes)[2];     /* width, height */
    int kinds;
};

static inline void random_pixels(int64_t index, int width, int height, uint8_t *pixels)
{
    struct philox stream;
    philox_init(&stream, 99, PHILOX_DOMAIN_SYNTH, (uint64_t)index);
    uint32_t base = philox_u32(&stream);
    for (size_t i = 0; i < (size_t)width * height * 3; i++) /* smooth and rough parts */
        pixels[i] = (uint8_t)(i % 7 ? base + i / 5 : philox_u32(&stream));
}

static inline enum status random_read(struct pack_source *source, int64_t index, struct pack_item *item)
{
    item->label = (int)(index % source->class_count);
    snprintf(item->name, sizeof item->name, "made %lld", (long long)index);
    return STATUS_OK;
}

static inline uint64_t random_bytes(const struct pack_source *source, int64_t index)
{
    const struct random_source *m = (const struct random_source *)source;
    const int *size = m->sizes[index % m->kinds];
    return (uint64_t)size[0] * size[1] * 3;
}

static inline enum status random_decode(const struct pack_source *source, const struct pack_item *item,
                                        struct image *image, unsigned *notes)
{
    const struct random_source *m = (const struct random_source *)source;
    const int *size = m->sizes[item->index % m->kinds];
    (void)notes;
    enum status status = image_allocate(image, size[0], size[1]);
    if (status == STATUS_OK)
        random_pixels(item->index, size[0], size[1], image->pixels);
    return status;
}

/* The same images as JPEG files. */
static inline enum status random_read_file(struct pack_source *source, int64_t index, struct pack_item *item)
{
    struct image image = { 0 };
    struct pack_item numbered = { .index = index };
    unsigned notes = 0;
    enum status status = random_read(source, index, item);
    if (status == STATUS_OK)
        status = random_decode(source, &numbered, &image, &notes);
    if (status == STATUS_OK)
        status = encode_jpeg(&image, ENCODE_QUALITY, item->name, &item->data, &item->capacity, &item->bytes);
    image_finish(&image);
    return status;
}

static inline enum status random_decode_file(const struct pack_source *source, const struct pack_item *item,
                                             struct image *image, unsigned *notes)
{
    (void)source;
    return decode_image(item->data, item->bytes, item->name, image, notes);
}

static inline enum status make_source(const char *directory, int64_t count, const int (*sizes)[2], int kinds,
                                      bool files, const struct pack_options *options)
{
    static char *names[] = { "zero", "one", "two" };
    struct random_source source = { { .read = files ? random_read_file : random_read,
                                      .decode = files ? random_decode_file : random_decode,
                                      .bytes = random_bytes,
                                      .parallel = true,
                                      .is_files = files,
                                      .total = count,
                                      .class_count = 3,
                                      .class_names = names },
                                    sizes,
                                    kinds };
    struct pack_report report;
    return pack_dataset(&source.source, directory, options, &report);
}

static inline enum status make_jpeg_dataset(const char *directory, int64_t count, const int (*sizes)[2], int kinds)
{
    struct pack_options options = { .workers = 2, .codec = CODEC_JPEG, .made_by = "a test" };
    return make_source(directory, count, sizes, kinds, true, &options);
}

static inline enum status make_dataset(const char *directory, int64_t count, const int (*sizes)[2], int kinds,
                                       int workers)
{
    struct pack_options options = { .workers = workers, .made_by = "a test" };
    return make_source(directory, count, sizes, kinds, false, &options);
}

static inline void make_folder(char folder[64])
{
    strcpy(folder, "/tmp/csc-data-XXXXXX");
    if (!mkdtemp(folder)) {
        perror(folder);
        exit(1);
    }
}

static inline void remove_folder(const char *folder)
{
    char command[128];
    snprintf(command, sizeof command, "rm -rf '%s'", folder);
    if (system(command) != 0)
        fprintf(stderr, "%s is left behind\n", folder);
}

#endif
