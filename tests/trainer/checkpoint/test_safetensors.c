/* test_safetensors.c - files that were written are read back, and no malformed header, truncation or flipped bit of the
 * header does harm. `test-safetensors --write FILE` and `--read FILE` are one side of a comparison with Python's
 * module. */
#include <math.h>
#include <string.h>
#include <unistd.h>

#include "tests/check.h"
#include "trainer/checkpoint/safetensors.h"

static const float weights[2][3] = { { 1, -2.5f, 3e-38f }, { 0, 1e30f, -0.0f } };
static const double eta[1] = { 0.1 };
static const int64_t counts[2] = { -1, INT64_MAX };
static const unsigned short halves[5] = { 0x3f80, 0xbf80, 0, 0x7f80, 1 };
static const unsigned char bytes[3] = { 0, 127, 255 };

static const struct safetensor tensors[] = {
    { "layer0.0.dn.weight", SAFETENSORS_F32, 2, { 2, 3 }, weights },
    { "bytes", SAFETENSORS_U8, 1, { 3 }, bytes },
    { "eta", SAFETENSORS_F64, 0, { 0 }, eta },
    { "empty", SAFETENSORS_F32, 3, { 4, 0, 9 }, weights },
    { "counts", SAFETENSORS_I64, 1, { 2 }, counts },
    { "halves", SAFETENSORS_BF16, 2, { 1, 5 }, halves },
};
enum { TENSORS = sizeof tensors / sizeof tensors[0] };

static void check_same(const struct safetensors *file, const struct safetensor *expected)
{
    const struct safetensor *tensor = safetensors_find(file, expected->name);
    CHECK(tensor, "%s is missing", expected->name);
    if (!tensor)
        return;
    CHECK(tensor->dtype == expected->dtype && tensor->dims == expected->dims &&
              memcmp(tensor->shape, expected->shape, (size_t)tensor->dims * sizeof tensor->shape[0]) == 0,
          "%s: shape", expected->name);
    CHECK(safetensors_size(tensor) == safetensors_size(expected) &&
              memcmp(tensor->data, expected->data, safetensors_size(expected)) == 0,
          "%s: data", expected->name);
    CHECK((uintptr_t)tensor->data % 64 == 0, "%s: alignment", expected->name);
}

static void check_file(const char *path, int count)
{
    struct safetensors *file = NULL;
    CHECK(safetensors_open(&file, path) == STATUS_OK, "%s", status_message());
    if (!file)
        return;
    CHECK(safetensors_count(file) == count && !safetensors_find(file, "bias"), "count %d", safetensors_count(file));
    for (int i = 0; i < count; i++)
        check_same(file, &tensors[i]);
    const char *format = safetensors_metadata(file, "format");
    CHECK(format && strcmp(format, "pt") == 0 && !safetensors_metadata(file, "other"), "metadata");
    safetensors_close(file);
}

static enum status read_memory(const char *data, size_t length)
{
    struct safetensors *file = NULL;
    FILE *stream = fmemopen((void *)data, length ? length : 1, "rb");
    if (!stream)
        abort();
    status_clear();
    enum status status = safetensors_read(&file, "memory", stream, length);
    fclose(stream);
    if (status == STATUS_OK) { /* the data must be readable to its last byte */
        for (int i = 0; i < safetensors_count(file); i++) {
            const struct safetensor *tensor = safetensors_at(file, i);
            for (size_t b = 0; b < safetensors_size(tensor); b++)
                (void)((const volatile unsigned char *)tensor->data)[b];
        }
        safetensors_close(file);
    }
    return status;
}

/* A file with this header and so many bytes of data. */
static enum status read_header(const char *json, size_t data)
{
    char file[4096] = { 0 };
    uint64_t length = strlen(json);
    memcpy(file, &length, 8);
    memcpy(file + 8, json, length);
    return read_memory(file, 8 + length + data);
}

static const struct {
    const char *json;
    size_t data;
    enum status expected;
} headers[] = {
    { "{}", 0, STATUS_OK },
    { "{}", 1, STATUS_DATA },
    { "{}   ", 0, STATUS_OK },
    { "{} x", 0, STATUS_DATA },
    { "[]", 0, STATUS_DATA },
    { "{", 0, STATUS_DATA },
    { "{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]}}", 8, STATUS_OK },
    { "{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]}}", 7, STATUS_DATA },
    { "{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]}}", 9, STATUS_DATA },
    { "{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,4]}}", 4, STATUS_DATA },
    { "{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[4,12]}}", 12, STATUS_DATA },
    { "{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[8,0]}}", 8, STATUS_DATA },
    { "{\"a\":{\"dtype\":\"F32\",\"shape\":[-2],\"data_offsets\":[0,8]}}", 8, STATUS_DATA },
    { "{\"a\":{\"dtype\":\"F32\",\"shape\":[2.0],\"data_offsets\":[0,8]}}", 8, STATUS_DATA },
    { "{\"a\":{\"dtype\":\"F32\",\"shape\":2,\"data_offsets\":[0,8]}}", 8, STATUS_DATA },
    { "{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8,8]}}", 8, STATUS_DATA },
    { "{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[-8,0]}}", 8, STATUS_DATA },
    { "{\"a\":{\"dtype\":\"F16\",\"shape\":[2],\"data_offsets\":[0,4]}}", 4, STATUS_DATA },
    { "{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8],\"x\":1}}", 8, STATUS_DATA },
    { "{\"a\":{\"dtype\":\"F32\",\"shape\":[2]}}", 8, STATUS_DATA },
    { "{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"dtype\":\"F32\",\"data_offsets\":[0,8]}}", 8, STATUS_DATA },
    { "{\"a\":1}", 0, STATUS_DATA },
    { "{\"\":{\"dtype\":\"U8\",\"shape\":[],\"data_offsets\":[0,1]}}", 1, STATUS_DATA },
    { "{\"a\":{\"dtype\":\"U8\",\"shape\":[],\"data_offsets\":[0,1]}}", 1, STATUS_OK },
    { "{\"a\":{\"dtype\":\"U8\",\"shape\":[1,1,1,1,1,1,1,1],\"data_offsets\":[0,1]}}", 1, STATUS_OK },
    { "{\"a\":{\"dtype\":\"U8\",\"shape\":[1,1,1,1,1,1,1,1,1],\"data_offsets\":[0,1]}}", 1, STATUS_DATA },
    /* 2^62 * 4 and 2^32 * 2^32 are 0 in 64 bits */
    { "{\"a\":{\"dtype\":\"F32\",\"shape\":[4611686018427387904],\"data_offsets\":[0,0]}}", 0, STATUS_DATA },
    { "{\"a\":{\"dtype\":\"U8\",\"shape\":[4294967296,4294967296],\"data_offsets\":[0,0]}}", 0, STATUS_DATA },
    { "{\"a\":{\"dtype\":\"U8\",\"shape\":[0,4611686018427387904,4611686018427387904],\"data_offsets\":[0,0]}}", 0,
      STATUS_OK },
    { "{\"a\":{\"dtype\":\"U8\",\"shape\":[9223372036854775807],\"data_offsets\":[0,9223372036854775807]}}", 9,
      STATUS_DATA },
    /* two tensors: in order, out of order in the text, overlapping, with a gap, at the same offset */
    { "{\"a\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[0,2]},\"b\":{\"dtype\":\"U8\",\"shape\":[1],\"data_"
      "offsets\":[2,3]}}",
      3, STATUS_OK },
    { "{\"a\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[1,3]},\"b\":{\"dtype\":\"U8\",\"shape\":[1],\"data_"
      "offsets\":[0,1]}}",
      3, STATUS_OK },
    { "{\"a\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[0,2]},\"b\":{\"dtype\":\"U8\",\"shape\":[2],\"data_"
      "offsets\":[1,3]}}",
      3, STATUS_DATA },
    { "{\"a\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]},\"b\":{\"dtype\":\"U8\",\"shape\":[1],\"data_"
      "offsets\":[2,3]}}",
      3, STATUS_DATA },
    { "{\"a\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]},\"b\":{\"dtype\":\"U8\",\"shape\":[1],\"data_"
      "offsets\":[0,1]}}",
      1, STATUS_DATA },
    { "{\"a\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]},\"a\":{\"dtype\":\"U8\",\"shape\":[1],\"data_"
      "offsets\":[1,2]}}",
      2, STATUS_DATA },
    { "{\"__metadata__\":{\"x\":\"y\"}}", 0, STATUS_OK },
    { "{\"__metadata__\":{\"x\":1}}", 0, STATUS_DATA },
    { "{\"__metadata__\":\"x\"}", 0, STATUS_DATA },
};

static void check_headers(void)
{
    for (size_t i = 0; i < sizeof headers / sizeof headers[0]; i++) {
        enum status status = read_header(headers[i].json, headers[i].data);
        CHECK(status == headers[i].expected, "%s with %zu bytes: %d %s", headers[i].json, headers[i].data, status,
              status_message());
    }
    char huge[16] = { 0 };
    memset(huge, 0xff, 8);
    CHECK(read_memory(huge, sizeof huge) == STATUS_DATA, "a length of 2^64-1");
    uint64_t length = 100 << 20;
    memcpy(huge, &length, 8);
    CHECK(read_memory(huge, sizeof huge) == STATUS_DATA, "a header longer than the file");
    char deep[1000];
    memset(deep, '[', sizeof deep);
    memcpy(deep, "{\"a\":", 5);
    deep[sizeof deep - 1] = 0;
    CHECK(read_header(deep, 0) == STATUS_DATA, "nested");
}

/* Every shorter file is refused; a flipped bit of the header is refused or harmless, never a crash. */
static void check_damage(const char *path)
{
    char whole[4096], copy[4096];
    FILE *file = fopen(path, "rb");
    size_t length = file ? fread(whole, 1, sizeof whole, file) : 0;
    uint64_t json;
    fclose(file);
    memcpy(&json, whole, 8);
    CHECK(length > 100 && json % 8 == 0 && read_memory(whole, length) == STATUS_OK, "%zu bytes", length);
    for (size_t cut = 0; cut < length; cut++)
        CHECK(read_memory(whole, cut) == STATUS_DATA, "cut at %zu of %zu: %s", cut, length, status_message());
    int refused = 0;
    for (size_t bit = 0; bit < (8 + json) * 8; bit++) {
        memcpy(copy, whole, length);
        copy[bit / 8] ^= (char)(1 << bit % 8);
        enum status status = read_memory(copy, length);
        CHECK(status == STATUS_OK || status == STATUS_DATA, "bit %zu: %d", bit, status);
        refused += status == STATUS_DATA;
    }
    CHECK(refused > (int)json * 4, "only %d flips refused", refused);
}

/* A tensor that a network needs is there, F32, of the network's shape and finite. */
static void check_required(void)
{
    const float bad[2] = { 1, INFINITY };
    const struct safetensor infinite = { "infinite", SAFETENSORS_F32, 1, { 2 }, bad };
    const int shape[] = { 2, 3 }, turned[] = { 3, 2 };
    float *data = NULL;
    CHECK(safetensors_require(&tensors[0], "file", "name", 2, shape, &data) == STATUS_OK && data == weights[0], "%s",
          status_message());
    CHECK(safetensors_require(NULL, "file", "name", 2, shape, &data) == STATUS_DATA &&
              strstr(status_message(), "file: has no tensor 'name'"),
          "%s", status_message());
    CHECK(safetensors_require(&tensors[0], "file", "name", 2, turned, &data) == STATUS_DATA &&
              strstr(status_message(), "is 2x3, this network's is 3x2"),
          "%s", status_message());
    CHECK(safetensors_require(&tensors[0], "file", "name", 0, NULL, &data) == STATUS_DATA &&
              strstr(status_message(), "a scalar"),
          "%s", status_message());
    CHECK(safetensors_require(&tensors[2], "file", "name", 0, NULL, &data) == STATUS_DATA &&
              strstr(status_message(), "is F64, F32 is needed"),
          "%s", status_message());
    CHECK(safetensors_require(&infinite, "file", "name", 1, shape, &data) == STATUS_DATA &&
              strstr(status_message(), "holds inf"),
          "%s", status_message());
}

int main(int count, char **arguments)
{
    if (count == 3 && strcmp(arguments[1], "--write") == 0)
        return safetensors_write(arguments[2], tensors, TENSORS);
    if (count == 3 && strcmp(arguments[1], "--read") == 0) {
        check_file(arguments[2], TENSORS - 1); /* numpy has no bfloat16 */
        return check_done("safetensors written by Python");
    }
    char path[] = "/tmp/csc-safetensors-XXXXXX";
    int fd = mkstemp(path);
    if (fd < 0)
        abort();
    close(fd);
    CHECK(safetensors_write(path, tensors, TENSORS) == STATUS_OK, "%s", status_message());
    check_file(path, TENSORS);
    check_damage(path);
    CHECK(safetensors_write(path, NULL, 0) == STATUS_OK, "%s", status_message());
    struct safetensors *file;
    CHECK(safetensors_open(&file, path) == STATUS_OK && safetensors_count(file) == 0, "no tensors");
    safetensors_close(file);
    check_headers();
    check_required();
    unlink(path);
    CHECK(safetensors_open(&file, path) == STATUS_IO, "missing");
    CHECK(safetensors_open(&file, "/tmp") == STATUS_IO, "a folder");
    CHECK(safetensors_write("/tmp", tensors, TENSORS) == STATUS_IO, "onto a folder");
    CHECK(safetensors_write("/dev/full", tensors, TENSORS) == STATUS_IO, "onto a full disk");
    return check_done("safetensors");
}
