/* viz.h - the parts of csc-viz. Only csc_viz.c and viz_*.c include this header. */
#ifndef CSC_TRAINER_VIZ_VIZ_H
#define CSC_TRAINER_VIZ_VIZ_H

#include "data/read/loader.h"
#include "trainer/model/trained_model.h"
#include "trainer/report/picture.h"
#include "trainer/viz/explain.h"

enum { VIZ_MAX_LAYERS = 64, VIZ_MAX_IMAGES = 64 /* shown */, VIZ_NOISE_LEVELS = 4 };

struct viz_options {
    const char *path, *data, *out, *json, *truth;
    const char *layers[VIZ_MAX_LAYERS]; /* to reconstruct from; none: the first and the last of each stage */
    int layers_count;
    int images;    /* number of images shown */
    int64_t limit; /* number of images measured */
    double noise;  /* standard deviation of the noise in the noisy images, for pixel values in 0..1 */
    struct device_overrides machine;
    char steps[64], lambda[64]; /* overrides of the configuration such as "csc.steps=20"; "" if not given */
};

/* One noise level: the PSNR in dB, against the clean images, of the noisy images, of A z, and of A z scaled (see
 * explain.h). */
struct viz_level {
    double sigma, input, unscaled, scaled;
};

/* The true atoms that match an atom of the first layer. */
struct viz_recovery {
    int atoms, found;
    double mean, best; /* absolute cosine of the best match: mean and maximum over the true atoms */
};

struct viz_picture {
    char file[96], title[160];
    void *png;
    size_t bytes;
    int width, height;
};

struct viz {
    struct viz_options options;
    struct trained_model trained;
    struct net *net;
    struct explain *explain;
    struct loader *loader;    /* delivers single images */
    struct micro_batch batch; /* the batch of viz_next */
    int32_t labels[VIZ_MAX_IMAGES];
    uint64_t ids[VIZ_MAX_IMAGES];
    float *images;                            /* (n,size,size,3) */
    int n, size;                              /* images in a batch, and their side in pixels */
    int first;                                /* the node whose input is the image */
    int layers[VIZ_MAX_LAYERS], layers_count; /* nodes to reconstruct from */
    float *noisy, *back;                      /* (n,size,size,3) */

    int64_t measured, missing;           /* number of images measured, and of damaged ones left out */
    struct csc_diagnostics *diagnostics; /* (csc_count), means over the images */
    double psnr[VIZ_MAX_LAYERS];         /* in dB, of the reconstruction from each of layers[] */
    struct viz_level levels[VIZ_NOISE_LEVELS];
    struct viz_recovery recovery; /* atoms is 0 without --truth */

    struct viz_picture *pictures;
    int pictures_count;
    size_t pictures_capacity;
};

/* viz_measure.c. The next n images that are not damaged; *batch is NULL if fewer remain. */
enum status viz_next(struct viz *v, const struct micro_batch **batch);

/* Measures the first options.limit images. */
enum status viz_measure(struct viz *v);
enum status viz_compare_truth(struct viz *v);
/* noisy = batch plus Gaussian noise that depends on the sample ids, clipped to 0..1. Both are normalised. */
void viz_add_noise(const struct viz *v, const struct micro_batch *batch, double sigma, float *noisy);

/* viz_pictures.c. Draws the pictures and writes them to options.out/FILE.png. */
enum status viz_draw(struct viz *v);

/* viz_report.c */
enum status viz_write_report(const struct viz *v); /* writes OUT/report.html */
enum status viz_write_json(const struct viz *v);

#endif
