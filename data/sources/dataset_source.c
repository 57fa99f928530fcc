/* dataset_source.c - keeps one block open. An rgbz sample is passed on as width and height (u32), then its pixels. */
#include "data/sources/dataset_source.h"

#include <stdio.h>
#include <string.h>

#include "base/memory.h"
#include "data/image/decode.h"
#include "data/read/dataset_internal.h"

enum { SIDES_BYTES = 8 };

static enum status read_pixels(struct dataset_source *d, int sample, struct pack_item *item)
{
    enum status status = STATUS_OK;
    const struct block_sample *s = &d->block.samples[sample];
    struct view view;
    size_t row = (size_t)s->width * 3;
    TRY(block_decode_box(&d->block, sample, (struct box){ 0, 0, s->width, s->height }, 1, &d->reader, &view));
    item->bytes = SIDES_BYTES + row * s->height;
    TRY(buffer_grow(&item->data, &item->capacity, item->bytes));
    put32(item->data, (uint32_t)s->width);
    put32(item->data + 4, (uint32_t)s->height);
    for (int y = 0; y < s->height; y++)
        memcpy(item->data + SIDES_BYTES + row * y, view.pixels + (size_t)y * view.stride, row);
fail:
    return status;
}

static enum status read_file(struct dataset_source *d, int sample, struct pack_item *item)
{
    enum status status = STATUS_OK;
    const struct block_sample *s = &d->block.samples[sample];
    item->bytes = s->bytes;
    TRY(buffer_grow(&item->data, &item->capacity, item->bytes));
    memcpy(item->data, d->block.data + s->offset, s->bytes);
fail:
    return status;
}

static enum status read_sample(struct pack_source *source, int64_t index, struct pack_item *item)
{
    enum status status = STATUS_OK;
    struct dataset_source *d = (struct dataset_source *)source;
    struct sample_location location = dataset_locate(d->dataset, index);
    snprintf(item->name, sizeof item->name, "sample %lld", (long long)index);
    item->label = 0;
    if (location.block_index != d->open_block) {
        d->open_block = -1;
        TRY(dataset_read_block(d->dataset, location, &d->reader, &d->block));
        d->open_block = location.block_index;
    }
    item->label = d->block.samples[location.sample].label;
    TRY(source->is_files ? read_file(d, location.sample, item) : read_pixels(d, location.sample, item));
fail:
    return status;
}

static enum status decode_sample(const struct pack_source *source, const struct pack_item *item, struct image *image,
                                 unsigned *notes)
{
    enum status status = STATUS_OK;
    if (source->is_files)
        return decode_image(item->data, item->bytes, item->name, image, notes);
    TRY(image_allocate(image, (int)get32(item->data), (int)get32(item->data + 4)));
    memcpy(image->pixels, item->data + SIDES_BYTES, item->bytes - SIDES_BYTES);
fail:
    return status;
}

void dataset_source_init(struct dataset_source *d, const struct dataset *dataset)
{
    *d = (struct dataset_source){ .dataset = dataset, .open_block = -1 };
    d->source = (struct pack_source){ .read = read_sample,
                                      .decode = decode_sample,
                                      .is_files = dataset->index.codec == CODEC_JPEG,
                                      .total = dataset_samples(dataset),
                                      .class_count = dataset_classes(dataset),
                                      .class_names = dataset->index.class_names };
}

void dataset_source_finish(struct dataset_source *d)
{
    block_reader_finish(&d->reader);
    block_finish(&d->block);
}
