/* backend.h - what a device can do: one const table of operations over tensors.
 * `ref` fills the whole table plainly; a faster backend starts from a copy of it and overwrites what it
 * does better, so every slot is always callable. The model is written once against this table.
 * All tensors are dense NHWC in the device's memory; every operation is queued or done in call order.
 * Activations and their gradients are `void *`: float, or bf16 on a device of that precision. Weights, their
 * gradients, statistics, the classifier and the loss are float always.
 * Wherever `accumulate` or += stands, the destination is read first. */
#ifndef CSC_LAYERS_BACKEND_BACKEND_H
#define CSC_LAYERS_BACKEND_BACKEND_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/arena.h"
#include "base/pixels.h"
#include "base/status.h"

struct device;
struct device_graph;
struct tuned;

/* What convolutions compute with: TF32 keeps fp32 in memory; BF16 has activations in bf16 and sums in fp32. */
enum precision { PRECISION_FP32, PRECISION_TF32, PRECISION_BF16 };
size_t precision_bytes(enum precision precision); /* of one element of an activation */
const char *precision_name(enum precision precision);

/* A convolution A^T: input (N,H,W,C), weights (D,k,k,C), output (N,H',W',D); its adjoint A maps back. */
struct conv_shape {
    int n, h, w, c;
    int d, k, stride, pad;
};
int conv_out_h(const struct conv_shape *shape);
int conv_out_w(const struct conv_shape *shape);
size_t conv_in_count(const struct conv_shape *shape); /* elements of the input */
size_t conv_out_count(const struct conv_shape *shape);
size_t conv_weight_count(const struct conv_shape *shape);
/* STATUS_USAGE unless sizes are positive and the kernel fits the padded input. */
enum status conv_shape_check(const struct conv_shape *shape);

/* STACKED, with GRADIENT: it may be asked for the gradient of CONV_TERMS terms that are stacked: of one alpha, and the
 * operands of each right behind those of the term before. What helps planning: CODING, epilogues of a CSC-layer whose
 * codes are nonnegative; ADDING, the adjoint is added to something. KEEPING, with GRADIENT: an input of a term that was
 * that of one of the last CONV_TERMS forward calls still is as it was then. */
enum conv_use {
    CONV_FORWARD = 1,
    CONV_ADJOINT = 2,
    CONV_GRADIENT = 4,
    CONV_TERMS_CONTIGUOUS = 8,
    CONV_HINT_CODE_EPILOGUE = 16,
    CONV_HINT_ACCUMULATE = 32,
    CONV_INPUT_UNCHANGED = 64
};
enum { CONV_TERMS = 3 };

enum { DEVICE_STREAMS = 8, DEVICE_EVENTS = 400 };

/* One planned convolution; a backend embeds this first. */
struct conv {
    struct device *device;
    struct conv_shape shape;
    enum precision precision;
    unsigned uses;
    size_t scratch;     /* bytes of shared scratch that its calls need */
    const char *method; /* its last call was done, for a trace; NULL: in one way only */
    double extra_bytes; /* bytes that its last call moved beyond each operand once, for a trace; a CPU does not tell */
    /* With CONV_TERMS_CONTIGUOUS: the gradient is faster of terms whose output gradients, and inputs too, are stacked.
     */
    bool prefers_stacked, prefers_stacked_inputs;
};

/* What happens to a convolution's result before it is stored:
 *     out = f(alpha * conv + beta * add)      add may be out itself; NULL is 0
 * SHRINK: nonnegative: f(v) = max(nu v - threshold, 0); two-sided: sign(v) max(|nu v| - threshold, 0)
 * MASK:   f(v) = nu v where mask != 0, else 0 */
enum epilogue_kind { EPILOGUE_LINEAR, EPILOGUE_SHRINK, EPILOGUE_MASK };
struct epilogue {
    enum epilogue_kind kind;
    float alpha, beta;
    const void *add;
    float nu, threshold;
    bool nonnegative;
    const void *mask;
    const float
        *device_scalars; /* device, not NULL: alpha, nu and threshold are there and the ones above are not read */
};

/* One term alpha * (weight gradient of input x and output gradient d). */
struct gradient_term {
    const void *x, *d;
    float alpha;
    const float *device_alpha; /* device, not NULL: alpha is there */
};

/* What a CSC-layer's step size makes of its epilogues, where a device computes it: two times alpha, nu and threshold,
 * as struct epilogue's numbers, { eta, nu, lambda eta nu } and { -eta, nu, 0 } with nu = 1 / (1 + mu eta); and eta nu.
 */
enum { STEP_SCALARS = 7 };

/* Batch norm over (N,H,W) per channel: y = gamma (x - mean) * inverse_std + beta, then + add, then ReLU. */
#define NORM_EPSILON 1e-5 /* of the variance, as in the published networks */
enum { NORM_SAVED = 4 };  /* floats a channel that norm_forward leaves to norm_backward */
struct norm_shape {
    size_t rows; /* N*H*W */
    int c;
    bool relu;
    float code_scale; /* norm_backward only. Not 0: x is a code, and dx is then nu dx where x != 0, else 0 */
    const float *code_scale_device; /* device, not NULL: code_scale is there, and not 0 */
    /* With add and ReLU, of a device that keeps_open, c a multiple of 8 and all operands aligned to 16 bytes: forward
     * leaves a bit an element, 1 where y > 0, lowest first, which backward reads instead of y. NULL: none. */
    uint8_t *relu_mask;
};

struct pool_shape {
    int n, h, w, c, k, stride, pad;
}; /* max pooling; outputs as for a convolution */

struct sgd {
    float lr, momentum, weight_decay;
    float scale; /* of g, first: 1 / number of summed micro-batches, or less where the gradient is clipped */
    bool nesterov;
    bool first; /* the momentum buffer is still empty: v = g, as PyTorch does */
};
/* A run of weights that are updated alike. */
struct sgd_row {
    size_t offset; /* in w, g and v */
    int length;    /* floats; of an atom all of it */
    bool atom;     /* projected to unit Euclidean norm; a norm below 1e-12 counts as 1e-12 */
    bool decays;
};

enum profile_event { PROFILE_START, PROFILE_STEP_START, PROFILE_STEP_END, PROFILE_STOP };

struct backend {
    const char *name;
    bool supports_relu_mask; /* see struct norm_shape */

    /* Memory of the device. copy_in/copy_out move bytes between host and device. */
    enum status (*arena_allocate)(struct device *device, struct arena *arena);
    void (*arena_finish)(struct device *device, struct arena *arena);
    size_t (*free_memory)(struct device *device); /* bytes; 0: not known. NULL where memory is the host's */
    void (*copy_in)(struct device *device, void *to, const void *from, size_t bytes);
    void (*copy_out)(struct device *device, void *to, const void *from, size_t bytes);
    void (*zero)(struct device *device, void *data, size_t bytes);
    void (*close)(struct device *device);
    /* The queue of a device whose memory is not the host's (a cudaStream_t), for a communicator that orders its own
     * work after it, and a wait until all in it is done. NULL where memory is the host's. */
    void *(*stream)(struct device *device);
    void (*synchronize)(struct device *device);
    /* Optional. Tells a profiler, if one watches, where it begins and ends and where each step does. NULL: no profiler
     * listens. */
    void (*profile)(struct device *device, enum profile_event mark);

    /* On a device whose memory is not the host's, else all three are NULL: stage begins to copy `from` beside what is
     * computed, and the upload from there that follows, of as many bytes, finds it done. `from` must stay as it is
     * until that returns; one may be under way. Memory that pin has made known is copied faster, and only so. */
    enum status (*register_host_memory)(struct device *device, void *memory, size_t bytes);
    void (*unregister_host_memory)(struct device *device, void *memory);
    void (*prefetch_to_device)(struct device *device, const void *from, size_t bytes);

    /* What is queued between record and recorded is not done but kept, with the memory and the numbers that it was
     * given, to be done by replay, as often as wanted; *graph is NULL if nothing was queued. recorded fails, and then
     * nothing is kept and nothing has been done, if something was called meanwhile that waits, takes memory, or copies
     * from or to the host; so may that call. All four are NULL on a device that does not record. */
    enum status (*graph_capture_begin)(struct device *device);
    enum status (*graph_capture_end)(struct device *device, struct device_graph **graph);
    enum status (*graph_launch)(struct device *device, struct device_graph *graph);
    void (*graph_free)(struct device *device, struct device_graph *graph); /* NULL is fine */

    /* Work whose parts need nothing of one another is queued side by side: what follows lane goes into lane 0 <= i <
     * DEVICE_STREAMS, up to the next lane or join. Every lane comes after all that was queued before fork, and before
     * all that follows join, which is queued as ever; join comes even where something failed. Between fork and join
     * nothing is called that waits, takes memory, or copies from or to the host, and no two lanes share a convolution
     * or scratch, of which conv_load wants none there. mark notes as 0 <= i < DEVICE_EVENTS how far its lane has come,
     * and what follows await in another one comes after that. Lanes other than the first, of which each part is small,
     * go first where both could. All five are NULL on a device that does one thing at a time. */
    void (*streams_begin)(struct device *device);
    void (*stream_select)(struct device *device, int i);
    void (*event_record)(struct device *device, int i);
    void (*event_wait)(struct device *device, int i);
    void (*streams_end)(struct device *device);

    /* Between the host's floats and activations of the device's precision; the host's may change when they return. */
    void (*upload)(struct device *device, void *to, const float *from, size_t count);
    void (*download)(struct device *device, float *to, const void *from, size_t count);

    /* Images as bytes: raw (host, `bytes` in all) begins with `count` cuts, which become images to (count,S,S,3);
     * resized as Pillow's BILINEAR, then mirrored, then by scale. NULL where the host may as well do it. */
    void (*upload_pixels)(struct device *device, void *to, const void *raw, size_t bytes, int count, int size,
                          const struct pixel_scale *scale);

    /* Convolution. create plans; place takes its persistent memory; load follows every change of the
     * weights, which stay where they are, unchanged, until the next load or the convolution's last use.
     * In conv_gradient dw += sum of terms. precision is the device's, or PRECISION_FP32 on any device. */
    enum status (*conv_create)(struct device *device, const struct conv_shape *shape, enum precision precision,
                               unsigned uses, struct conv **conv);
    void (*conv_destroy)(struct conv *conv);
    void (*conv_assign_memory)(struct conv *conv, struct arena *arena);
    enum status (*conv_load)(struct conv *conv, const float *weights, void *scratch);
    enum status (*conv_forward)(struct conv *conv, const void *in, void *out, const struct epilogue *epilogue,
                                void *scratch);
    enum status (*conv_adjoint)(struct conv *conv, const void *in, void *out, const struct epilogue *epilogue,
                                void *scratch);
    enum status (*conv_gradient)(struct conv *conv, const struct gradient_term *terms, int count, float *dw,
                                 void *scratch);

    /* Elementwise over count activations. mask: out = nu * (in where mask != 0). blend: out = a x + b y. */
    void (*mask)(struct device *device, const void *in, const void *mask, float nu, void *out, size_t count);
    void (*axpby_act)(struct device *device, float a, const void *x, float b, const void *y, void *out, size_t count);
    double (*dot_act)(struct device *device, const void *x, const void *y, size_t count); /* sum of x y */
    /* The same over floats, whatever the precision. */
    void (*axpby_f32)(struct device *device, float a, const float *x, float b, const float *y, float *out,
                      size_t count);
    double (*dot_f32)(struct device *device, const float *x, const float *y, size_t count);

    /* The end of a power iteration: with code = A^T from and image = A code, v = image / |image|; quotient (device) =
     * |code|^2 / |from|^2; from may be v. NULL: made of dot and lincomb. */
    void (*power_normalize)(struct device *device, const float *code, size_t codes, const float *from,
                            const float *image, size_t pixels, float *v, double *quotient);

    /* On a device whose memory is not the host's, else both are NULL, and no operation is ever given numbers in its
     * memory. step_sizes: STEP_SCALARS for each of `count` layers (device) of eta = 0.9 / lambda_max (device). mask_by:
     * as mask. */
    void (*step_scalars)(struct device *device, const double *lambda_max, int count, float lambda, float mu,
                         float *numbers);
    void (*mask_device_scale)(struct device *device, const void *in, const void *mask, const float *nu, void *out,
                              size_t count);

    /* Batch norm. forward saves mean, inverse_std, scale and shift (C each), y = (x - mean) scale + shift before add
     * and ReLU, and adds the batch's mean and unbiased variance to moments[0..C-1], moments[C..2C-1]. */
    void (*norm_forward)(struct device *device, const struct norm_shape *shape, const void *x, const float *gamma,
                         const float *beta, const void *add, void *y, float *saved, float *moments);
    void (*norm_inference)(struct device *device, const struct norm_shape *shape, const void *x, const float *gamma,
                           const float *beta, const float *running, const void *add, void *y);
    /* x, y, gamma and saved are forward's. dy is overwritten by dx. dadd (NULL if nothing was added) gets or
     * accumulates the gradient of add; dgamma, dbeta +=. */
    void (*norm_backward)(struct device *device, const struct norm_shape *shape, const void *x, const void *y, void *dy,
                          const float *gamma, const float *saved, void *dadd, bool accumulate, float *dgamma,
                          float *dbeta);

    /* The same of dy + more, which is not written, with add; NULL: they must be added before. */
    void (*norm_backward_of_sum)(struct device *device, const struct norm_shape *shape, const void *x, const void *y,
                                 void *dy, const void *more, const float *gamma, const float *saved, void *dadd,
                                 bool accumulate, float *dgamma, float *dbeta);

    void (*max_forward)(struct device *device, const struct pool_shape *shape, const void *x, void *y,
                        int32_t *argmax); /* argmax: h * W + w of each maximum, first one on a tie */
    void (*max_backward)(struct device *device, const struct pool_shape *shape, const void *dy, const int32_t *argmax,
                         void *dx, bool accumulate);
    /* norm_forward, without add, and max_forward of its result, which is not kept: y is that of pooling. place: of each
     * maximum in its window, k row + column, 255 where a ReLU shut it, k up to 15; argmax_value: x there. backward: dx,
     * all written, of pooling's dy. Both are NULL where nothing is gained. */
    void (*norm_max_forward)(struct device *device, const struct norm_shape *norm, const struct pool_shape *pool,
                             const void *x, const float *gamma, const float *beta, void *y, float *saved,
                             float *moments, uint8_t *argmax_in_window, void *argmax_value);
    void (*norm_max_backward)(struct device *device, const struct norm_shape *norm, const struct pool_shape *pool,
                              const void *x, const uint8_t *argmax_in_window, const void *argmax_value, const void *dy,
                              void *dx, const float *gamma, const float *saved, float *dgamma, float *dbeta);
    /* Mean over H and W: activations x (N,H,W,C) -> floats y (N,C). From here to the loss all is float. */
    void (*mean_forward)(struct device *device, int n, int hw, int c, const void *x, float *y);
    void (*mean_backward)(struct device *device, int n, int hw, int c, const float *dy, void *dx);
    /* y (N,K) = x (N,C) w^T + b, w (K,C). dw, db +=. */
    void (*linear_forward)(struct device *device, int n, int c, int k, const float *x, const float *w, const float *b,
                           float *y);
    void (*linear_backward)(struct device *device, int n, int c, int k, const float *x, const float *w, const float *dy,
                            float *dx, float *dw, float *db);
    /* Softmax cross-entropy with label smoothing e: target (1-e) at the label + e/K everywhere.
     * losses (N) per sample; mean (may be NULL): their mean; dlogits (may be NULL) = scale * gradient of their sum.
     * Labels below 0 are ignored: loss and gradient 0, not counted. */
    void (*cross_entropy)(struct device *device, int n, int k, const float *logits, const int32_t *labels,
                          float smoothing, float scale, float *losses, float *mean, float *dlogits);

    /* Optimizer, as torch.optim.SGD: g = scale g + decay w; v = momentum v + g; w -= lr (nesterov ? g + momentum v :
     * v); then atoms are projected. rows: `count` of them in the device's memory; no float belongs to two. */
    void (*sgd)(struct device *device, const struct sgd *sgd, float *w, const float *g, float *v,
                const struct sgd_row *rows, int count);
    /* Every row (atom) of w (rows, length) to unit Euclidean norm; a norm below 1e-12 counts as 1e-12. */
    void (*normalize_rows)(struct device *device, float *w, int rows, size_t length);
};

enum { DEVICE_MAX_THREADS = 1024 }; /* what sums over threads have room for */

/* A backend embeds this first. */
struct device {
    const struct backend *ops;
    enum precision precision;
    int threads;         /* OpenMP threads of this rank, at most DEVICE_MAX_THREADS */
    char library[32];    /* that computes for it, as loaded: "oneDNN 3.2.0"; "" if none */
    bool no_graphs;      /* recording has failed: graph_cache.h does without */
    struct tuned *tuned; /* choices by measurement (base/tuned.h), the trainer's; NULL: choose by rule */
};

/* "ref", "cpu", "cuda" (the first GPU) or "cuda:1", that of the host's rank 1: ranks take those that they see in turn,
 * be it all of the host's or, where a scheduler divides them, their own. 1 <= threads. STATUS_USAGE if they are too
 * many, or if this build or machine lacks the kind or the precision. */
enum status device_open(struct device **device, const char *kind, enum precision precision, int threads);
/* CUDA devices that are opened after this read the table of the fastest plans of convolutions from the file `plans`, if
 * it is there, and write it there, instead of to this machine's cache; and append what they timed to the file `tried`.
 * NULL: as ever, and nothing. STATUS_USAGE if this build has no CUDA. */
enum status device_plan_files(const char *plans, const char *tried);
void device_close(struct device *device); /* NULL is fine */
bool device_has_cuda(void);               /* this build, whatever the machine */
enum status device_check_cuda(int rank);  /* STATUS_USAGE, saying why, unless the GPU of the host's rank can be used */

#endif
