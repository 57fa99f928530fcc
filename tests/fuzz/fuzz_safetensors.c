/* fuzz_safetensors.c - reads any bytes as a safetensors file. They are refused as damaged, or every tensor can be read
 * to its last byte. */
#include <stdlib.h>
#include <string.h>

#include "tests/fuzz/fuzz.h"
#include "trainer/checkpoint/safetensors.h"

#define THREE_TENSORS                                                                                         \
    "{\"__metadata__\":{\"format\":\"pt\"},\"a\":{\"dtype\":\"F32\",\"shape\":[2,1],\"data_offsets\":[0,8]}," \
    "\"b\":{\"dtype\":\"U8\",\"shape\":[3],\"data_offsets\":[8,11]},"                                         \
    "\"c\":{\"dtype\":\"BF16\",\"shape\":[],\"data_offsets\":[11,13]}}"

static const char *const headers[] = {
    THREE_TENSORS,
    "{\"x\":{\"dtype\":\"I64\",\"shape\":[0,4294967296,4294967296],\"data_offsets\":[0,0]}}",
    "{}      ",
    ("{\"x\":{\"dtype\":\"F64\",\"shape\":[1],\"data_offsets\":[0,8]},"
     "\"\\u00e9\":{\"shape\":[1],\"dtype\":\"U8\",\"data_offsets\":[8,9]}}"),
};
static const size_t data_bytes[] = { 13, 0, 0, 9 };

size_t fuzz_seed(int index, unsigned char *out, size_t capacity)
{
    if (index >= (int)(sizeof headers / sizeof headers[0]))
        return 0;
    unsigned long long length = strlen(headers[index]);
    size_t total = 8 + (size_t)length + data_bytes[index];
    if (total > capacity)
        abort();
    memcpy(out, &length, 8);
    memcpy(out + 8, headers[index], length);
    memset(out + 8 + length, 0x5a, data_bytes[index]);
    return total;
}

int LLVMFuzzerTestOneInput(const unsigned char *data, size_t size)
{
    struct safetensors *file;
    FILE *stream = fmemopen((void *)data, size ? size : 1, "rb");
    if (!stream)
        abort();
    enum status status = safetensors_read(&file, "fuzz", stream, size);
    fclose(stream);
    if (status != STATUS_OK && status != STATUS_DATA)
        abort();
    if (status != STATUS_OK)
        return 0;
    size_t total = 0;
    for (int i = 0; i < safetensors_count(file); i++) {
        const struct safetensor *tensor = safetensors_at(file, i);
        const unsigned char *bytes = tensor->data;
        for (size_t b = 0; b < safetensors_size(tensor); b++)
            (void)*(const volatile unsigned char *)&bytes[b];
        total += safetensors_size(tensor);
        if (!safetensors_find(file, tensor->name))
            abort();
    }
    if (total > size)
        abort();
    safetensors_close(file);
    return 0;
}
