/* estimate.h - what packing a source with each codec would give, from a sample of its images. */
#ifndef CSC_DATA_WRITE_ESTIMATE_H
#define CSC_DATA_WRITE_ESTIMATE_H

#include "data/write/pack.h"

/* Of one codec; times are processor time of one thread, in seconds an image. */
struct estimate {
    int64_t images; /* looked at; bad ones are not counted */
    int64_t bad;
    double bytes, total; /* an image in a shard; all of the source */
    double pack_s;       /* decode, shrink, compress */
    double crop_s;       /* decode of a random-resized-crop to 224 */
};

/* Looks at about `images` images, in runs spread over the source. estimates[0] is of rgbz, [1] of jpeg, which stays
 * zero for sources that are no files. Of the options resize counts. STATUS_DATA if no image is good. */
enum status estimate_source(struct pack_source *source, const struct pack_options *options, int images,
                            struct estimate estimates[2]);

#endif
