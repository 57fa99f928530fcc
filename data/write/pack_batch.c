/* pack_batch.c - record: next u64, frames u32, samples u32; per frame bytes, raw bytes, samples, 0 (u32) and hash u64;
 * per sample label, width, height, notes (u32, LEFT_OUT: not in the blocks); then name and reason of each odd sample,
 * each ending in a 0 byte. */
#include "data/write/pack_batch.h"

#include <stdlib.h>
#include <string.h>

#include "data/write/pack.h"

#define LEFT_OUT (1u << 31)
enum { HEAD = 16, FRAME = 24, SAMPLE = 16 };

int batch_is_odd(const struct batch_sample *s)
{
    return *s->reason || (s->notes & ~(1u << NOTE_RESIZED));
}

static void print_frames(const struct batch *b, uint8_t *out)
{
    for (int i = 0; i < b->frame_count; i++, out += FRAME) {
        const struct shard_frame *f = &b->frames[i];
        put32(out, f->bytes);
        put32(out + 4, f->raw_bytes);
        put32(out + 8, f->samples);
        put32(out + 12, 0);
        put64(out + 16, f->hash);
    }
}

enum status batch_print(const struct batch *b, uint8_t **record, size_t *bytes)
{
    enum status status = STATUS_OK;
    size_t fixed = HEAD + (size_t)b->frame_count * FRAME + (size_t)b->count * SAMPLE, text = 0;
    for (int i = 0; i < b->count; i++)
        if (batch_is_odd(&b->samples[i]))
            text += strlen(b->samples[i].name) + strlen(b->samples[i].reason) + 2;
    uint8_t *out = malloc(fixed + text);
    if (!out)
        FAIL(STATUS_NOMEM, "out of memory for a journal's record");
    put64(out, (uint64_t)b->next);
    put32(out + 8, (uint32_t)b->frame_count);
    put32(out + 12, (uint32_t)b->count);
    print_frames(b, out + HEAD);
    uint8_t *sample = out + HEAD + (size_t)b->frame_count * FRAME;
    char *end = (char *)out + fixed;
    for (int i = 0; i < b->count; i++, sample += SAMPLE) {
        const struct batch_sample *s = &b->samples[i];
        put32(sample, (uint32_t)s->label);
        put32(sample + 4, (uint32_t)s->width);
        put32(sample + 8, (uint32_t)s->height);
        put32(sample + 12, s->notes | (*s->reason ? LEFT_OUT : 0));
        if (batch_is_odd(s))
            end = stpcpy(stpcpy(end, s->name) + 1, s->reason) + 1;
    }
    *record = out;
    *bytes = fixed + text;
fail:
    return status;
}

/* The 0-terminated text at *at, which then moves behind it; NULL if there is none before `end`. */
static const char *take_text(const uint8_t **at, const uint8_t *end)
{
    const char *text = (const char *)*at;
    const uint8_t *zero = memchr(*at, 0, (size_t)(end - *at));
    if (!zero)
        return NULL;
    *at = zero + 1;
    return text;
}

static enum status parse_sample(struct batch_sample *s, const uint8_t *in, int classes, const uint8_t **text,
                                const uint8_t *end)
{
    enum status status = STATUS_OK;
    uint32_t label = get32(in), width = get32(in + 4), height = get32(in + 8), notes = get32(in + 12);
    bool left_out = notes & LEFT_OUT;
    notes &= ~LEFT_OUT;
    if (label >= (uint32_t)classes || notes >> NOTES || width > LIMIT_SIDE || height > LIMIT_SIDE ||
        (!left_out && (!width || !height)))
        FAIL(STATUS_DATA, "a sample with label %u, %u x %u pixels, notes %x", label, width, height, notes);
    *s = (struct batch_sample){ (int)label, (int)width, (int)height, notes, "", left_out ? "?" : "" };
    if (!batch_is_odd(s))
        return STATUS_OK;
    s->name = take_text(text, end);
    s->reason = s->name ? take_text(text, end) : NULL;
    if (!s->reason || !*s->reason != !left_out)
        FAIL(STATUS_DATA, "a sample without its name or reason");
fail:
    return status;
}

enum status batch_parse(struct batch *b, const uint8_t *record, size_t bytes, int classes)
{
    enum status status = STATUS_OK;
    uint64_t in_frames = 0, good = 0;
    bool odd = false;
    *b = (struct batch){ .next = 0 };
    if (bytes < HEAD)
        FAIL(STATUS_DATA, "a record of %zu bytes", bytes);
    uint64_t next = get64(record), frames = get32(record + 8), count = get32(record + 12);
    if (next > INT64_MAX || frames > count || frames * FRAME + count * SAMPLE > bytes - HEAD)
        FAIL(STATUS_DATA, "a record of %zu bytes with %u frames of %u samples", bytes, (unsigned)frames,
             (unsigned)count);
    b->next = (int64_t)next;
    b->frames = calloc(frames + 1, sizeof *b->frames);
    b->samples = calloc(count + 1, sizeof *b->samples);
    if (!b->frames || !b->samples)
        FAIL(STATUS_NOMEM, "out of memory for %u samples", (unsigned)count);
    const uint8_t *in = record + HEAD, *end = record + bytes, *text = in + frames * FRAME + count * SAMPLE;
    for (b->frame_count = 0; (uint64_t)b->frame_count < frames; b->frame_count++, in += FRAME) {
        b->frames[b->frame_count] = (struct shard_frame){ get32(in), get32(in + 4), get32(in + 8), get64(in + 16) };
        in_frames += get32(in + 8);
        odd |= get32(in + 12) != 0;
    }
    for (b->count = 0; (uint64_t)b->count < count; b->count++, in += SAMPLE) {
        TRY(parse_sample(&b->samples[b->count], in, classes, &text, end));
        good += !*b->samples[b->count].reason;
    }
    if (odd || text != end || in_frames != good)
        FAIL(STATUS_DATA, "a damaged record, or one whose frames hold %llu samples instead of %llu",
             (unsigned long long)in_frames, (unsigned long long)good);
fail:
    if (status != STATUS_OK)
        batch_finish(b);
    return status;
}

void batch_finish(struct batch *b)
{
    free(b->samples);
    free(b->frames);
    *b = (struct batch){ .next = 0 };
}
