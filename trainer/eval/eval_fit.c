/* eval_fit.c - --fit-lambda. The training images get eleven levels of Gaussian noise (none, and standard
 * deviations of .02 to .20 for values in 0..1). Each level is evaluated at 14 lambdas, 1 to 14 times the training
 * lambda (or 0.1 to 1.4). The mean residual at the training lambda and the lambda with the highest accuracy (on a
 * tie, the lowest loss) give one point per level. The rule is the line that keeps the training lambda for clean
 * images and fits the points of the noisy ones best. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "trainer/eval/eval.h"
#include "trainer/model/load_model.h"

enum {
    NOISE_LEVELS = 11,
    LAMBDA_COUNT = 14,
    FIRST_NOISE_STREAM = 16 /* as severity of the random draws; --corruption does not use it */
};
#define SIGMA_STEP     0.02
#define LAMBDA_IF_ZERO 0.1 /* the smallest lambda if the network was trained without lambda */

_Static_assert((int)NOISE_LEVELS <= (int)LAMBDA_RULE_POINTS, "a rule has a point for every level");

/* Sums over the images; residual and loss in fixed point. */
struct noise_level {
    double images, residual, hits[LAMBDA_COUNT], loss[LAMBDA_COUNT];
};

/* The buffers of a fit. */
struct fit {
    struct eval *e;
    double min_lambda; /* the other lambdas are its multiples */
    double *residuals;
    float *logits, *losses;
};

static struct lambda_setting nth_lambda(const struct fit *f, int i)
{
    return (struct lambda_setting){ .mode = LAMBDA_FIXED, .value = f->min_lambda * (i + 1) };
}

static enum status add_batch(struct fit *f, const struct micro_batch *batch, int used, struct noise_level *level)
{
    enum status status = STATUS_OK;
    struct eval *e = f->e;
    int classes = e->config->model.classes;
    TRY(adaptive_residuals(e->adaptive, batch->images, used, f->residuals));
    for (int i = 0; i < used; i++)
        level->residual += eval_to_fixed_point(f->residuals[i]);
    TRY(net_upload(e->net, batch->images, batch->labels, used));
    for (int l = 0; l < LAMBDA_COUNT; l++) {
        struct lambda_setting setting = nth_lambda(f, l);
        TRY(eval_set_lambda(e, e->net, &setting));
        if (l > 0) /* the net may have overwritten the images */
            TRY(net_upload(e->net, batch->images, batch->labels, used));
        TRY(net_infer(e->net, NULL));
        TRY(net_losses(e->net, 0, f->losses, f->logits));
        for (int i = 0; i < used; i++) {
            level->hits[l] += eval_label_rank(f->logits + (size_t)i * classes, classes, batch->labels[i]) == 0;
            level->loss[l] += eval_to_fixed_point(f->losses[i]);
        }
    }
    level->images += used;
fail:
    return status;
}

static enum status evaluate_level(struct fit *f, int index, const struct corruption *noise, struct noise_level *level)
{
    enum status status = STATUS_OK;
    struct eval *e = f->e;
    struct loader *loader = NULL;
    const struct micro_batch *batch;
    char phase[64];
    snprintf(phase, sizeof phase, "fitting lambda, noise level %d/%d", index + 1, NOISE_LEVELS);
    TRY(eval_open_loader(e, index > 0 ? noise : NULL, &loader));
    for (;;) {
        TRY(loader_next(loader, &batch));
        int used = batch ? evaluate_images_within(batch, e->images) : 0;
        if (used == 0)
            break;
        TRY(add_batch(f, batch, used, level));
        if (e->progress)
            progress_phase(e->progress, phase, (int64_t)batch->ids[used - 1] + 1, e->images);
    }
fail:
    loader_destroy(loader);
    return status;
}

static struct lambda_point find_best(const struct fit *f, const struct noise_level *level, double sigma)
{
    int best = 0;
    for (int l = 1; l < LAMBDA_COUNT; l++)
        if (level->hits[l] > level->hits[best] ||
            (level->hits[l] == level->hits[best] && level->loss[l] < level->loss[best]))
            best = l;
    return (struct lambda_point){ .sigma = sigma,
                                  .residual = level->residual * EVAL_FIXED_POINT_UNIT / level->images,
                                  .best = nth_lambda(f, best).value,
                                  .top1 = level->hits[best] / level->images };
}

/* Refuses the run's validation images, with which the rule would look better than it is. */
static enum status check_images(const struct eval *e)
{
    enum status status = STATUS_OK;
    const char *fingerprint = dataset_fingerprint(e->trained.dataset);
    const struct checkpoint_state *state = &e->trained.checkpoint->state;
    if (state->val[0] && strcmp(fingerprint, state->val) == 0)
        FAIL(STATUS_USAGE, "%s: these are the run's validation images, but --fit-lambda needs training images",
             e->options.data);
    if (state->train[0] && strcmp(fingerprint, state->train) != 0)
        log_info("%s is not the dataset on which this run was trained", e->options.data);
fail:
    return status;
}

static enum status allocate_fit(struct fit *f)
{
    enum status status = STATUS_OK;
    struct eval *e = f->e;
    int n = e->config->eval.batch;
    TRY(check_images(e));
    f->residuals = malloc(n * sizeof *f->residuals);
    f->losses = malloc(n * sizeof *f->losses);
    f->logits = malloc((size_t)n * e->config->model.classes * sizeof *f->logits);
    if (!f->residuals || !f->losses || !f->logits)
        FAIL(STATUS_NOMEM, "out of memory");
fail:
    return status;
}

static void print_fit(const struct lambda_rule *rule, const char *path)
{
    printf("noise    residual   best lambda   top-1\n");
    for (int i = 0; i < rule->points; i++)
        printf("%.2f    %9.5f   %11.3f  %5.2f%%\n", rule->point[i].sigma, rule->point[i].residual, rule->point[i].best,
               100 * rule->point[i].top1);
    printf("lambda(x) = %.5g + %.5g residual, within %.3g and %.3g, from %lld images: %s\n", rule->line.intercept,
           rule->line.slope, rule->line.low, rule->line.high, rule->images, path);
}

enum status eval_fit(struct eval *e)
{
    enum status status = STATUS_OK;
    struct fit f = { .e = e, .min_lambda = e->config->csc.lambda > 0 ? e->config->csc.lambda : LAMBDA_IF_ZERO };
    char path[PATH_MAX];
    e->rule = (struct lambda_rule){ .line = e->rule.line, .images = e->images };
    TRY(comm_agree(e->comm, allocate_fit(&f)));
    snprintf(e->rule.data, sizeof e->rule.data, "%s", dataset_fingerprint(e->trained.dataset));
    for (int i = 0; i < NOISE_LEVELS; i++) {
        struct noise_level level = { 0 };
        struct corruption noise = { .kind = CORRUPT_GAUSSIAN_NOISE,
                                    .severity = FIRST_NOISE_STREAM + i,
                                    .a = SIGMA_STEP * i,
                                    .seed = e->options.seed };
        TRY(comm_agree(e->comm, evaluate_level(&f, i, &noise, &level)));
        TRY(e->comm->ops->all_reduce_f64(e->comm, (double *)&level, sizeof level / sizeof(double)));
        if (!(level.images > 0))
            FAIL(STATUS_DATA, "none of the %lld images can be read", (long long)e->images);
        e->rule.images = (int64_t)level.images;
        e->rule.point[e->rule.points++] = find_best(&f, &level, noise.a);
    }
    TRY(lambda_rule_fit(&e->rule, nth_lambda(&f, LAMBDA_COUNT - 1).value));
    if (e->comm->rank == 0)
        status = lambda_rule_write(e->trained.checkpoint->path, &e->rule);
    TRY(comm_agree(e->comm, status));
    lambda_rule_path(e->trained.checkpoint->path, path);
    print_fit(&e->rule, path);
fail:
    free(f.residuals);
    free(f.losses);
    free(f.logits);
    return status;
}
