/* journal.h - a file of records that only grows, so that what was written before a kill or a power cut is known
 * after it. Every record's hash depends on all records before it; what does not fit ends the journal. */
#ifndef CSC_DATA_WRITE_JOURNAL_H
#define CSC_DATA_WRITE_JOURNAL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/status.h"

/* file: magic 8, version u32, 0 u32, identity u64, XXH64 of these 24 bytes; then records
 * record: type u32, bytes u32, payload, XXH64 of (hash before, type, bytes, payload) */
enum { JOURNAL_HEADER_BYTES = 32, JOURNAL_RECORD_HEADER_BYTES = 8, JOURNAL_MAX_PAYLOAD = 64 << 20 };

struct journal {
    char *path;
    int fd;
    uint64_t chain, bytes; /* hash of the last record; length of the file */
    uint8_t *buffer;
    size_t capacity;
};

/* One record of a journal in memory; `end` is the offset behind it, `chain` its hash. */
struct journal_record {
    uint32_t type, bytes;
    const uint8_t *payload;
    uint64_t end, chain;
};

/* Whether `bytes` at data begin with a journal's head; *identity and *record (for journal_next) are then set. */
bool journal_read_header(const uint8_t *data, size_t bytes, uint64_t *identity, struct journal_record *record);
/* Advances *record to the next; 0 at the end or at the first record that is torn or damaged. */
bool journal_next(const uint8_t *data, size_t bytes, struct journal_record *record);

/* A new, empty journal. `identity` says what is being made. */
enum status journal_create(struct journal *journal, const char *path, uint64_t identity);
/* Goes on behind `last`, a record that was read, cutting off what follows. */
enum status journal_reopen(struct journal *journal, const char *path, const struct journal_record *last);

enum status journal_append(struct journal *journal, uint32_t type, const void *payload, uint32_t bytes);
enum status journal_sync(struct journal *journal);
void journal_close(struct journal *journal); /* zeros are fine; the file stays */

#endif
