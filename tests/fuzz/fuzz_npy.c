/* fuzz_npy.c - parses any bytes as a .npy file, which must be refused as damaged or have sizes that fit the file. */
#include <stdlib.h>
#include <string.h>

#include "data/sources/npy.h"
#include "tests/fuzz/fuzz.h"

static const char *const headers[] = {
    "{'descr': '|u1', 'fortran_order': False, 'shape': (2, 1, 1, 3), }",
    "{'descr': '<i8', 'fortran_order': False, 'shape': (1,), }",
    "{\"shape\": (), \"descr\": \"<u2\", \"fortran_order\": False}",
    "{'descr': '|i1', 'fortran_order': False, 'shape': (0, 281474976710655, 9), }",
    "{'descr': '<f4', 'fortran_order': True, 'shape': (3), }",
};
static const size_t data_bytes[] = { 6, 8, 2, 0, 12 };

size_t fuzz_seed(int index, unsigned char *out, size_t capacity)
{
    if (index >= (int)(sizeof headers / sizeof headers[0]))
        return 0;
    int version = 1 + index % 3;
    size_t length = strlen(headers[index]), start = version == 1 ? 10 : 12,
           total = start + length + 1 + data_bytes[index];
    if (total > capacity)
        abort();
    memset(out, 0, total);
    memcpy(out, "\x93NUMPY", 6);
    out[6] = (unsigned char)version;
    out[8] = (unsigned char)(length + 1);
    memcpy(out + start, headers[index], length);
    out[start + length] = '\n';
    memset(out + start + length + 1, 0x5a, data_bytes[index]);
    return total;
}

int LLVMFuzzerTestOneInput(const unsigned char *data, size_t size)
{
    struct npy npy;
    enum status status = npy_parse(&npy, "fuzz", data, size, size);
    if (status != STATUS_OK && (status != STATUS_DATA || !status_message()[0]))
        abort();
    if (status != STATUS_OK)
        return 0;
    int64_t elements = 1;
    for (int i = 0; i < npy.dims; i++)
        elements *= npy.shape[i];
    if (npy.dims > NPY_MAX_DIMS || elements != npy.elements || elements < 0 ||
        npy.offset + (uint64_t)elements * (uint64_t)npy.item_bytes != size)
        abort();
    npy_close(&npy);
    return 0;
}
