/* safetensors.c - writes the header as text, then every tensor as it is in memory. */
#include "trainer/checkpoint/safetensors.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "trainer/checkpoint/safetensors_internal.h"

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "files are little-endian, and so is memory here");

const struct safetensors_type safetensors_types[SAFETENSORS_TYPES] = {
    [SAFETENSORS_F32] = { "F32", 4 },   [SAFETENSORS_F64] = { "F64", 8 }, [SAFETENSORS_I64] = { "I64", 8 },
    [SAFETENSORS_BF16] = { "BF16", 2 }, [SAFETENSORS_U8] = { "U8", 1 },
};

const char *safetensors_type_name(enum safetensors_dtype dtype)
{
    return safetensors_types[dtype].name;
}

int64_t safetensors_elements(const struct safetensor *tensor)
{
    int64_t elements = 1;
    for (int i = 0; i < tensor->dims; i++)
        elements *= tensor->shape[i];
    return elements;
}

size_t safetensors_size(const struct safetensor *tensor)
{
    return (size_t)safetensors_elements(tensor) * safetensors_types[tensor->dtype].bytes;
}

/* Prints a name as a JSON string. Names of tensors are ASCII, but quotes must not break the file. */
static void print_name(FILE *out, const char *name)
{
    fputc('"', out);
    for (const unsigned char *s = (const unsigned char *)name; *s; s++) {
        if (*s == '"' || *s == '\\')
            fprintf(out, "\\%c", *s);
        else if (*s < 0x20)
            fprintf(out, "\\u%04x", *s);
        else
            fputc(*s, out);
    }
    fputc('"', out);
}

/* The length in eight bytes and the padded JSON. The caller frees it. NULL if out of memory. */
static char *make_header(const struct safetensor *tensors, int count, size_t *bytes)
{
    char *text = NULL;
    size_t length, offset = 0;
    FILE *out = open_memstream(&text, &length);
    if (!out)
        return NULL;
    fputs("........{\"__metadata__\":{\"format\":\"pt\"}", out);
    for (int i = 0; i < count; i++) {
        const struct safetensor *tensor = &tensors[i];
        fputc(',', out);
        print_name(out, tensor->name);
        fprintf(out, ":{\"dtype\":\"%s\",\"shape\":[", safetensors_types[tensor->dtype].name);
        for (int d = 0; d < tensor->dims; d++)
            fprintf(out, "%s%lld", d ? "," : "", (long long)tensor->shape[d]);
        fprintf(out, "],\"data_offsets\":[%zu,%zu]}", offset, offset + safetensors_size(tensor));
        offset += safetensors_size(tensor);
    }
    fputc('}', out);
    while (ftell(out) % 8)
        fputc(' ', out);
    bool failed = ferror(out);
    if (fclose(out) != 0 || failed) {
        free(text);
        return NULL;
    }
    uint64_t json = length - 8;
    memcpy(text, &json, 8);
    *bytes = length;
    return text;
}

static enum status write_all(int fd, const char *path, const void *data, size_t bytes)
{
    if (file_write_all(fd, data, bytes))
        return STATUS_OK;
    return status_report(STATUS_IO, __FILE__, __LINE__, "%s: %s", path, strerror(errno));
}

enum status safetensors_write(const char *path, const struct safetensor *tensors, int count)
{
    enum status status = STATUS_OK;
    size_t bytes = 0;
    int fd = -1;
    char *header = make_header(tensors, count, &bytes);
    if (!header)
        FAIL(STATUS_NOMEM, "%s: out of memory", path);
    fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    if (fd < 0)
        FAIL(STATUS_IO, "%s: %s", path, strerror(errno));
    TRY(write_all(fd, path, header, bytes));
    for (int i = 0; i < count; i++)
        TRY(write_all(fd, path, tensors[i].data, safetensors_size(&tensors[i])));
    if (fsync(fd) != 0 && errno != EINVAL) /* EINVAL: a device or a pipe, which cannot be synced */
        FAIL(STATUS_IO, "%s: %s", path, strerror(errno));
    int closed = close(fd);
    fd = -1;
    if (closed != 0)
        FAIL(STATUS_IO, "%s: %s", path, strerror(errno));
fail:
    if (fd >= 0)
        close(fd);
    free(header);
    return status;
}
