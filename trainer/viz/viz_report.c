/* viz_report.c - writes report.html, which includes its pictures, and the same results as JSON. */
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "trainer/eval/evaluate.h"
#include "trainer/report/curves.h"
#include "trainer/report/json_output.h"
#include "trainer/viz/viz.h"

static const char head[] =
    "<!doctype html>\n<html lang='en'><head><meta charset='utf-8'>\n"
    "<meta name='viewport' content='width=device-width, initial-scale=1'>\n"
    "<link rel='icon' href='data:,'>\n"
    "<style>\n"
    "body{font:16px/1.45 system-ui,sans-serif;margin:0 auto;padding:12px;max-width:1080px;color:#222;background:#fff}\n"
    "h1{font-size:1.5em;margin:.3em 0;overflow-wrap:anywhere}h2{font-size:1.2em;margin:1.6em 0 .4em}p{margin:.5em 0}\n"
    "figure{margin:.8em 0}figcaption{font-size:.95em;margin-bottom:.2em}\n"
    "img{max-width:100%;height:auto;image-rendering:pixelated;display:block}\n"
    ".wide{overflow-x:auto}.wide img{min-width:640px}.wide figcaption{position:sticky;left:0;width:fit-content}\n"
    "table{border-collapse:collapse;font-variant-numeric:tabular-nums}\n"
    "th,td{padding:3px 10px 3px 0;text-align:right;border-bottom:1px solid #ddd;white-space:nowrap}\n"
    "th:first-child,td:first-child{text-align:left}th{font-weight:600;white-space:normal;vertical-align:bottom}\n"
    ".charts,.atoms{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,340px),1fr));gap:12px}\n"
    "svg{width:100%;height:auto;max-width:560px}svg text{font:12px system-ui,sans-serif;fill:#444}\n"
    "svg .title{font-weight:600;fill:#222}svg .grid{stroke:#ddd;stroke-width:1}\n"
    "</style>\n";

/* Writes text with HTML's special characters escaped. */
static void put_text(FILE *out, const char *text)
{
    for (; *text; text++)
        switch (*text) {
        case '<': fputs("&lt;", out); break;
        case '>': fputs("&gt;", out); break;
        case '&': fputs("&amp;", out); break;
        case '\'': fputs("&#39;", out); break;
        case '"': fputs("&quot;", out); break;
        default: fputc(*text, out);
        }
}

static void put_base64(FILE *out, const unsigned char *data, size_t bytes)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    for (size_t i = 0; i < bytes; i += 3) {
        unsigned rest = (unsigned)(bytes - i), word = (unsigned)data[i] << 16;
        word |= rest > 1 ? (unsigned)data[i + 1] << 8 : 0;
        word |= rest > 2 ? data[i + 2] : 0;
        fputc(digits[word >> 18], out);
        fputc(digits[word >> 12 & 63], out);
        fputc(rest > 1 ? digits[word >> 6 & 63] : '=', out);
        fputc(rest > 2 ? digits[word & 63] : '=', out);
    }
}

static void put_picture(FILE *out, const struct viz_picture *p)
{
    fputs("<figure><figcaption>", out);
    put_text(out, p->title);
    fprintf(out, "</figcaption><img width='%d' height='%d' alt='", p->width, p->height);
    put_text(out, p->title);
    fputs("' src='data:image/png;base64,", out);
    put_base64(out, p->png, p->bytes);
    fputs("'></figure>\n", out);
}

static void put_pictures(FILE *out, const struct viz *v, bool atoms)
{
    for (int i = 0; i < v->pictures_count; i++)
        if ((strncmp(v->pictures[i].file, "atoms-", 6) == 0) == atoms)
            put_picture(out, &v->pictures[i]);
}

static void put_title(FILE *out, const struct viz *v)
{
    const struct config *c = &v->trained.config;
    char missing[64], *arch = config_text(c, "model.arch");
    evaluate_missing_text(v->missing, missing);
    fputs("<title>", out);
    put_text(out, c->run.name);
    fputs(": csc-viz</title></head><body>\n<h1>", out);
    put_text(out, c->run.name);
    fprintf(out, "</h1>\n<p>%s, width %d, %d classes, %zu parameters; step %lld%s.<br>\n", arch ? arch : "",
            c->model.width, c->model.classes, v->trained.model->parameters,
            (long long)v->trained.checkpoint->state.step, v->trained.averaged ? ", averaged weights" : "");
    fprintf(out, "Sparse coding: %d FISTA step%s, lambda %.4g%s. Measured on %lld images%s of ", c->csc.steps,
            c->csc.steps == 1 ? "" : "s", c->csc.lambda, c->csc.nonnegative ? ", codes not negative" : "",
            (long long)v->measured, missing);
    put_text(out, v->options.data);
    fputs(".</p>\n", out);
    free(arch);
}

static void put_layers(FILE *out, const struct viz *v)
{
    const struct model *m = v->trained.model;
    if (!m->csc_count) {
        fputs("<p>This network has no CSC-layers.</p>\n", out);
        return;
    }
    fputs("<h2>How the layers code</h2>\n"
          "<p>The share of codes that are not zero; the residual |x - A z|&sup2; / |x|&sup2;; and the duality gap in "
          "units of |x|&sup2;/2, which is 0 at the optimum. Two steps stop far from the optimum.</p>\n"
          "<div class='wide'><table><tr><th>layer</th><th>atoms</th><th>non-zero</th><th>residual</th><th>gap</th>"
          "<th>eta</th></tr>\n",
          out);
    for (int i = 0; i < m->nodes_count; i++) {
        const struct node *node = &m->nodes[i];
        if (node->kind != NODE_CSC)
            continue;
        const struct csc_diagnostics *d = &v->diagnostics[node->csc];
        fprintf(out, "<tr><td>%s</td><td>%d</td><td>%.1f%%</td><td>%.1f%%</td><td>%.3f</td><td>%.4g</td></tr>\n",
                node->name, node->conv.d, 100 * d->nonzeros, 100 * d->residual, d->gap, (double)m->eta[node->csc]);
    }
    fputs("</table></div>\n", out);
}

static void put_denoising(FILE *out, const struct viz *v)
{
    bool sparse = v->trained.model->nodes[v->first].kind == NODE_CSC;
    fprintf(out,
            "<h2>Noise</h2>\n"
            "<p>The PSNR against the clean images in dB, of images with Gaussian noise and of their reconstructions "
            "from %s, %s. A z is given as it is, and with one scale per image, because a few steps do not restore "
            "amplitudes.</p>\n"
            "<div class='wide'><table><tr><th>noise</th><th>noisy image</th><th>A z</th><th>A z scaled</th></tr>\n",
            v->trained.model->nodes[v->first].name, sparse ? "a CSC-layer" : "a plain convolution");
    for (int i = 0; i < VIZ_NOISE_LEVELS; i++)
        fprintf(out, "<tr><td>%.2f</td><td>%.2f</td><td>%.2f</td><td>%.2f</td></tr>\n", v->levels[i].sigma,
                v->levels[i].input, v->levels[i].unscaled, v->levels[i].scaled);
    fputs("</table></div>\n", out);
}

/* Finds RUN/metrics.jsonl, from RUN or from RUN/checkpoints/step-N. A copied checkpoint has none. */
static bool find_metrics(const struct viz *v, char path[PATH_MAX])
{
    if (snprintf(path, PATH_MAX, "%s/metrics.jsonl", v->options.path) < PATH_MAX && file_exists(path))
        return true;
    return snprintf(path, PATH_MAX, "%s/../../metrics.jsonl", v->trained.checkpoint->path) < PATH_MAX &&
           file_exists(path);
}

static enum status put_curves(FILE *out, const struct viz *v)
{
    enum status status = STATUS_OK;
    struct curves c = { 0 };
    char path[PATH_MAX];
    if (!find_metrics(v, path))
        return status;
    TRY(curves_read(&c, path));
    fputs("<h2>Training</h2>\n<div class='charts'>\n", out);
    curves_draw(out, "loss",
                (struct curve[]){ { "training", "#1f6fb4", &c.loss }, { "evaluation", "#c0392b", &c.eval_loss } }, 2);
    curves_draw(out, "top-1 accuracy", &(struct curve){ "top-1", "#c0392b", &c.top1 }, 1);
    curves_draw(out, "learning rate", &(struct curve){ "lr", "#555", &c.lr }, 1);
    curves_draw(out, "images per second", &(struct curve){ "img/s", "#2e8b57", &c.img_s }, 1);
    fputs("</div>\n<p>Over optimizer steps.</p>\n", out);
fail:
    curves_finish(&c);
    return status;
}

enum status viz_write_report(const struct viz *v)
{
    enum status status = STATUS_OK;
    char path[PATH_MAX], *text = NULL;
    size_t bytes = 0;
    FILE *out = open_memstream(&text, &bytes);
    if (!out)
        FAIL(STATUS_NOMEM, "out of memory for the report");
    fputs(head, out);
    put_title(out, v);
    fputs(
        "<h2>Images and their reconstructions</h2>\n"
        "<p>Each layer is inverted, from its output down to the pixels: dictionaries by their adjoint, batch norms by "
        "their inverse.</p>\n",
        out);
    fputs("<div class='wide'>\n", out);
    put_pictures(out, v, false);
    fputs("</div>\n", out);
    put_denoising(out, v);
    put_layers(out, v);
    if (v->recovery.atoms)
        fprintf(out,
                "<p>True atoms found by %s (cosine above 0.9, up to shift and sign): %d of %d; mean of the best "
                "cosines %.3f.</p>\n",
                v->trained.model->nodes[v->first].name, v->recovery.found, v->recovery.atoms, v->recovery.mean);
    fputs(
        "<h2>Dictionaries</h2>\n"
        "<p>Atoms with three channels are shown in colour, where grey is 0. Others have a row for each atom and a tile "
        "for each channel, red above 0 and blue below.</p>\n<div class='atoms'>\n",
        out);
    put_pictures(out, v, true);
    fputs("</div>\n", out);
    status = put_curves(out, v);
    fputs("</body></html>\n", out);
    bool failed = ferror(out);
    failed |= fclose(out) != 0;
    TRY(status);
    if (failed)
        FAIL(STATUS_NOMEM, "out of memory for the report");
    if (snprintf(path, sizeof path, "%s/report.html", v->options.out) >= (int)sizeof path)
        FAIL(STATUS_IO, "%.200s...: name too long", v->options.out);
    TRY(file_write(path, text, bytes));
fail:
    free(text);
    return status;
}

/* ---- JSON ---- */

static json_t *layers_json(const struct viz *v)
{
    const struct model *m = v->trained.model;
    json_t *layers = json_array();
    for (int i = 0; i < m->nodes_count; i++) {
        const struct node *node = &m->nodes[i];
        if (node->kind != NODE_CSC)
            continue;
        const struct csc_diagnostics *d = &v->diagnostics[node->csc];
        json_array_append_new(layers, json_pack("{s:s, s:i, s:i, s:i, s:f, s:f, s:f, s:f}", "name", node->name, "atoms",
                                                node->conv.d, "kernel", node->conv.k, "channels", node->conv.c, "eta",
                                                (double)m->eta[node->csc], "nonzeros", d->nonzeros, "residual",
                                                d->residual, "gap", d->gap));
    }
    return layers;
}

static json_t *measurements_json(const struct viz *v)
{
    json_t *back = json_array(), *levels = json_array(), *pictures = json_array();
    for (int i = 0; i < v->layers_count; i++)
        json_array_append_new(
            back, json_pack("{s:s, s:f}", "layer", v->trained.model->nodes[v->layers[i]].name, "psnr", v->psnr[i]));
    for (int i = 0; i < VIZ_NOISE_LEVELS; i++)
        json_array_append_new(levels, json_pack("{s:f, s:f, s:f, s:f}", "noise", v->levels[i].sigma, "input_psnr",
                                                v->levels[i].input, "psnr", v->levels[i].unscaled, "scaled_psnr",
                                                v->levels[i].scaled));
    for (int i = 0; i < v->pictures_count; i++)
        json_array_append_new(pictures, json_string(v->pictures[i].file));
    return json_pack("{s:o, s:o, s:o}", "reconstructions", back, "denoising", levels, "pictures", pictures);
}

enum status viz_write_json(const struct viz *v)
{
    enum status status = STATUS_OK;
    json_t *measurements = measurements_json(v);
    json_t *root = json_pack("{s:s, s:I, s:s, s:s, s:I, s:I, s:i, s:f, s:b, s:o}", "checkpoint",
                             v->trained.checkpoint->path, "step", (json_int_t)v->trained.checkpoint->state.step, "data",
                             v->options.data, "device", v->trained.device->ops->name, "images", (json_int_t)v->measured,
                             "missing", (json_int_t)v->missing, "fista_steps", v->trained.config.csc.steps, "lambda",
                             v->trained.config.csc.lambda, "averaged_weights", v->trained.averaged, "layers",
                             layers_json(v));
    if (!measurements || !root || json_object_update(root, measurements) != 0)
        FAIL(STATUS_NOMEM, "out of memory for the results");
    if (v->recovery.atoms)
        json_object_set_new(root, "true_atoms",
                            json_pack("{s:i, s:i, s:f, s:f}", "atoms", v->recovery.atoms, "found", v->recovery.found,
                                      "mean_cosine", v->recovery.mean, "best_cosine", v->recovery.best));
    TRY(json_output(json_incref(root), v->options.json));
fail:
    json_decref(measurements);
    json_decref(root);
    return status;
}
