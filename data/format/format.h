/* format.h - constants of the csz format and its little-endian integers. FORMAT.md describes the format to the byte. */
#ifndef CSC_DATA_FORMAT_FORMAT_H
#define CSC_DATA_FORMAT_FORMAT_H

#include <stddef.h>
#include <stdint.h>

#define FORMAT_VERSION 2
#define FORMAT_MAGIC   "\211CSZ\r\n\032\n" /* 8 bytes, 89 43 53 5a 0d 0a 1a 0a */

enum { SHARD_HEADER_BYTES = 64, SHARD_ENTRY_BYTES = 32, RECORD_HEADER_BYTES = 32 };

/* How the payload of a sample is stored. */
enum codec {
    CODEC_RGBZ = 1, /* as pixels, transformed without loss by rgbz.h */
    CODEC_JPEG = 2, /* as an image file: a JPEG, rarely a PNG */
};

/* Rows that rgbz codes together. A block of one image with more rows has a zstd frame for each such band. */
#define BAND_ROWS 64

/* Limits that a reader enforces. */
#define LIMIT_INDEX_BYTES   ((size_t)256 << 20)
#define LIMIT_SIDE          65500      /* pixels, the limit of libjpeg */
#define LIMIT_PIXELS        (1u << 27) /* of one image */
#define LIMIT_BLOCK_BYTES   (1u << 29) /* decompressed; the largest image fits */
#define LIMIT_SHARD_SAMPLES (1u << 28)
#define LIMIT_CLASSES       1000000
#define LIMIT_NAME          255 /* bytes of a class name */

/* Sizes that csc-pack aims at. */
#define BLOCK_TARGET (64u << 10)           /* decompressed bytes of a block; a larger image has a block of its own */
#define SHARD_TARGET ((uint64_t)512 << 20) /* bytes of a shard's file */

static inline uint16_t get16(const uint8_t *p)
{
    return (uint16_t)(p[0] | p[1] << 8);
}

static inline uint32_t get32(const uint8_t *p)
{
    return p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

static inline uint64_t get64(const uint8_t *p)
{
    return get32(p) | (uint64_t)get32(p + 4) << 32;
}

static inline void put32(uint8_t *p, uint32_t value)
{
    for (int i = 0; i < 4; i++)
        p[i] = (uint8_t)(value >> 8 * i);
}

static inline void put64(uint8_t *p, uint64_t value)
{
    put32(p, (uint32_t)value);
    put32(p + 4, (uint32_t)(value >> 32));
}

#endif
