/* pack.h - packs a source of samples into a dataset. Worker threads read, decode and compress; the caller's thread
 * writes. The result depends only on the samples and the options, not on the number of workers or on interruptions. */
#ifndef CSC_DATA_WRITE_PACK_H
#define CSC_DATA_WRITE_PACK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/status.h"
#include "data/image/image_notes.h"
#include "data/write/pack_options.h"
#include "data/write/pack_source.h"

struct dataset_writer;

/* What a packing did. The counts include the work of earlier, interrupted processes. */
struct pack_report {
    int64_t samples;
    int64_t skipped;            /* samples that could not be read or decoded */
    int64_t non_images;         /* files that are not named as images */
    int64_t resumed_at;         /* samples of the source that earlier processes had dealt with */
    int64_t notes[IMAGE_NOTES]; /* samples with each note */
    uint64_t bytes, raw_bytes;  /* of all blocks, compressed and not */
    double seconds;
};

/* Sets the counts of a report to what was written; seconds and resumed_at stay. */
void pack_report_fill(struct pack_report *report, const struct dataset_writer *writer);

/* Finds the samples [*first, *end) of a source that a part packs: all of them if options->parts is 0. A part consists
 * of whole groups of samples, so that blocks do not depend on the parts. STATUS_USAGE if there is no sample for it. */
enum status pack_range(const struct pack_options *options, int64_t total, int64_t *first, int64_t *end);

/* Packs the source into `directory`, or continues a packing of the same source and options that was interrupted there.
 * STATUS_DATA for a sample that cannot be read or decoded, unless options->skip_bad; STATUS_USAGE if the folder holds
 * something else and options->force is false; STATUS_IO, STATUS_NOMEM. */
enum status pack_dataset(struct pack_source *source, const char *directory, const struct pack_options *options,
                         struct pack_report *report);

#endif
