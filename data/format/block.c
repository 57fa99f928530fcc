/* block.c - writes records and compresses them; opens blocks and checks every length in them before it is used.
 * A record is: label u32, version u8, flags u8, 0 u16, width u32, height u32, rows of a band u32, 0 u32, bytes of the
 * payload u32, 0 u32, payload. */
#include "data/format/block.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <zstd.h>
#include <zstd_errors.h>

#include "base/integer.h"
#include "base/memory.h"
#include "data/format/rgbz.h"
#include "data/image/decode.h"

enum {
    RECORD_VERSION = 2,
    PLANES = 3,
    RGBZ_LEVEL = 1,
    RGBZ_MIN_MATCH = 7,
    RGBZ_HASH_LOG = 6, /* in residuals short matches occur by chance, so few are looked for */
    LONG_MATCH = 16,
    LONG_HASH_LOG = 14,
    LONG_HASH_RATE_LOG = 4,
    NO_SHORT_MATCH = 100000,
    HUFFMAN = 1,
    WORTH_PERCENT = 105, /* short matches cost a seventh of the decoding time, so they must save more than this */
    JPEG_LEVEL = -5,     /* matches only: entropy coding would save 1% and cost a tenth of the decoding time */
};

/* ---- writing ---- */

static size_t payload_bytes(enum codec codec, const struct record_input *input)
{
    return codec == CODEC_RGBZ ? (size_t)input->width * input->height * 3 : input->file_bytes;
}

size_t record_bytes(enum codec codec, const struct record_input *input)
{
    return RECORD_HEADER_BYTES + payload_bytes(codec, input);
}

void record_write(uint8_t *out, enum codec codec, const struct record_input *input)
{
    memset(out, 0, RECORD_HEADER_BYTES);
    put32(out, (uint32_t)input->label);
    out[4] = RECORD_VERSION;
    put32(out + 8, (uint32_t)input->width);
    put32(out + 12, (uint32_t)input->height);
    put32(out + 16, codec == CODEC_RGBZ ? BAND_ROWS : 0);
    put32(out + 24, (uint32_t)payload_bytes(codec, input));
    if (codec == CODEC_RGBZ)
        rgbz_encode(input->pixels, input->width, input->height, BAND_ROWS, out + RECORD_HEADER_BYTES);
    else
        memcpy(out + RECORD_HEADER_BYTES, input->file, input->file_bytes);
}

/* The number of bands with a frame of their own; 0 if the whole block is one frame. */
static uint32_t separate_bands(enum codec codec, const uint8_t *raw, uint32_t samples)
{
    uint32_t height = get32(raw + 12);
    return codec == CODEC_RGBZ && samples == 1 && height > BAND_ROWS ? (uint32_t)ceil_div(height, BAND_ROWS) : 0;
}

/* compress_band writes a band in two ways before it drops one, hence the extra band. */
size_t block_bound(enum codec codec, const uint8_t *raw, size_t bytes, uint32_t samples)
{
    enum { FRAME_EXTRA = 512 }; /* more than the headers of a small frame and of its zstd blocks */
    uint32_t bands = separate_bands(codec, raw, samples);
    size_t again = bands ? ZSTD_compressBound((size_t)get32(raw + 8) * 3 * BAND_ROWS) + FRAME_EXTRA : 0;
    return ZSTD_compressBound(bytes) + FRAME_EXTRA * ((size_t)bands + 1) + again;
}

/* Compresses one frame. Each of `parts` equal parts gets its own zstd blocks, because planes differ in statistics. */
static enum status compress_frame(ZSTD_CCtx *zstd, const uint8_t *raw, size_t bytes, int parts, uint8_t *out,
                                  size_t capacity, size_t *written)
{
    enum status status = STATUS_OK;
    ZSTD_inBuffer in = { raw, 0, 0 };
    ZSTD_outBuffer to = { out, capacity, *written };
    size_t left = ZSTD_CCtx_reset(zstd, ZSTD_reset_session_only);
    if (!ZSTD_isError(left))
        left = ZSTD_CCtx_setPledgedSrcSize(zstd, bytes);
    for (int i = 1; i <= parts && !ZSTD_isError(left); i++) {
        in.size = bytes / parts * i;
        left = ZSTD_compressStream2(zstd, &to, &in, i < parts ? ZSTD_e_flush : ZSTD_e_end);
    }
    if (ZSTD_getErrorCode(left) == ZSTD_error_memory_allocation)
        FAIL(STATUS_NOMEM, "out of memory for zstd");
    if (left || bytes % parts)
        FAIL(STATUS_BUG, "zstd: %s", ZSTD_isError(left) ? ZSTD_getErrorName(left) : "a block does not fit");
    *written = to.pos;
fail:
    return status;
}

/* Sets how the following frames are compressed. Without short matches, rgbz uses long ones only. */
static enum status set_parameters(ZSTD_CCtx *zstd, enum codec codec, bool short_matches)
{
    enum status status = STATUS_OK;
    const struct {
        ZSTD_cParameter name;
        int value;
        bool on;
    } parameters[] = {
        { ZSTD_c_compressionLevel, codec == CODEC_RGBZ ? RGBZ_LEVEL : JPEG_LEVEL, true },
        { ZSTD_c_minMatch, RGBZ_MIN_MATCH, codec == CODEC_RGBZ },
        { ZSTD_c_hashLog, RGBZ_HASH_LOG, codec == CODEC_RGBZ },
        { ZSTD_c_targetLength, NO_SHORT_MATCH, !short_matches }, /* for this strategy, the step between trials */
        { ZSTD_c_experimentalParam5, HUFFMAN, !short_matches },  /* compress literals too */
        { ZSTD_c_enableLongDistanceMatching, 1, !short_matches },
        { ZSTD_c_ldmMinMatch, LONG_MATCH, !short_matches },
        { ZSTD_c_ldmHashLog, LONG_HASH_LOG, !short_matches },
        { ZSTD_c_ldmHashRateLog, LONG_HASH_RATE_LOG, !short_matches },
    };
    ZSTD_CCtx_reset(zstd, ZSTD_reset_session_and_parameters);
    for (size_t i = 0; i < sizeof parameters / sizeof *parameters; i++) {
        size_t code = parameters[i].on ? ZSTD_CCtx_setParameter(zstd, parameters[i].name, parameters[i].value) : 0;
        if (ZSTD_isError(code))
            FAIL(STATUS_BUG, "zstd: %s", ZSTD_getErrorName(code));
    }
fail:
    return status;
}

/* Compresses a band with and without short matches. The short ones are kept if that is smaller by WORTH_PERCENT. */
static enum status compress_band(ZSTD_CCtx *zstd, const uint8_t *raw, size_t bytes, uint8_t *out, size_t capacity,
                                 size_t *written)
{
    enum status status = STATUS_OK;
    size_t end[2];
    TRY(set_parameters(zstd, CODEC_RGBZ, true));
    end[0] = *written;
    TRY(compress_frame(zstd, raw, bytes, PLANES, out, capacity, &end[0]));
    TRY(set_parameters(zstd, CODEC_RGBZ, false));
    end[1] = end[0];
    TRY(compress_frame(zstd, raw, bytes, PLANES, out, capacity, &end[1]));
    size_t with = end[0] - *written, without = end[1] - end[0];
    if (without * 100 <= with * WORTH_PERCENT) {
        memmove(out + *written, out + end[0], without);
        end[0] = *written + without;
    }
    *written = end[0];
fail:
    return status;
}

enum status block_compress(ZSTD_CCtx *zstd, enum codec codec, const uint8_t *raw, size_t bytes, uint32_t samples,
                           uint8_t *out, size_t capacity, size_t *written)
{
    enum status status = STATUS_OK;
    uint32_t bands = separate_bands(codec, raw, samples);
    *written = 0;
    TRY(set_parameters(zstd, codec, true));
    if (!bands)
        return compress_frame(zstd, raw, bytes, 1, out, capacity, written);
    TRY(compress_frame(zstd, raw, RECORD_HEADER_BYTES, 1, out, capacity, written));
    size_t row = (size_t)get32(raw + 8) * 3, at = RECORD_HEADER_BYTES;
    for (uint32_t b = 0; b < bands; b++) {
        size_t band_bytes = row * BAND_ROWS, length = bytes - at < band_bytes ? bytes - at : band_bytes;
        TRY(compress_band(zstd, raw + at, length, out, capacity, written));
        at += length;
    }
fail:
    return status;
}

/* ---- reading ---- */

/* Checks the record header at r; `available` bytes of the block follow it. Sets all of *sample but its offset. */
static enum status check_record(const uint8_t *r, size_t available, const struct block_info *f,
                                struct block_sample *sample)
{
    enum status status = STATUS_OK;
    uint32_t label = get32(r), width = get32(r + 8), height = get32(r + 12), band = get32(r + 16), size = get32(r + 24);
    if (r[4] != RECORD_VERSION || r[5] || get16(r + 6) || get32(r + 20) || get32(r + 28))
        FAIL(STATUS_DATA, "%s: block %u: record of version %u, flags %u; this program reads version %d", f->shard_path,
             f->index, r[4], r[5], RECORD_VERSION);
    if (label >= (uint32_t)f->classes)
        FAIL(STATUS_DATA, "%s: block %u: label %u, but there are %d classes", f->shard_path, f->index, label,
             f->classes);
    if (!width || !height || width > LIMIT_SIDE || height > LIMIT_SIDE || (uint64_t)width * height > LIMIT_PIXELS)
        FAIL(STATUS_DATA, "%s: block %u: image of %u x %u pixels", f->shard_path, f->index, width, height);
    if (f->codec == CODEC_RGBZ ? !band || band > LIMIT_SIDE : band)
        FAIL(STATUS_DATA, "%s: block %u: bands of %u rows", f->shard_path, f->index, band);
    if (size > available || (f->codec == CODEC_RGBZ && size != (uint64_t)width * height * 3))
        FAIL(STATUS_DATA, "%s: block %u: payload of %u bytes for %u x %u pixels", f->shard_path, f->index, size, width,
             height);
    *sample = (struct block_sample){ (int)label, (int)width, (int)height, (int)band, 0, size };
fail:
    return status;
}

/* A reader may decode bands of a block that another one has opened, so the context is made here. */
static enum status decompress(struct block_reader *r, uint8_t *out, size_t out_bytes, const uint8_t *in, size_t bytes,
                              const char *name, uint32_t index)
{
    enum status status = STATUS_OK;
    if (!r->zstd)
        r->zstd = ZSTD_createDCtx();
    if (!r->zstd)
        FAIL(STATUS_NOMEM, "%s: out of memory", name);
    size_t got = ZSTD_decompressDCtx(r->zstd, out, out_bytes, in, bytes);
    if (got != out_bytes)
        FAIL(STATUS_DATA, "%s: block %u: %s", name, index,
             ZSTD_isError(got) ? ZSTD_getErrorName(got) : "decompresses to another size than it states");
fail:
    return status;
}

/* Opens a block of one frame, which holds all records. */
static enum status open_single_frame(struct block *block, struct block_reader *r, const struct block_info *f)
{
    enum status status = STATUS_OK;
    size_t at = 0;
    TRY(buffer_grow(&block->data, &block->data_capacity, f->raw_bytes));
    TRY(decompress(r, block->data, f->raw_bytes, r->compressed, f->bytes, f->shard_path, f->index));
    for (uint32_t i = 0; i < f->samples; i++) {
        struct block_sample *s = &block->samples[i];
        if (f->raw_bytes - at < RECORD_HEADER_BYTES)
            FAIL(STATUS_DATA, "%s: block %u: ends inside a record", f->shard_path, f->index);
        TRY(check_record(block->data + at, f->raw_bytes - at - RECORD_HEADER_BYTES, f, s));
        s->offset = at + RECORD_HEADER_BYTES;
        at = s->offset + s->bytes;
    }
    if (at != f->raw_bytes)
        FAIL(STATUS_DATA, "%s: block %u: %zu bytes after its last sample", f->shard_path, f->index, f->raw_bytes - at);
fail:
    return status;
}

/* Opens a block whose first frame is the record's header, followed by one frame for each band. */
static enum status open_banded(struct block *block, struct block_reader *r, const struct block_info *f)
{
    enum status status = STATUS_OK;
    uint8_t header[RECORD_HEADER_BYTES];
    struct block_sample *s = block->samples;
    size_t at = ZSTD_findFrameCompressedSize(r->compressed, f->bytes);
    if (ZSTD_isError(at))
        FAIL(STATUS_DATA, "%s: block %u: %s", f->shard_path, f->index, ZSTD_getErrorName(at));
    TRY(decompress(r, header, sizeof header, r->compressed, at, f->shard_path, f->index));
    TRY(check_record(header, f->raw_bytes - RECORD_HEADER_BYTES, f, s));
    int bands = (int)ceil_div(s->height, s->band_rows);
    TRY(buffer_grow((uint8_t **)&block->frames, &block->frames_capacity, ((size_t)bands + 1) * sizeof *block->frames));
    for (int b = 0; b < bands; b++) {
        int rows = min_int(s->band_rows, s->height - b * s->band_rows);
        size_t length = ZSTD_findFrameCompressedSize(r->compressed + at, f->bytes - at);
        if (ZSTD_isError(length) ||
            ZSTD_getFrameContentSize(r->compressed + at, length) != (unsigned long long)s->width * rows * 3)
            FAIL(STATUS_DATA, "%s: block %u: band %d is not %d rows of %d pixels", f->shard_path, f->index, b, rows,
                 s->width);
        block->frames[b] = at;
        at += length;
    }
    block->frames[bands] = at;
    if (at != f->bytes || RECORD_HEADER_BYTES + s->bytes != f->raw_bytes)
        FAIL(STATUS_DATA, "%s: block %u: %zu bytes after its last band", f->shard_path, f->index, f->bytes - at);
    uint8_t *data = block->data;
    size_t capacity = block->data_capacity;
    block->data = r->compressed;
    block->data_capacity = r->compressed_capacity;
    r->compressed = data;
    r->compressed_capacity = capacity;
fail:
    return status;
}

enum status block_open(struct block *block, struct block_reader *r, const struct block_info *f)
{
    enum status status = STATUS_OK;
    block->count = 0;
    block->codec = f->codec;
    block->shard_path = f->shard_path;
    block->index = f->index;
    if (f->samples > f->raw_bytes / RECORD_HEADER_BYTES)
        FAIL(STATUS_DATA, "%s: block %u: %zu bytes cannot hold %u samples", f->shard_path, f->index, f->raw_bytes,
             f->samples);
    TRY(buffer_grow((uint8_t **)&block->samples, &block->samples_capacity, f->samples * sizeof *block->samples));
    unsigned long long first = ZSTD_getFrameContentSize(r->compressed, f->bytes);
    block->banded = f->codec == CODEC_RGBZ && f->samples == 1 && first == RECORD_HEADER_BYTES &&
                    f->raw_bytes > RECORD_HEADER_BYTES;
    if (!block->banded && first != f->raw_bytes)
        FAIL(STATUS_DATA, "%s: block %u: its frame and the shard's table state different sizes", f->shard_path,
             f->index);
    TRY(block->banded ? open_banded(block, r, f) : open_single_frame(block, r, f));
    block->count = (int)f->samples;
fail:
    return status;
}

/* Points *planes to band b of a sample, decompressed, in the block or in the reader. */
static enum status get_band(const struct block *block, const struct block_sample *s, int b, int rows,
                            struct block_reader *r, const uint8_t **planes)
{
    enum status status = STATUS_OK;
    size_t bytes = (size_t)s->width * rows * 3;
    *planes = block->data + s->offset + (size_t)b * s->band_rows * s->width * 3;
    if (!block->banded)
        return STATUS_OK;
    TRY(buffer_grow(&r->band, &r->band_capacity, bytes));
    TRY(decompress(r, r->band, bytes, block->data + block->frames[b], block->frames[b + 1] - block->frames[b],
                   block->shard_path, block->index));
    *planes = r->band;
fail:
    return status;
}

static enum status rgbz_window(const struct block *block, const struct block_sample *s, struct box box,
                               struct block_reader *r)
{
    enum status status = STATUS_OK;
    TRY(image_allocate(&r->image, box.width, box.height));
    for (int b = box.y / s->band_rows; b * s->band_rows < box.y + box.height; b++) {
        int top = b * s->band_rows, rows = min_int(s->band_rows, s->height - top);
        int from = max_int(0, box.y - top), to = min_int(rows, box.y + box.height - top);
        const uint8_t *planes;
        TRY(get_band(block, s, b, rows, r, &planes));
        rgbz_decode(planes, s->width, rows, box.x, box.width, from, to,
                    r->image.pixels + (size_t)(top + from - box.y) * box.width * 3);
    }
fail:
    return status;
}

/* Decodes a box of a JPEG alone; of any other file, or for a whole image, the whole file, which must then be intact. */
static enum status file_window(const struct block *block, int sample, struct box box, int shrink,
                               struct block_reader *r, struct view *view)
{
    enum status status = STATUS_OK;
    const struct block_sample *s = &block->samples[sample];
    const uint8_t *file = block->data + s->offset;
    char name[512];
    unsigned notes = 0;
    snprintf(name, sizeof name, "%s: block %u, sample %d", block->shard_path, block->index, sample);
    bool whole = shrink == 1 && box.width == s->width && box.height == s->height;
    if (!whole && decode_is_jpeg(file, s->bytes)) {
        struct jpeg_window window = { s->width, s->height, box, shrink };
        return decode_jpeg_window(file, s->bytes, name, &window, &r->image, view);
    }
    TRY(decode_image(file, s->bytes, name, &r->image, &notes));
    if (r->image.width != s->width || r->image.height != s->height)
        FAIL(STATUS_DATA, "%s: image of %d x %d, but its record says %d x %d", name, r->image.width, r->image.height,
             s->width, s->height);
    *view = view_crop(view_image(&r->image), box.x, box.y, box.width, box.height);
fail:
    return status;
}

enum status block_decode_box(const struct block *block, int sample, struct box box, int shrink, struct block_reader *r,
                             struct view *view)
{
    enum status status = STATUS_OK;
    if (block->codec == CODEC_JPEG)
        return file_window(block, sample, box, shrink, r, view);
    TRY(rgbz_window(block, &block->samples[sample], box, r));
    *view = view_image(&r->image);
fail:
    return status;
}

void block_finish(struct block *block)
{
    free(block->samples);
    free(block->data);
    free(block->frames);
    *block = (struct block){ 0 };
}

void block_reader_finish(struct block_reader *r)
{
    ZSTD_freeDCtx(r->zstd);
    free(r->compressed);
    free(r->band);
    image_finish(&r->image);
    *r = (struct block_reader){ 0 };
}
