/* block.h - a block: samples that are compressed, hashed and read together.
 * Decompressed, a block is a sequence of records, each a header of 32 bytes and a payload (FORMAT.md). A block of one
 * large rgbz image has a zstd frame for each band of rows, so that a crop decompresses only the bands it touches. */
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

/* ---- writing: put records one after the other into a buffer, then compress the buffer ---- */

/* A sample to be written. */
struct record_input {
    int label;
    int width, height;     /* of the decoded image, for both codecs */
    const uint8_t *pixels; /* (height, width, 3), for CODEC_RGBZ */
    const uint8_t *file;   /* a JPEG or PNG file, for CODEC_JPEG */
    size_t file_bytes;
};

/* The bytes that record_write writes. A block may hold at most LIMIT_BLOCK_BYTES. */
size_t record_bytes(enum codec codec, const struct record_input *input);

/* Writes a record, header and payload, to `out`. */
void record_write(uint8_t *out, enum codec codec, const struct record_input *input);

/* The capacity that block_compress needs for these records, `bytes` bytes and `samples` samples at `raw`. */
size_t block_bound(enum codec codec, const uint8_t *raw, size_t bytes, uint32_t samples);

/* Compresses the records at `raw` into one block of *written bytes at `out`. The same records give the same bytes.
 * Errors: STATUS_NOMEM; STATUS_BUG if zstd fails for another reason. */
enum status block_compress(struct ZSTD_CCtx_s *zstd, enum codec codec, const uint8_t *raw, size_t bytes,
                           uint32_t samples, uint8_t *out, size_t capacity, size_t *written);

/* ---- reading: open a block, then decode boxes of its samples ---- */

struct block_sample {
    int label;
    int width, height;
    int band_rows; /* CODEC_RGBZ: rows of each band but the last */
    size_t offset; /* of the payload in block.data; unused if the block is banded */
    size_t bytes;  /* of the payload */
};

/* An open block. A zero-initialised block is empty. Buffers are reused when the block is opened again. */
struct block {
    enum codec codec;
    int count;
    struct block_sample *samples; /* (count) */
    uint8_t *data;                /* the records; if banded, the frames as they lie in the file */
    const char *shard_path;       /* for messages; not owned */
    uint32_t index;               /* of the block in its shard, for messages */
    bool banded;                  /* one sample, with a zstd frame for each band */
    size_t *frames;               /* (bands + 1), if banded: where each frame begins in data, and where the last ends */
    size_t samples_capacity, data_capacity, frames_capacity; /* in bytes */
};

/* Scratch memory of one thread. Zero-initialise it; free it with block_reader_finish. */
struct block_reader {
    struct ZSTD_DCtx_s *zstd;
    uint8_t *compressed; /* the block as it is in the file */
    uint8_t *band;       /* one decompressed band */
    struct image image;  /* the pixels that block_decode_box returned */
    size_t compressed_capacity, band_capacity;
    /* What dataset_read_block read: seconds with the hashing, compressed bytes, and how many blocks had to be read
     * twice because their hash did not match. */
    double read_s;
    int64_t read_bytes, rereads;
};
void block_reader_finish(struct block_reader *reader);

/* What a shard's table says of a block, for block_open. */
struct block_info {
    enum codec codec;
    size_t bytes, raw_bytes; /* compressed and decompressed */
    uint32_t samples;
    int classes;            /* labels must be below */
    const char *shard_path; /* for messages; must outlive the block */
    uint32_t index;         /* of the block in its shard, for messages */
};

/* Opens the block in reader->compressed, whose hash the caller has compared. Every length is checked. The block may
 * take over the reader's buffer and give its own for it. Errors: STATUS_DATA, STATUS_NOMEM. */
enum status block_open(struct block *block, struct block_reader *reader, const struct block_info *info);

/* Decodes a box of a sample, which must lie inside the image. *view is (box.height, box.width, 3), owned by the reader
 * and valid until its next use. Only the bands, rows and columns that the box needs are decoded. With a shrink of 2, 4
 * or 8 a JPEG is decoded at that fraction of its size, as decode_jpeg_window does; other images ignore shrink.
 * Errors: STATUS_DATA, STATUS_NOMEM. */
enum status block_decode_box(const struct block *block, int sample, struct box box, int shrink,
                             struct block_reader *reader, struct view *view);

/* Frees the buffers. */
void block_finish(struct block *block);

#endif
