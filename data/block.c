/* block.c - records of samples: written, and parsed with nothing believed before it is checked.
 * record: label u32, version u8, flags u8, 0 u16, width u32, height u32, first row u32, rows u32,
 * payload bytes u32, 0 u32, payload (3, height, width) of rgbz residuals. */
#include "data/block.h"

#include <stdlib.h>
#include <string.h>

#include "data/format.h"
#include "data/rgbz.h"

enum { RECORD_VERSION = 1 };

size_t block_record_bytes(int width, int height)
{
    return RECORD_BYTES + (size_t)width * height * 3;
}

void block_append(uint8_t *out, int label, const struct image *image)
{
    memset(out, 0, RECORD_BYTES);
    put32(out, (uint32_t)label);
    out[4] = RECORD_VERSION;
    put32(out + 8, (uint32_t)image->width);
    put32(out + 12, (uint32_t)image->height);
    put32(out + 20, (uint32_t)image->height);
    put32(out + 24, (uint32_t)((size_t)image->width * image->height * 3));
    rgbz_encode(image->pixels, image->width, image->height, out + RECORD_BYTES);
}

/* Checks the record at raw[offset]; *payload is the bytes behind its header. */
static enum status check_record(const uint8_t *raw, size_t bytes, size_t offset, int classes, const char *name,
                                uint32_t number, size_t *payload)
{
    enum status status = STATUS_OK;
    if (bytes - offset < RECORD_BYTES)
        FAIL(STATUS_DATA, "%s: block %u: ends inside a record", name, number);
    const uint8_t *r = raw + offset;
    uint32_t label = get32(r), width = get32(r + 8), height = get32(r + 12), size = get32(r + 24);
    if (r[4] != RECORD_VERSION || r[5] || get16(r + 6) || get32(r + 28))
        FAIL(STATUS_DATA, "%s: block %u: record of version %u, flags %u; this program reads version %d", name, number,
             r[4], r[5], RECORD_VERSION);
    if (label >= (uint32_t)classes)
        FAIL(STATUS_DATA, "%s: block %u: label %u, but there are %d classes", name, number, label, classes);
    if (!width || !height || width > LIMIT_SIDE || height > LIMIT_SIDE || (uint64_t)width * height > LIMIT_PIXELS)
        FAIL(STATUS_DATA, "%s: block %u: image of %u x %u pixels", name, number, width, height);
    if (get32(r + 16) != 0 || get32(r + 20) != height)
        FAIL(STATUS_DATA, "%s: block %u: a band of rows, which this version does not read", name, number);
    if (size != (uint64_t)width * height * 3 || size > bytes - offset - RECORD_BYTES)
        FAIL(STATUS_DATA, "%s: block %u: payload of %u bytes for %u x %u pixels", name, number, size, width, height);
    *payload = size;
fail:
    return status;
}

enum status block_decode(struct block *block, uint8_t *raw, size_t bytes, uint32_t count, int classes,
                         const char *name, uint32_t number)
{
    enum status status = STATUS_OK;
    size_t offset = 0, out = 0, payload = 0;
    block->count = 0;
    if (count > bytes / RECORD_BYTES)
        FAIL(STATUS_DATA, "%s: block %u: %zu bytes cannot hold %u samples", name, number, bytes, count);
    TRY(buffer_grow((uint8_t **)&block->samples, &block->samples_capacity, count * sizeof *block->samples));
    TRY(buffer_grow(&block->pixels, &block->pixels_capacity, bytes - (size_t)count * RECORD_BYTES));
    for (uint32_t i = 0; i < count; i++) {
        TRY(check_record(raw, bytes, offset, classes, name, number, &payload));
        uint8_t *r = raw + offset;
        struct block_sample *s = &block->samples[i];
        *s = (struct block_sample){ (int)get32(r), (int)get32(r + 8), (int)get32(r + 12), out };
        rgbz_decode(r + RECORD_BYTES, s->width, s->height, block->pixels + out);
        out += payload;
        offset += RECORD_BYTES + payload;
    }
    if (offset != bytes)
        FAIL(STATUS_DATA, "%s: block %u: %zu bytes behind its last sample", name, number, bytes - offset);
    block->count = (int)count;
    block->pixels_bytes = out;
fail:
    return status;
}

void block_finish(struct block *block)
{
    free(block->samples);
    free(block->pixels);
    *block = (struct block){ 0 };
}
