/* safetensors_internal.h - the table of types, which reading and writing share. */
#ifndef CSC_TRAINER_CHECKPOINT_SAFETENSORS_INTERNAL_H
#define CSC_TRAINER_CHECKPOINT_SAFETENSORS_INTERNAL_H

#include <stddef.h>

#include "trainer/checkpoint/safetensors.h"

enum { SAFETENSORS_TYPES = SAFETENSORS_U8 + 1 };

struct safetensors_type {
    const char *name;
    size_t bytes;
};

extern const struct safetensors_type safetensors_types[SAFETENSORS_TYPES]; /* by enum safetensors_dtype */

#endif
