/* pack.h - from a source of samples to a dataset: reading, decoding and compression in worker threads, writing in
 * the caller's.  The result depends on the samples and the options only: not on the number of workers, and not on
 * how often the packing was interrupted and taken up again. */
#ifndef CSC_DATA_WRITE_PACK_H
#define CSC_DATA_WRITE_PACK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/status.h"
#include "data/image/image_notes.h"
#include "data/write/pack_options.h"
#include "data/write/pack_source.h"

struct pack_report {
    int64_t samples, skipped, non_images;
    int64_t resumed_at; /* samples of the source that were in before */
    int64_t notes[IMAGE_NOTES];
    uint64_t bytes, raw_bytes;
    double seconds;
};

/* The samples [*first, *end) of a source that a part packs: whole groups of samples, so that blocks do not depend on
 * the parts. STATUS_USAGE if it has none. */
enum status pack_range(const struct pack_options *options, int64_t total, int64_t *first, int64_t *end);

enum status pack_dataset(struct pack_source *source, const char *directory, const struct pack_options *options,
                         struct pack_report *report);

#endif
