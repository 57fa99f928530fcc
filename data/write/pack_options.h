/* pack_options.h - how a source is packed. */
#ifndef CSC_DATA_WRITE_PACK_OPTIONS_H
#define CSC_DATA_WRITE_PACK_OPTIONS_H

#include <stdbool.h>
#include <stdint.h>

#include "data/format/format.h"

enum resize_side { RESIZE_NONE, RESIZE_SHORT, RESIZE_LONGEST };

struct pack_options {
    int workers;             /* threads */
    bool force;              /* replace a dataset, or what another packing began */
    bool keep_journal;       /* until dataset_writer_remove_journal is called */
    bool skip_bad;           /* leave out samples that cannot be read, instead of failing */
    enum codec codec;        /* 0: CODEC_RGBZ */
    enum resize_side resize; /* the side that is shrunk to resize_to; smaller images stay as they are */
    int resize_to;           /* pixels */
    int part, parts;         /* part K of N, counted from 1; 0, 0: all */
    uint64_t shard_bytes;    /* size at which a shard is full; 0: SHARD_TARGET */
    const char *made_by;     /* for the index; says what the result depends on besides the input */
};

#endif
