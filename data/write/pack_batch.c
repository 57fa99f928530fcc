/* pack_batch.c - the record of a batch:
 *   next_sample u64, frames u32, samples u32
 *   for each frame: bytes, raw bytes, samples, 0 (u32 each), hash u64
 *   for each sample: label, width, height, notes (u32 each); notes with LEFT_OUT if the sample is not in a frame
 *   for each sample that the report has a line for: name and reason, each ending with a 0 byte */
#include "data/write/pack_batch.h"

#include <stdlib.h>
#include <string.h>

#include "data/image/image_notes.h"

#define LEFT_OUT (1u << 31)
enum { HEAD_BYTES = 16, FRAME_BYTES = 24, SAMPLE_BYTES = 16 };

bool pack_batch_sample_is_reported(const struct pack_batch_sample *s)
{
    return *s->reason || (s->notes & ~(1u << NOTE_RESIZED));
}

static void encode_frames(const struct pack_batch *b, uint8_t *out)
{
    for (int i = 0; i < b->frame_count; i++, out += FRAME_BYTES) {
        const struct shard_frame *f = &b->frames[i];
        put32(out, f->bytes);
        put32(out + 4, f->raw_bytes);
        put32(out + 8, f->samples);
        put32(out + 12, 0);
        put64(out + 16, f->hash);
    }
}

enum status pack_batch_encode(const struct pack_batch *b, uint8_t **record, size_t *bytes)
{
    enum status status = STATUS_OK;
    size_t fixed = HEAD_BYTES + (size_t)b->frame_count * FRAME_BYTES + (size_t)b->count * SAMPLE_BYTES, text = 0;
    for (int i = 0; i < b->count; i++)
        if (pack_batch_sample_is_reported(&b->samples[i]))
            text += strlen(b->samples[i].name) + strlen(b->samples[i].reason) + 2;
    uint8_t *out = malloc(fixed + text);
    if (!out)
        FAIL(STATUS_NOMEM, "out of memory for a journal's record");
    put64(out, (uint64_t)b->next_sample);
    put32(out + 8, (uint32_t)b->frame_count);
    put32(out + 12, (uint32_t)b->count);
    encode_frames(b, out + HEAD_BYTES);
    uint8_t *sample = out + HEAD_BYTES + (size_t)b->frame_count * FRAME_BYTES;
    char *end = (char *)out + fixed;
    for (int i = 0; i < b->count; i++, sample += SAMPLE_BYTES) {
        const struct pack_batch_sample *s = &b->samples[i];
        put32(sample, (uint32_t)s->label);
        put32(sample + 4, (uint32_t)s->width);
        put32(sample + 8, (uint32_t)s->height);
        put32(sample + 12, s->notes | (*s->reason ? LEFT_OUT : 0));
        if (pack_batch_sample_is_reported(s))
            end = stpcpy(stpcpy(end, s->name) + 1, s->reason) + 1;
    }
    *record = out;
    *bytes = fixed + text;
fail:
    return status;
}

/* Returns the 0-terminated text at *at and advances *at behind it. NULL if it does not end before `end`. */
static const char *next_text(const uint8_t **at, const uint8_t *end)
{
    const char *text = (const char *)*at;
    const uint8_t *zero = memchr(*at, 0, (size_t)(end - *at));
    if (!zero)
        return NULL;
    *at = zero + 1;
    return text;
}

static enum status decode_sample(struct pack_batch_sample *s, const uint8_t *in, int classes, const uint8_t **text,
                                 const uint8_t *end)
{
    enum status status = STATUS_OK;
    uint32_t label = get32(in), width = get32(in + 4), height = get32(in + 8), notes = get32(in + 12);
    bool left_out = notes & LEFT_OUT;
    notes &= ~LEFT_OUT;
    if (label >= (uint32_t)classes || notes >> IMAGE_NOTES || width > LIMIT_SIDE || height > LIMIT_SIDE ||
        (!left_out && (!width || !height)))
        FAIL(STATUS_DATA, "a record has a sample with label %u, %u x %u pixels, notes %x", label, width, height, notes);
    *s = (struct pack_batch_sample){ (int)label, (int)width, (int)height, notes, "", left_out ? "?" : "" };
    if (!pack_batch_sample_is_reported(s))
        return STATUS_OK;
    s->name = next_text(text, end);
    s->reason = s->name ? next_text(text, end) : NULL;
    if (!s->reason || !*s->reason != !left_out)
        FAIL(STATUS_DATA, "a record lacks a sample's name or reason");
fail:
    return status;
}

enum status pack_batch_decode(struct pack_batch *b, const uint8_t *record, size_t bytes, int classes)
{
    enum status status = STATUS_OK;
    uint64_t in_frames = 0, good = 0;
    bool odd = false;
    *b = (struct pack_batch){ .next_sample = 0 };
    if (bytes < HEAD_BYTES)
        FAIL(STATUS_DATA, "a record of %zu bytes is too short", bytes);
    uint64_t next = get64(record), frames = get32(record + 8), count = get32(record + 12);
    if (next > INT64_MAX || frames > count || frames * FRAME_BYTES + count * SAMPLE_BYTES > bytes - HEAD_BYTES)
        FAIL(STATUS_DATA, "a record of %zu bytes cannot hold %u frames of %u samples", bytes, (unsigned)frames,
             (unsigned)count);
    b->next_sample = (int64_t)next;
    b->frames = calloc(frames + 1, sizeof *b->frames);
    b->samples = calloc(count + 1, sizeof *b->samples);
    if (!b->frames || !b->samples)
        FAIL(STATUS_NOMEM, "out of memory for %u samples", (unsigned)count);
    const uint8_t *in = record + HEAD_BYTES, *end = record + bytes,
                  *text = in + frames * FRAME_BYTES + count * SAMPLE_BYTES;
    for (b->frame_count = 0; (uint64_t)b->frame_count < frames; b->frame_count++, in += FRAME_BYTES) {
        b->frames[b->frame_count] = (struct shard_frame){ get32(in), get32(in + 4), get32(in + 8), get64(in + 16) };
        in_frames += get32(in + 8);
        odd |= get32(in + 12) != 0;
    }
    for (b->count = 0; (uint64_t)b->count < count; b->count++, in += SAMPLE_BYTES) {
        TRY(decode_sample(&b->samples[b->count], in, classes, &text, end));
        good += !*b->samples[b->count].reason;
    }
    if (odd || text != end || in_frames != good)
        FAIL(STATUS_DATA, "a record is damaged, or its frames hold %llu samples instead of %llu",
             (unsigned long long)in_frames, (unsigned long long)good);
fail:
    if (status != STATUS_OK)
        pack_batch_finish(b);
    return status;
}

void pack_batch_finish(struct pack_batch *b)
{
    free(b->samples);
    free(b->frames);
    *b = (struct pack_batch){ .next_sample = 0 };
}
