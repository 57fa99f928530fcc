/* norm.c - batch norm over rows = N*H*W of x (rows, C), in double.
 *   mean, var over rows;  y = gamma (x - mean) / sqrt(var + eps) + beta [+ add] [then ReLU]
 *   backward (Ioffe and Szegedy 2015), xhat = (x - mean) inverse_std, g = dy where y > 0 if ReLU:
 *   dbeta = sum g;  dgamma = sum g xhat;  dx = gamma inverse_std (g - dbeta/rows - xhat dgamma/rows) */
#include <math.h>

#include "layers/backend/element.h"
#include "layers/backend/ref/ref.h"

void ref_norm_forward(struct device *device, const struct norm_shape *shape, const void *x, const float *gamma,
                      const float *beta, const void *add, void *y, float *saved, float *moments)
{
    enum precision p = device->precision;
    size_t rows = shape->rows;
    int channels = shape->c;
    for (int c = 0; c < channels; c++) {
        double mean = 0, variance = 0;
        for (size_t i = 0; i < rows; i++)
            mean += element_load(p, x, i * channels + c);
        mean /= (double)rows;
        for (size_t i = 0; i < rows; i++)
            variance += pow(element_load(p, x, i * channels + c) - mean, 2);
        double inverse = 1 / sqrt(variance / (double)rows + NORM_EPSILON);
        saved[c] = (float)mean;
        saved[channels + c] = (float)inverse;
        saved[2 * channels + c] = (float)(gamma[c] * inverse);
        saved[3 * channels + c] = (float)(beta[c] - (mean - (float)mean) * inverse * gamma[c]);
        moments[c] += (float)mean;
        moments[channels + c] += (float)(variance / (rows > 1 ? (double)rows - 1 : 1));
        for (size_t i = c; i < rows * channels; i += channels) {
            double v = gamma[c] * (element_load(p, x, i) - mean) * inverse + beta[c] +
                       (add ? element_load(p, add, i) : 0);
            element_store(p, y, i, (float)(shape->relu ? fmax(v, 0) : v));
        }
    }
}

void ref_norm_inference(struct device *device, const struct norm_shape *shape, const void *x, const float *gamma,
                        const float *beta, const float *running, const void *add, void *y)
{
    enum precision p = device->precision;
    for (size_t i = 0; i < shape->rows * shape->c; i++) {
        int c = (int)(i % shape->c);
        double inverse = 1 / sqrt((double)running[shape->c + c] + NORM_EPSILON);
        double v = gamma[c] * ((double)element_load(p, x, i) - running[c]) * inverse + beta[c] +
                   (add ? element_load(p, add, i) : 0);
        element_store(p, y, i, (float)(shape->relu ? fmax(v, 0) : v));
    }
}

void ref_norm_backward(struct device *device, const struct norm_shape *shape, const void *x, const void *y, void *dy,
                       const float *gamma, const float *saved, void *dadd, bool accumulate, float *dgamma, float *dbeta)
{
    enum precision p = device->precision;
    int channels = shape->c;
    size_t count = shape->rows * channels;
    double rows = (double)shape->rows;
    for (int c = 0; c < channels; c++) {
        double mean = saved[c], inverse = saved[channels + c], sum = 0, product = 0;
        for (size_t i = c; i < count; i += channels) {
            double g = shape->relu && element_load(p, y, i) <= 0 ? 0 : element_load(p, dy, i);
            if (dadd)
                element_store(p, dadd, i, (float)(g + (accumulate ? element_load(p, dadd, i) : 0)));
            sum += g;
            product += g * (element_load(p, x, i) - mean) * inverse;
        }
        for (size_t i = c; i < count; i += channels) {
            double g = shape->relu && element_load(p, y, i) <= 0 ? 0 : element_load(p, dy, i);
            double centred = (element_load(p, x, i) - mean) * inverse;
            double dx = gamma[c] * inverse * (g - sum / rows - centred * product / rows);
            if (shape->code_scale != 0)
                dx = element_load(p, x, i) != 0 ? shape->code_scale * dx : 0;
            element_store(p, dy, i, (float)dx);
        }
        dgamma[c] += (float)product;
        dbeta[c] += (float)sum;
    }
}
