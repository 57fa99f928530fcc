/* image.cu - makes batches of images from bytes: crops, resizes, mirrors and normalises. */
#include "layers/backend/cuda/kernels/kernel.h"

enum { COLOURS = 3 };

/* A thread computes one output pixel from the source pixels under its filter; a block stores 256 pixels, 16 bytes at
 * a time. Cost, with f the factor of reduction: 3 f^2 bytes read (neighbours share cache lines), 6 written (bf16),
 * about 8 flops for each source pixel under the filter; half of the bandwidth, limited by the number of loads. */
struct prepare {
    const uint8_t *pixels;
    const struct image_crop *crops;
    int count, size;
    struct pixel_scale scale;
    void *out;
};

/* The source pixels [from, to) under the filter of an output pixel, and the filter's centre and half width. */
struct span {
    int from, to;
    float centre, half;
};

DEVICE struct span span_of(int at, int size, int begin, int end)
{
    struct span s;
    float scale = (float)(end - begin) / (float)size;
    s.half = scale > 1 ? scale : 1;
    s.centre = ((float)at + 0.5f) * scale;
    s.from = (int)(s.centre - s.half + 0.5f);
    s.to = (int)(s.centre + s.half + 0.5f);
    s.from = s.from > 0 ? s.from : 0;
    s.to = s.to < end - begin ? s.to : end - begin;
    return s;
}

DEVICE float triangle(const struct span *s, int i)
{
    float distance = fabsf((float)i + 0.5f - s->centre) / s->half;
    return distance < 1 ? 1 - distance : 0;
}

DEVICE float scaled_pixel(const struct pixel_scale *s, int c, float v)
{
    return v * s->scale_high[c] + s->offset_high[c] + (v * s->scale_low[c] + s->offset_low[c]);
}

/* Computes output pixel (y, x), counted before mirroring. */
DEVICE void resize_pixel(const struct prepare *a, const struct image_crop *crop, int y, int x, float *sum)
{
    struct span across = span_of(x, a->size, crop->left, crop->right),
                down = span_of(y, a->size, crop->top, crop->bottom);
    float weights = 0;
    for (int i = down.from; i < down.to; i++) {
        float row = triangle(&down, i);
        const uint8_t *line = a->pixels + crop->offset + ((size_t)(crop->top + i) * crop->width + crop->left) * COLOURS;
        for (int j = across.from; j < across.to; j++) {
            float weight = row * triangle(&across, j);
            weights += weight;
            for (int c = 0; c < COLOURS; c++)
                sum[c] += weight * (float)line[j * COLOURS + c];
        }
    }
    for (int c = 0; c < COLOURS; c++)
        sum[c] /= weights > 0 ? weights : 1;
}

/* The same if the cut has the size of the output. */
DEVICE void copy_pixel(const struct prepare *a, const struct image_crop *crop, int y, int x, float *sum)
{
    const uint8_t *from = a->pixels + crop->offset + ((size_t)(crop->top + y) * crop->width + crop->left + x) * COLOURS;
    for (int c = 0; c < COLOURS; c++)
        sum[c] = from[c];
}

DEVICE void prepare(const struct prepare *a, enum element type, int width)
{
    SHARED(float, colours, COLOURS *THREADS);
    unsigned area = (unsigned)a->size * a->size, pixel = blockIdx.x * THREADS + threadIdx.x;
    int y = (int)(pixel / a->size), x = (int)(pixel % a->size);
    for (int n = blockIdx.y; n < a->count; n += gridDim.y) {
        float sum[COLOURS] = { 0, 0, 0 };
        if (pixel < area) {
            const struct image_crop crop = a->crops[n];
            int source = crop.flip ? a->size - 1 - x : x;
            if (crop.right - crop.left == a->size && crop.bottom - crop.top == a->size)
                copy_pixel(a, &crop, y, source, sum);
            else
                resize_pixel(a, &crop, y, source, sum);
        }
        for (int c = 0; c < COLOURS; c++)
            colours[threadIdx.x * COLOURS + c] = scaled_pixel(&a->scale, c, sum[c]);
        __syncthreads();
        if (threadIdx.x < COLOURS * THREADS / VECTOR) {
            float v[VECTOR];
            size_t all = (size_t)area * COLOURS, i = (size_t)blockIdx.x * THREADS * COLOURS + threadIdx.x * VECTOR;
            for (int k = 0; k < VECTOR; k++)
                v[k] = colours[threadIdx.x * VECTOR + k];
            if (i < all)
                store_flat(a->out, n * all + i, (n + 1) * all, type, width, v);
        }
        __syncthreads();
    }
}
KERNELS(prepare, prepare)

void kernel_prepare_images(const struct queue *q, const void *raw, int count, int size, const struct pixel_scale *scale,
                           void *out)
{
    struct prepare a = { (const uint8_t *)raw, (const struct image_crop *)raw, count, size, *scale, out };
    size_t area = (size_t)size * size;
    int width = aligned16(out) && area * COLOURS % VECTOR == 0 ? VECTOR : 1; /* true of every image */
    RUN_TYPED(prepare, q->type, width, blocks_for(area), image_blocks(count), q, a);
}
