/* viz.h - the parts of csc-viz; not for others. */
#ifndef CSC_TRAINER_VIZ_VIZ_H
#define CSC_TRAINER_VIZ_VIZ_H

#include "data/read/loader.h"
#include "trainer/model/trained_model.h"
#include "trainer/report/picture.h"
#include "trainer/viz/explain.h"

enum { VIZ_MAX_LAYERS = 64, VIZ_MAX_IMAGES = 64, VIZ_NOISE_LEVELS = 4 }; /* at most asked for and shown; noise levels */

struct viz_options {
    const char *path, *data, *out, *json, *truth;
    const char
        *layers[VIZ_MAX_LAYERS]; /* to reconstruct from; none: the first convolution and the last of each stage */
    int layers_count;
    int images;    /* shown */
    int64_t limit; /* measured */
    double noise;  /* of the noisy input that is shown: standard deviation, of values in 0..1 */
    struct trained_machine machine;
    char steps[64], lambda[64]; /* overrides of the configuration, or "" */
};

/* Of one noise level, in dB against the clean images: the noisy ones, A z of them, and a A z (see explain.h). */
struct viz_level {
    double sigma, input, unscaled, scaled;
};

/* How many true atoms have an atom of the first layer that matches them. */
struct viz_recovery {
    int atoms, found;
    double mean, best; /* absolute cosine of the best match: mean over true atoms, largest */
};

struct viz_picture {
    char file[96], title[160];
    void *png;
    size_t bytes;
    int width, height;
};

struct viz {
    struct viz_options options;
    struct trained trained;
    struct net *net;
    struct explain *explain;
    struct loader *loader;    /* of single images, */
    struct micro_batch batch; /* of which viz_next makes these */
    int32_t labels[VIZ_MAX_IMAGES];
    uint64_t ids[VIZ_MAX_IMAGES];
    float *images;                            /* (n,size,size,3) */
    int n, size;                              /* images at a time, their side */
    int first;                                /* node that sees the image */
    int layers[VIZ_MAX_LAYERS], layers_count; /* nodes to reconstruct from */
    float *noisy, *back;                      /* (n,size,size,3) */

    int64_t measured, missing;           /* images; damaged ones among them, which were left out */
    struct csc_diagnostics *diagnostics; /* (csc_count), means */
    double psnr[VIZ_MAX_LAYERS];         /* of the reconstruction from each of layers[] */
    struct viz_level levels[VIZ_NOISE_LEVELS];
    struct viz_recovery recovery; /* atoms 0: no truth was given */

    struct viz_picture *pictures;
    int pictures_count;
};

/* viz_measure.c: the next n images, damaged ones left out; *batch is NULL where fewer are left. */
enum status viz_next(struct viz *v, const struct micro_batch **batch);

/* Over the first options.limit images. */
enum status viz_measure(struct viz *v);
enum status viz_compare_truth(struct viz *v);
/* noisy = images and Gaussian noise keyed by the sample's id, clipped to 0..1; all normalised. */
void viz_add_noise(const struct viz *v, const struct micro_batch *batch, double sigma, float *noisy);

/* viz_pictures.c: draws them and writes options.out/FILE.png. */
enum status viz_draw(struct viz *v);

/* viz_report.c */
enum status viz_write_report(const struct viz *v); /* a.out/report.html */
enum status viz_write_json(const struct viz *v);

#endif
