/* live_pictures.c - writes scalars as they are logged, and pictures of the atoms and of a few images as csc-viz draws
 * them. */
#include "trainer/train/live_pictures.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/pixels.h"
#include "trainer/report/picture.h"
#include "trainer/report/tensorboard.h"
#include "trainer/viz/explain.h"

enum { IMAGES = 8, STRIP_PIXELS = 1024, ATOM_PIXELS = 640 };

struct live_pictures {
    struct tensorboard *tensorboard;
    struct explain *explain; /* NULL if there are no images to reconstruct */
    int count, size;         /* number of images kept, and their side in pixels */
    float *images, *back;    /* (count,size,size,3), normalised */
    int32_t labels[IMAGES];
};

/* Normalises images that the loader left as bytes. They already have the size of the network's input. */
static void normalise(const struct micro_batch *batch, int count, float *out)
{
    const struct image_crop *crops = batch->raw;
    const struct pixel_scale *s = batch->scale;
    for (int i = 0; i < count; i++) {
        const uint8_t *in = (const uint8_t *)batch->raw + crops[i].offset;
        for (size_t k = 0; k < (size_t)crops[i].width * crops[i].height * 3; k++)
            *out++ = (float)in[k] * s->scale_high[k % 3] + s->offset_high[k % 3] +
                     ((float)in[k] * s->scale_low[k % 3] + s->offset_low[k % 3]);
    }
}

/* Keeps the first images of the evaluation set. Without an evaluation set only atoms are drawn. */
static enum status keep_images(struct live_pictures *o, struct training *t)
{
    enum status status = STATUS_OK;
    const struct micro_batch *batch;
    int count = t->config->train.micro_batch < IMAGES ? t->config->train.micro_batch : IMAGES;
    if (!t->val_loader)
        return status;
    TRY(loader_seek(t->val_loader, 0, 0));
    TRY(loader_next(t->val_loader, &batch));
    if (!batch)
        return status;
    o->count = batch->count < count ? batch->count : count;
    o->size = t->config->data.image_size;
    size_t floats = (size_t)o->count * o->size * o->size * 3;
    o->images = malloc(floats * sizeof *o->images);
    o->back = malloc(floats * sizeof *o->back);
    if (!o->images || !o->back)
        FAIL(STATUS_NOMEM, "out of memory for the pictures");
    if (batch->raw)
        normalise(batch, o->count, o->images);
    else
        memcpy(o->images, batch->images, floats * sizeof *o->images);
    memcpy(o->labels, batch->labels, o->count * sizeof *o->labels);
    TRY(explain_create(&o->explain, t->net, t->model, o->count, t->device->threads));
fail:
    return status;
}

enum status live_pictures_create(struct live_pictures **out, struct training *t)
{
    enum status status = STATUS_OK;
    struct live_pictures *o = NULL;
    if (!t->config->log.tensorboard)
        return status;
    o = calloc(1, sizeof *o);
    if (!o)
        FAIL(STATUS_NOMEM, "out of memory for TensorBoard");
    TRY(tensorboard_open(&o->tensorboard, run_directory_path(t->run_directory), t->step + 1));
    if (t->config->log.pictures_every_epochs > 0)
        TRY(keep_images(o, t));
    *out = o;
    o = NULL;
fail:
    live_pictures_destroy(o);
    return status;
}

void live_pictures_destroy(struct live_pictures *o)
{
    if (!o)
        return;
    tensorboard_close(o->tensorboard);
    explain_destroy(o->explain);
    free(o->images);
    free(o->back);
    free(o);
}

enum status live_pictures_step(struct live_pictures *o, int64_t step, const struct progress_metrics *n)
{
    enum status status = STATUS_OK;
    if (!o)
        return status;
    TRY(tensorboard_scalar(o->tensorboard, "train/loss", step, n->loss));
    TRY(tensorboard_scalar(o->tensorboard, "train/lr", step, n->lr));
    TRY(tensorboard_scalar(o->tensorboard, "train/img_s", step, n->img_s));
    TRY(tensorboard_scalar(o->tensorboard, "train/data_wait", step, n->data_wait));
fail:
    return status;
}

enum status live_pictures_evaluation(struct live_pictures *o, int64_t step, const struct evaluation *e)
{
    enum status status = STATUS_OK;
    if (!o)
        return status;
    TRY(tensorboard_scalar(o->tensorboard, "eval/loss", step, e->loss));
    TRY(tensorboard_scalar(o->tensorboard, "eval/top1", step, e->top1));
    TRY(tensorboard_scalar(o->tensorboard, "eval/top5", step, e->top5));
fail:
    return status;
}

static enum status show(struct live_pictures *o, int64_t step, const char *tag, const struct image *image)
{
    enum status status = STATUS_OK;
    void *png = NULL;
    size_t bytes;
    TRY(picture_png(image, &png, &bytes));
    TRY(tensorboard_picture(o->tensorboard, tag, step, png, bytes, image->width, image->height));
fail:
    free(png);
    return status;
}

static enum status show_atoms(struct live_pictures *o, const struct training *t, const struct node *node)
{
    enum status status = STATUS_OK;
    const struct param *p = &t->model->params[node->param];
    struct image image = { 0 };
    char tag[96];
    float *w = malloc(p->count * sizeof *w);
    if (!w)
        FAIL(STATUS_NOMEM, "out of memory for the pictures");
    snprintf(tag, sizeof tag, "atoms/%s", node->name);
    TRY(model_get(t->model, t->model->weights, node->param, w));
    TRY(picture_atoms(&image, w, p->shape[0], p->shape[1], p->shape[2]));
    TRY(picture_enlarge(&image, ATOM_PIXELS));
    TRY(show(o, t->step, tag, &image));
fail:
    image_finish(&image);
    free(w);
    return status;
}

static enum status show_strip(struct live_pictures *o, const struct training *t, const char *tag, const float *pixels)
{
    enum status status = STATUS_OK;
    struct image strip = { 0 };
    TRY(picture_strip(&strip, pixels, o->count, o->size, t->config->data.mean, t->config->data.std));
    TRY(picture_enlarge(&strip, STRIP_PIXELS));
    TRY(show(o, t->step, tag, &strip));
fail:
    image_finish(&strip);
    return status;
}

static enum status show_images(struct live_pictures *o, const struct training *t)
{
    enum status status = STATUS_OK;
    int nodes[EXPLAIN_MAX_DEFAULT_NODES], count = explain_default_nodes(t->model, nodes);
    char tag[96];
    TRY(net_upload(t->net, o->images, o->labels, o->count));
    TRY(net_infer(t->net, NULL));
    TRY(show_strip(o, t, "images/input", o->images));
    for (int i = 0; i < count; i++) {
        snprintf(tag, sizeof tag, "images/back from %s", t->model->nodes[nodes[i]].name);
        TRY(explain_pixels(o->explain, nodes[i], o->back));
        TRY(show_strip(o, t, tag, o->back));
    }
fail:
    return status;
}

enum status live_pictures_draw(struct live_pictures *o, const struct training *t)
{
    enum status status = STATUS_OK;
    if (!o)
        return status;
    for (int i = 0; i < t->model->nodes_count; i++)
        if (t->model->nodes[i].kind == NODE_CSC || t->model->nodes[i].in == 0)
            TRY(show_atoms(o, t, &t->model->nodes[i]));
    if (o->explain)
        TRY(show_images(o, t));
fail:
    return status;
}
