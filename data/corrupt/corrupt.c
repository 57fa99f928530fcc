/* corrupt.c - the names and constants of the corruptions, and the steps that they share.
 * Bytes are divided by 255; results are clipped to 0..1, multiplied by 255 and truncated, as in the published code.
 * Source of the constants: github.com/hendrycks/robustness, make_cifar_c.py and make_imagenet_c.py. */
#include "data/corrupt/corrupt.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "data/corrupt/corrupt_internal.h"
#include "data/image/image.h"

struct constants {
    const char *name;
    double cifar[CORRUPT_SEVERITIES][2], imagenet[CORRUPT_SEVERITIES][2];
};

static const struct constants table[CORRUPTIONS] = {
    /* standard deviation */
    [CORRUPT_GAUSSIAN_NOISE] = { "gaussian_noise",
                                 { { .04 }, { .06 }, { .08 }, { .09 }, { .10 } },
                                 { { .08 }, { .12 }, { .18 }, { .26 }, { .38 } } },
    /* photons at full brightness */
    [CORRUPT_SHOT_NOISE] = { "shot_noise",
                             { { 500 }, { 250 }, { 100 }, { 75 }, { 50 } },
                             { { 60 }, { 25 }, { 12 }, { 5 }, { 3 } } },
    /* fraction of the values that become 0 or 1 */
    [CORRUPT_IMPULSE_NOISE] = { "impulse_noise",
                                { { .01 }, { .02 }, { .03 }, { .05 }, { .07 } },
                                { { .03 }, { .06 }, { .09 }, { .17 }, { .27 } } },
    /* standard deviation relative to the value */
    [CORRUPT_SPECKLE_NOISE] = { "speckle_noise",
                                { { .06 }, { .1 }, { .12 }, { .16 }, { .2 } },
                                { { .15 }, { .2 }, { .35 }, { .45 }, { .6 } } },
    /* standard deviation in pixels */
    [CORRUPT_GAUSSIAN_BLUR] = { "gaussian_blur",
                                { { .4 }, { .6 }, { .7 }, { .8 }, { 1 } },
                                { { 1 }, { 2 }, { 3 }, { 4 }, { 6 } } },
    /* radius of the disk, and standard deviation that smooths its edge */
    [CORRUPT_DEFOCUS_BLUR] = { "defocus_blur",
                               { { .3, .4 }, { .4, .5 }, { .5, .6 }, { 1, .2 }, { 1.5, .1 } },
                               { { 3, .1 }, { 4, .5 }, { 6, .5 }, { 8, .5 }, { 10, .5 } } },
    /* added to V of HSV */
    [CORRUPT_BRIGHTNESS] = { "brightness",
                             { { .05 }, { .1 }, { .15 }, { .2 }, { .3 } },
                             { { .1 }, { .2 }, { .3 }, { .4 }, { .5 } } },
    /* factor of the distance to each channel's mean */
    [CORRUPT_CONTRAST] = { "contrast",
                           { { .75 }, { .5 }, { .4 }, { .3 }, { .15 } },
                           { { .4 }, { .3 }, { .2 }, { .1 }, { .05 } } },
    /* factor of and addition to S of HSV */
    [CORRUPT_SATURATE] = { "saturate",
                           { { .3, 0 }, { .1, 0 }, { 1.5, 0 }, { 2, .1 }, { 2.5, .2 } },
                           { { .3, 0 }, { .1, 0 }, { 2, 0 }, { 5, .1 }, { 20, .2 } } },
    /* factor of the sides */
    [CORRUPT_PIXELATE] = { "pixelate",
                           { { .95 }, { .9 }, { .85 }, { .75 }, { .65 } },
                           { { .6 }, { .5 }, { .4 }, { .3 }, { .25 } } },
    /* quality */
    [CORRUPT_JPEG] = { "jpeg_compression",
                       { { 80 }, { 65 }, { 58 }, { 50 }, { 40 } },
                       { { 25 }, { 18 }, { 15 }, { 10 }, { 7 } } },
};

const char *corruption_name(enum corruption_kind kind)
{
    return table[kind].name;
}

struct corruption corruption_make(enum corruption_kind kind, int severity, bool imagenet, uint64_t seed)
{
    const double *c = imagenet ? table[kind].imagenet[severity - 1] : table[kind].cifar[severity - 1];
    return (struct corruption){ .kind = kind, .severity = severity, .a = c[0], .b = c[1], .seed = seed };
}

enum status corruption_parse(const char *text, int *kind, int *severity)
{
    enum status status = STATUS_OK;
    const char *colon = strchr(text, ':');
    size_t length = colon ? (size_t)(colon - text) : 0;
    int found = -2;
    if (length == 3 && strncmp(text, "all", 3) == 0)
        found = -1;
    for (int k = 0; k < CORRUPTIONS; k++)
        if (strlen(table[k].name) == length && strncmp(text, table[k].name, length) == 0)
            found = k;
    bool all_severities = colon && strcmp(colon + 1, "all") == 0;
    bool digit = colon && colon[1] >= '1' && colon[1] <= '0' + CORRUPT_SEVERITIES && !colon[2];
    if (found == -2 || !(all_severities || digit)) {
        char names[400] = "";
        for (int k = 0; k < CORRUPTIONS; k++)
            snprintf(names + strlen(names), sizeof names - strlen(names), " %s", table[k].name);
        FAIL(STATUS_USAGE,
             "corruption '%s': must be NAME:SEVERITY, with a severity of 1 to %d or all, and a name of all or%s", text,
             CORRUPT_SEVERITIES, names);
    }
    *kind = found;
    *severity = all_severities ? -1 : colon[1] - '0';
fail:
    return status;
}

void corrupter_finish(struct corrupter *c)
{
    free(c->values[0]);
    free(c->values[1]);
    free(c->bytes);
    *c = (struct corrupter){ 0 };
}

static enum status grow(struct corrupter *c, int which, size_t values)
{
    uint8_t *memory = (uint8_t *)c->values[which];
    enum status status = buffer_grow(&memory, &c->capacity[which], values * sizeof(double));
    c->values[which] = (double *)memory;
    return status;
}

static void to_bytes(const double *values, size_t count, uint8_t *bytes)
{
    for (size_t i = 0; i < count; i++) {
        double v = values[i] < 0 ? 0 : values[i] > 1 ? 1 : values[i];
        bytes[i] = (uint8_t)(v * 255.0);
    }
}

/* The corruptions that work on values in 0..1: noise and colour in place, blurs into the second buffer. */
static enum status corrupt_values(const struct corruption *c, struct corrupter *s, uint8_t *pixels, int width,
                                  int height, uint64_t id)
{
    enum status status = STATUS_OK;
    size_t count = (size_t)width * height * 3;
    struct philox stream;
    TRY(grow(s, 0, count));
    double *values = s->values[0], *result = values;
    for (size_t i = 0; i < count; i++)
        values[i] = pixels[i] / 255.0;
    if (c->kind <= CORRUPT_SPECKLE_NOISE) {
        philox_init(&stream, c->seed, PHILOX_DOMAIN_CORRUPT | (uint32_t)c->kind << 8 | (uint32_t)c->severity, id);
        corrupt_noise(c, &stream, values, count);
    } else if (c->kind == CORRUPT_GAUSSIAN_BLUR || c->kind == CORRUPT_DEFOCUS_BLUR) {
        TRY(grow(s, 1, 2 * count));
        result = s->values[1];
        if (c->kind == CORRUPT_GAUSSIAN_BLUR)
            corrupt_gaussian_blur(values, width, height, c->a, result + count, result);
        else
            corrupt_defocus_blur(values, width, height, c->a, c->b, result);
    } else {
        corrupt_colour(c, values, count / 3);
    }
    to_bytes(result, count, pixels);
fail:
    return status;
}

enum status corrupt(const struct corruption *c, struct corrupter *s, uint8_t *pixels, int width, int height,
                    uint64_t id)
{
    switch (c->kind) {
    case CORRUPT_PIXELATE: return corrupt_pixelate(s, pixels, width, height, c->a);
    case CORRUPT_JPEG: return corrupt_jpeg(pixels, width, height, (int)c->a);
    default: return corrupt_values(c, s, pixels, width, height, id);
    }
}
