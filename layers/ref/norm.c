/* norm.c - batch norm over rows = N*H*W of x (rows, C), in double.
 *   mean, var over rows;  y = gamma (x - mean) / sqrt(var + eps) + beta [+ add] [then ReLU]
 *   backward (Ioffe and Szegedy 2015), xhat = (x - mean) inverse_std, g = dy where y > 0 if ReLU:
 *   dbeta = sum g;  dgamma = sum g xhat;  dx = gamma inverse_std (g - dbeta/rows - xhat dgamma/rows) */
#include <math.h>

#include "layers/ref/ref.h"

void ref_norm_forward(struct device *device, const struct norm_shape *shape, const float *x, const float *gamma,
                      const float *beta, const float *add, float *y, float *saved, float *moments)
{
    (void)device;
    size_t rows = shape->rows;
    int channels = shape->c;
    for (int c = 0; c < channels; c++) {
        double mean = 0, variance = 0;
        for (size_t i = 0; i < rows; i++)
            mean += x[i * channels + c];
        mean /= (double)rows;
        for (size_t i = 0; i < rows; i++)
            variance += (x[i * channels + c] - mean) * (x[i * channels + c] - mean);
        double inverse = 1 / sqrt(variance / (double)rows + NORM_EPSILON);
        saved[c] = (float)mean;
        saved[channels + c] = (float)inverse;
        moments[c] += (float)mean;
        moments[channels + c] += (float)(variance / (rows > 1 ? (double)rows - 1 : 1));
        for (size_t i = c; i < rows * channels; i += channels) {
            double v = gamma[c] * (x[i] - mean) * inverse + beta[c] + (add ? add[i] : 0);
            y[i] = (float)(shape->relu ? fmax(v, 0) : v);
        }
    }
}

void ref_norm_inference(struct device *device, const struct norm_shape *shape, const float *x, const float *gamma,
                        const float *beta, const float *running, const float *add, float *y)
{
    (void)device;
    for (size_t i = 0; i < shape->rows * shape->c; i++) {
        int c = (int)(i % shape->c);
        double inverse = 1 / sqrt((double)running[shape->c + c] + NORM_EPSILON);
        double v = gamma[c] * ((double)x[i] - running[c]) * inverse + beta[c] + (add ? add[i] : 0);
        y[i] = (float)(shape->relu ? fmax(v, 0) : v);
    }
}

void ref_norm_backward(struct device *device, const struct norm_shape *shape, const float *x, const float *y,
                       float *dy, const float *gamma, const float *saved, float *dadd, bool accumulate,
                       float *dgamma, float *dbeta)
{
    (void)device;
    int channels = shape->c;
    size_t count = shape->rows * channels;
    double rows = (double)shape->rows;
    for (int c = 0; c < channels; c++) {
        double mean = saved[c], inverse = saved[channels + c], sum = 0, product = 0;
        for (size_t i = c; i < count; i += channels) {
            double g = shape->relu && y[i] <= 0 ? 0 : dy[i];
            if (dadd)
                dadd[i] = (float)(g + (accumulate ? dadd[i] : 0));
            sum += g;
            product += g * (x[i] - mean) * inverse;
        }
        for (size_t i = c; i < count; i += channels) {
            double g = shape->relu && y[i] <= 0 ? 0 : dy[i];
            dy[i] = (float)(gamma[c] * inverse * (g - sum / rows - (x[i] - mean) * inverse * product / rows));
        }
        dgamma[c] += (float)product;
        dbeta[c] += (float)sum;
    }
}
