/* test_golden.c - the CSC-layer against an independent double-precision implementation's numbers: codes,
 * gradients and lambda_max of every case of a file, within 1e-5. The step size of an automatic case is not
 * taken from the file, but follows from the lambda_max found. */
#include "layers/backend/device.h"
#include "tests/gpu_emulation/emulated.h"
#include "tests/layers/backend/rig.h"
#include "tests/layers/golden_file.h"

#define TOLERANCE 1e-5

/* Where the file's lambda_max was not yet converged (up to 6e-5 short, after 3,000 plain iterations): the value
 * found in double precision. There codes and gradients are compared at the file's step size. */
static const struct {
    const char *name;
    double lambda_max;
} converged[] = {
    { "odd_down", 2.954197160727 },
    { "ten_steps", 5.584273102900 },
    { "fixed_eta", 5.911728694072 },
};

struct golden {
    const char *name;
    struct conv_shape shape;
    struct csc_config config;
    double eta, lambda_max;
    bool fixed;                       /* eta is to be taken from the file */
    double *x, *w, *z, *dz, *dx, *dw; /* dw is missing where a case was cut to fewer images */
};

static int gradients; /* dictionary gradients compared */

static double number(const json_t *entry, const char *key)
{
    return json_number_value(json_object_get(entry, key));
}

static struct golden read_case(const struct golden_file *g, const json_t *entry)
{
    int x[4], w[4], other[4];
    struct golden c = { .name = json_string_value(json_object_get(entry, "name")) };
    c.x = golden_tensor(g, c.name, "x", x);
    c.w = golden_tensor(g, c.name, "w", w);
    c.z = golden_tensor(g, c.name, "z", other);
    c.dz = golden_tensor(g, c.name, "dz", other);
    c.dx = golden_tensor(g, c.name, "dx", other);
    c.dw = golden_tensor(g, c.name, "dw", other);
    if (!c.x || !c.w || !c.z || !c.dz || !c.dx)
        golden_fail(c.name, "lacks a tensor");
    c.shape = (struct conv_shape){
        x[0], x[2], x[3], x[1], w[0], w[2], (int)number(entry, "stride"), (int)number(entry, "padding")
    };
    c.config = (struct csc_config){ .steps = (int)number(entry, "steps"),
                                    .lambda = (float)number(entry, "lam"),
                                    .mu = (float)number(entry, "mu"),
                                    .nonnegative = json_is_true(json_object_get(entry, "nonnegative")) };
    c.eta = number(entry, "eta");
    c.lambda_max = number(entry, "lambda_max");
    c.fixed = json_is_true(json_object_get(entry, "eta_is_fixed"));
    for (size_t i = 0; i < sizeof converged / sizeof *converged; i++)
        if (!strcmp(c.name, converged[i].name)) {
            c.lambda_max = converged[i].lambda_max;
            c.fixed = true;
        }
    return c;
}

static void finish_case(struct golden *c)
{
    free(c->x);
    free(c->w);
    free(c->z);
    free(c->dz);
    free(c->dx);
    free(c->dw);
}

static float *floats(const double *from, size_t count)
{
    float *to = malloc(count * sizeof *to);
    for (size_t i = 0; i < count; i++)
        to[i] = (float)from[i];
    return to;
}

static double compare(struct rig *r, const struct golden *c, const char *part, const float *found, const double *truth,
                      size_t count)
{
    float *host = rig_out(r, found, count);
    double error = relative_error(host, truth, count);
    CHECK(error <= TOLERANCE, "%s %s: %s is off by %.2g of its norm", r->device->ops->name, c->name, part, error);
    free(host);
    return error;
}

static void check_case(struct device *device, const struct golden *c)
{
    struct rig r;
    rig_init(&r, device, &c->shape, &c->config, true);
    float *x = floats(c->x, r.images), *w = floats(c->w, r.weights), *dz = floats(c->dz, r.codes);
    rig_in(&r, r.w, w, r.weights);
    rig_must(csc_power_start(r.power, 1, 0));
    rig_must(csc_power_converge(r.power, r.w, r.scratch));
    double lambda = fabs(r.power->lambda_max / c->lambda_max - 1);
    CHECK(lambda <= TOLERANCE, "%s %s: lambda_max is %.9g, should be %.9g", device->ops->name, c->name,
          r.power->lambda_max, c->lambda_max);
    float eta = c->fixed ? (float)c->eta : r.power->eta;
    rig_forward(&r, x, w, eta);
    rig_backward(&r, dz, eta);
    double z = compare(&r, c, "z", r.z, c->z, r.codes), dx = compare(&r, c, "dx", r.dx, c->dx, r.images), dw = 0;
    if (c->dw) {
        dw = compare(&r, c, "dw", r.dw, c->dw, r.weights);
        gradients++;
    }
    printf("%-4s %-16s lambda_max %.1e  z %.1e  dx %.1e  dw %.1e\n", device->ops->name, c->name, lambda, z, dx, dw);
    rig_finish(&r);
    free(x);
    free(w);
    free(dz);
}

/* test-golden ref|cpu FILE, or ref|cpu --shared DIR: DIR/golden/layers.safetensors; CSC_SHARED overrides DIR. */
int main(int count, char **arguments)
{
    char path[1024], why[1100];
    struct golden_file file;
    struct device *device;
    bool shared = count == 4 && !strcmp(arguments[2], "--shared");
    if (count != 3 && !shared) {
        fprintf(stderr, "test-golden ref|cpu FILE.safetensors|--shared DIR\n");
        return 2;
    }
    const char *folder = getenv("CSC_SHARED");
    if (shared)
        snprintf(path, sizeof path, "%s/golden/layers.safetensors", folder ? folder : arguments[3]);
    else
        snprintf(path, sizeof path, "%s", arguments[2]);
    if (!golden_open(&file, path)) {
        snprintf(why, sizeof why, "no %s", path);
        return check_skip(why);
    }
    if (any_device_missing(arguments[1]))
        return check_skip(any_device_missing(arguments[1]));
    rig_must(any_device_open(&device, arguments[1], PRECISION_FP32, 2));
    for (size_t i = 0; i < json_array_size(file.cases); i++) {
        struct golden c = read_case(&file, json_array_get(file.cases, i));
        check_case(device, &c);
        finish_case(&c);
    }
    CHECK(json_array_size(file.cases) > 0 && gradients > 0, "no case, or no dictionary gradient compared");
    device_close(device);
    golden_close(&file);
    return check_done("golden");
}
