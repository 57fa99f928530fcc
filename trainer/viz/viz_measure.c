/* viz_measure.c - measures many images: how well the layers code, the PSNR of reconstructions, denoising, and how
 * many true atoms were found. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/philox.h"
#include "trainer/viz/viz.h"

#define RECOVERED_COSINE 0.9 /* an atom with a larger cosine counts as recovered */

static size_t pixels_of(const struct viz *v)
{
    return (size_t)v->n * v->size * v->size * 3;
}

static double clipped(double v)
{
    return fmin(fmax(v, 0), 1);
}

/* The sum of squared differences of pixels in 0..1, both clipped. */
static double squared_error(const struct viz *v, const float *a, const float *b)
{
    const double *mean = v->trained.config.data.mean, *std = v->trained.config.data.std;
    double sum = 0;
    for (size_t i = 0; i < pixels_of(v); i++) {
        double d = clipped(a[i] * std[i % 3] + mean[i % 3]) - clipped(b[i] * std[i % 3] + mean[i % 3]);
        sum += d * d;
    }
    return sum;
}

static double psnr(double sum, double values)
{
    return -10 * log10(fmax(sum / values, 1e-12));
}

void viz_add_noise(const struct viz *v, const struct micro_batch *batch, double sigma, float *noisy)
{
    const double *mean = v->trained.config.data.mean, *std = v->trained.config.data.std;
    size_t per_image = pixels_of(v) / v->n;
    for (int i = 0; i < v->n; i++) {
        struct philox stream;
        philox_init(&stream, v->trained.config.run.seed, PHILOX_DOMAIN_CORRUPT, batch->ids[i]);
        for (size_t j = 0; j < per_image; j++) {
            size_t at = i * per_image + j;
            double clean = batch->images[at] * std[j % 3] + mean[j % 3];
            noisy[at] = (float)((clipped(clean + sigma * philox_normal(&stream)) - mean[j % 3]) / std[j % 3]);
        }
    }
}

enum status viz_next(struct viz *v, const struct micro_batch **batch)
{
    enum status status = STATUS_OK;
    const struct micro_batch *one;
    size_t per_image = pixels_of(v) / v->n;
    int count = 0;
    *batch = NULL;
    for (; count < v->n; count++) {
        TRY(loader_next(v->loader, &one));
        if (!one)
            return status;
        memcpy(v->images + count * per_image, one->images, per_image * sizeof *v->images);
        v->labels[count] = one->labels[0];
        v->ids[count] = one->ids[0];
    }
    v->batch = (struct micro_batch){ .images = v->images, .labels = v->labels, .ids = v->ids, .count = count };
    *batch = &v->batch;
fail:
    return status;
}

static enum status measure_clean(struct viz *v, const struct micro_batch *batch,
                                 struct csc_diagnostics *batch_diagnostics, double *sums)
{
    enum status status = STATUS_OK;
    TRY(net_upload(v->net, batch->images, batch->labels, v->n));
    TRY(net_infer(v->net, batch_diagnostics));
    for (int i = 0; i < v->trained.model->csc_count; i++) {
        v->diagnostics[i].nonzeros += batch_diagnostics[i].nonzeros;
        v->diagnostics[i].residual += batch_diagnostics[i].residual;
        v->diagnostics[i].gap += batch_diagnostics[i].gap;
    }
    for (int i = 0; i < v->layers_count; i++) {
        TRY(explain_pixels(v->explain, v->layers[i], v->back));
        sums[i] += squared_error(v, v->back, batch->images);
    }
fail:
    return status;
}

static enum status measure_level(struct viz *v, const struct micro_batch *batch, struct viz_level *level)
{
    enum status status = STATUS_OK;
    viz_add_noise(v, batch, level->sigma, v->noisy);
    TRY(net_upload(v->net, v->noisy, batch->labels, v->n));
    TRY(net_infer(v->net, NULL));
    level->input += squared_error(v, v->noisy, batch->images);
    TRY(explain_unscaled(v->explain, v->first, v->back));
    level->unscaled += squared_error(v, v->back, batch->images);
    TRY(explain_pixels(v->explain, v->first, v->back));
    level->scaled += squared_error(v, v->back, batch->images);
fail:
    return status;
}

static void compute_means(struct viz *v, int64_t batches, const double *sums)
{
    double values = (double)pixels_of(v) * (double)batches;
    v->measured = batches * v->n;
    for (int i = 0; i < v->trained.model->csc_count; i++) {
        v->diagnostics[i].nonzeros /= (double)batches;
        v->diagnostics[i].residual /= (double)batches;
        v->diagnostics[i].gap /= (double)batches;
    }
    for (int i = 0; i < v->layers_count; i++)
        v->psnr[i] = psnr(sums[i], values);
    for (int i = 0; i < VIZ_NOISE_LEVELS; i++) {
        struct viz_level *l = &v->levels[i];
        *l = (struct viz_level){ l->sigma, psnr(l->input, values), psnr(l->unscaled, values), psnr(l->scaled, values) };
    }
}

enum status viz_measure(struct viz *v)
{
    enum status status = STATUS_OK;
    static const double sigmas[VIZ_NOISE_LEVELS] = { 0.02, 0.05, 0.1, 0.2 };
    const struct micro_batch *batch;
    struct loader_stats stats;
    double sums[VIZ_MAX_LAYERS] = { 0 };
    int64_t batches = v->options.limit / v->n, done = 0;
    struct csc_diagnostics *batch_diagnostics = calloc(v->trained.model->csc_count + 1, sizeof *batch_diagnostics);
    if (!batch_diagnostics)
        FAIL(STATUS_NOMEM, "out of memory for the measurements");
    for (int i = 0; i < VIZ_NOISE_LEVELS; i++)
        v->levels[i].sigma = sigmas[i];
    TRY(loader_seek(v->loader, 0, 0));
    for (; done < (batches > 0 ? batches : 1); done++) {
        TRY(viz_next(v, &batch));
        if (!batch)
            break;
        TRY(measure_clean(v, batch, batch_diagnostics, sums));
        for (int i = 0; i < VIZ_NOISE_LEVELS; i++)
            TRY(measure_level(v, batch, &v->levels[i]));
    }
    if (done == 0)
        FAIL(STATUS_DATA, "%s: fewer than %d of its images can be read; give a smaller --images", v->options.data,
             v->n);
    loader_stats(v->loader, &stats);
    v->missing = stats.work.skipped;
    compute_means(v, done, sums);
fail:
    free(batch_diagnostics);
    return status;
}

/* ---- true atoms ---- */

/* The largest |cosine| of a true atom t (3,s,s) with an atom w (3,k,k) at any shift. Parts of w outside of t do
 * not count. */
static double best_cosine(const float *t, int s, const float *w, int k)
{
    double best = 0;
    for (int dy = 1 - k; dy < s; dy++)
        for (int dx = 1 - k; dx < s; dx++) {
            double sum = 0;
            for (int c = 0; c < 3; c++)
                for (int y = 0; y < k; y++)
                    for (int x = 0; x < k; x++)
                        if (y + dy >= 0 && y + dy < s && x + dx >= 0 && x + dx < s)
                            sum += (double)t[(c * s + y + dy) * s + x + dx] * w[(c * k + y) * k + x];
            best = fmax(best, fabs(sum));
        }
    return best;
}

/* Converts an atom to the network's input: divides the channels by their std and scales it to unit norm again. */
static void normalize_atom(const struct viz *v, const float *from, int s, float *to)
{
    double norm = 0;
    for (int i = 0; i < 3 * s * s; i++) {
        to[i] = from[i] / (float)v->trained.config.data.std[i / (s * s)];
        norm += (double)to[i] * to[i];
    }
    for (int i = 0; i < 3 * s * s; i++)
        to[i] /= (float)sqrt(fmax(norm, 1e-30));
}

enum status viz_compare_truth(struct viz *v)
{
    enum status status = STATUS_OK;
    struct safetensors *file = NULL;
    const struct param *p = &v->trained.model->params[v->trained.model->nodes[v->first].param];
    float *w = malloc(p->count * sizeof *w), *seen = NULL;
    double sum = 0;
    TRY(safetensors_open(&file, v->options.truth));
    const struct safetensor *t = safetensors_find(file, "atoms");
    if (!t || t->dtype != SAFETENSORS_F32 || t->dims != 4 || t->shape[0] < 1 || t->shape[1] != 3 ||
        t->shape[2] != t->shape[3] || t->shape[2] < 1 || t->shape[2] > 64 || t->shape[0] > 100000)
        FAIL(STATUS_DATA, "%s: has no tensor 'atoms' of shape (N,3,s,s), as csc-pack synth writes it",
             v->options.truth);
    int count = (int)t->shape[0], s = (int)t->shape[2], k = p->shape[2];
    seen = malloc((size_t)3 * s * s * sizeof *seen);
    if (!w || !seen)
        FAIL(STATUS_NOMEM, "out of memory for the true atoms");
    TRY(model_get(v->trained.model, v->trained.model->weights, v->trained.model->nodes[v->first].param, w));
    for (int i = 0; i < count; i++) {
        double best = 0;
        normalize_atom(v, (const float *)t->data + (size_t)i * 3 * s * s, s, seen);
        for (int a = 0; a < p->shape[0]; a++)
            best = fmax(best, best_cosine(seen, s, w + (size_t)a * 3 * k * k, k));
        v->recovery.found += best > RECOVERED_COSINE;
        v->recovery.best = fmax(v->recovery.best, best);
        sum += best;
    }
    v->recovery.atoms = count;
    v->recovery.mean = sum / count;
fail:
    free(w);
    free(seen);
    safetensors_close(file);
    return status;
}
