/* activations_tmpl.h - the CPU's passes over activations, each reading and writing every element once.
 * kernels.c includes this once per element type, with
 *   ELEMENT       float or bf16
 *   LOAD(x)       its value as a float       STORE(x)   a float as an element
 *   NAME(f)       f_fp32 or f_bf16
 * Sums are taken in float over a block of rows, and in double over blocks and threads. Their order depends on the
 * number of threads only. */

/* ---- elementwise; a convolution's result `conv` is float ---- */

static void NAME(linear_range)(const struct epilogue *e, const float *conv, ELEMENT *out, size_t from, size_t to)
{
    const ELEMENT *add = e->add;
    float alpha = e->alpha, beta = e->beta;
    if (!add)
        for (size_t i = from; i < to; i++)
            out[i] = STORE(alpha * conv[i]);
    else
        for (size_t i = from; i < to; i++)
            out[i] = STORE(alpha * conv[i] + beta * LOAD(add[i]));
}

static void NAME(shrink_range)(const struct epilogue *e, const float *conv, ELEMENT *out, size_t from, size_t to)
{
    const ELEMENT *add = e->add;
    float alpha = e->alpha * e->nu, beta = e->beta * e->nu, threshold = e->threshold;
    if (e->nonnegative && !add)
        for (size_t i = from; i < to; i++) {
            float v = alpha * conv[i] - threshold;
            out[i] = STORE(v < 0 ? 0 : v); /* keeps NaN */
        }
    else if (e->nonnegative)
        for (size_t i = from; i < to; i++) {
            float v = alpha * conv[i] + beta * LOAD(add[i]) - threshold;
            out[i] = STORE(v < 0 ? 0 : v); /* keeps NaN */
        }
    else
        for (size_t i = from; i < to; i++) {
            float v = alpha * conv[i] + (add ? beta * LOAD(add[i]) : 0);
            float shrunk = fabsf(v) - threshold;
            out[i] = STORE(shrunk <= 0 ? 0 : copysignf(shrunk, v));
        }
}

static void NAME(mask_range)(const struct epilogue *e, const float *conv, ELEMENT *out, size_t from, size_t to)
{
    const ELEMENT *add = e->add, *mask = e->mask;
    float alpha = e->alpha * e->nu, beta = e->beta * e->nu;
    if (!add)
        for (size_t i = from; i < to; i++)
            out[i] = STORE(LOAD(mask[i]) != 0 ? alpha * conv[i] : 0);
    else
        for (size_t i = from; i < to; i++) {
            float v = alpha * conv[i] + beta * LOAD(add[i]);
            out[i] = STORE(LOAD(mask[i]) != 0 ? v : 0);
        }
}

static void NAME(epilogue)(const struct epilogue *e, const float *conv, void *out, size_t count)
{
#pragma omp parallel
    {
        size_t from, to;
        thread_range(count, ELEMENTS_PER_LINE, &from, &to);
        if (e->kind == EPILOGUE_SHRINK)
            NAME(shrink_range)(e, conv, out, from, to);
        else if (e->kind == EPILOGUE_MASK)
            NAME(mask_range)(e, conv, out, from, to);
        else
            NAME(linear_range)(e, conv, out, from, to);
    }
}

static void NAME(upload)(struct device *device, void *to_, const float *from, size_t count)
{
    ELEMENT *to = to_;
    (void)device;
#pragma omp parallel for schedule(static)
    for (size_t i = 0; i < count; i++)
        to[i] = STORE(from[i]);
}

static void NAME(download)(struct device *device, float *to, const void *from_, size_t count)
{
    const ELEMENT *from = from_;
    (void)device;
#pragma omp parallel for schedule(static)
    for (size_t i = 0; i < count; i++)
        to[i] = LOAD(from[i]);
}

static void NAME(mask)(struct device *device, const void *in_, const void *by_, float nu, void *out_, size_t count)
{
    const ELEMENT *in = in_, *by = by_;
    ELEMENT *out = out_;
    (void)device;
#pragma omp parallel for schedule(static)
    for (size_t i = 0; i < count; i++)
        out[i] = STORE(LOAD(by[i]) != 0 ? nu * LOAD(in[i]) : 0);
}

static void NAME(axpby_act)(struct device *device, float a, const void *x_, float b, const void *y_, void *out_,
                            size_t count)
{
    const ELEMENT *x = x_, *y = y_;
    ELEMENT *out = out_;
    (void)device;
#pragma omp parallel for schedule(static)
    for (size_t i = 0; i < count; i++)
        out[i] = STORE(a * LOAD(x[i]) + b * LOAD(y[i]));
}

static double NAME(dot_range)(const ELEMENT *x, const ELEMENT *y, size_t count)
{
    double sums[16] = { 0 }, sum = 0;
    size_t i = 0;
    for (; i + 16 <= count; i += 16)
        for (int j = 0; j < 16; j++)
            sums[j] += (double)LOAD(x[i + j]) * LOAD(y[i + j]);
    for (; i < count; i++)
        sums[i % 16] += (double)LOAD(x[i]) * LOAD(y[i]);
    for (int j = 0; j < 16; j++)
        sum += sums[j];
    return sum;
}

static double NAME(dot_act)(struct device *device, const void *x, const void *y, size_t count)
{
    (void)device;
    double parts[DEVICE_MAX_THREADS] = { 0 }, sum = 0;
    int used = 1;
#pragma omp parallel
    {
        size_t from, to;
        thread_range(count, ELEMENTS_PER_LINE, &from, &to);
        parts[thread_number()] = NAME(dot_range)((const ELEMENT *)x + from, (const ELEMENT *)y + from, to - from);
        if (thread_number() == 0)
            used = thread_count();
    }
    for (int t = 0; t < used; t++)
        sum += parts[t];
    return sum;
}

/* ---- batch norm: x (rows, C) ---- */

/* Prefetches a block of rows. A tile reads single lines of it, which the hardware does not foresee. */
static void NAME(prefetch)(const ELEMENT *x, size_t from, size_t to, int channels)
{
    size_t end = from + BLOCK < to ? from + BLOCK : to;
    const char *line = (const char *)(x + from * channels), *last = (const char *)(x + end * channels);
    for (; line < last; line += 64)
        __builtin_prefetch(line);
}

/* Adds the sums of x - origin and of its square over rows [from, to), at most BLOCK of them, to sums and squares. */
static void NAME(moment_tile)(const ELEMENT *x, const ELEMENT *origin, size_t from, size_t to, int channels, int width,
                              double *sums, double *squares)
{
    float s[TILE] = { 0 }, q[TILE] = { 0 };
    if (width == TILE)
        for (size_t r = from; r < to; r++)
            for (int c = 0; c < TILE; c++) {
                float v = LOAD(x[r * channels + c]) - LOAD(origin[c]);
                s[c] += v;
                q[c] += v * v;
            }
    else
        for (size_t r = from; r < to; r++)
            for (int c = 0; c < width; c++) {
                float v = LOAD(x[r * channels + c]) - LOAD(origin[c]);
                s[c] += v;
                q[c] += v * v;
            }
    for (int c = 0; c < width; c++) {
        sums[c] += s[c];
        squares[c] += q[c];
    }
}

/* The same for all channels and any number of rows. Each block of rows is read once. */
static void NAME(moments)(const ELEMENT *x, size_t from, size_t to, int channels, double *sums, double *squares)
{
    for (size_t block = from; block < to; block += BLOCK) {
        size_t end = block + BLOCK < to ? block + BLOCK : to;
        NAME(prefetch)(x, block + BLOCK, to, channels);
        for (int c = 0; c < channels; c += TILE) {
            int width = channels - c < TILE ? channels - c : TILE;
            NAME(moment_tile)(x + c, x + c, block, end, channels, width, sums + c, squares + c);
        }
    }
}

/* y = (x - center) scale + shift. A product x scale with the mean in the shift would cancel where the mean is far
 * from 0. */
static void NAME(affine_rows)(const struct norm_shape *shape, const ELEMENT *x, const float *center, const float *scale,
                              const float *shift, const ELEMENT *add, ELEMENT *y, size_t from, size_t to)
{
    int channels = shape->c;
    float floor = shape->relu ? 0 : -INFINITY;
    for (size_t r = from; r < to; r++) {
        const ELEMENT *in = x + r * channels;
        ELEMENT *out = y + r * channels;
        if (add) {
            const ELEMENT *other = add + r * channels;
            for (int c = 0; c < channels; c++) {
                float v = (LOAD(in[c]) - center[c]) * scale[c] + shift[c] + LOAD(other[c]);
                out[c] = STORE(v < floor ? floor : v);
            }
        } else
            for (int c = 0; c < channels; c++) {
                float v = (LOAD(in[c]) - center[c]) * scale[c] + shift[c];
                out[c] = STORE(v < floor ? floor : v);
            }
    }
}

static void NAME(norm_forward)(struct device *device, const struct norm_shape *shape, const void *x_,
                               const float *gamma, const float *beta, const void *add, void *y, float *saved,
                               float *moments)
{
    const ELEMENT *x = x_;
    int channels = shape->c, used = 1;
    double *partials = cpu_partials(device, channels), rows = (double)shape->rows;
    float *scale = saved + 2 * channels, *shift = scale + channels;
#pragma omp parallel num_threads(device->threads)
    {
        size_t from, to;
        double *sums = partials + (size_t)thread_number() * CPU_PARTIALS * channels;
        memset(sums, 0, 2 * channels * sizeof *sums);
        thread_range(shape->rows, 1, &from, &to);
        NAME(moments)(x, from, to, channels, sums, sums + channels);
        if (thread_number() == 0)
            used = thread_count();
#pragma omp barrier
#pragma omp single
        {
            sum_partials(partials, channels, used);
            for (int c = 0; c < channels; c++) {
                double offset = partials[c] / rows, mean = LOAD(x[c]) + offset;
                double sum = partials[channels + c] -
                             rows * offset * offset; /* sum of squared deviations from the mean */
                double variance = sum > 0 ? sum / rows : 0, inverse = 1 / sqrt(variance + NORM_EPSILON);
                saved[c] = (float)mean;
                saved[channels + c] = (float)inverse;
                moments[c] += (float)mean;
                moments[channels + c] += (float)(variance * rows / (rows > 1 ? rows - 1 : 1));
                scale[c] = (float)(gamma[c] * inverse);
                shift[c] = (float)(beta[c] - (mean - saved[c]) * inverse * gamma[c]);
            }
        }
        NAME(affine_rows)(shape, x, saved, scale, shift, add, y, from, to);
    }
}

static void NAME(norm_inference)(struct device *device, const struct norm_shape *shape, const void *x,
                                 const float *gamma, const float *beta, const float *running, const void *add, void *y)
{
    int channels = shape->c;
    float *scale = (float *)cpu_partials(device, channels);
    for (int c = 0; c < channels; c++)
        scale[c] = (float)(gamma[c] / sqrt((double)running[channels + c] + NORM_EPSILON));
#pragma omp parallel num_threads(device->threads)
    {
        size_t from, to;
        thread_range(shape->rows, 1, &from, &to);
        NAME(affine_rows)(shape, x, running, scale, beta, add, y, from, to);
    }
}

/* Adds the sums of g and of g (x - mean) over rows [from, to), at most BLOCK of them. With a ReLU g is dy where y >
 * 0, else 0; without one g is dy. */
static void NAME(backward_tile)(bool relu, const ELEMENT *x, const ELEMENT *y, const ELEMENT *dy, const float *mean,
                                size_t from, size_t to, int channels, int width, double *sums, double *products)
{
    float s[TILE] = { 0 }, p[TILE] = { 0 };
    if (width == TILE && relu)
        for (size_t r = from; r < to; r++)
            for (int c = 0; c < TILE; c++) {
                size_t i = r * channels + c;
                float g = LOAD(y[i]) > 0 ? LOAD(dy[i]) : 0;
                s[c] += g;
                p[c] += g * (LOAD(x[i]) - mean[c]);
            }
    else if (width == TILE)
        for (size_t r = from; r < to; r++)
            for (int c = 0; c < TILE; c++) {
                size_t i = r * channels + c;
                float g = LOAD(dy[i]);
                s[c] += g;
                p[c] += g * (LOAD(x[i]) - mean[c]);
            }
    else
        for (size_t r = from; r < to; r++)
            for (int c = 0; c < width; c++) {
                size_t i = r * channels + c;
                float g = relu && LOAD(y[i]) <= 0 ? 0 : LOAD(dy[i]);
                s[c] += g;
                p[c] += g * (LOAD(x[i]) - mean[c]);
            }
    for (int c = 0; c < width; c++) {
        sums[c] += s[c];
        products[c] += p[c];
    }
}

static void NAME(backward_sums)(bool relu, const ELEMENT *x, const ELEMENT *y, const ELEMENT *dy, const float *mean,
                                size_t from, size_t to, int channels, double *sums, double *products)
{
    for (size_t block = from; block < to; block += BLOCK) {
        size_t end = block + BLOCK < to ? block + BLOCK : to;
        NAME(prefetch)(x, block + BLOCK, to, channels);
        NAME(prefetch)(dy, block + BLOCK, to, channels);
        if (relu)
            NAME(prefetch)(y, block + BLOCK, to, channels);
        for (int c = 0; c < channels; c += TILE) {
            int width = channels - c < TILE ? channels - c : TILE;
            double *sum = sums + c, *product = products + c;
            NAME(backward_tile)(relu, x + c, y + c, dy + c, mean + c, block, end, channels, width, sum, product);
        }
    }
}

/* dy = a (g + b (x - mean) + k) per channel. If x is a code, that is multiplied by nu where x is not 0, and 0
 * elsewhere. dadd gets g. */
static void NAME(backward_rows)(const struct norm_shape *shape, const ELEMENT *x, const ELEMENT *y, ELEMENT *dy,
                                const float *mean, const float *abk, ELEMENT *dadd, bool accumulate, size_t from,
                                size_t to)
{
    int channels = shape->c;
    float nu = shape->code_scale;
    const float *a = abk, *b = abk + channels, *k = abk + 2 * channels;
    for (size_t r = from; r < to; r++) {
        size_t at = r * channels;
        if (shape->relu)
            for (int c = 0; c < channels; c++)
                dy[at + c] = LOAD(y[at + c]) > 0 ? dy[at + c] : 0;
        if (dadd && accumulate)
            for (int c = 0; c < channels; c++)
                dadd[at + c] = STORE(LOAD(dadd[at + c]) + LOAD(dy[at + c]));
        else if (dadd)
            memcpy(dadd + at, dy + at, channels * sizeof *dadd);
        if (nu != 0)
            for (int c = 0; c < channels; c++) {
                float v = LOAD(x[at + c]), dx = nu * (a[c] * (LOAD(dy[at + c]) + b[c] * (v - mean[c]) + k[c]));
                dy[at + c] = STORE(v != 0 ? dx : 0);
            }
        else
            for (int c = 0; c < channels; c++)
                dy[at + c] = STORE(a[c] * (LOAD(dy[at + c]) + b[c] * (LOAD(x[at + c]) - mean[c]) + k[c]));
    }
}

static void NAME(norm_backward)(struct device *device, const struct norm_shape *shape, const void *x_, const void *y_,
                                void *dy_, const float *gamma, const float *saved, void *dadd, bool accumulate,
                                float *dgamma, float *dbeta)
{
    const ELEMENT *x = x_, *y = y_;
    ELEMENT *dy = dy_;
    int channels = shape->c, used = 1;
    double *partials = cpu_partials(device, channels), rows = (double)shape->rows;
    float *abk = (float *)(partials + 2 * channels); /* 3 C floats in the 2 C doubles after the sums */
#pragma omp parallel num_threads(device->threads)
    {
        size_t from, to;
        double *sums = partials + (size_t)thread_number() * CPU_PARTIALS * channels;
        memset(sums, 0, 2 * channels * sizeof *sums);
        thread_range(shape->rows, 1, &from, &to);
        NAME(backward_sums)(shape->relu, x, y, dy, saved, from, to, channels, sums, sums + channels);
        if (thread_number() == 0)
            used = thread_count();
#pragma omp barrier
#pragma omp single
        {
            sum_partials(partials, channels, used);
            for (int c = 0; c < channels; c++) {
                double inverse = saved[channels + c];
                double sum = partials[c], product = partials[channels + c] * inverse;
                abk[c] = (float)(gamma[c] * inverse);
                abk[channels + c] = (float)(-inverse * product / rows);
                abk[2 * channels + c] = (float)(-sum / rows);
                dgamma[c] += (float)product;
                dbeta[c] += (float)sum;
            }
        }
        NAME(backward_rows)(shape, x, y, dy, saved, abk, dadd, accumulate, from, to);
    }
}

/* ---- pooling ---- */

/* Padding is less than k, so every window holds a pixel of the image. */
static void NAME(max_pixel)(const struct pool_shape *s, const ELEMENT *image, int i, int j, ELEMENT *restrict y,
                            int32_t *restrict argmax)
{
    int top = i * s->stride - s->pad, left = j * s->stride - s->pad, channels = s->c;
    int from_a = top < 0 ? 0 : top, from_b = left < 0 ? 0 : left;
    int to_a = top + s->k < s->h ? top + s->k : s->h, to_b = left + s->k < s->w ? left + s->k : s->w;
    int32_t at = from_a * s->w + from_b;
    memcpy(y, image + (size_t)at * channels, channels * sizeof *y);
    for (int c = 0; c < channels; c++)
        argmax[c] = at;
    for (int a = from_a; a < to_a; a++)
        for (int b = from_b; b < to_b; b++) {
            at = a * s->w + b;
            const ELEMENT *restrict x = image + (size_t)at * channels;
            for (int c = 0; c < channels; c++) {
                ELEMENT v = x[c], best = y[c];
                int32_t before = argmax[c];
                bool better = LOAD(v) > LOAD(best);
                y[c] = better ? v : best;
                argmax[c] = better ? at : before;
            }
        }
}

static void NAME(max_forward)(struct device *device, const struct pool_shape *s, const void *x, void *y,
                              int32_t *argmax)
{
    (void)device;
    int oh = (s->h + 2 * s->pad - s->k) / s->stride + 1, ow = (s->w + 2 * s->pad - s->k) / s->stride + 1;
#pragma omp parallel for schedule(static)
    for (int row = 0; row < s->n * oh; row++)
        for (int j = 0; j < ow; j++) {
            size_t at = ((size_t)row * ow + j) * s->c;
            const ELEMENT *image = (const ELEMENT *)x + (size_t)(row / oh) * s->h * s->w * s->c;
            NAME(max_pixel)(s, image, row % oh, j, (ELEMENT *)y + at, argmax + at);
        }
}

static void NAME(max_backward)(struct device *device, const struct pool_shape *s, const void *dy_,
                               const int32_t *argmax, void *dx, bool accumulate)
{
    const ELEMENT *dy = dy_;
    (void)device;
    int oh = (s->h + 2 * s->pad - s->k) / s->stride + 1, ow = (s->w + 2 * s->pad - s->k) / s->stride + 1;
    size_t image = (size_t)s->h * s->w * s->c, outputs = (size_t)oh * ow * s->c;
#pragma omp parallel for schedule(static)
    for (int n = 0; n < s->n; n++) {
        ELEMENT *to = (ELEMENT *)dx + n * image;
        if (!accumulate)
            memset(to, 0, image * sizeof *to);
        for (size_t pixel = n * outputs; pixel < (n + 1) * outputs; pixel += s->c)
            for (int c = 0; c < s->c; c++) {
                ELEMENT *at = to + (size_t)argmax[pixel + c] * s->c + c;
                *at = STORE(LOAD(*at) + LOAD(dy[pixel + c]));
            }
    }
}

static void NAME(mean_forward)(struct device *device, int n, int hw, int c, const void *x_, float *y)
{
    const ELEMENT *x = x_;
    (void)device;
#pragma omp parallel for schedule(static)
    for (int i = 0; i < n; i++) {
        float *out = y + (size_t)i * c;
        memset(out, 0, c * sizeof *out);
        for (int p = 0; p < hw; p++)
            for (int j = 0; j < c; j++)
                out[j] += LOAD(x[((size_t)i * hw + p) * c + j]);
        for (int j = 0; j < c; j++)
            out[j] /= (float)hw;
    }
}

static void NAME(mean_backward)(struct device *device, int n, int hw, int c, const float *dy, void *dx_)
{
    ELEMENT *dx = dx_;
    (void)device;
    float scale = 1 / (float)hw;
#pragma omp parallel for schedule(static)
    for (int i = 0; i < n; i++)
        for (int p = 0; p < hw; p++)
            for (int j = 0; j < c; j++)
                dx[((size_t)i * hw + p) * c + j] = STORE(scale * dy[(size_t)i * c + j]);
}

static void NAME(fill_activations)(struct backend *table)
{
    table->upload = NAME(upload);
    table->download = NAME(download);
    table->mask = NAME(mask);
    table->axpby_act = NAME(axpby_act);
    table->dot_act = NAME(dot_act);
    table->norm_forward = NAME(norm_forward);
    table->norm_inference = NAME(norm_inference);
    table->norm_backward = NAME(norm_backward);
    table->max_forward = NAME(max_forward);
    table->max_backward = NAME(max_backward);
    table->mean_forward = NAME(mean_forward);
    table->mean_backward = NAME(mean_backward);
}

#undef ELEMENT
#undef LOAD
#undef STORE
#undef NAME
