/* attack_square.c - Square Attack for Linf (Andriushchenko et al., ECCV 2020): random search over squares whose
 * side shrinks on a schedule. A change is kept if it lowers the margin. The attack needs only logits. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "trainer/eval/attack_internal.h"

#define INITIAL_AREA 0.8 /* share of the image's area */
enum { CHANNELS = 3, SCHEDULE_QUERIES = 10000 /* the schedule below is for this number of queries */ };

/* The share of the image's area at a query. It is halved at the queries of the schedule. */
static double area_share(int query, int queries)
{
    static const int halvings[] = { 10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000 };
    double at = (double)query / queries * SCHEDULE_QUERIES, area = INITIAL_AREA;
    for (int i = 0; i < 9; i++)
        area /= at > halvings[i] ? 2 : 1;
    return area;
}

static float random_sign(struct philox *stream)
{
    return philox_u32(stream) & 1 ? 1 : -1;
}

/* Starts with vertical stripes of one pixel, with a random sign for each channel. */
static void initial_stripes(struct chunk *c, int i, int side, struct philox *stream)
{
    float *x = c->x + i * c->pixels;
    for (int k = 0; k < side * CHANNELS; k++) {
        float change = (float)c->attack->eps * random_sign(stream);
        for (int y = 0; y < side; y++)
            x[(size_t)y * side * CHANNELS + k] = c->clean[i * c->pixels + (size_t)y * side * CHANNELS + k] + change;
    }
    chunk_project(c, i, x);
}

/* Proposes a change: a square moved by 2 eps, in each channel up or down as a whole. */
static void propose_square(struct chunk *c, int i, int side, double area, struct philox *stream, const float *current)
{
    float *x = c->x + i * c->pixels;
    int edge = (int)nearbyint(sqrt(area * side * side));
    edge = edge < 1 ? 1 : edge > side ? side : edge;
    int top = (int)philox_below(stream, (uint32_t)(side - edge + 1));
    int left = (int)philox_below(stream, (uint32_t)(side - edge + 1));
    memcpy(x, current + i * c->pixels, c->pixels * sizeof *x);
    for (int k = 0; k < CHANNELS; k++) {
        float change = 2 * (float)c->attack->eps * random_sign(stream);
        for (int y = top; y < top + edge; y++)
            for (int u = left; u < left + edge; u++)
                x[((size_t)y * side + u) * CHANNELS + k] += change;
    }
    chunk_project(c, i, x);
}

enum status chunk_square(struct chunk *c)
{
    enum status status = STATUS_OK;
    int side = c->victim->model->edges[0].w, remaining = c->count;
    float *current = malloc(c->count * c->pixels * sizeof *current),
          *logits = malloc((size_t)c->count * c->classes * sizeof *logits);
    float *dlogits = malloc((size_t)c->count * c->classes * sizeof *dlogits);
    double *losses = malloc(c->count * sizeof *losses);
    struct philox *streams = malloc(c->count * sizeof *streams);
    if (!current || !logits || !dlogits || !losses || !streams)
        FAIL(STATUS_NOMEM, "out of memory for an attack");
    memset(c->fooled, 0, c->count * sizeof *c->fooled);
    for (int i = 0; i < c->count; i++) {
        streams[i] = chunk_random_stream(c, i);
        losses[i] = -INFINITY;
    }
    for (int q = 0; q < c->attack->queries && remaining > 0; q++) {
        for (int i = 0; i < c->count; i++)
            if (q == 0)
                initial_stripes(c, i, side, &streams[i]);
            else if (!c->fooled[i])
                propose_square(c, i, side, area_share(q, c->attack->queries), &streams[i], current);
        TRY(victim_logits(c->victim, c->x, c->labels, c->count, logits));
        for (int i = 0; i < c->count; i++) {
            double loss = c->fooled[i] ? -INFINITY : chunk_loss(c, i, logits, dlogits);
            if (!(loss > losses[i]) && !(q == 0))
                continue;
            losses[i] = loss;
            memcpy(current + i * c->pixels, c->x + i * c->pixels, c->pixels * sizeof *current);
            c->fooled[i] = c->fooled[i] || chunk_is_fooled(c, i, logits);
        }
        remaining = 0;
        for (int i = 0; i < c->count; i++)
            remaining += !c->fooled[i];
    }
    memcpy(c->x, current, c->count * c->pixels * sizeof *current);
fail:
    free(current);
    free(logits);
    free(dlogits);
    free(losses);
    free(streams);
    return status;
}
