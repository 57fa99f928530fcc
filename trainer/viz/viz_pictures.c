/* viz_pictures.c - draws the atoms of every CSC-layer, and images beside their reconstructions. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/memory.h"
#include "trainer/viz/viz.h"

enum { STRIP_PIXELS = 1024, ATOM_PIXELS = 640, FULL_AMPLITUDES = 20 /* FISTA steps that restore amplitudes */ };

/* Writes the picture to the file and keeps it for the report. */
static enum status add_picture(struct viz *v, const struct image *image, const char *file, const char *title)
{
    enum status status = STATUS_OK;
    char path[PATH_MAX];
    TRY(array_grow(&v->pictures, &v->pictures_capacity, (size_t)v->pictures_count + 1, sizeof *v->pictures));
    struct viz_picture *p = &v->pictures[v->pictures_count];
    *p = (struct viz_picture){ .width = image->width, .height = image->height };
    snprintf(p->file, sizeof p->file, "%s", file);
    snprintf(p->title, sizeof p->title, "%s", title);
    TRY(picture_png(image, &p->png, &p->bytes));
    v->pictures_count++;
    if (snprintf(path, sizeof path, "%s/%s", v->options.out, file) >= (int)sizeof path)
        FAIL(STATUS_IO, "%.200s...: name too long", v->options.out);
    TRY(file_write(path, p->png, p->bytes));
fail:
    return status;
}

static enum status draw_atoms(struct viz *v, const struct node *node, struct image *image)
{
    enum status status = STATUS_OK;
    const struct model *m = v->trained.model;
    const struct param *p = &m->params[node->param];
    char file[96], title[160];
    float *w = malloc(p->count * sizeof *w);
    if (!w)
        FAIL(STATUS_NOMEM, "out of memory for the pictures");
    TRY(model_get(m, m->weights, node->param, w));
    TRY(picture_atoms(image, w, p->shape[0], p->shape[1], p->shape[2]));
    TRY(picture_enlarge(image, ATOM_PIXELS));
    snprintf(file, sizeof file, "atoms-%s.png", node->name);
    snprintf(title, sizeof title, "%s: %d %s of %dx%d pixels, %d channels", node->name, p->shape[0],
             node->kind == NODE_CSC ? "atoms" : "filters", p->shape[2], p->shape[2], p->shape[1]);
    TRY(add_picture(v, image, file, title));
fail:
    free(w);
    return status;
}

/* Draws the images of a batch side by side. */
static enum status draw_strip(struct viz *v, const float *pixels, const char *file, const char *title)
{
    enum status status = STATUS_OK;
    struct image strip = { 0 };
    TRY(picture_strip(&strip, pixels, v->n, v->size, v->trained.config.data.mean, v->trained.config.data.std));
    TRY(picture_enlarge(&strip, STRIP_PIXELS));
    TRY(add_picture(v, &strip, file, title));
fail:
    image_finish(&strip);
    return status;
}

static enum status draw_noisy(struct viz *v, const struct micro_batch *batch)
{
    enum status status = STATUS_OK;
    char title[160];
    viz_add_noise(v, batch, v->options.noise, v->noisy);
    TRY(net_upload(v->net, v->noisy, batch->labels, v->n));
    TRY(net_infer(v->net, NULL));
    snprintf(title, sizeof title, "with Gaussian noise of standard deviation %.3g", v->options.noise);
    TRY(draw_strip(v, v->noisy, "noisy.png", title));
    bool restored = v->trained.config.csc.steps >=
                    FULL_AMPLITUDES; /* scaling to the noisy image would then restore the noise */
    TRY(restored ? explain_unscaled(v->explain, v->first, v->back) : explain_pixels(v->explain, v->first, v->back));
    snprintf(title, sizeof title, "the noisy images, denoised: reconstructed from %s%s",
             v->trained.model->nodes[v->first].name, restored ? "" : ", scaled");
    TRY(draw_strip(v, v->back, "denoised.png", title));
fail:
    return status;
}

static enum status draw_images(struct viz *v)
{
    enum status status = STATUS_OK;
    const struct micro_batch *batch;
    char file[96], title[160];
    TRY(loader_seek(v->loader, 0, 0));
    TRY(viz_next(v, &batch));
    TRY(net_upload(v->net, batch->images, batch->labels, v->n));
    TRY(net_infer(v->net, NULL));
    TRY(draw_strip(v, batch->images, "input.png", "input"));
    for (int i = 0; i < v->layers_count; i++) {
        const char *name = v->trained.model->nodes[v->layers[i]].name;
        TRY(explain_pixels(v->explain, v->layers[i], v->back));
        snprintf(file, sizeof file, "back-%s.png", name);
        snprintf(title, sizeof title, "reconstructed from %s: PSNR %.1f dB", name, v->psnr[i]);
        TRY(draw_strip(v, v->back, file, title));
    }
    TRY(draw_noisy(v, batch));
fail:
    return status;
}

enum status viz_draw(struct viz *v)
{
    enum status status = STATUS_OK;
    const struct model *m = v->trained.model;
    struct image image = { 0 };
    TRY(draw_images(v));
    for (int i = 0; i < m->nodes_count; i++)
        if (m->nodes[i].kind == NODE_CSC || i == v->first)
            TRY(draw_atoms(v, &m->nodes[i], &image));
fail:
    image_finish(&image);
    return status;
}
