/* gradient_sink.h - who is told when gradients are final: a backward pass calls it, buckets implement it. */
#ifndef CSC_BASE_GRADIENT_SINK_H
#define CSC_BASE_GRADIENT_SINK_H

#include <stdbool.h>

#include "base/status.h"

/* Parts are numbered 0, 1, 2 ... in the order in which a pass finishes them. */
struct gradient_sink {
    /* The part is final: all work that leads to it has been launched. Called once for each part, in order. */
    enum status (*ready)(void *context, int part);
    /* Whether `ready` acts on the part at once. Otherwise its call may come late, but still in order. The answer for a
     * part never changes. */
    bool (*must_flush)(void *context, int part);
    void *context;
};

#endif
