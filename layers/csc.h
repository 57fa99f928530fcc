/* csc.h - the convolutional sparse coding layer (Dai et al., NeurIPS 2022).
 * x (N,H,W,C) is coded over the dictionary w (D,k,k,C) of unit atoms by `steps` unrolled FISTA iterations
 * (Beck and Teboulle 2009) on   1/2 |x - A z|^2 + lambda |z|_1 + mu/2 |z|^2   (z >= 0 if nonnegative);
 * A^T is convolution with w, A its adjoint; z is (N,H',W',D). */
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

/* A layer planned for one input shape. */
struct csc {
    struct device *device;
    struct conv_shape shape;
    struct csc_config config;
    bool training; /* keeps what backward needs */
    struct conv *conv;
    float *momenta;     /* (steps), of the extrapolation before iteration k */
    void **z, **y, **r; /* (steps) pointers: code, extrapolated code, residual of iteration k; see csc_assign_memory */
    void *saved_y, *saved_r;        /* CSC_ONE_STEP */
    char *code_stack, *image_stack; /* CONV_TERMS codes, and images; NULL: not stacked. See csc_assign_memory_all */
    size_t scratch;                 /* bytes of shared scratch that its calls need */
    const float *device_scalars; /* device (STEP_SCALARS), the caller's: read instead of every eta that is given; NULL:
                             there are none */
};

enum status csc_create(struct csc **csc, struct device *device, const struct conv_shape *shape,
                       const struct csc_config *config, bool training);
void csc_destroy(struct csc *csc);
/* Takes what must last from forward to backward: unrolled 2 steps keep one code and one residual. */
void csc_assign_memory(struct csc *csc, struct arena *arena);
/* The same for all layers of a network, given in the order of their forward passes. Where the backend likes it, the
 * terms of a weight gradient lie behind one another:
 *     codes   z_0  d_1  eta g        images   -q  x  r
 * z_0 and r are kept from the forward pass on; the rest is the backward pass's, and lies over what later layers have
 * kept: each layer's backward pass comes once for a forward one, in reverse order. */
void csc_assign_memory_all(struct csc *const *layers, int count, struct arena *arena);
/* Weights (D,k,k,C) have changed. */
enum status csc_load(struct csc *csc, const float *weights, void *scratch);

/* z (N,H',W',D), the last iterate. */
enum status csc_forward(struct csc *csc, const void *x, float eta, void *z, void *scratch);

/* After csc_forward with the same x, eta, z. dz is overwritten; masked: it is 0 where z is, and csc_mask_factor times
 * the gradient elsewhere, already. dx may be NULL (first layer), else it gets or accumulates the gradient of x; dw
 * (D,k,k,C) accumulates, or is NULL. eta is a constant. */
enum status csc_backward(struct csc *csc, const void *x, float eta, const void *z, void *dz, bool masked, void *dx,
                         bool accumulate, float *dw, void *scratch);

float csc_mask_factor(const struct csc *csc, float eta); /* eta nu; 1 for the implicit gradient */
/* Where the device has it; NULL: it is as above. */
const float *csc_mask_factor_device(const struct csc *csc);
/* What backend.h's step_sizes would write, computed here. */
void csc_step_scalars(const struct csc_config *config, float eta, float scalars[STEP_SCALARS]);

/* How well z codes x; needs no backward state and costs two convolutions. */
struct csc_diagnostics {
    double nonzeros; /* share of z */
    double residual; /* |x - A z|^2 / |x|^2 over the batch */
    double gap;      /* duality gap / (1/2 |x|^2), mean over images; 0 at the optimum */
};
enum status csc_diagnose(struct csc *csc, const void *x, const void *z, struct csc_diagnostics *out, void *scratch);

/* The step size of a layer at its input size: eta = 0.9 / lambda_max(A^T A), by power iteration on one
 * image with zero padding counted; in fp32 on every device. */
struct csc_power {
    struct device *device;
    struct conv_shape shape; /* n = 1 */
    struct conv *conv;
    struct conv *fast_conv; /* what csc_power_advance computes with where bf16 or tf32 is multiplied faster; or NULL */
    void *bf16_image[2], *bf16_code; /* for bf16: activations (H,W,C) before and after, (H',W',D) */
    float *vector;                   /* (H,W,C), unit norm */
    float *image, *code;             /* (H,W,C), (H',W',D) */
    float *next;                     /* (H,W,C), between two iterations */
    double *lambda_max_device;       /* device: lambda_max as it was computed there */
    double lambda_max;
    float eta;
};
enum status csc_power_create(struct csc_power **power, struct device *device, const struct conv_shape *shape);
void csc_power_destroy(struct csc_power *power);
size_t csc_power_scratch(const struct csc_power *power); /* bytes */
/* quotient: 8 bytes of device memory. */
void csc_power_assign_memory(struct csc_power *power, struct arena *arena, double *quotient);
/* A random start: the same on every rank. */
enum status csc_power_start(struct csc_power *power, uint64_t seed, uint64_t layer);
/* `iterations` more from the last vector, with the weights as they are now; queued only. In bf16 on the CPU lambda_max
 * is that of the rounded weights, which the convolutions use; in bf16 and tf32 on a GPU that of weights rounded to
 * tf32. */
enum status csc_power_advance(struct csc_power *power, const float *weights, int iterations, void *scratch);
/* lambda_max and eta of `count` layers, whose quotients lie one after another: one wait for all of them. */
void csc_power_fetch(struct csc_power *const *powers, int count);
/* From the last vector until lambda_max is within a relative error of 1e-5, by Chebyshev's polynomials. */
enum status csc_power_converge(struct csc_power *power, const float *weights, void *scratch);

#endif
