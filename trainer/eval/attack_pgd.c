/* attack_pgd.c - projected gradient ascent: plain (Madry et al., ICLR 2018) and with adaptive steps (Croce and Hein,
 * ICML 2020). x, gradients and iterates (count,S,S,3). */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "trainer/eval/attack_internal.h"

#define MOMENTUM 0.75 /* of APGD: weight of the new step */
#define RISING   0.75 /* share of steps that must raise the loss, or the step size is halved */

/* Losses (count) and steepest directions at c->x; c->fooled tells of it. */
static enum status look(struct chunk *c, float *logits, float *dlogits, double *losses, float *direction)
{
    enum status status = STATUS_OK;
    TRY(victim_logits(c->victim, c->x, c->labels, c->count, logits));
    for (int i = 0; i < c->count; i++) {
        losses[i] = chunk_loss(c, i, logits, dlogits);
        c->fooled[i] = chunk_is_fooled(c, i, logits);
    }
    if (direction) {
        TRY(victim_gradient(c->victim, dlogits, c->count, c->attack->held, direction));
        for (int i = 0; i < c->count; i++)
            chunk_steepest(c, i, direction);
    }
fail:
    return status;
}

/* Linf: uniform in the cube; L2: a random direction, its length uniform. APGD starts on the ball's surface. */
static void random_start(struct chunk *c, bool surface)
{
    for (int i = 0; i < c->count; i++) {
        struct philox stream = chunk_stream(c, i);
        const float *clean = c->clean + i * c->pixels;
        float *x = c->x + i * c->pixels;
        bool l2 = c->attack->norm == ATTACK_L2;
        double size = 0;
        for (size_t j = 0; j < c->pixels; j++) {
            x[j] = (float)(l2 ? philox_normal(&stream) : 2 * philox_uniform(&stream) - 1);
            size = l2 ? size + (double)x[j] * x[j] : fmax(size, fabs(x[j]));
        }
        size = l2 ? sqrt(size) : surface ? size : 1;
        double scale = c->attack->eps / fmax(size, 1e-12) * (l2 && !surface ? philox_uniform(&stream) : 1);
        for (size_t j = 0; j < c->pixels; j++)
            x[j] = (float)(clean[j] + scale * x[j]);
        chunk_project(c, i, x);
    }
}

enum status chunk_pgd(struct chunk *c)
{
    enum status status = STATUS_OK;
    size_t all = c->count * c->pixels;
    float *direction = malloc(all * sizeof *direction),
          *logits = malloc((size_t)c->count * c->classes * sizeof *logits);
    float *dlogits = malloc((size_t)c->count * c->classes * sizeof *dlogits);
    double *losses = malloc(c->count * sizeof *losses);
    if (!direction || !logits || !dlogits || !losses)
        FAIL(STATUS_NOMEM, "out of memory for an attack");
    random_start(c, false);
    for (int s = 0; s < c->attack->steps; s++) {
        TRY(look(c, logits, dlogits, losses, direction));
        for (size_t j = 0; j < all; j++)
            c->x[j] += (float)(c->attack->step * direction[j]);
        for (int i = 0; i < c->count; i++)
            chunk_project(c, i, c->x + i * c->pixels);
    }
    TRY(look(c, logits, dlogits, losses, NULL));
fail:
    free(direction);
    free(logits);
    free(dlogits);
    free(losses);
    return status;
}

/* ---- APGD ---- */

struct apgd {
    float *direction, *best_direction, *before, *best, *found; /* images; found: adversarial, once there is one */
    float *logits, *dlogits;
    double *losses, *previous, *best_loss, *checked_loss, *step; /* (count) */
    int *rises;                                                  /* steps since the last check that raised the loss */
    bool *halved, *ever;                                         /* at the last check; fooled so far */
};

static void free_apgd(struct apgd *a)
{
    float *images[] = { a->direction, a->best_direction, a->before, a->best, a->found, a->logits, a->dlogits };
    double *numbers[] = { a->losses, a->previous, a->best_loss, a->checked_loss, a->step };
    for (int i = 0; i < 7; i++)
        free(images[i]);
    for (int i = 0; i < 5; i++)
        free(numbers[i]);
    free(a->rises);
    free(a->halved);
    free(a->ever);
}

static enum status allocate_apgd(const struct chunk *c, struct apgd *a)
{
    enum status status = STATUS_OK;
    float **images[] = { &a->direction, &a->best_direction, &a->before, &a->best, &a->found, &a->logits, &a->dlogits };
    double **numbers[] = { &a->losses, &a->previous, &a->best_loss, &a->checked_loss, &a->step };
    bool all = true;
    for (int i = 0; i < 7; i++)
        all = (*images[i] = calloc(c->count * (i < 5 ? c->pixels : (size_t)c->classes), sizeof(float))) && all;
    for (int i = 0; i < 5; i++)
        all = (*numbers[i] = calloc(c->count, sizeof(double))) && all;
    a->rises = calloc(c->count, sizeof *a->rises);
    a->halved = calloc(c->count, sizeof *a->halved);
    a->ever = calloc(c->count, sizeof *a->ever);
    if (!all || !a->rises || !a->halved || !a->ever)
        FAIL(STATUS_NOMEM, "out of memory for an attack");
fail:
    return status;
}

/* What the present iterate has reached. */
static void keep_best(const struct chunk *c, struct apgd *a, int i, bool first)
{
    size_t at = i * c->pixels, bytes = c->pixels * sizeof(float);
    if (first || a->losses[i] > a->best_loss[i]) {
        a->best_loss[i] = a->losses[i];
        memcpy(a->best + at, c->x + at, bytes);
        memcpy(a->best_direction + at, a->direction + at, bytes);
    }
    if (c->fooled[i] && !a->ever[i]) {
        a->ever[i] = true;
        memcpy(a->found + at, c->x + at, bytes);
    }
}

/* One step with momentum: x <- P(x + m (P(x + step d) - x) + (1 - m) (x - before)). */
static void move(struct chunk *c, struct apgd *a, int i, bool first)
{
    size_t at = i * c->pixels;
    float *x = c->x + at, *before = a->before + at;
    const float *d = a->direction + at;
    double weight = first ? 1 : MOMENTUM;
    float *old = a->before + at; /* becomes x */
    for (size_t j = 0; j < c->pixels; j++) {
        float here = x[j], last = first ? here : before[j];
        x[j] = (float)(here + a->step[i] * d[j]);
        old[j] = here;
        /* kept for the second half of the step */
        a->direction[at + j] = here - last;
    }
    chunk_project(c, i, x);
    for (size_t j = 0; j < c->pixels; j++)
        x[j] = (float)(old[j] + weight * ((double)x[j] - old[j]) + (1 - weight) * a->direction[at + j]);
    chunk_project(c, i, x);
}

/* At a checkpoint: halve the step and go back to the best point, if too few steps rose or nothing improved. */
static void check(struct chunk *c, struct apgd *a, int i, int period)
{
    bool stalled = a->rises[i] <= RISING * period;
    bool stuck = !a->halved[i] && a->checked_loss[i] >= a->best_loss[i];
    a->halved[i] = stalled || stuck;
    a->checked_loss[i] = a->best_loss[i];
    a->rises[i] = 0;
    if (!a->halved[i])
        return;
    size_t at = i * c->pixels, bytes = c->pixels * sizeof(float);
    a->step[i] /= 2;
    memcpy(c->x + at, a->best + at, bytes);
    memcpy(a->direction + at, a->best_direction + at, bytes);
}

static int at_least_one(double share, int steps)
{
    int count = (int)(share * steps);
    return count < 1 ? 1 : count;
}

enum status chunk_apgd(struct chunk *c)
{
    enum status status = STATUS_OK;
    struct apgd a = { 0 };
    int steps = c->attack->steps, period = at_least_one(0.22, steps), since = 0;
    int least = at_least_one(0.06, steps), shorter = at_least_one(0.03, steps);
    TRY(allocate_apgd(c, &a));
    random_start(c, true);
    TRY(look(c, a.logits, a.dlogits, a.losses, a.direction));
    for (int i = 0; i < c->count; i++) {
        a.step[i] = 2 * c->attack->eps;
        keep_best(c, &a, i, true);
        a.checked_loss[i] = a.best_loss[i];
        a.halved[i] = true; /* no second reason at the first checkpoint */
    }
    for (int s = 0; s < steps; s++) {
        for (int i = 0; i < c->count; i++)
            move(c, &a, i, s == 0);
        memcpy(a.previous, a.losses, c->count * sizeof *a.losses);
        TRY(look(c, a.logits, a.dlogits, a.losses, a.direction));
        for (int i = 0; i < c->count; i++) {
            a.rises[i] += a.losses[i] > a.previous[i];
            keep_best(c, &a, i, false);
        }
        if (++since < period)
            continue;
        for (int i = 0; i < c->count; i++)
            check(c, &a, i, period);
        since = 0;
        period = period - shorter > least ? period - shorter : least;
    }
    for (int i = 0; i < c->count; i++) {
        memcpy(c->x + i * c->pixels, (a.ever[i] ? a.found : a.best) + i * c->pixels, c->pixels * sizeof(float));
        c->fooled[i] = a.ever[i];
    }
fail:
    free_apgd(&a);
    return status;
}
