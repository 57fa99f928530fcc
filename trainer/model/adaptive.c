/* adaptive.c - measures images with a copy of the first CSC-layer, at the training lambda and with the rule's steps.
 *   r = x - A z(x)    R = |r| / sqrt(d)    dR/dx = (r - J^T A^T r) / (d R),  J = dz/dx: the layer's own backward pass
 *   x, r (N,H,W,C)    z (N,H',W',D)    d = H W C
 * Gradients need every iterate, so with them images are taken in parts, and coded again in the backward pass. */
#include "trainer/model/adaptive.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_PART_IMAGES = 8 /* with gradients */ };

struct adaptive {
    struct model *model;
    struct adaptive_rule rule;
    const struct node *node;
    struct csc *csc;
    int n, part;            /* images of a batch, and of a part */
    int first;              /* index of the first image in x, r and z; -1 if they were overwritten */
    bool gradient, *layers; /* (csc_count) */
    void *x, *r, *dx;       /* (part,H,W,C) on the device */
    void *z, *dz;           /* (part,H',W',D) */
    void *scratch;
    struct arena arena;
    float *host;      /* (part,H,W,C) */
    float *images;    /* (N,H,W,C), those of the last adaptive_apply; only for gradients */
    float *lambda;    /* (N) */
    double *residual; /* (N) */
    uint64_t version; /* version of the weights that csc has loaded */
};

double adaptive_lambda(const struct adaptive_rule *rule, double residual)
{
    return fmin(fmax(rule->intercept + rule->slope * residual, rule->low), rule->high);
}

static size_t values_per_image(const struct adaptive *a)
{
    return conv_in_count(&a->csc->shape) / a->part;
}

static void assign_memory(struct adaptive *a)
{
    size_t images = conv_in_count(&a->csc->shape) * sizeof(float),
           codes = conv_out_count(&a->csc->shape) * sizeof(float);
    csc_assign_memory(a->csc, &a->arena);
    a->x = arena_take(&a->arena, images);
    a->r = arena_take(&a->arena, images);
    a->z = arena_take(&a->arena, codes);
    if (a->gradient) {
        a->dx = arena_take(&a->arena, images);
        a->dz = arena_take(&a->arena, codes);
    }
    a->scratch = arena_take(&a->arena, a->csc->scratch);
}

static enum status create_layer(struct adaptive *a)
{
    enum status status = STATUS_OK;
    struct csc_config config = a->model->config.csc;
    struct conv_shape shape = a->node->conv;
    shape.n = a->part;
    config.lambda = (float)a->rule.training_lambda;
    config.steps = a->rule.steps;
    config.backward = CSC_UNROLLED;
    TRY(csc_create(&a->csc, a->model->device, &shape, &config, a->gradient));
    assign_memory(a);
    TRY(a->model->device->ops->arena_allocate(a->model->device, &a->arena));
    assign_memory(a);
fail:
    return status;
}

enum status adaptive_create(struct adaptive **out, struct model *model, int n, const struct adaptive_rule *rule,
                            const bool *layers, bool gradient)
{
    enum status status = STATUS_OK;
    struct adaptive *a = calloc(1, sizeof *a);
    if (!a)
        FAIL(STATUS_NOMEM, "out of memory for the adaptive lambda");
    *a = (struct adaptive){ .model = model,
                            .rule = *rule,
                            .node = &model->nodes[0],
                            .n = n,
                            .part = gradient && n > MAX_PART_IMAGES ? MAX_PART_IMAGES : n,
                            .gradient = gradient,
                            .version = UINT64_MAX };
    if (a->node->kind != NODE_CSC)
        FAIL(STATUS_USAGE, "an adaptive lambda needs a network whose stem, layer0.0, is a CSC-layer");
    if (model->device->precision == PRECISION_BF16)
        FAIL(STATUS_USAGE, "an adaptive lambda needs a precision of fp32");
    a->layers = calloc(model->csc_count, sizeof *a->layers);
    a->lambda = calloc(n, sizeof *a->lambda);
    a->residual = calloc(n, sizeof *a->residual);
    if (!a->layers || !a->lambda || !a->residual)
        FAIL(STATUS_NOMEM, "out of memory for the adaptive lambda");
    for (int i = 0; i < model->csc_count; i++)
        a->layers[i] = layers ? layers[i] : i == 0;
    TRY(create_layer(a));
    a->host = malloc(conv_in_count(&a->csc->shape) * sizeof *a->host);
    a->images = gradient ? malloc(n * values_per_image(a) * sizeof *a->images) : NULL;
    if (!a->host || (gradient && !a->images))
        FAIL(STATUS_NOMEM, "out of memory for the adaptive lambda");
    *out = a;
    a = NULL;
fail:
    adaptive_destroy(a);
    return status;
}

void adaptive_destroy(struct adaptive *a)
{
    if (!a)
        return;
    a->model->device->ops->arena_finish(a->model->device, &a->arena);
    csc_destroy(a->csc);
    free(a->layers);
    free(a->host);
    free(a->images);
    free(a->lambda);
    free(a->residual);
    free(a);
}

/* Codes a part: x, z and r become those of its images, (count,H,W,C). first: the index of the first one. */
static enum status code_part(struct adaptive *a, const float *images, int first, int count)
{
    enum status status = STATUS_OK;
    struct model *m = a->model;
    const struct backend *ops = m->device->ops;
    struct epilogue rest = { .alpha = -1, .beta = 1, .add = a->x };
    if (a->version != m->version)
        TRY(csc_load(a->csc, m->weights + m->params[a->node->param].offset, a->scratch));
    a->version = m->version;
    ops->upload(m->device, a->x, images, values_per_image(a) * count);
    TRY(csc_forward(a->csc, a->x, m->eta[0], a->z, a->scratch));
    TRY(ops->conv_adjoint(a->csc->conv, a->z, a->r, &rest, a->scratch));
    a->first = first;
fail:
    return status;
}

static int part_at(const struct adaptive *a, int first, int count)
{
    return count - first < a->part ? count - first : a->part;
}

enum status adaptive_residuals(struct adaptive *a, const float *images, int count, double *residuals)
{
    enum status status = STATUS_OK;
    size_t d = values_per_image(a);
    for (int first = 0; first < count; first += a->part) {
        int here = part_at(a, first, count);
        TRY(code_part(a, images + first * d, first, here));
        a->model->device->ops->download(a->model->device, a->host, a->r, d * here);
        for (int i = 0; i < here; i++) {
            double sum = 0;
            for (size_t j = 0; j < d; j++)
                sum += (double)a->host[i * d + j] * a->host[i * d + j];
            residuals[first + i] = sqrt(sum / (double)d);
        }
    }
fail:
    return status;
}

enum status adaptive_apply(struct adaptive *a, struct net *net, const float *images, int count)
{
    enum status status = STATUS_OK;
    TRY(adaptive_residuals(a, images, count, a->residual));
    if (a->gradient)
        memcpy(a->images, images, count * values_per_image(a) * sizeof *images);
    for (int i = 0; i < a->n; i++)
        a->lambda[i] = (float)adaptive_lambda(&a->rule, a->residual[i < count ? i : 0]);
    for (int i = 0; i < a->model->csc_count; i++)
        if (a->layers[i])
            TRY(net_set_lambda(net, i, a->lambda));
fail:
    return status;
}

const float *adaptive_lambdas(const struct adaptive *a)
{
    return a->lambda;
}

/* host = r - J^T A^T r, for the part in x, z and r. */
static enum status part_gradient(struct adaptive *a, int count)
{
    enum status status = STATUS_OK;
    struct model *m = a->model;
    const struct backend *ops = m->device->ops;
    struct epilogue negative = { .alpha = -1 };
    TRY(ops->conv_forward(a->csc->conv, a->r, a->dz, &negative, a->scratch));
    TRY(csc_backward(a->csc, a->x, m->eta[0], a->z, a->dz, false, a->dx, false, NULL, a->scratch));
    ops->axpby_act(m->device, 1, a->dx, 1, a->r, a->dx, conv_in_count(&a->csc->shape));
    ops->download(m->device, a->host, a->dx, values_per_image(a) * count);
fail:
    return status;
}

enum status adaptive_backward(struct adaptive *a, const double *dlambda, int count, float *dimages)
{
    enum status status = STATUS_OK;
    const struct adaptive_rule *rule = &a->rule;
    size_t d = values_per_image(a);
    for (int first = 0; first < count; first += a->part) {
        int here = part_at(a, first, count);
        if (a->first != first)
            TRY(code_part(a, a->images + first * d, first, here));
        TRY(part_gradient(a, here));
        for (int i = first; i < first + here; i++) {
            double R = a->residual[i], raw = rule->intercept + rule->slope * R;
            double scale = R > 0 && raw > rule->low && raw < rule->high ? rule->slope * dlambda[i] / ((double)d * R)
                                                                        : 0;
            for (size_t j = 0; j < d; j++)
                dimages[i * d + j] += (float)(scale * a->host[(i - first) * d + j]);
        }
        a->first = -1; /* csc_backward may have overwritten them */
    }
fail:
    return status;
}
