/* pool.h - shared by the kernels of max pooling. */
#ifndef CSC_LAYERS_BACKEND_CUDA_KERNELS_POOL_H
#define CSC_LAYERS_BACKEND_CUDA_KERNELS_POOL_H

#include "layers/backend/cuda/kernels/kernel.h"

enum { PATCH = 2 }; /* backward, a thread has PATCH x PATCH pixels */

/* v limited to 0 .. size - 1. */
DEVICE int clamped(int v, int size)
{
    return v < 0 ? 0 : v < size ? v : size - 1;
}

/* The index of the first window that contains row (or column) v. */
DEVICE int first_window(const struct pool_shape *s, int v)
{
    int beyond = v + s->pad - s->k; /* windows that begin at this row (padded) or before end before v */
    return beyond < 0 ? 0 : beyond / s->stride + 1;
}

/* For each channel, the largest sign * x in the window that begins at (top, left), and its position, k row + column.
 * A pixel outside the image is replaced by the nearest one inside, which is also in the window, so that the maximum
 * is the same. */
DEVICE void best_of_window(const struct pool_shape *s, const void *x, size_t image, int top, int left, int c,
                           enum element type, int width, const float *sign, float *best, int *at)
{
    float v[VECTOR];
    for (int dy = 0; dy < s->k; dy++)
        for (int dx = 0; dx < s->k; dx++) {
            int row = clamped(top + dy, s->h), column = clamped(left + dx, s->w);
            load(x, (image + row * s->w + column) * s->c + c, type, width, v);
            for (int i = 0; i < width; i++)
                if ((dy == 0 && dx == 0) || sign[i] * v[i] > best[i]) {
                    best[i] = sign[i] * v[i];
                    at[i] = (row - top) * s->k + column - left;
                }
        }
}

/* The same for windows of 3 x 3 pixels, all of which are fetched before the first is used. */
DEVICE void best_of_nine(const struct pool_shape *s, const void *x, size_t image, int top, int left, int c,
                         enum element type, int width, const float *sign, float *best, int *at)
{
    struct packed pixels[9];
    float v[VECTOR];
    for (int p = 0; p < 9; p++)
        pixels[p] = fetch(x, (image + clamped(top + p / 3, s->h) * s->w + clamped(left + p % 3, s->w)) * s->c + c, type,
                          width);
    for (int p = 0; p < 9; p++) {
        int position = (clamped(top + p / 3, s->h) - top) * 3 + clamped(left + p % 3, s->w) - left;
        unpack(&pixels[p], type, width, v);
        for (int i = 0; i < width; i++)
            if (p == 0 || sign[i] * v[i] > best[i]) {
                best[i] = sign[i] * v[i];
                at[i] = position;
            }
    }
}

/* The work of a backward thread: channels from c on of PATCH x PATCH pixels from (y, x) on, and the windows that
 * contain them. */
struct patch {
    int c, y, x;
    int from_i, to_i, from_j, to_j; /* the windows, both ends included */
};

/* Returns false if the thread has no work. Images are blockIdx.y. */
DEVICE bool patch_of(const struct pool_shape *s, int oh, int ow, int width, struct patch *p)
{
    unsigned groups = s->c / width, t = blockIdx.x * THREADS + threadIdx.x, patch = t / groups;
    unsigned across = (s->w + PATCH - 1) / PATCH, down = (s->h + PATCH - 1) / PATCH;
    if (patch >= across * down)
        return false;
    p->c = (int)(t % groups) * width, p->x = (int)(patch % across) * PATCH, p->y = (int)(patch / across) * PATCH;
    p->from_i = first_window(s, p->y), p->to_i = clamped((p->y + PATCH - 1 + s->pad) / s->stride, oh);
    p->from_j = first_window(s, p->x), p->to_j = clamped((p->x + PATCH - 1 + s->pad) / s->stride, ow);
    return true;
}

static inline size_t patch_blocks(const struct pool_shape *s, int width)
{
    size_t patches = (size_t)((s->h + PATCH - 1) / PATCH) * ((s->w + PATCH - 1) / PATCH);
    return blocks_for(patches * (s->c / width));
}

#endif
