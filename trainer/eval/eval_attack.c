/* eval_attack.c - runs the attacks, and checks for masked gradients: whether a network is robust or its gradients
 * only mislead the attack (Athalye et al., ICML 2018; Carlini et al. 2019). A failed check is a warning and
 * changes no result. */
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "trainer/eval/eval.h"
#include "trainer/model/load_model.h"

enum {
    CHECK_IMAGES = 100,
    CHECK_STEPS = 5 /* times the steps of the attack */,
    UNBOUNDED_STEPS = 50,
    CHECK_QUERIES = 500,
    MAX_WARNINGS = 400
};

/* ---- images ---- */

static void free_set(struct attack_set *set)
{
    free(set->images);
    free(set->labels);
    free(set->ids);
    free(set->adversarial);
    *set = (struct attack_set){ 0 };
}

/* Restores the 8-bit pixels before normalisation, as multiples of 1/255. */
static void denormalize(const struct eval *e, const float *normalised, size_t values, float *out)
{
    for (size_t i = 0; i < values; i++)
        out[i] = (float)(nearbyint((normalised[i] * e->config->data.std[i % 3] + e->config->data.mean[i % 3]) * 255) /
                         255);
}

/* Loads all images of this rank. */
static enum status load_images(const struct eval *e, const struct victim *victim, struct attack_set *set)
{
    enum status status = STATUS_OK;
    struct loader *loader = NULL;
    const struct micro_batch *batch;
    size_t pixels = victim_pixels(victim);
    int64_t capacity = e->images / e->comm->size +
                       2 * (int64_t)e->config->eval.batch; /* ranks differ by at most one batch */
    set->images = malloc((size_t)capacity * pixels * sizeof *set->images);
    set->adversarial = malloc((size_t)capacity * pixels * sizeof *set->adversarial);
    set->labels = malloc((size_t)capacity * sizeof *set->labels);
    set->ids = malloc((size_t)capacity * sizeof *set->ids);
    if (!set->images || !set->adversarial || !set->labels || !set->ids)
        FAIL(STATUS_NOMEM, "out of memory for %lld images to attack; give a smaller --limit", (long long)capacity);
    TRY(eval_open_loader(e, NULL, &loader));
    for (;;) {
        TRY(loader_next(loader, &batch));
        int used = batch ? evaluate_images_within(batch, e->images) : 0;
        if (used == 0)
            break;
        for (int i = 0; i < used; i++) {
            denormalize(e, batch->images + i * pixels, pixels, set->images + (size_t)set->count * pixels);
            set->labels[set->count] = batch->labels[i];
            set->ids[set->count++] = batch->ids[i];
        }
    }
fail:
    loader_destroy(loader);
    return status;
}

/* ---- attacks ---- */

struct eval_attacks {
    struct eval *e;
    struct net *net;
    struct adaptive *adaptive;
    struct victim victim;
    struct attack_set images, check_images; /* check_images: the first of `images`, whose arrays it uses */
};

static enum status run_attack(struct eval_attacks *a, const struct attack *attack, int lambda,
                              const struct attack_set *set, const char *phase, struct attack_result *result)
{
    enum status status = STATUS_OK;
    struct eval *e = a->e;
    const struct lambda_setting *setting = &e->options.lambdas[lambda];
    a->victim.adaptive = setting->mode == LAMBDA_ADAPTIVE ? a->adaptive : NULL;
    TRY(comm_agree(e->comm, eval_set_lambda(e, a->net, setting)));
    TRY(comm_agree(e->comm, attack_run(&a->victim, attack, e->options.seed, set, e->progress, phase, result)));
    double sums[] = { (double)result->images, (double)result->clean, (double)result->robust };
    TRY(e->comm->ops->all_reduce_f64(e->comm, sums, 3));
    result->images = (int64_t)sums[0];
    result->clean = (int64_t)sums[1];
    result->robust = (int64_t)sums[2];
fail:
    return status;
}

static double robust_percent(const struct attack_result *r)
{
    return r->images ? 100.0 * (double)r->robust / (double)r->images : 0;
}

/* ---- checks ---- */

static void warn(struct eval *e, const char *format, ...) __attribute__((format(printf, 2, 3)));
static void warn(struct eval *e, const char *format, ...)
{
    if (e->warnings_count == MAX_WARNINGS)
        return;
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(e->warnings[e->warnings_count], sizeof e->warnings[0], format, arguments);
    va_end(arguments);
    if (e->comm->rank == 0)
        log_warn("%s", e->warnings[e->warnings_count]);
    e->warnings_count++;
}

/* The PGD attack with the same norm and radius, with which the checks compare. */
static struct attack reference_pgd(const struct attack *attack)
{
    struct attack pgd = *attack;
    if (attack->kind == ATTACK_PGD) {
        pgd.restarts = 1;
        return pgd;
    }
    return (struct attack){ .kind = ATTACK_PGD,
                            .norm = attack->norm,
                            .eps = attack->eps,
                            .step = attack->eps / 4,
                            .steps = 20,
                            .restarts = 1,
                            .held = attack->held };
}

static enum status check_steps(struct eval_attacks *a, const struct attack *pgd, int lambda,
                               const struct attack_result *base)
{
    enum status status = STATUS_OK;
    struct attack longer = *pgd;
    struct attack_result result;
    longer.steps *= CHECK_STEPS;
    TRY(run_attack(a, &longer, lambda, &a->check_images, "check: more steps", &result));
    if (result.robust > base->robust)
        warn(a->e, "masked gradients? %d steps leave %.1f%%, %d steps %.1f%%: more steps should never help the network",
             pgd->steps, robust_percent(base), longer.steps, robust_percent(&result));
fail:
    return status;
}

static enum status check_unbounded(struct eval_attacks *a, const struct attack *pgd, int lambda)
{
    enum status status = STATUS_OK;
    struct attack wide = *pgd;
    struct attack_result result;
    wide.eps = pgd->norm == ATTACK_L2 ? sqrt((double)victim_pixels(&a->victim)) : 1;
    wide.step = wide.eps / 10;
    wide.steps = UNBOUNDED_STEPS;
    TRY(run_attack(a, &wide, lambda, &a->check_images, "check: no bound", &result));
    if (result.robust > 0)
        warn(a->e, "masked gradients? without a bound on the perturbation %.1f%% are still classified right",
             robust_percent(&result));
fail:
    return status;
}

static enum status check_black_box(struct eval_attacks *a, const struct attack *pgd, int lambda,
                                   const struct attack_result *base)
{
    enum status status = STATUS_OK;
    struct attack square = { .kind = ATTACK_SQUARE, .eps = pgd->eps, .queries = CHECK_QUERIES, .restarts = 1 };
    struct attack_result result;
    if (pgd->norm != ATTACK_LINF)
        return STATUS_OK; /* Square is for Linf only */
    TRY(run_attack(a, &square, lambda, &a->check_images, "check: black box", &result));
    if (result.robust < base->robust)
        warn(a->e, "masked gradients? %d queries without gradients leave %.1f%%, PGD %.1f%%", CHECK_QUERIES,
             robust_percent(&result), robust_percent(base));
fail:
    return status;
}

/* Counts the adversarial images of check_images that this setting still classifies correctly, among those that it
 * classifies correctly without attack. */
static enum status classify_transferred(struct eval_attacks *a, int lambda, struct attack_result *result)
{
    enum status status = STATUS_OK;
    struct attack none = { .kind = ATTACK_PGD, .steps = 1, .restarts = 1 }; /* a radius of 0 only classifies */
    struct attack_set moved = a->check_images;
    moved.images = a->check_images.adversarial;
    moved.adversarial = NULL;
    TRY(run_attack(a, &none, lambda, &moved, NULL, result));
fail:
    return status;
}

/* Compares with images that were attacked at the training lambda. */
static enum status check_transfer(struct eval_attacks *a, const struct attack *pgd, int lambda,
                                  const struct attack_result *base)
{
    enum status status = STATUS_OK;
    struct eval *e = a->e;
    struct lambda_setting kept = e->options.lambdas[lambda];
    struct attack_result result;
    if (kept.mode == LAMBDA_TRAINED)
        return STATUS_OK;
    e->options.lambdas[lambda] = (struct lambda_setting){ .mode = LAMBDA_TRAINED, .value = e->config->csc.lambda };
    status = run_attack(a, pgd, lambda, &a->check_images, "check: transfer", &result);
    e->options.lambdas[lambda] = kept;
    TRY(status);
    TRY(classify_transferred(a, lambda, &result));
    if (result.robust < base->robust)
        warn(a->e,
             "masked gradients? images made against lambda %.3g leave %.1f%%, those made against this setting %.1f%%",
             e->config->csc.lambda, robust_percent(&result), robust_percent(base));
fail:
    return status;
}

static enum status check_held(struct eval_attacks *a, const struct attack *pgd, int lambda,
                              const struct attack_result *base)
{
    enum status status = STATUS_OK;
    struct attack other = *pgd;
    struct attack_result result;
    if (a->e->options.lambdas[lambda].mode != LAMBDA_ADAPTIVE)
        return STATUS_OK;
    other.held = !other.held;
    TRY(run_attack(a, &other, lambda, &a->check_images, "check: lambda(x) held", &result));
    const struct attack_result *held = other.held ? &result : base, *through = other.held ? base : &result;
    if (a->e->progress)
        log_info("check: gradient through lambda(x) leaves %.1f%%, with lambda(x) held %.1f%%", robust_percent(through),
                 robust_percent(held));
    if (held->robust < through->robust)
        warn(a->e,
             "masked gradients? with lambda(x) held the attack leaves %.1f%%, through lambda(x) %.1f%%: take the lower",
             robust_percent(held), robust_percent(through));
fail:
    return status;
}

static enum status run_checks(struct eval_attacks *a, const struct attack *attack, int lambda)
{
    enum status status = STATUS_OK;
    struct attack pgd = reference_pgd(attack);
    struct attack_result base;
    TRY(run_attack(a, &pgd, lambda, &a->check_images, "check", &base));
    TRY(check_steps(a, &pgd, lambda, &base));
    TRY(check_unbounded(a, &pgd, lambda));
    TRY(check_black_box(a, &pgd, lambda, &base));
    TRY(check_transfer(a, &pgd, lambda, &base));
    TRY(check_held(a, &pgd, lambda, &base));
fail:
    return status;
}

/* The checks run once for every norm, radius and setting. */
static bool already_checked(const struct eval *e, int index)
{
    for (int i = 0; i < index; i++)
        if (e->options.attacks[i].norm == e->options.attacks[index].norm &&
            e->options.attacks[i].eps == e->options.attacks[index].eps)
            return true;
    return e->options.attacks[index].eps == 0;
}

/* ---- all of it ---- */

static enum status prepare_attacks(struct eval_attacks *a)
{
    enum status status = STATUS_OK;
    struct eval *e = a->e;
    int n = e->config->eval.batch;
    TRY(net_create(&a->net, e->model, n, NET_INPUT_GRADIENT));
    TRY(net_allocate(a->net));
    if (e->adaptive)
        TRY(adaptive_create(&a->adaptive, e->model, n, &e->rule.line, e->layers, true));
    TRY(victim_init(&a->victim, a->net, e->model, n, e->config->data.mean, e->config->data.std));
    TRY(load_images(e, &a->victim, &a->images));
    a->check_images = a->images;
    for (a->check_images.count = 0;
         a->check_images.count < a->images.count && a->images.ids[a->check_images.count] < CHECK_IMAGES;)
        a->check_images.count++;
    e->attack_outcomes = calloc((size_t)e->options.attacks_count * e->options.lambdas_count,
                                sizeof *e->attack_outcomes);
    e->warnings = calloc(MAX_WARNINGS, sizeof *e->warnings);
    if (!e->attack_outcomes || !e->warnings)
        FAIL(STATUS_NOMEM, "out of memory for the results");
fail:
    return status;
}

enum status eval_run_attacks(struct eval *e)
{
    enum status status = STATUS_OK;
    struct eval_attacks a = { .e = e };
    TRY(comm_agree(e->comm, prepare_attacks(&a)));
    for (int l = 0; l < e->options.lambdas_count; l++)
        for (int i = 0; i < e->options.attacks_count; i++) {
            struct attack_outcome *out = &e->attack_outcomes[e->attack_outcomes_count++];
            *out = (struct attack_outcome){ .attack = e->options.attacks[i], .lambda = l };
            TRY(run_attack(&a, &out->attack, l, &a.images, "attacking", &out->result));
            if (!e->options.no_checks && !already_checked(e, i))
                TRY(run_checks(&a, &out->attack, l));
        }
fail:
    free_set(&a.images);
    victim_finish(&a.victim);
    adaptive_destroy(a.adaptive);
    net_destroy(a.net);
    return status;
}
