/* npy.h - NumPy's .npy files: one array of bytes or whole numbers, in C order. */
#ifndef CSC_DATA_SOURCES_NPY_H
#define CSC_DATA_SOURCES_NPY_H

#include <stddef.h>
#include <stdint.h>

#include "base/status.h"

enum { NPY_MAX_DIMS = 4, NPY_MAX_HEADER_BYTES = 65536 };

struct npy {
    char kind;      /* 'u' or 'i' */
    int item_bytes; /* bytes of a number: 1, 2, 4, 8; little-endian */
    int dims;
    int64_t shape[NPY_MAX_DIMS];
    int64_t elements; /* product of the shape */
    uint64_t offset;  /* of the data in the file */
    int fd;           /* descriptor, or -1 */
    const char *path; /* the caller's, for messages */
};

/* Magic number and header, `total` bytes being the file's size. STATUS_DATA, naming `path`, unless it is a version 1 to
 * 3 header of whole numbers in C order and the data fill the file exactly. */
enum status npy_parse(struct npy *npy, const char *path, const void *data, size_t bytes, uint64_t total);

/* STATUS_IO, STATUS_DATA. path must outlive npy. */
enum status npy_open(struct npy *npy, const char *path);
void npy_close(struct npy *npy); /* fine after a failed npy_open */

/* `count` numbers from number `first` on, as they are in the file. */
enum status npy_read(const struct npy *npy, int64_t first, int64_t count, void *out);
/* The same as 64-bit integers; STATUS_DATA for one that does not fit. */
enum status npy_read_integers(const struct npy *npy, int64_t first, int64_t count, int64_t *out);

#endif
