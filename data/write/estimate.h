/* estimate.h - estimates the size and cost of packing a source with each codec, from a sample of its images. */
#ifndef CSC_DATA_WRITE_ESTIMATE_H
#define CSC_DATA_WRITE_ESTIMATE_H

#include "data/write/pack.h"

/* For one codec. Times are processor time of one thread, in seconds per image. */
struct estimate {
    int64_t images; /* readable images in the sample */
    int64_t bad;    /* images of the sample that cannot be read */
    double bytes;   /* per image in a shard */
    double total;   /* bytes of the whole source when packed */
    double pack_s;  /* to decode, shrink and compress */
    double crop_s;  /* to decode a random resized crop to 224 x 224 pixels */
};

/* Packs about `images` images in memory, taken in runs from all over the source. estimates[0] is for rgbz, estimates[1]
 * for jpeg; the latter stays zero if the source does not give files. Of the options only the size of the images
 * (resize, resize_to) is used. STATUS_DATA if no image can be read. */
enum status estimate_source(struct pack_source *source, const struct pack_options *options, int images,
                            struct estimate estimates[2]);

#endif
