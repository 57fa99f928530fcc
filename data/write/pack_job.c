/* pack_job.c - collects records until a block is full, then compresses it. Where blocks begin depends only on the
 * samples of the job. */
#include "data/write/pack_job.h"

#include <stdlib.h>
#include <string.h>

#include "base/hash.h"
#include "base/memory.h"
#include "data/format/block.h"
#include "data/image/decode.h"
#include "data/image/encode_jpeg.h"

enum { JOB_BYTES = 256 << 10 }; /* a job ends when its encoded samples have more */

int pack_job_length(const struct pack_source *source, int64_t first, int64_t end)
{
    uint64_t bytes = 0;
    int count = 0;
    do
        bytes += source->bytes ? source->bytes(source, first + count) : source->sample_bytes;
    while (first + ++count < end && (first + count) % PACK_GROUP && bytes < JOB_BYTES);
    return count;
}

void pack_job_read(struct pack_job *job, int i, struct pack_source *source, struct pack_item *item)
{
    job->errors[i].code = STATUS_OK;
    item->index = job->first + i;
    item->absent = false;
    enum status status = source->read(source, job->first + i, item);
    if (status == STATUS_OK)
        return;
    status_save(&job->errors[i]);
    job->skippable[i] = status == STATUS_DATA || item->absent;
}

/* Compresses the collected records into the job's next block. */
static enum status end_block(struct pack_job *job, enum codec codec, struct pack_worker *w)
{
    enum status status = STATUS_OK;
    size_t written = 0, bound;
    if (!w->raw_samples)
        return STATUS_OK;
    bound = block_bound(codec, w->raw, w->raw_bytes, w->raw_samples);
    TRY(array_grow(&job->frame_data, &job->frame_data_capacity, job->frame_data_bytes + bound, 1));
    uint8_t *out = job->frame_data + job->frame_data_bytes;
    TRY(block_compress(w->zstd, codec, w->raw, w->raw_bytes, w->raw_samples, out, bound, &written));
    job->frames[job->frame_count++] = (struct shard_frame){ (uint32_t)written, (uint32_t)w->raw_bytes, w->raw_samples,
                                                            hash_bytes(out, written) };
    job->frame_data_bytes += written;
    w->raw_bytes = w->raw_samples = 0;
fail:
    return status;
}

static enum status add_record(struct pack_job *job, enum codec codec, const struct record_input *input,
                              const char *name, struct pack_worker *w)
{
    enum status status = STATUS_OK;
    size_t bytes = record_bytes(codec, input);
    if (bytes > LIMIT_BLOCK_BYTES)
        FAIL(STATUS_DATA, "%s: %zu bytes are too many for a sample", name, bytes);
    if (w->raw_bytes + bytes > BLOCK_TARGET)
        TRY(end_block(job, codec, w));
    TRY(array_grow(&w->raw, &w->raw_capacity, w->raw_bytes + bytes, 1));
    record_write(w->raw + w->raw_bytes, codec, input);
    w->raw_bytes += bytes;
    w->raw_samples++;
fail:
    return status;
}

/* Shrinks w->image if the options say so; *image is then the one to pack. */
static enum status shrink(const struct pack_options *o, struct pack_worker *w, struct image **image)
{
    enum status status = STATUS_OK;
    int width = w->image.width, height = w->image.height, to = o->resize_to;
    bool by_height = (o->resize == RESIZE_SHORT) == (width > height);
    *image = &w->image;
    if (o->resize == RESIZE_NONE || (by_height ? height : width) <= to)
        return STATUS_OK;
    int wide = by_height ? resize_other_side(to, height, width) : to;
    int high = by_height ? to : resize_other_side(to, width, height);
    TRY(image_allocate(&w->resized, wide, high));
    TRY(resize_image(&w->resizer, view_image(&w->image), wide, high, w->resized.pixels));
    *image = &w->resized;
fail:
    return status;
}

static enum status process_item(struct pack_job *job, int i, struct pack_item *item, struct pack_source *source,
                                const struct pack_options *options, struct pack_worker *w)
{
    enum status status = STATUS_OK;
    struct pack_batch_sample *s = &job->samples[i];
    struct image *image;
    struct record_input input;
    TRY(source->decode(source, item, &w->image, &s->notes));
    TRY(shrink(options, w, &image));
    input = (struct record_input){ item->label, image->width, image->height, image->pixels, item->data, item->bytes };
    bool resized = image == &w->resized, webp = decode_is_webp(item->data, item->bytes);
    s->notes |= (unsigned)resized << NOTE_RESIZED;
    if (options->codec == CODEC_JPEG && (resized || webp)) {
        s->notes |= (unsigned)webp << NOTE_REENCODED;
        TRY(encode_jpeg(image, ENCODE_QUALITY, item->name, &w->file, &w->file_capacity, &input.file_bytes));
        input.file = w->file;
    }
    TRY(add_record(job, options->codec, &input, item->name, w));
    s->width = image->width;
    s->height = image->height;
fail:
    if (status != STATUS_OK) {
        status_save(&job->errors[i]);
        job->skippable[i] = status == STATUS_DATA;
        s->notes = 0;
    }
    return status;
}

static enum status prepare(struct pack_worker *w)
{
    enum status status = STATUS_OK;
    w->raw_bytes = w->raw_samples = 0;
    if (!w->zstd)
        w->zstd = ZSTD_createCCtx();
    if (!w->zstd)
        FAIL(STATUS_NOMEM, "out of memory for zstd");
fail:
    return status;
}

void pack_job_process(struct pack_job *job, struct pack_source *source, const struct pack_options *options,
                      struct pack_worker *w)
{
    enum status status = STATUS_OK;
    job->frame_data_bytes = 0;
    job->frame_count = 0;
    job->job_error.code = STATUS_OK;
    TRY(prepare(w));
    for (int i = 0; i < job->count; i++) {
        struct pack_item *item = source->parallel ? &w->item : &job->items[i];
        if (source->parallel)
            pack_job_read(job, i, source, item);
        memcpy(job->names[i], item->name, sizeof job->names[i]);
        job->samples[i] = (struct pack_batch_sample){ item->label, 0, 0, 0, job->names[i], "" };
        if (job->errors[i].code == STATUS_OK)
            process_item(job, i, item, source, options, w);
        if (job->errors[i].code != STATUS_OK) {
            job->samples[i].reason = job->errors[i].message;
            job->samples[i].label = 0; /* the label may be what is bad */
        }
    }
    TRY(end_block(job, options->codec, w));
    return;
fail:
    (void)status;
    status_save(&job->job_error);
}

void pack_job_finish(struct pack_job *job)
{
    for (int i = 0; i < PACK_GROUP; i++)
        free(job->items[i].data);
    free(job->frame_data);
}

void pack_worker_finish(struct pack_worker *w)
{
    free(w->item.data);
    image_finish(&w->image);
    image_finish(&w->resized);
    resizer_finish(&w->resizer);
    ZSTD_freeCCtx(w->zstd);
    free(w->raw);
    free(w->file);
    *w = (struct pack_worker){ .raw = NULL };
}
