/* block.h - a block: a run of samples that is read, hashed and compressed as one piece.
 * Decompressed, it is a sequence of records (32-byte header + payload), data/format/FORMAT.md. A block of one large
 * rgbz image is several zstd frames, one per band of rows, so that a crop costs only the bands that it touches. */
#ifndef CSC_DATA_FORMAT_BLOCK_H
#define CSC_DATA_FORMAT_BLOCK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/status.h"
#include "data/format/format.h"
#include "data/image/image.h"

struct ZSTD_CCtx_s;
struct ZSTD_DCtx_s;

/* ---- writing: append records to a buffer, then compress runs of them ---- */

/* A sample to be packed. rgbz stores the pixels, jpeg the file; the sides are the decoded image's in both. */
struct record_input {
    int label, width, height;
    const uint8_t *pixels; /* (height, width, 3); rgbz only */
    const uint8_t *file;   /* a JPEG, or a PNG, as it is; jpeg only */
    size_t file_bytes;
};

/* Bytes of the record that record_write would write; at most LIMIT_BLOCK_BYTES is allowed in a block. */
size_t record_bytes(enum codec codec, const struct record_input *input);

/* Writes the record at `out`. */
void record_write(uint8_t *out, enum codec codec, const struct record_input *input);

/* Room that block_compress needs for the `samples` records (bytes in all) at raw. */
size_t block_bound(enum codec codec, const uint8_t *raw, size_t bytes, uint32_t samples);

/* Compresses the records into one block at `out`, *written bytes long, with the codec's own settings.
 * The same records give the same bytes. STATUS_NOMEM; STATUS_BUG if zstd fails otherwise. */
enum status block_compress(struct ZSTD_CCtx_s *zstd, enum codec codec, const uint8_t *raw, size_t bytes,
                           uint32_t samples, uint8_t *out, size_t capacity, size_t *written);

/* ---- reading: open a block, then take windows of its samples ---- */

struct block_sample {
    int label, width, height;
    int band_rows;        /* rgbz: rows of a band */
    size_t offset, bytes; /* of the payload in block.data; unused if the block is banded */
};

/* An open block; zero-initialised, it is empty. Buffers are kept from one opening to the next. */
struct block {
    enum codec codec;
    int count;
    struct block_sample *samples; /* (count) */
    uint8_t *data;                /* the records; banded: the frames as they lie in the file */
    const char *shard_path;       /* of the shard; and the block's number: for messages */
    uint32_t index;
    bool banded;    /* one sample, each band a frame */
    size_t *frames; /* banded: where each band's frame begins in data, and where the last one ends */
    size_t samples_capacity, data_capacity, frames_capacity; /* bytes */
};

/* Scratch of one thread; zero-initialised. */
struct block_reader {
    struct ZSTD_DCtx_s *zstd;
    uint8_t *compressed; /* the block as it lies in the file */
    uint8_t *band;       /* one band, decompressed */
    struct image image;  /* what block_decode_box returned */
    size_t compressed_capacity, band_capacity;
    double read_s; /* spent on reading and hashing */
    int64_t read_bytes, rereads;
};
void block_reader_finish(struct block_reader *reader);

/* What the table says of a block, for block_open. */
struct block_info {
    enum codec codec;
    size_t bytes, raw_bytes;
    uint32_t samples;
    int classes;            /* labels must be below */
    const char *shard_path; /* of the shard, which outlives the block, and the block's number: for messages */
    uint32_t index;
};

/* Parses the block in reader->compressed, whose hash has been compared, into *block; every length is checked. Takes
 * the buffer in exchange for another. STATUS_DATA, STATUS_NOMEM. */
enum status block_open(struct block *block, struct block_reader *reader, const struct block_info *facts);

/* The pixels of a box of a sample, which must lie inside it: (box.height, box.width, 3), owned by the reader and
 * valid until its next use. Only the bands, rows and columns that it needs are decoded. With shrink 2, 4 or 8 a JPEG is
 * decoded at that fraction of its size, which is not exact; others ignore it. STATUS_DATA, STATUS_NOMEM. */
enum status block_decode_box(const struct block *block, int sample, struct box box, int shrink,
                             struct block_reader *reader, struct view *view);
void block_finish(struct block *block);

#endif
