/* rig.h - one CSC-layer set up as a network would: planned twice, with memory from an arena and a scratch that
 * other layers overwrite between calls (here with NaN) and a guard behind it. */
#ifndef CSC_TESTS_LAYERS_BACKEND_RIG_H
#define CSC_TESTS_LAYERS_BACKEND_RIG_H

#include <string.h>

#include "layers/csc.h"
#include "tests/check.h"

enum { RIG_GUARD = 64 }; /* bytes behind the scratch */

struct rig {
    struct device *device;
    struct csc *csc;
    struct csc_power *power;
    size_t images, codes, weights, scratch_bytes; /* counts of floats; bytes */
    float *x, *w, *z, *dz, *dx, *dw;              /* on the device */
    float *device_scalars;                        /* (STEP_SCALARS) there */
    void *scratch;
    struct arena arena;
};

static inline void rig_must(enum status status)
{
    if (status == STATUS_OK)
        return;
    fprintf(stderr, "%s (%s)\n", status_message(), status_origin());
    exit(1);
}

static inline void rig_assign_memory(struct rig *r)
{
    struct arena *a = &r->arena;
    csc_assign_memory(r->csc, a);
    csc_power_assign_memory(r->power, a, arena_take(a, sizeof(double)));
    r->x = arena_take(a, r->images * sizeof(float));
    r->dx = arena_take(a, r->images * sizeof(float));
    r->w = arena_take(a, r->weights * sizeof(float));
    r->dw = arena_take(a, r->weights * sizeof(float));
    r->z = arena_take(a, r->codes * sizeof(float));
    r->dz = arena_take(a, r->codes * sizeof(float));
    r->device_scalars = arena_take(a, STEP_SCALARS * sizeof(float));
    r->scratch = arena_take(a, r->scratch_bytes + RIG_GUARD);
}

/* Fills the scratch and its guard with NaN. */
static inline void rig_spoil(struct rig *r)
{
    void *host = malloc(r->scratch_bytes + RIG_GUARD);
    memset(host, 0xff, r->scratch_bytes + RIG_GUARD);
    r->device->ops->copy_in(r->device, r->scratch, host, r->scratch_bytes + RIG_GUARD);
    free(host);
}

static inline void rig_check_guard(struct rig *r)
{
    unsigned char guard[RIG_GUARD];
    int bad = 0;
    r->device->ops->copy_out(r->device, guard, (char *)r->scratch + r->scratch_bytes, sizeof guard);
    for (int i = 0; i < RIG_GUARD; i++)
        bad += guard[i] != 0xff;
    CHECK(bad == 0, "%d bytes behind the scratch overwritten", bad);
}

static inline void rig_init(struct rig *r, struct device *device, const struct conv_shape *shape,
                            const struct csc_config *config, bool training)
{
    *r = (struct rig){ .device = device,
                       .images = conv_in_count(shape),
                       .codes = conv_out_count(shape),
                       .weights = conv_weight_count(shape) };
    rig_must(csc_create(&r->csc, device, shape, config, training));
    rig_must(csc_power_create(&r->power, device, shape));
    r->scratch_bytes = r->csc->scratch > r->power->conv->scratch ? r->csc->scratch : r->power->conv->scratch;
    rig_assign_memory(r);
    rig_must(device->ops->arena_allocate(device, &r->arena));
    rig_assign_memory(r);
    rig_spoil(r);
}

static inline void rig_finish(struct rig *r)
{
    rig_check_guard(r);
    r->device->ops->arena_finish(r->device, &r->arena);
    csc_destroy(r->csc);
    csc_power_destroy(r->power);
}

static inline void rig_in(struct rig *r, float *to, const float *from, size_t count)
{
    r->device->ops->copy_in(r->device, to, from, count * sizeof *to);
}

/* The caller frees it. */
static inline float *rig_out(struct rig *r, const float *from, size_t count)
{
    float *host = malloc(count * sizeof *host + 1);
    r->device->ops->copy_out(r->device, host, from, count * sizeof *host);
    return host;
}

/* The layer takes what follows from eta out of the device's memory, on a device that computes it itself; what is then
 * to be given as eta, which is not read. */
static inline float rig_use_device_scalars(struct rig *r, float eta)
{
    float scalars[STEP_SCALARS];
    if (!r->device->ops->step_scalars)
        return eta;
    csc_step_scalars(&r->csc->config, eta, scalars);
    rig_in(r, r->device_scalars, scalars, STEP_SCALARS);
    r->csc->device_scalars = r->device_scalars;
    return NAN;
}

/* z of x with weights w. */
static inline void rig_forward(struct rig *r, const float *x, const float *w, float eta)
{
    rig_in(r, r->x, x, r->images);
    rig_in(r, r->w, w, r->weights);
    rig_spoil(r);
    rig_must(csc_load(r->csc, r->w, r->scratch));
    rig_spoil(r);
    rig_must(csc_forward(r->csc, r->x, eta, r->z, r->scratch));
    rig_spoil(r);
}

/* dx and dw of dz, not accumulated. */
static inline void rig_backward(struct rig *r, const float *dz, float eta)
{
    rig_in(r, r->dz, dz, r->codes);
    r->device->ops->zero(r->device, r->dw, r->weights * sizeof(float));
    rig_must(csc_backward(r->csc, r->x, eta, r->z, r->dz, false, r->dx, false, r->dw, r->scratch));
    rig_check_guard(r);
    rig_spoil(r);
}

/* |a - b| / |b|; 0 if both are zero. */
static inline double relative_error(const float *a, const double *b, size_t count)
{
    double difference = 0, norm = 0;
    for (size_t i = 0; i < count; i++) {
        difference += (a[i] - b[i]) * (a[i] - b[i]);
        norm += b[i] * b[i];
    }
    return difference == 0 ? 0 : sqrt(difference / norm);
}

#endif
