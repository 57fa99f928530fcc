/* safetensors.h - named tensors in a file, as PyTorch's `safetensors` reads and writes them:
 * u64 little-endian N, N bytes of JSON padded with spaces to 8, then the data without gaps. */
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
    int dims; /* 0 is a scalar */
    int64_t shape[SAFETENSORS_DIMS];
    const void *data; /* aligned to 64 bytes when read */
};

#define SAFETENSORS_ADVICE "scripts/csc_torch.py convert makes such a file of it"

const char *safetensors_type_name(enum safetensors_dtype dtype); /* "F32" */
int64_t safetensors_elements(const struct safetensor *tensor);
size_t safetensors_size(const struct safetensor *tensor); /* bytes */

/* Writes `path` in place and fsyncs it; the tensors' order is kept. Metadata is {"format":"pt"}. STATUS_IO. */
enum status safetensors_write(const char *path, const struct safetensor *tensors, int count);

struct safetensors; /* an open file: all of its tensors, in memory */

/* Strict: offsets contiguous and in range, the last equal to the end, sizes equal to shape times dtype, no
 * unknown fields. STATUS_IO if it cannot be read, STATUS_DATA if it is malformed. */
enum status safetensors_open(struct safetensors **file, const char *path);
/* The same from an open stream of `bytes`, named `name` in messages. */
enum status safetensors_read(struct safetensors **file, const char *name, FILE *stream, uint64_t bytes);
void safetensors_close(struct safetensors *file); /* NULL is fine */

int safetensors_count(const struct safetensors *file);
const struct safetensor *safetensors_at(const struct safetensors *file, int index); /* in the order of the data */
const struct safetensor *safetensors_find(const struct safetensors *file, const char *name); /* NULL if absent */
/* Checks that a tensor of the file at `path`, named `name` in messages, is F32 and has this shape: dims numbers, or
 * none for a scalar. STATUS_DATA names the tensor and both shapes. */
enum status safetensors_check_shape(const char *path, const char *name, const struct safetensor *tensor, int dims,
                                    const int *shape);
/* Checks that an F32 tensor of the file at `path` holds finite values only. STATUS_DATA. */
enum status safetensors_check_finite(const char *path, const struct safetensor *tensor);
const char *safetensors_metadata(const struct safetensors *file, const char *key); /* NULL if absent */

#endif
