/* test_synth.c - the synthetic dataset is reproducible, a linear classifier fails on it, and its images are made of the
 * dictionaries in its file. */
#include "base/file.h"
#include "data/format/format.h"
#include "data/read/dataset.h"
#include "data/read/loader.h"
#include "data/sources/synth.h"
#include "tests/check.h"
#include "tests/data/make.h"

enum { CLASSES = 5, SIZE = 24, VALUES = SIZE * SIZE * 3, ATOM = 3 * SYNTH_KERNEL * SYNTH_KERNEL };

static char folder[64];

static const char *at(const char *name)
{
    static char path[96];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    return path;
}

static void make(const char *name, uint64_t seed, int workers, bool training, int64_t images)
{
    struct synth_config config = { .images = images, .classes = CLASSES, .size = SIZE, .noise = 0.1, .seed = seed };
    struct pack_options options = { .workers = workers, .made_by = "a test" };
    struct pack_report report;
    struct synth *synth = NULL;
    CHECK(synth_create(&synth, &config) == STATUS_OK, "%s", status_message());
    CHECK(pack_dataset(synth_source(synth, training), at(name), &options, &report) == STATUS_OK, "%s",
          status_message());
    CHECK(report.samples == (training ? images : images / 5), "%lld images", (long long)report.samples);
    CHECK(synth_write_truth(synth, at("truth.safetensors")) == STATUS_OK, "%s", status_message());
    synth_destroy(synth);
}

static bool same_set(const char *a, const char *b)
{
    struct dataset *x = NULL, *y = NULL;
    CHECK(dataset_open(&x, at(a)) == STATUS_OK, "%s", status_message());
    CHECK(dataset_open(&y, at(b)) == STATUS_OK, "%s", status_message());
    bool same = x && y && !strcmp(dataset_fingerprint(x), dataset_fingerprint(y));
    dataset_close(x);
    dataset_close(y);
    return same;
}

/* Loads all images of a dataset as floats (n, VALUES) around 0, and their labels. */
static int64_t load(const char *name, float **images, int **labels)
{
    struct dataset *d = NULL;
    struct loader *loader = NULL;
    const struct micro_batch *b;
    int64_t n = 0;
    CHECK(dataset_open(&d, at(name)) == STATUS_OK, "%s", status_message());
    struct loader_config config = { .dataset = d,
                                    .image_size = SIZE,
                                    .mean = { 0.5f, 0.5f, 0.5f },
                                    .std = { 1, 1, 1 },
                                    .batch = 50,
                                    .micro_batch = 50,
                                    .ranks = 1,
                                    .workers = 2,
                                    .prefetch = 2 };
    CHECK(loader_create(&loader, &config) == STATUS_OK, "%s", status_message());
    *images = malloc((size_t)dataset_samples(d) * VALUES * sizeof **images);
    *labels = malloc((size_t)dataset_samples(d) * sizeof **labels);
    int counts[CLASSES] = { 0 };
    while (loader_next(loader, &b) == STATUS_OK && b) {
        memcpy(*images + n * VALUES, b->images, (size_t)b->count * VALUES * sizeof **images);
        for (int i = 0; i < b->count; i++, n++)
            counts[(*labels)[n] = b->labels[i]]++;
    }
    for (int c = 0; c < CLASSES; c++)
        CHECK(counts[c] == n / CLASSES, "class %d: %d images", c, counts[c]);
    loader_destroy(loader);
    dataset_close(d);
    return n;
}

/* The accuracy of softmax regression on held-out images, after training with SGD. */
static double linear_accuracy(const float *train, const int *labels, int64_t n, const float *test, const int *truth,
                              int64_t m)
{
    float *w = calloc((VALUES + 1) * CLASSES, sizeof *w);
    int64_t right = 0;
    for (int64_t step = 0; step < 6 * n + m; step++) {
        bool learn = step < 6 * n;
        const float *x = learn ? train + step % n * VALUES : test + (step - 6 * n) * VALUES;
        int label = learn ? labels[step % n] : truth[step - 6 * n], best = 0;
        float score[CLASSES], sum = 0;
        for (int c = 0; c < CLASSES; c++) {
            const float *row = w + c * (VALUES + 1);
            score[c] = row[VALUES];
            for (int i = 0; i < VALUES; i++)
                score[c] += row[i] * x[i];
            best = score[c] > score[best] ? c : best;
        }
        right += !learn && best == label;
        for (int c = 0; c < CLASSES; c++)
            sum += expf(score[c] - score[best]);
        for (int c = 0; learn && c < CLASSES; c++) {
            float g = 0.002f * (expf(score[c] - score[best]) / sum - (c == label));
            float *row = w + c * (VALUES + 1);
            row[VALUES] -= g;
            for (int i = 0; i < VALUES; i++)
                row[i] -= g * x[i];
        }
    }
    free(w);
    return (double)right / (double)m;
}

/* <atom, image around (cx, cy)>; atom (3,7,7), image (SIZE,SIZE,3). */
static float correlate(const float *atom, const float *image, int cx, int cy)
{
    enum { K = SYNTH_KERNEL };
    float sum = 0;
    for (int c = 0; c < 3; c++)
        for (int y = 0; y < K; y++)
            for (int x = 0; x < K; x++)
                sum += atom[(c * K + y) * K + x] * image[((cy + y - K / 2) * SIZE + cx + x - K / 2) * 3 + c];
    return sum;
}

/* The energy of the class's atoms at their best positions: a detector that knows the dictionaries. */
static float energy(const float *atoms, const float *image)
{
    float total = 0;
    for (int a = 0; a < SYNTH_ATOMS; a++)
        for (int y = SYNTH_KERNEL / 2; y < SIZE - SYNTH_KERNEL / 2; y++)
            for (int x = SYNTH_KERNEL / 2; x < SIZE - SYNTH_KERNEL / 2; x++) {
                float v = correlate(atoms + a * ATOM, image, x, y);
                total += v > 0.8f ? v * v * v * v : 0;
            }
    return total;
}

/* The dictionaries in the file have unit norm, zero mean and uncorrelated channels, and they fit the images of their
 * class best. */
static void check_truth(const float *images, const int *labels, int64_t n)
{
    char *file = NULL;
    size_t bytes;
    int right = 0;
    enum { PLANE = SYNTH_KERNEL * SYNTH_KERNEL };
    CHECK(file_read(at("truth.safetensors"), 1 << 20, &file, &bytes) == STATUS_OK, "%s", status_message());
    size_t header = get64((uint8_t *)file);
    CHECK(bytes == 8 + header + CLASSES * SYNTH_ATOMS * ATOM * sizeof(float), "%zu bytes", bytes);
    float *atoms = malloc(CLASSES * SYNTH_ATOMS * ATOM * sizeof *atoms);
    memcpy(atoms, file + 8 + header, CLASSES * SYNTH_ATOMS * ATOM * sizeof *atoms);
    for (int a = 0; a < CLASSES * SYNTH_ATOMS; a++)
        for (int c = 0; c < 3; c++)
            for (int d = 0; d < 3; d++) {
                double product = 0, mean = 0;
                for (int i = 0; i < PLANE; i++) {
                    product += (double)atoms[a * ATOM + c * PLANE + i] * atoms[a * ATOM + d * PLANE + i];
                    mean += atoms[a * ATOM + c * PLANE + i];
                }
                CHECK(fabs(product - (c == d ? 1 / 3.0 : 0)) < 1e-6 && fabs(mean) < 1e-5, "atom %d: %g, %g", a, product,
                      mean);
            }
    for (int64_t i = 0; i < n; i++) {
        int best = 0;
        float most = -1;
        for (int c = 0; c < CLASSES; c++) {
            float found = energy(atoms + c * SYNTH_ATOMS * ATOM, images + i * VALUES);
            best = found > most ? c : best;
            most = found > most ? found : most;
        }
        right += best == labels[i];
    }
    CHECK(right >= 0.8 * (double)n, "the true dictionaries recognise %d of %lld images", right, (long long)n);
    free(atoms);
    free(file);
}

int main(void)
{
    float *train = NULL, *test = NULL;
    int *labels = NULL, *truth = NULL;
    make_folder(folder);
    make("train", 1, 1, true, 1500);
    make("again", 1, 3, true, 1500);
    make("other", 2, 2, true, 1500);
    make("test", 1, 2, false, 1500);
    CHECK(same_set("train", "again"), "the same seed makes other images");
    CHECK(!same_set("train", "other"), "another seed makes the same images");
    int64_t n = load("train", &train, &labels), m = load("test", &test, &truth);
    double accuracy = linear_accuracy(train, labels, n, test, truth, m);
    CHECK(accuracy < 0.4, "a linear classifier reaches %g", accuracy);
    double fitted = linear_accuracy(train, labels, n, train, labels, 200);
    CHECK(fitted > 0.5, "the linear classifier does not even learn its own images: %g", fitted);
    check_truth(test, truth, 100);
    printf("linear: %.3f held out, %.3f on its own images\n", accuracy, fitted);
    free(train);
    free(labels);
    free(test);
    free(truth);
    remove_folder(folder);
    return check_done("synth");
}
