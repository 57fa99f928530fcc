/* csc.h - the convolutional sparse coding layer (Dai et al., NeurIPS 2022).
 * x (N,H,W,C) is coded over the dictionary w (D,k,k,C) of unit atoms by `steps` unrolled FISTA iterations
 * (Beck and Teboulle 2009) on   1/2 |x - A z|^2 + lambda |z|_1 + mu/2 |z|^2   (z >= 0 if nonnegative);
 * A^T is convolution with w, A its adjoint; the code z is (N,H',W',D).
 * x, z and their gradients are activations in device memory (backend.h). */
#ifndef CSC_LAYERS_CSC_H
#define CSC_LAYERS_CSC_H

#include "layers/backend/backend.h"

enum csc_backward {
    CSC_UNROLLED, /* through every iteration */
    CSC_ONE_STEP, /* through the last iteration only: an approximation */
    CSC_IMPLICIT, /* of the fixed point, by conjugate gradients on the support: exact where converged */
};

struct csc_config {
    int steps;        /* >= 1 */
    float lambda, mu; /* >= 0 */
    bool nonnegative;
    enum csc_backward backward;
};

/* ---- the layer ---- */

/* A layer planned for one input shape. */
struct csc {
    struct device *device;
    struct conv_shape shape;
    struct csc_config config;
    bool training; /* keeps what the backward pass needs */
    struct conv *conv;
    float *momenta;                 /* (steps), of the extrapolation before iteration k */
    void **z, **y, **r;             /* (steps) pointers: code, extrapolated code and residual of iteration k */
    void *saved_y, *saved_r;        /* CSC_ONE_STEP: of the last iteration */
    char *code_stack, *image_stack; /* (CONV_TERMS) codes, and images; NULL: not stacked. See csc_assign_memory_all */
    size_t scratch;                 /* bytes of scratch that its calls need; layers may share them */
    const float *device_scalars;    /* device, (STEP_SCALARS), the caller's: used instead of every eta; or NULL */
};

enum status csc_create(struct csc **csc, struct device *device, const struct conv_shape *shape,
                       const struct csc_config *config, bool training);
void csc_destroy(struct csc *csc); /* NULL is fine */
/* Takes from the arena what must last from forward to backward: for 2 unrolled steps a code and a residual. */
void csc_assign_memory(struct csc *csc, struct arena *arena);
/* The same for all layers of a network, in forward order. Where the backend prefers stacked terms, the terms of a
 * layer's weight gradient lie behind one another:
 *   codes   z_0  d_1  eta g        images   -q  x  r
 * The forward pass keeps z_0 and r. The backward pass writes the rest over what later layers have kept: so each layer's
 * backward pass must run once after its forward pass, in reverse order of the layers. */
void csc_assign_memory_all(struct csc *const *layers, int count, struct arena *arena);
/* Must follow every change of the weights (D,k,k,C). */
enum status csc_load(struct csc *csc, const float *weights, void *scratch);

/* z: the last iterate. */
enum status csc_forward(struct csc *csc, const void *x, float eta, void *z, void *scratch);

/* After csc_forward with the same x, eta and z. dz is overwritten. If masked, the caller has already multiplied it by
 * csc_mask_factor where z != 0, and set it to 0 elsewhere. dx gets or accumulates the gradient of x, or is NULL (first
 * layer); dw (D,k,k,C) accumulates, or is NULL. eta is taken as constant. */
enum status csc_backward(struct csc *csc, const void *x, float eta, const void *z, void *dz, bool masked, void *dx,
                         bool accumulate, float *dw, void *scratch);

float csc_mask_factor(const struct csc *csc, float eta); /* eta nu; 1 for the implicit gradient */
/* The same factor in device memory; NULL if the host's value is current. */
const float *csc_mask_factor_device(const struct csc *csc);
/* What backend.h's step_scalars writes for one layer, on the host. */
void csc_step_scalars(const struct csc_config *config, float eta, float scalars[STEP_SCALARS]);

/* ---- csc_diagnose.c: how well z codes x ---- */

struct csc_diagnostics {
    double nonzeros; /* fraction of z's elements */
    double residual; /* |x - A z|^2 / |x|^2 over the batch */
    double gap;      /* duality gap / (1/2 |x|^2), mean over images; 0 at the optimum */
};
/* Computes two convolutions and waits for the device; needs no backward state. */
enum status csc_diagnose(struct csc *csc, const void *x, const void *z, struct csc_diagnostics *out, void *scratch);

/* ---- csc_power.c: the step size ---- */

/* eta = 0.9 / lambda_max(A^T A) at a layer's input size, by power iteration on one image, zero padding counted. */
struct csc_power {
    struct device *device;
    struct conv_shape shape;         /* n = 1 */
    struct conv *conv;               /* in fp32 on every device */
    struct conv *fast_conv;          /* what csc_power_advance uses where bf16 or tf32 is faster; or NULL */
    void *bf16_image[2], *bf16_code; /* activations for a fast_conv in bf16: (H,W,C) twice, (H',W',D) */
    float *vector;                   /* (H,W,C), unit norm */
    float *image, *code;             /* (H,W,C), (H',W',D) */
    float *next;                     /* (H,W,C), between two iterations */
    double *lambda_max_device;       /* device memory: lambda_max, where the device computes it */
    double lambda_max;
    float eta;
};
enum status csc_power_create(struct csc_power **power, struct device *device, const struct conv_shape *shape);
void csc_power_destroy(struct csc_power *power);         /* NULL is fine */
size_t csc_power_scratch(const struct csc_power *power); /* bytes of scratch that its calls need */
/* lambda_max_device: 8 bytes of device memory. */
void csc_power_assign_memory(struct csc_power *power, struct arena *arena, double *lambda_max_device);
/* Starts from a random vector, the same on every rank. */
enum status csc_power_start(struct csc_power *power, uint64_t seed, uint64_t layer);
/* Queues `iterations` more from the last vector with these weights. In bf16 on a CPU lambda_max is that of weights
 * rounded to bf16, which the convolutions use; in bf16 and tf32 on a GPU that of weights rounded to tf32. */
enum status csc_power_advance(struct csc_power *power, const float *weights, int iterations, void *scratch);
/* Brings lambda_max and eta of `count` layers to the host, with one wait; their lambda_max_device are contiguous. */
void csc_power_fetch(struct csc_power *const *powers, int count);
/* Goes on from the last vector until lambda_max is within a relative error of 1e-5, with Chebyshev polynomials. */
enum status csc_power_converge(struct csc_power *power, const float *weights, void *scratch);

#endif
