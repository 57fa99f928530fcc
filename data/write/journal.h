/* journal.h - an append-only file of records. After a kill or a power cut it tells what had been written before.
 * Each record's hash covers the hash of the record before it. Reading stops at the first record that does not match. */
#ifndef CSC_DATA_WRITE_JOURNAL_H
#define CSC_DATA_WRITE_JOURNAL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/status.h"

/* file: magic 8 bytes, version u32, 0 u32, identity u64, XXH64 of these 24 bytes; then the records
 * record: type u32, bytes u32, payload, XXH64 of (hash before, type, bytes, payload) */
enum { JOURNAL_HEADER_BYTES = 32, JOURNAL_RECORD_HEADER_BYTES = 8, JOURNAL_MAX_PAYLOAD = 64 << 20 };

/* A journal that is being written. */
struct journal {
    char *path;
    int fd;
    uint64_t chain; /* hash of the last record */
    uint64_t bytes; /* length of the file */
    uint8_t *buffer;
    size_t capacity;
};

/* One record of a journal that lies in memory. */
struct journal_record {
    uint32_t type, bytes;
    const uint8_t *payload;
    uint64_t end;   /* offset behind the record */
    uint64_t chain; /* its hash */
};

/* Reads the file's header. Returns false if the `bytes` at data do not begin with one. On success *record can be passed
 * to journal_next, which then returns the first record. */
bool journal_read_header(const uint8_t *data, size_t bytes, uint64_t *identity, struct journal_record *record);
/* Advances *record to the next one. Returns false at the end, and at the first record that is cut off or damaged. */
bool journal_next(const uint8_t *data, size_t bytes, struct journal_record *record);

/* Creates an empty journal. `identity` is a hash of what is being made. */
enum status journal_create(struct journal *journal, const char *path, uint64_t identity);
/* Opens a journal to append after `last`, a record that was read from it; what follows that record is cut off. */
enum status journal_reopen(struct journal *journal, const char *path, const struct journal_record *last);

enum status journal_append(struct journal *journal, uint32_t type, const void *payload, uint32_t bytes);
/* Waits until all records are on the disk. */
enum status journal_sync(struct journal *journal);
void journal_close(struct journal *journal); /* accepts a zeroed journal; the file stays */

#endif
