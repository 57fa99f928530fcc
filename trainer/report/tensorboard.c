/* tensorboard.c - encodes events as protocol buffers by hand. There are five messages with ten fields:
 *   Event        1 wall_time (double)  2 step (int64)  3 file_version  5 summary  7 session_log
 *   Summary      1 value               SessionLog  1 status (1: start)
 *   Value        1 tag  2 simple_value (float)  4 image
 *   Image        1 height  2 width  3 colorspace (3: RGB)  4 PNG bytes */
#include "trainer/report/tensorboard.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/host.h"
#include "base/memory.h"

enum { CRC_BYTES = 4, MAX_SAME_SECOND = 1000 }; /* at most so many files of one second */

struct tensorboard {
    int fd;
    char path[PATH_MAX];
};

/* CRC32C (Castagnoli), as in iSCSI. */
static uint32_t crc32c(const void *data, size_t bytes)
{
    uint32_t table[256], crc = ~0u;
    for (uint32_t i = 0; i < 256; i++) {
        table[i] = i;
        for (int bit = 0; bit < 8; bit++)
            table[i] = table[i] >> 1 ^ (table[i] & 1 ? 0x82f63b78u : 0);
    }
    for (const unsigned char *p = data, *end = p + bytes; p < end; p++)
        crc = crc >> 8 ^ table[(crc ^ *p) & 255];
    return ~crc;
}

/* ---- messages ---- */

/* The bytes of a message. A nested message is built first and then added. */
struct message {
    unsigned char *data;
    size_t bytes, capacity;
    bool failed; /* out of memory */
};

static void put(struct message *m, const void *data, size_t bytes)
{
    if (array_grow(&m->data, &m->capacity, m->bytes + bytes, 1) != STATUS_OK) {
        m->failed = true;
        return;
    }
    memcpy(m->data + m->bytes, data, bytes);
    m->bytes += bytes;
}

static void put_little_endian(struct message *m, uint64_t value, int bytes)
{
    unsigned char out[8];
    for (int i = 0; i < bytes; i++)
        out[i] = (unsigned char)(value >> 8 * i);
    put(m, out, (size_t)bytes);
}

static void put_varint(struct message *m, uint64_t value)
{
    for (; value >= 128; value >>= 7)
        put_little_endian(m, (value & 127) | 128, 1);
    put_little_endian(m, value, 1);
}

enum wire { VARINT = 0, FIXED64 = 1, BYTES = 2, FIXED32 = 5 };

static void put_key(struct message *m, int field, enum wire wire)
{
    put_varint(m, (uint64_t)field << 3 | wire);
}

static void put_integer(struct message *m, int field, int64_t value)
{
    put_key(m, field, VARINT);
    put_varint(m, (uint64_t)value);
}

static void put_bytes(struct message *m, int field, const void *data, size_t bytes)
{
    put_key(m, field, BYTES);
    put_varint(m, bytes);
    put(m, data, bytes);
}

static void put_message(struct message *m, int field, struct message *inner)
{
    put_bytes(m, field, inner->data, inner->bytes);
    m->failed |= inner->failed;
    free(inner->data);
    *inner = (struct message){ 0 };
}

/* ---- records ---- */

static uint32_t masked_crc32c(const void *data, size_t bytes)
{
    uint32_t crc = crc32c(data, bytes);
    return (crc >> 15 | crc << 17) + 0xa282ead8u;
}

static enum status write_record(struct tensorboard *t, const struct message *record)
{
    enum status status = STATUS_OK;
    ssize_t wrote;
    off_t before = lseek(t->fd, 0, SEEK_END);
    if (before < 0)
        FAIL(STATUS_IO, "%s: %s", t->path, strerror(errno));
    do
        wrote = write(t->fd, record->data, record->bytes);
    while (wrote < 0 && errno == EINTR);
    if (wrote == (ssize_t)record->bytes)
        return status;
    int error = wrote < 0 ? errno : ENOSPC;
    if (wrote > 0 && ftruncate(t->fd, before) != 0)
        FAIL(STATUS_IO, "%s: an incomplete record could not be removed: %s", t->path, strerror(errno));
    FAIL(STATUS_IO, "%s: %s", t->path, strerror(error));
fail:
    return status;
}

/* Writes an event with the message in `field`, and empties the message. */
static enum status write_event(struct tensorboard *t, int64_t step, int field, struct message *inner)
{
    enum status status = STATUS_OK;
    struct message event = { 0 }, record = { 0 };
    struct timespec now;
    double wall;
    uint64_t bits;
    clock_gettime(CLOCK_REALTIME, &now);
    wall = (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
    memcpy(&bits, &wall, sizeof bits);
    put_key(&event, 1, FIXED64);
    put_little_endian(&event, bits, 8);
    put_integer(&event, 2, step);
    put_message(&event, field, inner);
    put_little_endian(&record, event.bytes, 8);
    if (!record.failed)
        put_little_endian(&record, masked_crc32c(record.data, 8), CRC_BYTES);
    put(&record, event.data, event.bytes);
    put_little_endian(&record, masked_crc32c(event.data, event.bytes), CRC_BYTES);
    if (event.failed || record.failed)
        FAIL(STATUS_NOMEM, "%s: out of memory", t->path);
    TRY(write_record(t, &record));
fail:
    free(event.data);
    free(record.data);
    return status;
}

static enum status write_value(struct tensorboard *t, const char *tag, int64_t step, struct message *value)
{
    struct message tagged = { 0 }, summary = { 0 };
    put_bytes(&tagged, 1, tag, strlen(tag));
    put(&tagged, value->data, value->bytes);
    tagged.failed |= value->failed;
    put_message(&summary, 1, &tagged);
    free(value->data);
    return write_event(t, step, 5, &summary);
}

enum status tensorboard_scalar(struct tensorboard *t, const char *tag, int64_t step, double value)
{
    struct message m = { 0 };
    float number = (float)value;
    uint32_t bits;
    if (!isfinite(number))
        return STATUS_OK;
    memcpy(&bits, &number, sizeof bits);
    put_key(&m, 2, FIXED32);
    put_little_endian(&m, bits, 4);
    return write_value(t, tag, step, &m);
}

enum status tensorboard_picture(struct tensorboard *t, const char *tag, int64_t step, const void *png, size_t bytes,
                                int width, int height)
{
    struct message image = { 0 }, m = { 0 };
    put_integer(&image, 1, height);
    put_integer(&image, 2, width);
    put_integer(&image, 3, 3);
    put_bytes(&image, 4, png, bytes);
    put_message(&m, 4, &image);
    return write_value(t, tag, step, &m);
}

/* ---- files ---- */

/* Creates a new file whose name sorts after the older files of the folder. */
static enum status create_file(struct tensorboard *t, const char *folder)
{
    enum status status = STATUS_OK;
    char host[65];
    host_name(host, sizeof host);
    for (int n = 0; n < MAX_SAME_SECOND; n++) {
        if (snprintf(t->path, sizeof t->path, "%s/events.out.tfevents.%010lld.%s.%03d", folder, (long long)time(NULL),
                     host, n) >= (int)sizeof t->path)
            FAIL(STATUS_IO, "%.200s...: name too long", folder);
        t->fd = open(t->path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
        if (t->fd >= 0 || errno != EEXIST)
            break;
    }
    if (t->fd < 0)
        FAIL(STATUS_IO, "%s: %s", t->path, strerror(errno));
fail:
    return status;
}

enum status tensorboard_open(struct tensorboard **out, const char *folder, int64_t step)
{
    enum status status = STATUS_OK;
    struct message start = { 0 }, version = { 0 };
    struct tensorboard *t = calloc(1, sizeof *t);
    if (!t)
        return status_report(STATUS_NOMEM, __FILE__, __LINE__, "out of memory");
    t->fd = -1;
    TRY(create_file(t, folder));
    put(&version, "brain.Event:2", strlen("brain.Event:2"));
    TRY(write_event(t, 0, 3, &version));
    put_integer(&start, 1, 1);
    TRY(write_event(t, step, 7, &start));
    *out = t;
    return status;
fail:
    tensorboard_close(t);
    return status;
}

void tensorboard_close(struct tensorboard *t)
{
    if (!t)
        return;
    if (t->fd >= 0)
        close(t->fd);
    free(t);
}
