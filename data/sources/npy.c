/* npy.c - the header is a Python dictionary as text:
 *   {'descr': '|u1', 'fortran_order': False, 'shape': (50000, 32, 32, 3), }
 * Source: the format's description in NumPy's documentation (numpy.lib.format). */
#include "data/sources/npy.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"

enum { MAX_ELEMENTS_BITS = 48, SEEN_DESCR = 1, SEEN_ORDER = 2, SEEN_SHAPE = 4, SEEN_ALL = 7 };

/* The part of the header's text that has not been parsed. */
struct header_text {
    const char *at, *end;
};

static void skip_space(struct header_text *t)
{
    while (t->at < t->end && (*t->at == ' ' || *t->at == '\n'))
        t->at++;
}

static bool accept(struct header_text *t, char c)
{
    skip_space(t);
    if (t->at == t->end || *t->at != c)
        return false;
    t->at++;
    return true;
}

static bool accept_word(struct header_text *t, const char *word)
{
    size_t length = strlen(word);
    skip_space(t);
    if ((size_t)(t->end - t->at) < length || memcmp(t->at, word, length) != 0)
        return false;
    t->at += length;
    return true;
}

/* Accepts a string in single or double quotes, without escapes. */
static bool accept_string(struct header_text *t, char *out, size_t capacity)
{
    char quote = accept(t, '\'') ? '\'' : accept(t, '"') ? '"' : 0;
    size_t length = 0;
    if (!quote)
        return false;
    for (; t->at < t->end && *t->at != quote; t->at++) {
        if (*t->at == '\\' || length + 1 >= capacity)
            return false;
        out[length++] = *t->at;
    }
    out[length] = 0;
    return t->at++ < t->end;
}

static bool parse_shape(struct header_text *t, struct npy *npy)
{
    if (!accept(t, '('))
        return false;
    for (npy->dims = 0; !accept(t, ')'); npy->dims++) {
        int64_t value = 0;
        int digits = 0;
        if (npy->dims == NPY_MAX_DIMS)
            return false;
        skip_space(t);
        for (; t->at < t->end && *t->at >= '0' && *t->at <= '9'; t->at++, digits++) {
            value = value * 10 + (*t->at - '0');
            if (value >> MAX_ELEMENTS_BITS)
                return false;
        }
        if (!digits || (npy->elements && value > ((int64_t)1 << MAX_ELEMENTS_BITS) / npy->elements))
            return false;
        npy->shape[npy->dims] = value;
        npy->elements *= value;
        if (accept(t, ','))
            continue;
        if (npy->dims == 0 || !accept(t, ')')) /* (3) is not a tuple */
            return false;
        npy->dims++;
        break;
    }
    return true;
}

/* Parses a type such as "|u1" or "<i8". */
static bool parse_descr(const char *descr, struct npy *npy)
{
    npy->kind = descr[0] ? descr[1] : 0;
    npy->item_bytes = npy->kind && descr[2] ? descr[2] - '0' : 0;
    bool sized = npy->item_bytes == 1 || npy->item_bytes == 2 || npy->item_bytes == 4 || npy->item_bytes == 8;
    return (npy->kind == 'u' || npy->kind == 'i') && sized && !descr[3] &&
           (descr[0] == '<' || (descr[0] == '|' && npy->item_bytes == 1));
}

static bool parse_entry(struct header_text *t, struct npy *npy, unsigned *seen)
{
    char key[16], descr[8];
    if (!accept_string(t, key, sizeof key) || !accept(t, ':'))
        return false;
    unsigned which = strcmp(key, "descr") == 0           ? SEEN_DESCR
                     : strcmp(key, "fortran_order") == 0 ? SEEN_ORDER
                     : strcmp(key, "shape") == 0         ? SEEN_SHAPE
                                                         : 0;
    if (!which || *seen & which)
        return false;
    *seen |= which;
    if (which == SEEN_DESCR)
        return accept_string(t, descr, sizeof descr) && parse_descr(descr, npy);
    return which == SEEN_ORDER ? accept_word(t, "False") : parse_shape(t, npy);
}

static bool parse_header(struct header_text t, struct npy *npy)
{
    unsigned seen = 0;
    bool more = true;
    if (!accept(&t, '{'))
        return false;
    while (!accept(&t, '}')) {
        if (!more || !parse_entry(&t, npy, &seen))
            return false;
        more = accept(&t, ',');
    }
    skip_space(&t);
    return t.at == t.end && seen == SEEN_ALL;
}

enum status npy_parse(struct npy *npy, const char *path, const void *data, size_t bytes, uint64_t total)
{
    enum status status = STATUS_OK;
    const unsigned char *p = data;
    *npy = (struct npy){ .elements = 1, .fd = -1, .path = path };
    if (bytes < 10 || memcmp(p, "\x93NUMPY", 6) != 0)
        FAIL(STATUS_DATA, "%s: not a .npy file", path);
    if (p[6] < 1 || p[6] > 3 || p[7] != 0)
        FAIL(STATUS_DATA, "%s: version %d.%d of the .npy format is not read here", path, p[6], p[7]);
    size_t start = p[6] == 1 ? 10 : 12, length = p[8] | (size_t)p[9] << 8;
    if (p[6] > 1 && bytes >= 12)
        length |= (size_t)p[10] << 16 | (size_t)p[11] << 24;
    if (bytes < start || length > NPY_MAX_HEADER_BYTES || length > bytes - start)
        FAIL(STATUS_DATA, "%s: the header is cut short or longer than %d bytes", path, NPY_MAX_HEADER_BYTES);
    const char *text = (const char *)p + start;
    if (!parse_header((struct header_text){ text, text + length }, npy))
        FAIL(STATUS_DATA, "%s: the array is not one of integers in C order with at most %d dimensions", path,
             NPY_MAX_DIMS);
    npy->offset = start + length;
    if (total < npy->offset || total - npy->offset != (uint64_t)npy->elements * (uint64_t)npy->item_bytes)
        FAIL(STATUS_DATA, "%s: the header announces %lld numbers of %d bytes, but %lld bytes follow it", path,
             (long long)npy->elements, npy->item_bytes, (long long)total - (long long)npy->offset);
fail:
    return status;
}

/* Reads exactly that many bytes. */
static enum status read_at(int file, const char *path, void *out, size_t bytes, uint64_t offset)
{
    enum status status = STATUS_OK;
    ssize_t got = file_read_at(file, out, bytes, offset);
    if (got < 0)
        FAIL(STATUS_IO, "%s: %s", path, strerror(errno));
    if ((size_t)got < bytes)
        FAIL(STATUS_DATA, "%s: the file ends too early", path);
fail:
    return status;
}

enum status npy_open(struct npy *npy, const char *path)
{
    enum status status = STATUS_OK;
    struct stat info;
    int file = -1;
    size_t head = NPY_MAX_HEADER_BYTES + 12;
    char *data = malloc(head);
    *npy = (struct npy){ .fd = -1 };
    if (!data)
        FAIL(STATUS_NOMEM, "%s: out of memory", path);
    TRY(file_open(path, &file, &info));
    head = (uint64_t)info.st_size < head ? (size_t)info.st_size : head;
    TRY(read_at(file, path, data, head, 0));
    TRY(npy_parse(npy, path, data, head, (uint64_t)info.st_size));
    npy->fd = file;
    file = -1;
fail:
    free(data);
    if (file >= 0)
        close(file);
    return status;
}

void npy_close(struct npy *npy)
{
    if (npy->fd >= 0 && npy->path)
        close(npy->fd);
    *npy = (struct npy){ .fd = -1 };
}

enum status npy_read(const struct npy *npy, int64_t first, int64_t count, void *out)
{
    enum status status = STATUS_OK;
    if (first < 0 || count < 0 || first > npy->elements || count > npy->elements - first)
        FAIL(STATUS_DATA, "%s: numbers %lld to %lld are wanted, but the file has %lld", npy->path, (long long)first,
             (long long)(first + count), (long long)npy->elements);
    TRY(read_at(npy->fd, npy->path, out, (size_t)count * (size_t)npy->item_bytes,
                npy->offset + (uint64_t)first * (uint64_t)npy->item_bytes));
fail:
    return status;
}

enum status npy_read_integers(const struct npy *npy, int64_t first, int64_t count, int64_t *out)
{
    enum status status = STATUS_OK;
    unsigned char *bytes = malloc((size_t)count * (size_t)npy->item_bytes + 1);
    if (!bytes)
        FAIL(STATUS_NOMEM, "%s: out of memory", npy->path);
    TRY(npy_read(npy, first, count, bytes));
    for (int64_t i = 0; i < count; i++) {
        const unsigned char *p = bytes + i * npy->item_bytes;
        uint64_t value = npy->kind == 'i' && p[npy->item_bytes - 1] & 0x80 ? ~(uint64_t)0 : 0;
        for (int b = npy->item_bytes - 1; b >= 0; b--)
            value = value << 8 | p[b];
        if (npy->kind == 'u' && value >> 63)
            FAIL(STATUS_DATA, "%s: number %lld does not fit into 64 bits with a sign", npy->path,
                 (long long)(first + i));
        out[i] = (int64_t)value;
    }
fail:
    free(bytes);
    return status;
}
