/* test_explain.c - compares reconstructions with a plain inversion in double precision: adjoints, inverse batch
 * norms without the shortcut's output, max pools. Pictures decode to what was drawn. */
#include <math.h>
#include <png.h>
#include <string.h>

#include "base/philox.h"
#include "layers/backend/device.h"
#include "tests/check.h"
#include "tests/layers/backend/truth.h"
#include "trainer/report/picture.h"
#include "trainer/viz/explain.h"

enum { MAX_VALUES = 1 << 16 };

static int n = 2; /* images */

struct rig {
    struct device *device;
    struct model *model;
    struct net *net;
    struct explain *explain;
    float images[MAX_VALUES];
};

/* Gives the norms random weights, biases and statistics; one channel of the first norm is switched off. */
static void stir(struct model *m)
{
    struct philox stream;
    float host[MAX_VALUES];
    philox_init(&stream, 5, 1, 2);
    for (int i = 0; i < m->params_count; i++) {
        const struct param *p = &m->params[i];
        if (p->kind != PARAM_NORM_WEIGHT && p->kind != PARAM_NORM_BIAS)
            continue;
        for (size_t j = 0; j < p->count; j++)
            host[j] = p->kind == PARAM_NORM_WEIGHT ? 0.5f + (float)philox_uniform(&stream)
                                                   : (float)philox_normal(&stream) * 0.2f;
        if (p->kind == PARAM_NORM_WEIGHT && strcmp(p->name, "layer0.1.weight") == 0)
            host[1] = 1e-5f;
        model_set(m, m->weights, i, host);
    }
    for (int i = 0; i < model_running_tensors(m); i++) {
        char name[80];
        size_t offset;
        int channels;
        model_running_tensor(m, i, name, &offset, &channels);
        for (int j = 0; j < channels; j++)
            m->running[offset + j] = i % 2 ? 0.02f + 0.02f * (float)philox_uniform(&stream)
                                           : 0.02f * (float)philox_normal(&stream);
    }
    model_weights_changed(m);
}

static bool start(struct rig *r, const struct model_config *config)
{
    int32_t labels[2] = { 0 };
    struct philox stream;
    if (device_open(&r->device, "cpu", PRECISION_FP32, 1) != STATUS_OK ||
        model_create(&r->model, r->device, config) != STATUS_OK || model_allocate(r->model) != STATUS_OK ||
        model_init(r->model, 3) != STATUS_OK)
        return false;
    stir(r->model);
    if (model_converge_step_sizes(r->model) != STATUS_OK ||
        net_create(&r->net, r->model, n, NET_TRAINING) != STATUS_OK || net_allocate(r->net) != STATUS_OK ||
        explain_create(&r->explain, r->net, r->model, n, 1) != STATUS_OK)
        return false;
    philox_init(&stream, 7, 1, 1);
    for (int i = 0; i < n * config->image_size * config->image_size * 3; i++)
        r->images[i] = (float)philox_normal(&stream);
    return net_upload(r->net, r->images, labels, n) == STATUS_OK && net_infer(r->net, NULL) == STATUS_OK;
}

static void finish(struct rig *r)
{
    explain_destroy(r->explain);
    net_destroy(r->net);
    model_destroy(r->model);
    device_close(r->device);
}

static size_t elements(const struct model *m, int edge)
{
    return (size_t)n * m->edges[edge].h * m->edges[edge].w * m->edges[edge].c;
}

static void recorded(const struct rig *r, int edge, double *out)
{
    static float host[MAX_VALUES];
    net_get_activations(r->net, edge, n, host);
    for (size_t i = 0; i < elements(r->model, edge); i++)
        out[i] = host[i];
}

static void undo_conv(const struct rig *r, const struct node *node, double *v)
{
    static double w[MAX_VALUES], z[MAX_VALUES], az[MAX_VALUES], x[MAX_VALUES], out[MAX_VALUES];
    const float *weights = r->model->weights + r->model->params[node->param].offset;
    struct conv_shape shape = node->conv;
    shape.n = n;
    size_t in = elements(r->model, node->in), per = in / n;
    for (size_t i = 0; i < conv_weight_count(&shape); i++)
        w[i] = weights[i];
    recorded(r, node->out, z);
    recorded(r, node->in, x);
    truth_synthesis(&shape, z, w, az);
    truth_synthesis(&shape, v, w, out);
    for (int i = 0; i < n; i++) {
        double up = 0, down = 0;
        for (size_t j = i * per; j < (i + 1) * per; j++) {
            up += x[j] * az[j];
            down += az[j] * az[j];
        }
        for (size_t j = i * per; j < (i + 1) * per; j++)
            v[j] = down > 0 ? out[j] * up / down : 0;
    }
}

static void undo_norm(const struct rig *r, const struct node *node, double *v)
{
    static double add[MAX_VALUES];
    const struct model *m = r->model;
    int c = m->edges[node->out].c;
    const float *gamma = m->weights + m->params[node->param].offset,
                *beta = m->weights + m->params[node->param + 1].offset;
    const float *mean = m->running + node->running, *variance = mean + c;
    if (node->add >= 0)
        recorded(r, node->add, add);
    for (size_t i = 0; i < elements(m, node->out); i++) {
        int k = (int)(i % c);
        double y = v[i] - beta[k] - (node->add >= 0 ? add[i] : 0);
        v[i] = fabs(gamma[k]) < 1e-3 ? mean[k] : y / gamma[k] * sqrt(variance[k] + 1e-5) + mean[k];
    }
}

static void undo_max(const struct rig *r, const struct node *node, double *v)
{
    static double out[MAX_VALUES];
    struct edge in = r->model->edges[node->in], from = r->model->edges[node->out];
    for (int i = 0; i < n; i++)
        for (int y = 0; y < in.h; y++)
            for (int x = 0; x < in.w; x++)
                for (int c = 0; c < in.c; c++) {
                    double least = INFINITY;
                    for (int p = 0; p < from.h * from.w; p++) /* 3x3 windows, stride 2, padding 1 */
                        if (abs(p / from.w * 2 - y) <= 1 && abs(p % from.w * 2 - x) <= 1)
                            least = fmin(least, v[((size_t)i * from.h * from.w + p) * from.c + c]);
                    out[((i * in.h + y) * in.w + x) * in.c + c] = least;
                }
    memcpy(v, out, elements(r->model, node->in) * sizeof *v);
}

static void check_layer(const struct rig *r, const char *name)
{
    static double v[MAX_VALUES];
    static float got[MAX_VALUES];
    const struct model *m = r->model;
    double error = 0, size = 0;
    int node = explain_node(m, name);
    CHECK(node >= 0, "%s", name);
    recorded(r, m->nodes[node].out, v);
    for (const struct node *at = &m->nodes[node];;) {
        if (at->kind == NODE_NORM)
            undo_norm(r, at, v);
        else if (at->kind == NODE_MAX)
            undo_max(r, at, v);
        else
            undo_conv(r, at, v);
        if (at->in == 0)
            break;
        const struct node *below = m->nodes;
        while (below->out != at->in)
            below++;
        at = below;
    }
    CHECK(explain_pixels(r->explain, node, got) == STATUS_OK, "%s", status_message());
    for (size_t i = 0; i < elements(m, 0); i++) {
        error += (got[i] - v[i]) * (got[i] - v[i]);
        size += v[i] * v[i];
    }
    CHECK(size > 0 && sqrt(error / size) < 1e-4, "%s: relative error %.1e, norm %.1e", name, sqrt(error / size),
          sqrt(size));
}

static void check_network(const struct model_config *config, const char *const *layers, int count)
{
    static struct rig r;
    r = (struct rig){ 0 };
    CHECK(start(&r, config), "%s", status_message());
    for (int i = 0; i < count && r.explain; i++)
        check_layer(&r, layers[i]);
    CHECK(explain_node(r.model, "layer9.0.conv1") < 0, "found what is not there");
    finish(&r);
}

static void check_networks(void)
{
    struct csc_config csc = { .steps = 2, .lambda = 0.02f, .nonnegative = true };
    struct model_config all = { .depth = 18,
                                .sparse_stem = true,
                                .all = true,
                                .shortcut = true,
                                .width = 4,
                                .classes = 5,
                                .image_size = 10,
                                .csc = csc,
                                .seed = 1 };
    struct model_config plain = { .depth = 18,
                                  .sparse_stem = true,
                                  .imagenet_stem = true,
                                  .shortcut = true,
                                  .width = 4,
                                  .classes = 5,
                                  .image_size = 21,
                                  .csc = csc,
                                  .seed = 1 };
    struct model_config deep = {
        .depth = 50, .shortcut = true, .width = 4, .classes = 5, .image_size = 9, .csc = csc, .seed = 1
    };
    check_network(
        &all, (const char *[]){ "layer0.0", "layer1.layers.0.conv2", "layer2.layers.0.conv2", "layer2.layers.1.conv1" },
        4);
    check_network(&plain, (const char *[]){ "layer0.0", "layer1.1.conv2", "layer2.0.conv1" }, 3);
    check_network(&deep, (const char *[]){ "layer0.0", "layer1.1.conv3" }, 2);
    struct model_config wide = all; /* with one image, deep layers read the weights in place every time */
    wide.width = 16;
    n = 1;
    check_network(&wide, (const char *[]){ "layer3.layers.0.conv2", "layer1.layers.0.conv2" }, 2);
    n = 2;
}

/* Width 64 makes the stem's dictionary rich enough for any image: many steps with a small lambda restore it. */
static void check_many_steps(void)
{
    static struct rig r;
    static float back[MAX_VALUES];
    r = (struct rig){ 0 };
    struct model_config config = { .depth = 18,
                                   .sparse_stem = true,
                                   .shortcut = true,
                                   .width = 64,
                                   .classes = 2,
                                   .image_size = 6,
                                   .csc = { .steps = 400, .lambda = 1e-4f, .nonnegative = true },
                                   .seed = 1 };
    CHECK(start(&r, &config), "%s", status_message());
    CHECK(explain_unscaled(r.explain, explain_node(r.model, "layer0.0"), back) == STATUS_OK, "%s", status_message());
    double error = 0, size = 0;
    for (int i = 0; i < n * 6 * 6 * 3; i++) {
        error += (back[i] - r.images[i]) * (back[i] - r.images[i]);
        size += r.images[i] * r.images[i];
    }
    CHECK(error < 1e-3 * size, "A z leaves %.1e of the image", error / size);
    finish(&r);
}

/* ---- pictures ---- */

static void check_png(const struct image *picture)
{
    void *png = NULL;
    size_t bytes = 0;
    png_image header = { .version = PNG_IMAGE_VERSION };
    CHECK(picture_png(picture, &png, &bytes) == STATUS_OK, "%s", status_message());
    CHECK(png_image_begin_read_from_memory(&header, png, bytes), "%s", header.message);
    CHECK((int)header.width == picture->width && (int)header.height == picture->height, "%u x %u", header.width,
          header.height);
    header.format = PNG_FORMAT_RGB;
    unsigned char *pixels = malloc(PNG_IMAGE_SIZE(header));
    CHECK(pixels && png_image_finish_read(&header, NULL, pixels, 0, NULL), "%s", header.message);
    CHECK(memcmp(pixels, picture->pixels, (size_t)picture->width * picture->height * 3) == 0, "other pixels");
    free(pixels);
    free(png);
}

static void check_pictures(void)
{
    struct image picture = { 0 };
    float w[2 * 3 * 4] = {
        [0] = 1, [4] = -1, [12 + 8 + 3] = 0.5f
    }; /* (2,3,2,2): top left red without green; bottom right blue */
    CHECK(picture_atoms(&picture, w, 2, 3, 2) == STATUS_OK, "%s", status_message());
    int zoom = (picture.width - 3) / 4; /* two tiles of two pixels, three margins */
    CHECK(picture.width == 4 * zoom + 3 && picture.height == 2 * zoom + 2, "%d x %d", picture.width, picture.height);
    const uint8_t *first = picture.pixels + (picture.width + 1) * 3;
    CHECK(first[0] == 255 && first[1] == 0 && first[2] == 128, "%d %d %d", first[0], first[1], first[2]);
    const uint8_t *last = picture.pixels + ((size_t)(picture.height - 2) * picture.width + picture.width - 2) * 3;
    CHECK(last[0] == 128 && last[1] == 128 && last[2] == 255, "%d %d %d", last[0], last[1], last[2]);
    check_png(&picture);
    float many[5 * 7 * 9];
    for (int i = 0; i < 5 * 7 * 9; i++)
        many[i] = (float)sin(i);
    CHECK(picture_atoms(&picture, many, 5, 7, 3) == STATUS_OK, "%s", status_message());
    check_png(&picture);
    float pixels[] = { 0, 1, -1, 9, -9, 0.5f, 0, 0, 0, 0, 0, 0 };
    CHECK(picture_pixels(&picture, pixels, 2, (double[]){ 0.5, 0.5, 0.5 }, (double[]){ 0.25, 0.25, 0.25 }) == STATUS_OK,
          "pixels");
    const uint8_t want[] = { 128, 191, 64, 255, 0, 159 };
    CHECK(memcmp(picture.pixels, want, sizeof want) == 0, "%d %d %d", picture.pixels[0], picture.pixels[1],
          picture.pixels[2]);
    CHECK(picture_enlarge(&picture, 7) == STATUS_OK && picture.width == 6 && memcmp(picture.pixels + 6, want, 3) == 0,
          "enlarged");
    check_png(&picture);
    image_finish(&picture);
}

int main(void)
{
    check_networks();
    check_many_steps();
    check_pictures();
    return check_done("explain");
}
