/* synth.c - draws the dictionary of each class, and images composed from it, with the generator Philox.
 * Image i depends only on (seed, i) and the options. The validation set's images continue the training set's numbers.
 */
#include "data/sources/synth.h"

#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/integer.h"
#include "base/memory.h"
#include "base/philox.h"
#include "data/format/format.h"

enum {
    K = SYNTH_KERNEL,
    PLANE = K * K,
    ATOM = 3 * PLANE,
    AREA_PER_ATOM = 48, /* pixels; each is covered once on average, so atoms overlap everywhere */
};
#define GAIN_LOW  0.9 /* smallest and largest norm of an atom in an image of values in 0..1 */
#define GAIN_HIGH 1.8
#define SMOOTH    0.9 /* pixels: standard deviation of the blur that makes atoms smooth */

/* What is drawn; selects a stream under PHILOX_DOMAIN_SYNTH. */
enum { DRAW_ATOM, DRAW_IMAGE, DRAW_LABELS };

struct synth {
    struct pack_source source; /* must be first: pointers to it are cast to the synth */
    struct synth_config config;
    float *atoms; /* (classes, SYNTH_ATOMS, 3, K, K) */
    char **names;
    int64_t first_index; /* of the set that the source gives, over both sets */
};

/* Draws white noise (K, K) and blurs it with a Gaussian. */
static void draw_plane(struct philox *stream, double plane[PLANE])
{
    enum { MARGIN = 3, W = K + 2 * MARGIN };
    double white[W * W];
    for (int i = 0; i < W * W; i++)
        white[i] = philox_normal(stream);
    for (int y = 0; y < K; y++)
        for (int x = 0; x < K; x++) {
            double sum = 0;
            for (int v = -MARGIN; v <= MARGIN; v++)
                for (int u = -MARGIN; u <= MARGIN; u++)
                    sum += exp(-(u * u + v * v) / (2 * SMOOTH * SMOOTH)) * white[(y + v + MARGIN) * W + x + u + MARGIN];
            double dx = x - K / 2, dy = y - K / 2;
            plane[y * K + x] = sum * exp(-(dx * dx + dy * dy) / (2 * 2.0 * 2.0)); /* fades at the border */
        }
}

static double dot(const double *a, const double *b)
{
    double sum = 0;
    for (int i = 0; i < PLANE; i++)
        sum += a[i] * b[i];
    return sum;
}

/* Draws three planes of squared norm 1/3, each orthogonal to a constant and to the planes before it. */
static void draw_atom(const struct synth_config *config, int atom_index, float *atom)
{
    struct philox stream;
    double basis[4][PLANE];
    philox_init(&stream, config->seed, PHILOX_DOMAIN_SYNTH | DRAW_ATOM, (uint64_t)atom_index);
    for (int i = 0; i < PLANE; i++)
        basis[0][i] = 1.0 / K;
    for (int c = 1; c <= 3; c++) {
        double *plane = basis[c];
        draw_plane(&stream, plane);
        for (int pass = 0; pass < 2; pass++) /* twice, to remove rounding errors */
            for (int b = 0; b < c; b++) {
                double along = dot(plane, basis[b]);
                for (int i = 0; i < PLANE; i++)
                    plane[i] -= along * basis[b][i];
            }
        double norm = sqrt(dot(plane, plane));
        for (int i = 0; i < PLANE; i++) {
            plane[i] /= norm;
            atom[(c - 1) * PLANE + i] = (float)(plane[i] / sqrt(3.0));
        }
    }
}

/* Adds gain * atom, centred at (cx, cy), to image (size, size, 3). What lies outside is cut off. */
static void add_atom(float *image, int size, const float *atom, int cx, int cy, double gain)
{
    for (int y = 0; y < K; y++)
        for (int x = 0; x < K; x++) {
            int px = cx + x - K / 2, py = cy + y - K / 2;
            if (px < 0 || py < 0 || px >= size || py >= size)
                continue;
            for (int c = 0; c < 3; c++)
                image[((size_t)py * size + px) * 3 + c] += (float)gain * atom[c * PLANE + y * K + x];
        }
}

/* Composes image `index` of class `label`: pixels (size, size, 3). */
static enum status compose(const struct synth *s, int64_t index, int label, struct image *out)
{
    enum status status = STATUS_OK;
    int size = s->config.size;
    size_t values = (size_t)size * size * 3;
    struct philox stream;
    float *image = malloc(values * sizeof *image);
    if (!image)
        FAIL(STATUS_NOMEM, "out of memory for an image of %d x %d pixels", size, size);
    TRY(image_allocate(out, size, size));
    philox_init(&stream, s->config.seed, PHILOX_DOMAIN_SYNTH | DRAW_IMAGE, (uint64_t)index);
    float background[3];
    for (int c = 0; c < 3; c++)
        background[c] = (float)(0.35 + 0.3 * philox_uniform(&stream));
    for (size_t i = 0; i < values; i++)
        image[i] = background[i % 3];
    int64_t atoms = (int64_t)size * size / AREA_PER_ATOM + 1;
    for (int64_t i = 0; i < atoms; i++) {
        int atom = (int)philox_below(&stream, SYNTH_ATOMS);
        int x = (int)philox_below(&stream, (uint32_t)size), y = (int)philox_below(&stream, (uint32_t)size);
        double gain = GAIN_LOW + (GAIN_HIGH - GAIN_LOW) * philox_uniform(&stream);
        add_atom(image, size, s->atoms + ((size_t)label * SYNTH_ATOMS + atom) * ATOM, x, y, gain);
    }
    for (size_t i = 0; i < values; i++) {
        double value = 255 * (image[i] + s->config.noise * philox_normal(&stream));
        out->pixels[i] = (uint8_t)lrint(fmin(fmax(value, 0), 255));
    }
fail:
    free(image);
    return status;
}

/* The class of an image. Each run of `classes` images holds every class once, in random order. */
static int label_of(const struct synth *s, int64_t index)
{
    int classes = s->config.classes, position = (int)(index % classes), label = 0;
    int16_t order[SYNTH_MAX_CLASSES];
    struct philox stream;
    philox_init(&stream, s->config.seed, PHILOX_DOMAIN_SYNTH | DRAW_LABELS, (uint64_t)(index / classes));
    for (int i = 0; i < classes; i++)
        order[i] = (int16_t)i;
    for (int i = 0; i <= position; i++) {
        int other = i + (int)philox_below(&stream, (uint32_t)(classes - i));
        label = order[other];
        order[other] = order[i];
    }
    return label;
}

static enum status read_image(struct pack_source *source, int64_t index, struct pack_item *item)
{
    const struct synth *s = (const struct synth *)source;
    item->index = s->first_index + index; /* numbered over both sets */
    item->label = label_of(s, item->index);
    item->bytes = 0;
    snprintf(item->name, sizeof item->name, "image %lld", (long long)item->index);
    return STATUS_OK;
}

static enum status decode_image(const struct pack_source *source, const struct pack_item *item, struct image *image,
                                unsigned *notes)
{
    (void)notes;
    return compose((const struct synth *)source, item->index, item->label, image);
}

enum status synth_create(struct synth **out, const struct synth_config *config)
{
    enum status status = STATUS_OK;
    struct synth *s = calloc(1, sizeof *s);
    if (!s)
        FAIL(STATUS_NOMEM, "out of memory");
    s->config = *config;
    if (config->images < 1 || config->images > (int64_t)1 << 32)
        FAIL(STATUS_USAGE, "--images %lld: not between 1 and 2^32", (long long)config->images);
    if (config->classes < 2 || config->classes > SYNTH_MAX_CLASSES)
        FAIL(STATUS_USAGE, "--classes %d: not between 2 and %d", config->classes, SYNTH_MAX_CLASSES);
    if (config->size < 1 || config->size > SYNTH_MAX_SIZE)
        FAIL(STATUS_USAGE, "--size %d: not between 1 and %d", config->size, SYNTH_MAX_SIZE);
    if (!(config->noise >= 0 && config->noise <= 10))
        FAIL(STATUS_USAGE, "--noise %g: not between 0 and 10", config->noise);
    int atoms = config->classes * SYNTH_ATOMS;
    s->atoms = malloc((size_t)atoms * ATOM * sizeof *s->atoms);
    s->names = calloc((size_t)config->classes, sizeof *s->names);
    if (!s->atoms || !s->names)
        FAIL(STATUS_NOMEM, "out of memory");
    for (int i = 0; i < atoms; i++)
        draw_atom(config, i, s->atoms + (size_t)i * ATOM);
    for (int i = 0; i < config->classes; i++)
        if (asprintf(&s->names[i], "dictionary-%d", i) < 0) {
            s->names[i] = NULL;
            FAIL(STATUS_NOMEM, "out of memory");
        }
    *out = s;
    return STATUS_OK;
fail:
    synth_destroy(s);
    return status;
}

struct pack_source *synth_source(struct synth *s, bool training)
{
    int64_t other = s->config.images / 5 > 0 ? s->config.images / 5 : 1;
    s->first_index = training ? 0 : s->config.images;
    s->source = (struct pack_source){ .read = read_image,
                                      .decode = decode_image,
                                      .sample_bytes = (uint64_t)s->config.size * s->config.size * 3,
                                      .parallel = true,
                                      .total = training ? s->config.images : other,
                                      .fingerprint = (uint64_t)training,
                                      .class_count = s->config.classes,
                                      .class_names = s->names };
    return &s->source;
}

enum status synth_write_truth(const struct synth *s, const char *path)
{
    enum status status = STATUS_OK;
    int atoms = s->config.classes * SYNTH_ATOMS;
    size_t bytes = (size_t)atoms * ATOM * sizeof(float), header;
    char classes[32], size[32], noise[32], seed[32], images[32], *text = NULL, *file = NULL;
    snprintf(classes, sizeof classes, "%d", s->config.classes);
    snprintf(size, sizeof size, "%d", s->config.size);
    snprintf(noise, sizeof noise, "%.9g", s->config.noise);
    snprintf(seed, sizeof seed, "%llu", (unsigned long long)s->config.seed);
    snprintf(images, sizeof images, "%lld", (long long)s->config.images);
    json_t *object = json_pack("{s:{s:s,s:s,s:s,s:s,s:s,s:s},s:{s:s,s:[i,i,i,i],s:[i,I]}}", "__metadata__", "format",
                               "pt", "classes", classes, "size", size, "noise", noise, "seed", seed, "images", images,
                               "atoms", "dtype", "F32", "shape", atoms, 3, K, K, "data_offsets", 0, (json_int_t)bytes);
    text = object ? json_dumps(object, JSON_COMPACT) : NULL;
    if (!text)
        FAIL(STATUS_NOMEM, "%s: out of memory", path);
    header = round_up(strlen(text), 8);
    file = malloc(8 + header + bytes);
    if (!file)
        FAIL(STATUS_NOMEM, "%s: out of memory", path);
    put64((uint8_t *)file, header);
    memset(file + 8, ' ', header);
    memcpy(file + 8, text, strlen(text));
    memcpy(file + 8 + header, s->atoms, bytes); /* safetensors is little-endian, like every machine that this runs on */
    TRY(file_write(path, file, 8 + header + bytes));
fail:
    free(text);
    free(file);
    json_decref(object);
    return status;
}

void synth_destroy(struct synth *s)
{
    if (!s)
        return;
    strings_free(s->names, s->config.classes);
    free(s->atoms);
    free(s);
}
