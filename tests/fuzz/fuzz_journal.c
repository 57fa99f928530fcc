/* fuzz_journal.c - reads any bytes as the journal of a packing. With an odd first byte its hashes are corrected, so
 * that its records are reached. A record that is accepted must be encoded to the same bytes. */
#include <stdlib.h>
#include <string.h>

#include "base/hash.h"
#include "data/write/journal.h"
#include "data/write/pack_batch.h"
#include "tests/fuzz/fuzz.h"

enum { CLASSES = 3 };

/* Corrects the hashes of the header and of all records that fit. */
static void correct_hashes(uint8_t *data, size_t size)
{
    if (size < JOURNAL_HEADER_BYTES)
        return;
    uint64_t chain = hash_bytes(data, 24);
    put64(data + 24, chain);
    for (size_t at = JOURNAL_HEADER_BYTES; size - at >= JOURNAL_RECORD_HEADER_BYTES + 8;) {
        size_t bytes = get32(data + at + 4), hashed = JOURNAL_RECORD_HEADER_BYTES + bytes;
        if (bytes > size - at - JOURNAL_RECORD_HEADER_BYTES - 8)
            return;
        uint8_t *text = malloc(8 + hashed);
        if (!text)
            abort();
        put64(text, chain);
        memcpy(text + 8, data + at, hashed);
        chain = hash_bytes(text, 8 + hashed);
        free(text);
        put64(data + at + hashed, chain);
        at += hashed + 8;
    }
}

static size_t put_record(uint8_t *out, uint32_t type, const uint8_t *payload, size_t bytes)
{
    put32(out, type);
    put32(out + 4, (uint32_t)bytes);
    memcpy(out + JOURNAL_RECORD_HEADER_BYTES, payload, bytes);
    return JOURNAL_RECORD_HEADER_BYTES + bytes + 8;
}

size_t fuzz_seed(int index, unsigned char *out, size_t capacity)
{
    struct pack_batch_sample samples[] = { { 0, 5, 7, 0, "", "" },
                                           { 2, 32, 32, 1, "b/grey.png", "" },
                                           { 0, 0, 0, 0, "c", "cut" } };
    struct shard_frame frames[] = { { 900, 2000, 1, 17 }, { 70, 80, 1, 1 } };
    struct pack_batch batch = { 3, 3, 2, samples, frames };
    uint8_t *record, shard[32] = { 1, 2, 3 };
    size_t bytes, length = 1 + JOURNAL_HEADER_BYTES;
    if (index > 1 || capacity < 512 || pack_batch_encode(&batch, &record, &bytes) != STATUS_OK)
        return 0;
    memset(out, 0, 512);
    out[0] = (unsigned char)index;
    memcpy(out + 1, "CSZJRNL\n\1", 9);
    length += put_record(out + length, 1, record, bytes);
    length += put_record(out + length, 2, shard, sizeof shard);
    length += put_record(out + length, 1, record, bytes);
    free(record);
    correct_hashes(out + 1, length - 1);
    return length;
}

static void check_record(const struct journal_record *record)
{
    struct pack_batch batch;
    uint8_t *again = NULL;
    size_t bytes = 0;
    enum status status = pack_batch_decode(&batch, record->payload, record->bytes, CLASSES);
    if (status != STATUS_OK && status != STATUS_DATA)
        abort();
    if (status == STATUS_OK) {
        for (int i = 0; i < batch.count; i++)
            if (batch.samples[i].label < 0 || batch.samples[i].label >= CLASSES)
                abort();
        if (pack_batch_encode(&batch, &again, &bytes) != STATUS_OK || bytes != record->bytes ||
            memcmp(again, record->payload, bytes))
            abort();
    }
    free(again);
    pack_batch_finish(&batch);
}

int LLVMFuzzerTestOneInput(const unsigned char *data, size_t size)
{
    struct journal_record record;
    uint64_t identity;
    if (!size)
        return 0;
    uint8_t *copy = malloc(size);
    if (!copy)
        abort();
    memcpy(copy, data + 1, size - 1);
    if (data[0] % 2)
        correct_hashes(copy, size - 1);
    if (journal_read_header(copy, size - 1, &identity, &record))
        for (uint64_t before = record.end; journal_next(copy, size - 1, &record); before = record.end) {
            if (record.end <= before || record.end > size - 1)
                abort();
            check_record(&record);
        }
    free(copy);
    return 0;
}
