/* backend.h - the operations of a device: one const table of functions over tensors.
 * `ref` implements every operation that is not optional, plainly; a faster backend starts from a copy of its table and
 * replaces what it does faster. The model is written once against this table.
 *
 * Tensors are dense, in NHWC order, in the device's memory. Activations and their gradients are `void *`: fp32, or bf16
 * on a device of that precision. Weights and their gradients, statistics, the classifier and the loss are always fp32.
 * Operations take effect in the order of the calls; a device may queue them and return at once. One thread at a time
 * may use a device. Operations without a status cannot fail, or keep their failure for the next one that has a status.
 * "Accumulates" and "+=" mean that the destination's old values are added to. */
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

/* What convolutions compute with. TF32 keeps activations in fp32; BF16 keeps them in bf16 and sums in fp32. */
enum precision { PRECISION_FP32, PRECISION_TF32, PRECISION_BF16 };
size_t precision_bytes(enum precision precision); /* of one element of an activation */
const char *precision_name(enum precision precision);

/* ---- convolution ---- */

/* The convolution A^T maps an input (N,H,W,C) with weights (D,k,k,C) to an output (N,H',W',D). Its adjoint A maps an
 * output back to an input. */
struct conv_shape {
    int n, h, w, c;
    int d, k, stride, pad;
};
int conv_out_h(const struct conv_shape *shape);
int conv_out_w(const struct conv_shape *shape);
size_t conv_in_count(const struct conv_shape *shape); /* elements of the input */
size_t conv_out_count(const struct conv_shape *shape);
size_t conv_weight_count(const struct conv_shape *shape);
/* STATUS_USAGE unless all sizes are positive and the kernel fits into the padded input. */
enum status conv_shape_check(const struct conv_shape *shape);

enum { CONV_TERMS = 3 }; /* terms of a CSC-layer's weight gradient */

/* What a convolution is planned for (the first three), and what the planner may assume. */
enum conv_use {
    CONV_FORWARD = 1,
    CONV_ADJOINT = 2,
    CONV_GRADIENT = 4,
    /* conv_gradient may be given CONV_TERMS terms with the same alpha whose operands lie behind one another in memory.
     */
    CONV_TERMS_CONTIGUOUS = 8,
    CONV_HINT_CODE_EPILOGUE = 16, /* epilogues are those of a CSC-layer with nonnegative codes */
    CONV_HINT_ACCUMULATE = 32,    /* the adjoint is added to something */
    /* An input of a gradient's term that was also the input of one of the last CONV_TERMS forward calls is unchanged.
     */
    CONV_INPUT_UNCHANGED = 64
};

/* One planned convolution; a backend embeds this first. */
struct conv {
    struct device *device;
    struct conv_shape shape;
    enum precision precision;
    unsigned uses;      /* enum conv_use */
    size_t scratch;     /* bytes of scratch that its calls need; several convolutions may share them */
    const char *method; /* for a trace: how the last call was computed; NULL if there is only one way */
    double extra_bytes; /* for a trace: bytes that the last call moved beyond each operand once; a CPU leaves it 0 */
    /* With CONV_TERMS_CONTIGUOUS: the gradient is faster if the terms' output gradients are contiguous, and if their
     * inputs are, too. */
    bool prefers_stacked, prefers_stacked_inputs;
};

/* What happens to a convolution's result before it is stored:
 *     out = f(alpha * conv + beta * add)      add may be out itself; NULL counts as 0
 * LINEAR  f(v) = v
 * SHRINK  f(v) = max(nu v - threshold, 0) if nonnegative, else sign(v) max(|nu v| - threshold, 0)
 * MASK    f(v) = nu v where mask != 0, else 0 */
enum epilogue_kind { EPILOGUE_LINEAR, EPILOGUE_SHRINK, EPILOGUE_MASK };
struct epilogue {
    enum epilogue_kind kind;
    float alpha, beta;
    const void *add;
    float nu, threshold;
    bool nonnegative;
    const void *mask;
    const float
        *device_scalars; /* if not NULL: { alpha, nu, threshold } in device memory, used instead of those above */
};

/* One term of a weight gradient: alpha times the gradient for input x and output gradient d. */
struct gradient_term {
    const void *x, *d;
    float alpha;
    const float *device_alpha; /* if not NULL: alpha in device memory, used instead */
};

/* What follows from a CSC-layer's step size eta, with nu = 1 / (1 + mu eta), in device memory: the epilogues'
 * device_scalars { eta, nu, lambda eta nu } and { -eta, nu, 0 }, then eta nu. */
enum { STEP_SCALARS = 7 };

/* ---- batch norm and pooling ---- */

#define NORM_EPSILON 1e-5 /* added to the variance, as in the published networks */
enum { NORM_SAVED = 4 };  /* floats a channel that norm_forward saves for norm_backward */

/* Batch norm over (N,H,W) for each channel: y = gamma (x - mean) * inverse_std + beta, then + add, then ReLU. */
struct norm_shape {
    size_t rows; /* N*H*W */
    int c;
    bool relu;
    /* norm_backward only. If not 0, x is a CSC-layer's code: dx is multiplied by code_scale where x != 0, and 0
     * elsewhere. */
    float code_scale;
    const float *code_scale_device; /* if not NULL: code_scale in device memory, used instead; code_scale is not 0 */
    /* For add with ReLU on a device that supports_relu_mask; c is then a multiple of 8 and all operands are aligned to
     * 16 bytes. Forward writes one bit an element, lowest bit first, 1 where y > 0; backward reads it instead of y. */
    uint8_t *relu_mask;
};

/* Max pooling; the output's height and width are a convolution's. */
struct pool_shape {
    int n, h, w, c, k, stride, pad;
};

/* ---- optimizer ---- */

struct sgd {
    float lr, momentum, weight_decay;
    float scale; /* multiplies g first: 1 / number of micro-batches, or less where the gradient is clipped */
    bool nesterov;
    bool first; /* the momentum buffer is still empty: v = g, as in PyTorch */
};
/* A range of weights that are updated alike. */
struct sgd_row {
    size_t offset; /* in w, g and v */
    int length;    /* floats; a whole atom if `atom` */
    bool atom;     /* is projected to unit Euclidean norm; a norm below 1e-12 counts as 1e-12 */
    bool decays;
};

/* ---- the table ---- */

enum { DEVICE_STREAMS = 8, DEVICE_EVENTS = 400, DEVICE_MAX_THREADS = 1024 };

enum profile_event { PROFILE_START, PROFILE_STEP_START, PROFILE_STEP_END, PROFILE_STOP };

struct backend {
    const char *name;
    void (*close)(struct device *device);

    /* -- memory: copy_in and copy_out move bytes between host and device -- */

    enum status (*arena_allocate)(struct device *device, struct arena *arena);
    void (*arena_finish)(struct device *device, struct arena *arena);
    void (*copy_in)(struct device *device, void *to, const void *from, size_t bytes);
    void (*copy_out)(struct device *device, void *to, const void *from, size_t bytes);
    void (*zero)(struct device *device, void *data, size_t bytes);
    /* Free bytes of device memory, 0 if unknown. Optional: NULL where the memory is the host's. */
    size_t (*free_memory)(struct device *device);

    /* Convert `count` elements between the host's floats and activations. The host's may change once they return. */
    void (*upload)(struct device *device, void *to, const float *from, size_t count);
    void (*download)(struct device *device, float *to, const void *from, size_t count);
    /* Crops, resizes and normalises images on the device. `raw` (host, `bytes` in all) starts with `count` crops
     * (base/pixels.h), which become images (count,S,S,3): resized as Pillow's BILINEAR does, then mirrored, then
     * scaled. Optional: without it the host does this. */
    void (*upload_pixels)(struct device *device, void *to, const void *raw, size_t bytes, int count, int size,
                          const struct pixel_scale *scale);

    /* Optional, all three or none: NULL where the memory is the host's.
     * prefetch_to_device starts an asynchronous copy. The next upload or upload_pixels of the same pointer and size
     * uses it; `from` must stay unchanged until that returns. At most one is in flight. It is fast only from registered
     * memory. */
    enum status (*register_host_memory)(struct device *device, void *memory, size_t bytes);
    void (*unregister_host_memory)(struct device *device, void *memory);
    void (*prefetch_to_device)(struct device *device, const void *from, size_t bytes);

    /* -- streams, graphs, profiling: all optional, NULL on a device that does one thing after another -- */

    /* The main stream (a cudaStream_t), for a communicator that orders its own work by it. */
    void *(*stream)(struct device *device);
    void (*synchronize)(struct device *device); /* waits until all queued work is done */

    /* Parallel streams, all five or none. After streams_begin, stream_select chooses the stream (0 <= i <
     * DEVICE_STREAMS) that the next operations go to. All streams start after what was queued before streams_begin;
     * what is queued after streams_end, which must be called even after an error, starts after all of them.
     * event_record marks the selected stream's present end as event i (0 <= i < DEVICE_EVENTS); event_wait makes the
     * selected stream wait for event i. In between nothing may synchronise, allocate or copy to or from the host, no
     * two streams may share a convolution or scratch, and conv_load must not need scratch. Streams other than 0 have
     * priority: give them small work. */
    void (*streams_begin)(struct device *device);
    void (*stream_select)(struct device *device, int i);
    void (*event_record)(struct device *device, int i);
    void (*event_wait)(struct device *device, int i);
    void (*streams_end)(struct device *device);

    /* Graph capture, all four or none. What is queued between begin and end is kept, with its pointers and scalars,
     * instead of run; *graph is NULL if nothing was queued. Synchronising, allocating or copying to or from the host in
     * between makes the end fail; nothing has run then. A graph may be launched any number of times. */
    enum status (*graph_capture_begin)(struct device *device);
    enum status (*graph_capture_end)(struct device *device, struct device_graph **graph);
    enum status (*graph_launch)(struct device *device, struct device_graph *graph);
    void (*graph_free)(struct device *device, struct device_graph *graph); /* NULL is fine */

    void (*profile)(struct device *device, enum profile_event event); /* tells an attached profiler */

    /* -- convolution -- */

    /* precision is the device's, or PRECISION_FP32 on any device. uses: enum conv_use. */
    enum status (*conv_create)(struct device *device, const struct conv_shape *shape, enum precision precision,
                               unsigned uses, struct conv **conv);
    void (*conv_destroy)(struct conv *conv);
    void (*conv_assign_memory)(struct conv *conv, struct arena *arena); /* takes its persistent memory from the arena */
    /* Must follow every change of the weights (D,k,k,C). They must stay where they are, unchanged, until the next
     * conv_load or the last use of the convolution. */
    enum status (*conv_load)(struct conv *conv, const float *weights, void *scratch);
    enum status (*conv_forward)(struct conv *conv, const void *in, void *out, const struct epilogue *epilogue,
                                void *scratch);
    enum status (*conv_adjoint)(struct conv *conv, const void *in, void *out, const struct epilogue *epilogue,
                                void *scratch);
    /* dw (D,k,k,C) += sum of `count` terms. */
    enum status (*conv_gradient)(struct conv *conv, const struct gradient_term *terms, int count, float *dw,
                                 void *scratch);

    /* -- vectors: _act over activations, _f32 over floats whatever the precision -- */

    /* out = nu in where mask != 0, else 0; out may be in. */
    void (*mask)(struct device *device, const void *in, const void *mask, float nu, void *out, size_t count);
    /* out = a x + b y; out may be x or y. */
    void (*axpby_act)(struct device *device, float a, const void *x, float b, const void *y, void *out, size_t count);
    void (*axpby_f32)(struct device *device, float a, const float *x, float b, const float *y, float *out,
                      size_t count);
    /* The sum of x y, on the host: waits for the device. */
    double (*dot_act)(struct device *device, const void *x, const void *y, size_t count);
    double (*dot_f32)(struct device *device, const float *x, const float *y, size_t count);

    /* Ends a power iteration: with code = A^T from and image = A code it sets v = image / |image| and *lambda_max
     * (device) = |code|^2 / |from|^2. from may be v. Optional: without it the caller uses dot_f32 and axpby_f32. */
    void (*power_normalize)(struct device *device, const float *code, size_t codes, const float *from,
                            const float *image, size_t pixels, float *v, double *lambda_max);

    /* Optional, both or none. Without them no operation is given scalars in device memory.
     * step_scalars: STEP_SCALARS floats for each of `count` layers, of eta = 0.9 / lambda_max (device).
     * mask_device_scale: mask with nu in device memory. */
    void (*step_scalars)(struct device *device, const double *lambda_max, int count, float lambda, float mu,
                         float *scalars);
    void (*mask_device_scale)(struct device *device, const void *in, const void *mask, const float *nu, void *out,
                              size_t count);

    /* -- batch norm -- */

    bool supports_relu_mask; /* see struct norm_shape */
    /* Saves mean, inverse_std, scale and shift (C each) with y = (x - mean) scale + shift before add and ReLU, and adds
     * the batch's mean and unbiased variance to moments (2,C). add may be NULL. */
    void (*norm_forward)(struct device *device, const struct norm_shape *shape, const void *x, const float *gamma,
                         const float *beta, const void *add, void *y, float *saved, float *moments);
    /* running: mean and variance (2,C). */
    void (*norm_inference)(struct device *device, const struct norm_shape *shape, const void *x, const float *gamma,
                           const float *beta, const float *running, const void *add, void *y);
    /* x, y, gamma and saved are forward's. dx overwrites dy. dadd gets or accumulates the gradient of add; it is NULL
     * if nothing was added. dgamma, dbeta +=. */
    void (*norm_backward)(struct device *device, const struct norm_shape *shape, const void *x, const void *y, void *dy,
                          const float *gamma, const float *saved, void *dadd, bool accumulate, float *dgamma,
                          float *dbeta);
    /* norm_backward with add, of the gradient dy + addend; the addend is not written. Optional: without it the caller
     * adds the two first. */
    void (*norm_backward_of_sum)(struct device *device, const struct norm_shape *shape, const void *x, const void *y,
                                 void *dy, const void *addend, const float *gamma, const float *saved, void *dadd,
                                 bool accumulate, float *dgamma, float *dbeta);

    /* -- pooling -- */

    /* argmax: h * W + w of each maximum, the first one on a tie. */
    void (*max_forward)(struct device *device, const struct pool_shape *shape, const void *x, void *y, int32_t *argmax);
    void (*max_backward)(struct device *device, const struct pool_shape *shape, const void *dy, const int32_t *argmax,
                         void *dx, bool accumulate);
    /* Optional, both or none: norm_forward, without add, fused with max_forward of its result, which is not stored: y
     * is the pooled output. argmax_in_window: of each maximum k * row + column in its window (k at most 15), 255 where
     * a ReLU made it 0; argmax_value: x there. Backward overwrites dx from the pooled output's dy. Without them the
     * caller uses the separate operations. */
    void (*norm_max_forward)(struct device *device, const struct norm_shape *norm, const struct pool_shape *pool,
                             const void *x, const float *gamma, const float *beta, void *y, float *saved,
                             float *moments, uint8_t *argmax_in_window, void *argmax_value);
    void (*norm_max_backward)(struct device *device, const struct norm_shape *norm, const struct pool_shape *pool,
                              const void *x, const uint8_t *argmax_in_window, const void *argmax_value, const void *dy,
                              void *dx, const float *gamma, const float *saved, float *dgamma, float *dbeta);

    /* -- classifier and loss: fp32 on every device -- */

    /* Mean over H and W: activations x (N,H,W,C) -> floats y (N,C). */
    void (*mean_forward)(struct device *device, int n, int hw, int c, const void *x, float *y);
    void (*mean_backward)(struct device *device, int n, int hw, int c, const float *dy, void *dx);
    /* y (N,K) = x (N,C) w^T + b, w (K,C). dw, db +=. */
    void (*linear_forward)(struct device *device, int n, int c, int k, const float *x, const float *w, const float *b,
                           float *y);
    void (*linear_backward)(struct device *device, int n, int c, int k, const float *x, const float *w, const float *dy,
                            float *dx, float *dw, float *db);
    /* Softmax cross-entropy with label smoothing e: the target is (1-e) at the label plus e/K everywhere. losses (N):
     * of each sample; mean: their mean; dlogits (N,K): scale times the gradient of their sum; the last two may be NULL.
     * A label below 0 is ignored: its loss and gradient are 0, and it is not counted in the mean. */
    void (*cross_entropy)(struct device *device, int n, int k, const float *logits, const int32_t *labels,
                          float smoothing, float scale, float *losses, float *mean, float *dlogits);

    /* -- optimizer -- */

    /* As torch.optim.SGD: g = scale g + decay w; v = momentum v + g; w -= lr (nesterov ? g + momentum v : v); then
     * atoms are projected. rows: `count` of them in device memory; no float belongs to two. */
    void (*sgd)(struct device *device, const struct sgd *sgd, float *w, const float *g, float *v,
                const struct sgd_row *rows, int count);
    /* Scales every row (atom) of w (rows, length) to unit Euclidean norm; a norm below 1e-12 counts as 1e-12. */
    void (*normalize_rows)(struct device *device, float *w, int rows, size_t length);
};

/* A backend embeds this first. */
struct device {
    const struct backend *ops;
    enum precision precision;
    int threads;         /* OpenMP threads of this rank, at most DEVICE_MAX_THREADS */
    char library[32];    /* the library that computes for it, as loaded: "oneDNN 3.2.0"; "" if none */
    bool no_graphs;      /* a graph capture has failed, so graph_cache.h does not try again */
    struct tuned *tuned; /* choices by measurement (base/tuned.h), the trainer's; NULL: choose by rule */
};

#endif
