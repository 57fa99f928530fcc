/* npy.h - reads NumPy's .npy files: one array of integers in C order. */
#ifndef CSC_DATA_SOURCES_NPY_H
#define CSC_DATA_SOURCES_NPY_H

#include <stddef.h>
#include <stdint.h>

#include "base/status.h"

enum { NPY_MAX_DIMS = 4, NPY_MAX_HEADER_BYTES = 65536 };

struct npy {
    char kind;      /* 'u' or 'i': unsigned or signed */
    int item_bytes; /* bytes of an element: 1, 2, 4 or 8; little-endian */
    int dims;
    int64_t shape[NPY_MAX_DIMS];
    int64_t elements; /* product of the shape */
    uint64_t offset;  /* of the data in the file */
    int fd;           /* -1: no file is open */
    const char *path; /* for messages; not copied */
};

/* Parses magic number and header. `total` is the file's size. STATUS_DATA unless the header is of version 1 to 3, for
 * integers in C order, and the data fill the rest of the file exactly. */
enum status npy_parse(struct npy *npy, const char *path, const void *data, size_t bytes, uint64_t total);

/* Opens a file and parses its header. `path` must outlive npy. STATUS_IO, STATUS_DATA. */
enum status npy_open(struct npy *npy, const char *path);
void npy_close(struct npy *npy); /* also after a failed npy_open */

/* Reads elements [first, first + count) as they are stored. */
enum status npy_read(const struct npy *npy, int64_t first, int64_t count, void *out);
/* Reads them as 64-bit integers. STATUS_DATA if one does not fit. */
enum status npy_read_integers(const struct npy *npy, int64_t first, int64_t count, int64_t *out);

#endif
