/* small_parts.c - linked into csc-train, makes states of a few thousand bytes large: ranks other than 0 write the
 * optimizer's. */
#include "trainer/train/training_parts.h"

static __attribute__((constructor)) void lower(void)
{
    checkpoint_part_bytes = 4096;
}
