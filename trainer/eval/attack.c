/* attack.c - parses and prints attacks, computes logits and gradients of the network under attack, and runs the
 * rounds. A round attacks the images that are still classified correctly. */
#include "trainer/eval/attack.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "trainer/eval/attack_internal.h"
#include "trainer/eval/eval_statistics.h"

enum { MAX_TARGETS = 9, MIN_CLASSES = 4 /* for the difference of logits ratio */ };

static const char *const kind_names[] = { "pgd", "apgd-ce", "apgd-t", "square" };

/* ---- specifications ---- */

/* Parses "0.03" or "8/255". */
static bool parse_fraction(const char *text, double *value)
{
    char *rest;
    *value = strtod(text, &rest);
    if (rest != text && *rest == '/') {
        const char *below = rest + 1;
        *value /= strtod(below, &rest);
        if (rest == below)
            return false;
    }
    return rest != text && !*rest && isfinite(*value) && *value >= 0;
}

static bool parse_count(const char *text, int *value)
{
    char *rest;
    long number = strtol(text, &rest, 10);
    *value = (int)number;
    return rest != text && !*rest && number >= 1 && number <= 1000000;
}

/* Parses one of two words. */
static bool parse_choice(const char *text, const char *first, const char *second, bool *is_second)
{
    *is_second = strcmp(text, second) == 0;
    return *is_second || strcmp(text, first) == 0;
}

static bool parse_key(struct attack *a, const char *key, const char *value)
{
    bool second = false, good = true;
    if (strcmp(key, "norm") == 0) {
        good = parse_choice(value, "linf", "l2", &second);
        a->norm = second ? ATTACK_L2 : ATTACK_LINF;
    } else if (strcmp(key, "loss") == 0) {
        good = a->kind == ATTACK_PGD && parse_choice(value, "ce", "margin", &second);
        a->loss = second ? ATTACK_MARGIN : ATTACK_CROSS_ENTROPY;
    } else if (strcmp(key, "held") == 0) {
        good = parse_choice(value, "no", "yes", &a->held);
    } else if (strcmp(key, "eps") == 0) {
        good = parse_fraction(value, &a->eps);
    } else if (strcmp(key, "step") == 0) {
        good = a->kind == ATTACK_PGD && parse_fraction(value, &a->step);
    } else if (strcmp(key, "steps") == 0) {
        good = a->kind != ATTACK_SQUARE && parse_count(value, &a->steps);
    } else if (strcmp(key, "restarts") == 0) {
        good = parse_count(value, &a->restarts);
    } else {
        good = strcmp(key, "queries") == 0 && a->kind == ATTACK_SQUARE && parse_count(value, &a->queries);
    }
    return good;
}

static void fill_defaults(struct attack *a)
{
    if (a->eps < 0)
        a->eps = a->norm == ATTACK_L2 ? 0.5 : 8.0 / 255;
    if (a->step < 0)
        a->step = a->norm == ATTACK_L2 ? 0.075 : 2.0 / 255;
    if (a->steps == 0)
        a->steps = a->kind == ATTACK_PGD ? 20 : 100;
    if (a->queries == 0)
        a->queries = 5000;
}

enum status attack_parse(const char *text, struct attack *a)
{
    enum status status = STATUS_OK;
    char copy[200], *rest = NULL;
    *a = (struct attack){ .restarts = 1, .eps = -1, .step = -1, .kind = (enum attack_kind) - 1 };
    snprintf(copy, sizeof copy, "%s", text);
    char *keys = strchr(copy, ':');
    if (keys)
        *keys++ = 0;
    for (int k = 0; k < 4; k++)
        if (strcmp(copy, kind_names[k]) == 0)
            a->kind = k;
    if (strlen(text) >= sizeof copy || a->kind == (enum attack_kind) - 1)
        FAIL(STATUS_USAGE, "--attack=%.200s: must be pgd, apgd-ce, apgd-t or square", text);
    for (char *key = keys ? strtok_r(keys, ",", &rest) : NULL; key; key = strtok_r(NULL, ",", &rest)) {
        char *value = strchr(key, '=');
        if (value)
            *value++ = 0;
        if (!value || !parse_key(a, key, value))
            FAIL(STATUS_USAGE, "--attack=%s: '%s%s%s' does not fit %s; see csc-eval --help", text, key,
                 value ? "=" : "", value ? value : "", kind_names[a->kind]);
    }
    if (a->kind == ATTACK_SQUARE && a->norm == ATTACK_L2)
        FAIL(STATUS_USAGE, "--attack=%s: square supports only norm=linf", text);
    fill_defaults(a);
fail:
    return status;
}

/* Prints multiples of 1/4/255 as a fraction of 255. */
static void append_size(char *text, size_t capacity, const char *key, double value)
{
    size_t length = strlen(text);
    double levels = value * 255;
    if (fabs(levels * 4 - nearbyint(levels * 4)) < 1e-9)
        snprintf(text + length, capacity - length, ",%s=%g/255", key, nearbyint(levels * 4) / 4);
    else
        snprintf(text + length, capacity - length, ",%s=%g", key, value);
}

void attack_text(const struct attack *a, char *text, size_t capacity)
{
    snprintf(text, capacity, "%s:norm=%s", kind_names[a->kind], a->norm == ATTACK_L2 ? "l2" : "linf");
    append_size(text, capacity, "eps", a->eps);
    if (a->kind == ATTACK_PGD)
        append_size(text, capacity, "step", a->step);
    size_t length = strlen(text);
    if (a->kind == ATTACK_SQUARE)
        snprintf(text + length, capacity - length, ",queries=%d,restarts=%d", a->queries, a->restarts);
    else
        snprintf(text + length, capacity - length, ",steps=%d,restarts=%d%s%s", a->steps, a->restarts,
                 a->kind != ATTACK_PGD      ? ""
                 : a->loss == ATTACK_MARGIN ? ",loss=margin"
                                            : ",loss=ce",
                 a->held ? ",held=yes" : "");
}

/* ---- the network ---- */

size_t victim_pixels(const struct victim *v)
{
    return (size_t)v->model->edges[0].h * v->model->edges[0].w * v->model->edges[0].c;
}

enum status victim_init(struct victim *v, struct net *net, const struct model *model, int n, const double mean[3],
                        const double std[3])
{
    enum status status = STATUS_OK;
    *v = (struct victim){ .net = net, .model = model, .n = n };
    memcpy(v->mean, mean, sizeof v->mean);
    memcpy(v->std, std, sizeof v->std);
    v->normalised = malloc(n * victim_pixels(v) * sizeof *v->normalised);
    v->dlambda = malloc(n * sizeof *v->dlambda);
    if (!v->normalised || !v->dlambda)
        FAIL(STATUS_NOMEM, "out of memory for an attack");
fail:
    return status;
}

void victim_finish(struct victim *v)
{
    free(v->normalised);
    free(v->dlambda);
    *v = (struct victim){ 0 };
}

enum status victim_logits(struct victim *v, const float *images, const int32_t *labels, int count, float *logits)
{
    enum status status = STATUS_OK;
    size_t values = (size_t)count * victim_pixels(v);
    float *losses = malloc(count * sizeof *losses);
    if (!losses)
        FAIL(STATUS_NOMEM, "out of memory for an attack");
    for (size_t i = 0; i < values; i++)
        v->normalised[i] = (float)((images[i] - v->mean[i % 3]) / v->std[i % 3]);
    if (v->adaptive)
        TRY(adaptive_apply(v->adaptive, v->net, v->normalised, count));
    TRY(net_upload(v->net, v->normalised, labels, count));
    TRY(net_infer(v->net, NULL));
    TRY(net_losses(v->net, 0, losses, logits));
fail:
    free(losses);
    return status;
}

enum status victim_gradient(struct victim *v, const float *dlogits, int count, bool held, float *dimages)
{
    enum status status = STATUS_OK;
    bool through = v->adaptive && !held;
    TRY(net_backward_input(v->net, dlogits, dimages, through ? v->dlambda : NULL));
    if (through)
        TRY(adaptive_backward(v->adaptive, v->dlambda, count, dimages));
    for (size_t i = 0; i < (size_t)count * victim_pixels(v); i++)
        dimages[i] = (float)(dimages[i] / v->std[i % 3]);
fail:
    return status;
}

/* ---- what attacks share ---- */

struct philox chunk_random_stream(const struct chunk *c, int i)
{
    struct philox stream;
    philox_init(&stream, c->seed, PHILOX_DOMAIN_ATTACK | (uint32_t)c->attack->kind << 16 | (uint32_t)c->restart,
                c->ids[i]);
    return stream;
}

static double l2_norm(const float *x, const float *from, size_t count)
{
    double sum = 0;
    for (size_t j = 0; j < count; j++) {
        double d = (double)x[j] - (from ? from[j] : 0);
        sum += d * d;
    }
    return sqrt(sum);
}

static float clip_to_unit(double v)
{
    return (float)fmin(fmax(v, 0), 1);
}

void chunk_project(const struct chunk *c, int i, float *x)
{
    const float *clean = c->clean + i * c->pixels;
    double eps = c->attack->eps;
    if (c->attack->norm == ATTACK_LINF) {
        for (size_t j = 0; j < c->pixels; j++)
            x[j] = clip_to_unit(fmin(fmax(x[j], clean[j] - eps), clean[j] + eps));
        return;
    }
    double length = l2_norm(x, clean, c->pixels), scale = length > eps ? eps / length : 1;
    for (size_t j = 0; j < c->pixels; j++)
        x[j] = clip_to_unit(clean[j] + ((double)x[j] - clean[j]) * scale);
}

void chunk_ascent_direction(const struct chunk *c, int i, float *gradient)
{
    float *g = gradient + i * c->pixels;
    double length = c->attack->norm == ATTACK_L2 ? l2_norm(g, NULL, c->pixels) + 1e-12 : 1;
    for (size_t j = 0; j < c->pixels; j++)
        g[j] = c->attack->norm == ATTACK_L2 ? (float)(g[j] / length) : (float)((g[j] > 0) - (g[j] < 0));
}

bool chunk_is_fooled(const struct chunk *c, int i, const float *logits)
{
    return eval_label_rank(logits + (size_t)i * c->classes, c->classes, c->labels[i]) != 0;
}

/* The most likely class except the label. */
static int runner_up(const struct chunk *c, int i, const float *logits)
{
    const float *z = logits + (size_t)i * c->classes;
    int best = -1;
    for (int k = 0; k < c->classes; k++)
        if (k != c->labels[i] && (best < 0 || z[k] > z[best]))
            best = k;
    return best;
}

static double cross_entropy(const float *z, int classes, int label, float *dlogits)
{
    double top = z[0], sum = 0;
    for (int k = 1; k < classes; k++)
        top = fmax(top, z[k]);
    for (int k = 0; k < classes; k++)
        sum += exp(z[k] - top);
    for (int k = 0; k < classes; k++)
        dlogits[k] = (float)(exp(z[k] - top) / sum - (k == label));
    return log(sum) + top - z[label];
}

/* The difference of logits ratio of the sorted logits, (z_target - z_label) / (z_1st - (z_3rd + z_4th) / 2). */
static double difference_of_logits_ratio(const float *z, int classes, int label, int target, float *dlogits)
{
    int order[MIN_CLASSES] = { -1, -1, -1, -1 };
    for (int k = 0; k < classes; k++)
        for (int p = 0, candidate = k; p < MIN_CLASSES; p++)
            if (order[p] < 0 || z[candidate] > z[order[p]]) {
                int pushed = order[p];
                order[p] = candidate;
                candidate = pushed;
                if (candidate < 0)
                    break;
            }
    double below = (double)z[order[0]] - 0.5 * ((double)z[order[2]] + z[order[3]]) + 1e-12;
    double ratio = ((double)z[target] - z[label]) / below;
    memset(dlogits, 0, classes * sizeof *dlogits);
    dlogits[target] += (float)(1 / below);
    dlogits[label] -= (float)(1 / below);
    dlogits[order[0]] -= (float)(ratio / below);
    dlogits[order[2]] += (float)(0.5 * ratio / below);
    dlogits[order[3]] += (float)(0.5 * ratio / below);
    return ratio;
}

double chunk_loss(const struct chunk *c, int i, const float *logits, float *dlogits)
{
    const float *z = logits + (size_t)i * c->classes;
    float *d = dlogits + (size_t)i * c->classes;
    int label = c->labels[i];
    if (c->attack->kind == ATTACK_APGD_T)
        return difference_of_logits_ratio(z, c->classes, label, c->targets[i], d);
    if (c->attack->kind != ATTACK_SQUARE && c->attack->loss == ATTACK_CROSS_ENTROPY)
        return cross_entropy(z, c->classes, label, d);
    int other = runner_up(c, i, logits);
    memset(d, 0, c->classes * sizeof *d);
    d[other] = 1;
    d[label] = -1;
    return (double)z[other] - z[label];
}

/* ---- rounds ---- */

/* The memory of a run: arrays of n images, except correct and likely_classes, which have all images of the set. */
struct rounds {
    struct victim *victim;
    const struct attack *attack;
    const struct attack_set *set;
    uint64_t seed;
    bool *correct;           /* (count): still classified correctly */
    int32_t *likely_classes; /* (count, MAX_TARGETS), for ATTACK_APGD_T */
    int targets;
    float *clean, *x, *logits;
    int32_t *labels, *target_classes;
    uint64_t *ids;
    int64_t *set_index; /* (n): the index in the set */
    bool *fooled;
};

static void free_rounds(struct rounds *r)
{
    free(r->correct);
    free(r->likely_classes);
    free(r->clean);
    free(r->x);
    free(r->logits);
    free(r->labels);
    free(r->target_classes);
    free(r->ids);
    free(r->set_index);
    free(r->fooled);
}

static enum status allocate_rounds(struct rounds *r)
{
    enum status status = STATUS_OK;
    size_t n = (size_t)r->victim->n, bytes = n * victim_pixels(r->victim) * sizeof(float);
    int classes = r->victim->model->config.classes;
    bool targeted = r->attack->kind == ATTACK_APGD_T;
    if (targeted && classes < MIN_CLASSES)
        FAIL(STATUS_USAGE, "apgd-t needs a network of at least %d classes", MIN_CLASSES);
    r->targets = targeted ? (classes - 1 < MAX_TARGETS ? classes - 1 : MAX_TARGETS) : 1;
    r->correct = calloc((size_t)r->set->count + 1, sizeof *r->correct);
    r->likely_classes = calloc((size_t)(r->set->count + 1) * MAX_TARGETS, sizeof *r->likely_classes);
    r->clean = malloc(bytes);
    r->x = malloc(bytes);
    r->logits = malloc(n * classes * sizeof *r->logits);
    r->labels = malloc(n * sizeof *r->labels);
    r->target_classes = malloc(n * sizeof *r->target_classes);
    r->ids = malloc(n * sizeof *r->ids);
    r->set_index = malloc(n * sizeof *r->set_index);
    r->fooled = malloc(n * sizeof *r->fooled);
    if (!r->correct || !r->likely_classes || !r->clean || !r->x || !r->logits || !r->labels || !r->target_classes ||
        !r->ids || !r->set_index || !r->fooled)
        FAIL(STATUS_NOMEM, "out of memory for an attack");
fail:
    return status;
}

/* Copies the next n images from *at on, or fewer at the end, and returns their number. Unless `all`, it skips
 * images that are already misclassified. */
static int next_chunk(struct rounds *r, int64_t *at, bool all, int target_index)
{
    size_t pixels = victim_pixels(r->victim);
    int count = 0;
    for (; *at < r->set->count && count < r->victim->n; ++*at) {
        if (!all && !r->correct[*at])
            continue;
        memcpy(r->clean + count * pixels, r->set->images + *at * pixels, pixels * sizeof(float));
        r->labels[count] = r->set->labels[*at];
        r->ids[count] = r->set->ids[*at];
        r->target_classes[count] = r->likely_classes[*at * MAX_TARGETS + target_index];
        r->set_index[count++] = *at;
    }
    return count;
}

/* Stores the most likely classes except the label, most likely first. */
static void choose_targets(struct rounds *r, int64_t at, const float *z)
{
    int classes = r->victim->model->config.classes;
    int32_t *likely_classes = r->likely_classes + at * MAX_TARGETS;
    for (int t = 0; t < r->targets; t++) {
        int best = -1;
        for (int k = 0; k < classes; k++) {
            bool used = k == r->set->labels[at];
            for (int p = 0; p < t; p++)
                used = used || likely_classes[p] == k;
            if (!used && (best < 0 || z[k] > z[best]))
                best = k;
        }
        likely_classes[t] = best;
    }
}

static enum status classify_clean(struct rounds *r, struct attack_result *result)
{
    enum status status = STATUS_OK;
    int classes = r->victim->model->config.classes;
    int64_t at = 0;
    for (int count; (count = next_chunk(r, &at, true, 0)) > 0;) {
        TRY(victim_logits(r->victim, r->clean, r->labels, count, r->logits));
        for (int i = 0; i < count; i++) {
            const float *z = r->logits + (size_t)i * classes;
            r->correct[r->set_index[i]] = eval_label_rank(z, classes, r->labels[i]) == 0;
            result->clean += r->correct[r->set_index[i]];
            if (r->attack->kind == ATTACK_APGD_T)
                choose_targets(r, r->set_index[i], z);
        }
    }
    result->images = r->set->count;
fail:
    return status;
}

static enum status attack_chunk(struct rounds *r, int count, int restart)
{
    enum status status = STATUS_OK;
    size_t pixels = victim_pixels(r->victim);
    struct chunk c = { .victim = r->victim,
                       .attack = r->attack,
                       .seed = r->seed,
                       .restart = restart,
                       .count = count,
                       .classes = r->victim->model->config.classes,
                       .pixels = pixels,
                       .clean = r->clean,
                       .labels = r->labels,
                       .ids = r->ids,
                       .targets = r->target_classes,
                       .x = r->x,
                       .fooled = r->fooled };
    switch (r->attack->kind) {
    case ATTACK_PGD: TRY(chunk_pgd(&c)); break;
    case ATTACK_SQUARE: TRY(chunk_square(&c)); break;
    default: TRY(chunk_apgd(&c));
    }
    for (int i = 0; i < count; i++) {
        if (r->fooled[i])
            r->correct[r->set_index[i]] = false;
        if (r->set->adversarial)
            memcpy(r->set->adversarial + r->set_index[i] * pixels, r->x + i * pixels, pixels * sizeof(float));
    }
fail:
    return status;
}

enum status attack_run(struct victim *victim, const struct attack *attack, uint64_t seed, const struct attack_set *set,
                       struct progress *progress, const char *phase, struct attack_result *result)
{
    enum status status = STATUS_OK;
    struct rounds r = { .victim = victim, .attack = attack, .set = set, .seed = seed };
    double start = clock_seconds();
    *result = (struct attack_result){ 0 };
    TRY(allocate_rounds(&r));
    TRY(classify_clean(&r, result));
    if (set->adversarial)
        memcpy(set->adversarial, set->images, (size_t)set->count * victim_pixels(victim) * sizeof(float));
    int rounds = attack->restarts * r.targets;
    for (int round = 0; round < rounds; round++) {
        int64_t at = 0;
        for (int count; (count = next_chunk(&r, &at, false, round % r.targets)) > 0;) {
            TRY(attack_chunk(&r, count, round));
            if (progress && phase)
                progress_phase(progress, phase, round * set->count + at, rounds * set->count);
        }
    }
    for (int64_t i = 0; i < set->count; i++)
        result->robust += r.correct[i];
    result->seconds = clock_seconds() - start;
fail:
    free_rounds(&r);
    return status;
}
