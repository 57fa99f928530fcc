/* pack_options.h - how a source is packed. */
#ifndef CSC_DATA_WRITE_PACK_OPTIONS_H
#define CSC_DATA_WRITE_PACK_OPTIONS_H

#include <stdbool.h>
#include <stdint.h>

#include "data/format/format.h"

enum resize_side { RESIZE_NONE, RESIZE_SHORT, RESIZE_LONGEST };

struct pack_options {
    int workers;
    bool force;        /* replace a dataset, or another packing's beginning */
    bool keep_journal; /* until dataset_writer_remove_journal */
    bool skip_bad;
    enum codec codec;        /* 0: CODEC_RGBZ */
    enum resize_side resize; /* shrinks; smaller images stay as they are */
    int resize_to;
    int part, parts;      /* this part, from 1, of so many; 0, 0: all */
    uint64_t shard_bytes; /* 0: SHARD_TARGET */
    const char *made_by;
};

#endif
