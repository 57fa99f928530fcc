/* attack_pgd.c - projected gradient ascent: plain (Madry et al., ICLR 2018) and with adaptive step sizes (APGD:
 * Croce and Hein, ICML 2020). x, gradients and iterates are (count,S,S,3). */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "trainer/eval/attack_internal.h"

#define STEP_WEIGHT      0.75 /* APGD's weight of the new step */
#define MIN_RISING_SHARE 0.75 /* the step size is halved if a smaller share of the steps raises the loss */

/* Computes losses (count) and, unless direction is NULL, ascent directions at c->x, and sets c->fooled. */
static enum status evaluate_iterate(struct chunk *c, float *logits, float *dlogits, double *losses, float *direction)
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
            chunk_ascent_direction(c, i, direction);
    }
fail:
    return status;
}

/* Linf: uniform in the cube. L2: a random direction with a uniform length. APGD starts on the surface of the
 * ball. */
static void random_start(struct chunk *c, bool surface)
{
    for (int i = 0; i < c->count; i++) {
        struct philox stream = chunk_random_stream(c, i);
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
        TRY(evaluate_iterate(c, logits, dlogits, losses, direction));
        for (size_t j = 0; j < all; j++)
            c->x[j] += (float)(c->attack->step * direction[j]);
        for (int i = 0; i < c->count; i++)
            chunk_project(c, i, c->x + i * c->pixels);
    }
    TRY(evaluate_iterate(c, logits, dlogits, losses, NULL));
fail:
    free(direction);
    free(logits);
    free(dlogits);
    free(losses);
    return status;
}

/* ---- APGD ---- */

struct apgd {
    float *direction, *best_direction, *last_x, *best,
        *adversarial; /* images; adversarial: the first misclassified one */
    float *logits, *dlogits;
    double *losses, *previous, *best_loss, *checkpoint_loss, *step; /* (count) */
    int *rises;                     /* steps since the last check that raised the loss */
    bool *was_halved, *ever_fooled; /* at the last check; misclassified at any step so far */
};

static void free_apgd(struct apgd *a)
{
    float *images[] = { a->direction, a->best_direction, a->last_x, a->best, a->adversarial, a->logits, a->dlogits };
    double *per_image[] = { a->losses, a->previous, a->best_loss, a->checkpoint_loss, a->step };
    for (int i = 0; i < 7; i++)
        free(images[i]);
    for (int i = 0; i < 5; i++)
        free(per_image[i]);
    free(a->rises);
    free(a->was_halved);
    free(a->ever_fooled);
}

static enum status allocate_apgd(const struct chunk *c, struct apgd *a)
{
    enum status status = STATUS_OK;
    float **images[] = { &a->direction,   &a->best_direction, &a->last_x, &a->best,
                         &a->adversarial, &a->logits,         &a->dlogits };
    double **per_image[] = { &a->losses, &a->previous, &a->best_loss, &a->checkpoint_loss, &a->step };
    bool all = true;
    for (int i = 0; i < 7; i++)
        all = (*images[i] = calloc(c->count * (i < 5 ? c->pixels : (size_t)c->classes), sizeof(float))) && all;
    for (int i = 0; i < 5; i++)
        all = (*per_image[i] = calloc(c->count, sizeof(double))) && all;
    a->rises = calloc(c->count, sizeof *a->rises);
    a->was_halved = calloc(c->count, sizeof *a->was_halved);
    a->ever_fooled = calloc(c->count, sizeof *a->ever_fooled);
    if (!all || !a->rises || !a->was_halved || !a->ever_fooled)
        FAIL(STATUS_NOMEM, "out of memory for an attack");
fail:
    return status;
}

/* Keeps the iterate if it has the best loss so far, or is the first one that is misclassified. */
static void update_best(const struct chunk *c, struct apgd *a, int i, bool first)
{
    size_t at = i * c->pixels, bytes = c->pixels * sizeof(float);
    if (first || a->losses[i] > a->best_loss[i]) {
        a->best_loss[i] = a->losses[i];
        memcpy(a->best + at, c->x + at, bytes);
        memcpy(a->best_direction + at, a->direction + at, bytes);
    }
    if (c->fooled[i] && !a->ever_fooled[i]) {
        a->ever_fooled[i] = true;
        memcpy(a->adversarial + at, c->x + at, bytes);
    }
}

/* One step with momentum: x <- P(x + m (P(x + step d) - x) + (1 - m) (x - last_x)). */
static void momentum_step(struct chunk *c, struct apgd *a, int i, bool first)
{
    size_t at = i * c->pixels;
    float *x = c->x + at, *last_x = a->last_x + at;
    const float *d = a->direction + at;
    double weight = first ? 1 : STEP_WEIGHT;
    float *old = a->last_x + at; /* receives x */
    for (size_t j = 0; j < c->pixels; j++) {
        float here = x[j], last = first ? here : last_x[j];
        x[j] = (float)(here + a->step[i] * d[j]);
        old[j] = here;
        /* direction holds x - last_x for the second half of the step */
        a->direction[at + j] = here - last;
    }
    chunk_project(c, i, x);
    for (size_t j = 0; j < c->pixels; j++)
        x[j] = (float)(old[j] + weight * ((double)x[j] - old[j]) + (1 - weight) * a->direction[at + j]);
    chunk_project(c, i, x);
}

/* At a checkpoint of APGD: halves the step size and returns to the best iterate if too few steps raised the loss,
 * or if nothing has improved. */
static void adapt_step_size(struct chunk *c, struct apgd *a, int i, int period)
{
    bool stalled = a->rises[i] <= MIN_RISING_SHARE * period;
    bool stuck = !a->was_halved[i] && a->checkpoint_loss[i] >= a->best_loss[i];
    a->was_halved[i] = stalled || stuck;
    a->checkpoint_loss[i] = a->best_loss[i];
    a->rises[i] = 0;
    if (!a->was_halved[i])
        return;
    size_t at = i * c->pixels, bytes = c->pixels * sizeof(float);
    a->step[i] /= 2;
    memcpy(c->x + at, a->best + at, bytes);
    memcpy(a->direction + at, a->best_direction + at, bytes);
}

static int share_of_steps(double fraction, int steps)
{
    int count = (int)(fraction * steps);
    return count < 1 ? 1 : count;
}

enum status chunk_apgd(struct chunk *c)
{
    enum status status = STATUS_OK;
    struct apgd a = { 0 };
    int steps = c->attack->steps, period = share_of_steps(0.22, steps), steps_since_check = 0;
    int min_period = share_of_steps(0.06, steps), period_decrement = share_of_steps(0.03, steps);
    TRY(allocate_apgd(c, &a));
    random_start(c, true);
    TRY(evaluate_iterate(c, a.logits, a.dlogits, a.losses, a.direction));
    for (int i = 0; i < c->count; i++) {
        a.step[i] = 2 * c->attack->eps;
        update_best(c, &a, i, true);
        a.checkpoint_loss[i] = a.best_loss[i];
        a.was_halved[i] = true; /* so that only the share of rising steps counts at the first checkpoint */
    }
    for (int s = 0; s < steps; s++) {
        for (int i = 0; i < c->count; i++)
            momentum_step(c, &a, i, s == 0);
        memcpy(a.previous, a.losses, c->count * sizeof *a.losses);
        TRY(evaluate_iterate(c, a.logits, a.dlogits, a.losses, a.direction));
        for (int i = 0; i < c->count; i++) {
            a.rises[i] += a.losses[i] > a.previous[i];
            update_best(c, &a, i, false);
        }
        if (++steps_since_check < period)
            continue;
        for (int i = 0; i < c->count; i++)
            adapt_step_size(c, &a, i, period);
        steps_since_check = 0;
        period = period - period_decrement > min_period ? period - period_decrement : min_period;
    }
    for (int i = 0; i < c->count; i++) {
        memcpy(c->x + i * c->pixels, (a.ever_fooled[i] ? a.adversarial : a.best) + i * c->pixels,
               c->pixels * sizeof(float));
        c->fooled[i] = a.ever_fooled[i];
    }
fail:
    free_apgd(&a);
    return status;
}
