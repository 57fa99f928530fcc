/* read_npy.c - prints a .npy file's shape on one line, then its numbers, for test_npy.py. */
#include <stdio.h>
#include <stdlib.h>

#include "data/sources/npy.h"

int main(int count, char **arguments)
{
    struct npy npy;
    enum status status = npy_open(&npy, count > 1 ? arguments[1] : "");
    int64_t *values = status == STATUS_OK ? malloc((size_t)npy.elements * sizeof *values + 1) : NULL;
    if (values)
        status = npy_read_integers(&npy, 0, npy.elements, values);
    if (status == STATUS_OK && npy_read(&npy, npy.elements, 1, values) != STATUS_DATA)
        status = STATUS_BUG; /* reading beyond the end must fail */
    if (status != STATUS_OK) {
        fprintf(stderr, "%s\n", status_message());
    } else {
        for (int i = 0; i < npy.dims; i++)
            printf("%s%lld", i ? " " : "", (long long)npy.shape[i]);
        for (int64_t i = 0; i < npy.elements; i++)
            printf("\n%lld", (long long)values[i]);
        puts("");
    }
    free(values);
    npy_close(&npy);
    return status;
}
