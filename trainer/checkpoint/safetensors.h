/* safetensors.h - files of named tensors, as PyTorch's `safetensors` reads and writes them: N as u64, little-endian; N
 * bytes of JSON, padded with spaces to a multiple of 8; then the data of the tensors without gaps. */
#ifndef CSC_TRAINER_CHECKPOINT_SAFETENSORS_H
#define CSC_TRAINER_CHECKPOINT_SAFETENSORS_H

#include <stdint.h>
#include <stdio.h>

#include "base/status.h"

enum { SAFETENSORS_DIMS = 8 };

enum safetensors_dtype { SAFETENSORS_F32, SAFETENSORS_F64, SAFETENSORS_I64, SAFETENSORS_BF16, SAFETENSORS_U8 };

struct safetensor {
    const char *name;
    enum safetensors_dtype dtype;
    int dims; /* 0: a scalar */
    int64_t shape[SAFETENSORS_DIMS];
    const void *data; /* aligned to 64 bytes when read */
};

#define SAFETENSORS_ADVICE "scripts/csc_torch.py convert makes such a file of it"

const char *safetensors_type_name(enum safetensors_dtype dtype); /* "F32" */
int64_t safetensors_elements(const struct safetensor *tensor);
size_t safetensors_size(const struct safetensor *tensor); /* bytes */

/* Writes the tensors in their order to `path`, and fsyncs it. A file that exists is overwritten. The metadata is
 * {"format":"pt"}. STATUS_IO. */
enum status safetensors_write(const char *path, const struct safetensor *tensors, int count);

struct safetensors; /* an open file, with all of its tensors in memory */

/* Reads a file and checks it strictly: offsets must be contiguous and end at the end of the file, sizes must be those
 * of shape and type, and there are no unknown fields. STATUS_IO if it cannot be read, STATUS_DATA if malformed. */
enum status safetensors_open(struct safetensors **file, const char *path);
/* The same for an open stream of `bytes` bytes. Messages call it `name`. */
enum status safetensors_read(struct safetensors **file, const char *name, FILE *stream, uint64_t bytes);
void safetensors_close(struct safetensors *file); /* NULL is fine */

int safetensors_count(const struct safetensors *file);
const struct safetensor *safetensors_at(const struct safetensors *file, int index); /* in the order of the data */
const struct safetensor *safetensors_find(const struct safetensors *file, const char *name); /* NULL if absent */
/* Demands that `tensor` is there (NULL: it is not), is F32, has this shape (dims numbers, or none for a scalar) and
 * holds finite values only, and gives its values. `path` and `name` are for messages. STATUS_DATA names the tensor. */
enum status safetensors_require(const struct safetensor *tensor, const char *path, const char *name, int dims,
                                const int *shape, float **data);
/* Checks that an F32 tensor of the file at `path` holds finite values only. STATUS_DATA. */
enum status safetensors_check_finite(const char *path, const struct safetensor *tensor);
const char *safetensors_metadata(const struct safetensors *file, const char *key); /* NULL if absent */

#endif
