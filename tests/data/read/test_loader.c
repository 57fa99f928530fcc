/* test_loader.c [WORKERS] - ranks, workers and seeks do not change batches, and each image comes once where it should.
 * With an argument, all numbers of workers up to it are tested instead of a few. */
#include <float.h>
#include <math.h>

#include "base/hash.h"
#include "base/pixels.h"
#include "data/read/augment.h"
#include "data/read/dataset.h"
#include "data/read/loader.h"
#include "tests/check.h"
#include "tests/data/make.h"

static char folder[64], small[96], large[96];

static struct loader_config base_config(struct dataset *dataset)
{
    return (struct loader_config){
        .dataset = dataset,
        .training = true,
        .seed = 7,
        .shuffle = SHUFFLE_FULL,
        .window = 50,
        .augment = AUGMENT_CIFAR,
        .image_size = 32,
        .mean = { 0.5f, 0.4f, 0.3f },
        .std = { 0.2f, 0.25f, 0.3f },
        .batch = 48,
        .micro_batch = 4,
        .ranks = 1,
        .workers = 1,
        .prefetch = 2,
    };
}

/* A hash of what a micro-batch holds. */
static uint64_t digest(const struct micro_batch *b, int size)
{
    uint64_t parts[3] = {
        hash_bytes(b->images, (size_t)b->count * size * size * 3 * sizeof *b->images),
        hash_bytes(b->labels, (size_t)b->count * sizeof *b->labels),
        hash_bytes(b->ids, (size_t)b->count * sizeof *b->ids),
    };
    return hash_bytes(parts, sizeof parts);
}

static int max_workers = 8, worker_step = 3;
enum { MICROS = 12, STEPS = 9 }; /* micro-batches of a step, and steps: two epochs of 4 steps and one more step */

/* Fills table[step][micro] as all ranks together see it, from (epoch, step) on. */
static void collect(struct loader_config config, int ranks, int workers, int64_t from, uint64_t table[STEPS][MICROS])
{
    for (int rank = 0; rank < ranks; rank++) {
        struct loader *loader = NULL;
        config.rank = rank;
        config.ranks = ranks;
        config.workers = workers;
        config.prefetch = 1 + workers % 3;
        CHECK(loader_create(&loader, &config) == STATUS_OK, "%s", status_message());
        int64_t steps = loader_steps_per_epoch(loader);
        if (from)
            CHECK(loader_seek(loader, from / steps, from % steps) == STATUS_OK, "%s", status_message());
        for (int64_t at = from; at < STEPS; at++)
            for (int i = 0; i < MICROS / ranks; i++) {
                const struct micro_batch *b = NULL;
                CHECK(loader_next(loader, &b) == STATUS_OK && b, "%s", status_message());
                CHECK(b->epoch == at / steps && b->step == at % steps && b->count == config.micro_batch,
                      "epoch %lld step %lld", (long long)b->epoch, (long long)b->step);
                CHECK(b->index == rank * MICROS / ranks + i, "micro-batch %d", b->index);
                table[at][b->index] = digest(b, config.image_size);
            }
        loader_destroy(loader);
    }
}

static void check_same(struct dataset *dataset, enum shuffle shuffle, enum augment augment, int size)
{
    struct loader_config config = base_config(dataset);
    config.shuffle = shuffle;
    config.augment = augment;
    config.image_size = size;
    uint64_t expected[STEPS][MICROS] = { 0 };
    collect(config, 1, 1, 0, expected);
    CHECK(expected[0][0] != expected[4][0] || (shuffle == SHUFFLE_NONE && augment == AUGMENT_NONE),
          "epochs do not differ");
    for (int ranks = 1; ranks <= 4; ranks++)
        for (int workers = 1 + ranks % worker_step; workers <= max_workers; workers += worker_step)
            for (int64_t from = 0; from < STEPS; from += 3) {
                uint64_t got[STEPS][MICROS] = { 0 };
                collect(config, ranks, workers, from, got);
                bool same = memcmp(got[from], expected[from], (size_t)(STEPS - from) * sizeof *got) == 0;
                CHECK(same, "%d ranks, %d workers, from step %lld: other batches", ranks, workers, (long long)from);
            }
}

/* One epoch of training takes steps * batch different samples; order is the set's without shuffling. */
static void check_epoch(struct dataset *dataset, enum shuffle shuffle)
{
    struct loader_config config = base_config(dataset);
    struct loader *loader = NULL;
    int64_t samples = dataset_samples(dataset);
    char *seen = calloc((size_t)samples, 1);
    config.shuffle = shuffle;
    CHECK(loader_create(&loader, &config) == STATUS_OK, "%s", status_message());
    int64_t position = 0, moved = 0;
    for (int64_t i = 0; i < loader_steps_per_epoch(loader) * MICROS; i++) {
        const struct micro_batch *b = NULL;
        CHECK(loader_next(loader, &b) == STATUS_OK && b && b->epoch == 0, "%s", status_message());
        for (int k = 0; k < b->count; k++, position++) {
            CHECK(b->ids[k] < (uint64_t)samples && !seen[b->ids[k]]++, "sample %llu twice",
                  (unsigned long long)b->ids[k]);
            CHECK(b->labels[k] == (int)(b->ids[k] % 3), "label %d", b->labels[k]);
            moved += b->ids[k] != (uint64_t)position;
        }
    }
    CHECK((shuffle == SHUFFLE_NONE) == (moved == 0), "%lld samples moved", (long long)moved);
    loader_destroy(loader);
    free(seen);
}

/* Batches of bytes hold what batches of floats hold before normalisation, with crops that cover each image. */
static void check_raw(struct dataset *dataset, enum augment augment, bool training)
{
    struct loader_config config = base_config(dataset), raw_config;
    struct loader *floats = NULL, *raw = NULL;
    size_t bytes = 0, wrong = 0;
    config.augment = augment;
    config.training = training;
    config.workers = 2;
    config.micro_batch = 12;
    raw_config = config;
    raw_config.raw = true;
    CHECK(loader_create(&floats, &config) == STATUS_OK && loader_create(&raw, &raw_config) == STATUS_OK, "%s",
          status_message());
    for (int i = 0; i < 9; i++) {
        const struct micro_batch *a = NULL, *b = NULL;
        CHECK(loader_next(floats, &a) == STATUS_OK && loader_next(raw, &b) == STATUS_OK, "%s", status_message());
        if (!a || !b) {
            CHECK(!a && !b, "one has ended at batch %d", i);
            break;
        }
        const struct image_crop *crops = b->raw;
        const struct pixel_scale *s = b->scale;
        CHECK(a->images && !a->raw && !b->images && b->count == a->count, "batch %d: %d images, not %d", i, b->count,
              a->count);
        for (int k = 0; k < b->count; k++) {
            const uint8_t *in = (const uint8_t *)b->raw + crops[k].offset;
            size_t values = (size_t)32 * 32 * 3;
            CHECK(crops[k].offset + values <= b->raw_bytes && crops[k].right == 32 && crops[k].bottom == 32 &&
                      !crops[k].flip && crops[k].left == 0 && crops[k].top == 0 && crops[k].width == 32,
                  "cut %d of batch %d", k, i);
            for (size_t v = 0; v < values; v++) { /* this sum rounds twice, the floats of the host once */
                float got = in[v] * s->scale_high[v % 3] + s->offset_high[v % 3] +
                            (in[v] * s->scale_low[v % 3] + s->offset_low[v % 3]);
                wrong += !(fabsf(got - a->images[k * values + v]) <=
                           FLT_EPSILON * fabsf(got) + 1e-11f); /* for 0.4 - 0.4 */
            }
        }
        CHECK(loader_memory(raw, 0, &bytes) && b->raw_bytes <= bytes, "%zu of %zu bytes", b->raw_bytes, bytes);
    }
    CHECK(wrong == 0, "%zu values differ from the floats", wrong);
    loader_destroy(floats);
    loader_destroy(raw);
}

static void check_evaluation(struct dataset *dataset, int ranks, int micro)
{
    int64_t samples = dataset_samples(dataset), total = 0;
    char *seen = calloc((size_t)samples, 1);
    for (int rank = 0; rank < ranks; rank++) {
        struct loader_config config = base_config(dataset);
        struct loader *loader = NULL;
        config.training = false;
        config.rank = rank;
        config.ranks = ranks;
        config.micro_batch = micro;
        config.workers = 2;
        CHECK(loader_create(&loader, &config) == STATUS_OK, "%s", status_message());
        for (int pass = 0; pass < 2; pass++) { /* and once more after rewinding */
            int expected = rank;
            for (;;) {
                const struct micro_batch *b = NULL;
                CHECK(loader_next(loader, &b) == STATUS_OK, "%s", status_message());
                if (!b)
                    break;
                CHECK(b->index == expected, "micro-batch %d, not %d", b->index, expected);
                expected += ranks;
                for (int i = 0; i < b->count; i++) {
                    CHECK(b->ids[i] == (uint64_t)b->index * micro + i, "id %llu", (unsigned long long)b->ids[i]);
                    seen[b->ids[i]] += pass == 0;
                    total += pass == 0;
                }
            }
            const struct micro_batch *b = NULL;
            CHECK(loader_next(loader, &b) == STATUS_OK && !b, "goes on behind the end");
            CHECK(loader_seek(loader, 0, 0) == STATUS_OK, "%s", status_message());
        }
        loader_destroy(loader);
    }
    CHECK(total == samples, "%lld images counted of %lld", (long long)total, (long long)samples);
    for (int64_t i = 0; i < samples; i++)
        CHECK(seen[i] == 1, "image %lld counted %d times", (long long)i, seen[i]);
    free(seen);
}

/* The pixels of an evaluation are those that were packed, normalised in single precision. */
static void check_pixels(struct dataset *dataset)
{
    struct loader_config config = base_config(dataset);
    struct loader *loader = NULL;
    const struct micro_batch *b = NULL;
    uint8_t pixels[32 * 32 * 3];
    config.training = false;
    CHECK(loader_create(&loader, &config) == STATUS_OK, "%s", status_message());
    CHECK(loader_next(loader, &b) == STATUS_OK && b, "%s", status_message());
    for (int i = 0; i < b->count; i++) {
        random_pixels((int64_t)b->ids[i], 32, 32, pixels);
        int wrong = 0;
        for (int k = 0; k < 32 * 32 * 3; k++) {
            float expected = (float)((pixels[k] / 255.0 - config.mean[k % 3]) / config.std[k % 3]);
            wrong += fabsf(b->images[i * 3072 + k] - expected) > 4 * FLT_EPSILON * fmaxf(1, fabsf(expected));
        }
        CHECK(wrong == 0, "%d values differ", wrong);
    }
    loader_destroy(loader);
}

/* The images of training are those that were packed, shifted by at most 4 over black and perhaps mirrored. Every shift
 * occurs. */
static void check_crops(struct dataset *dataset)
{
    struct loader_config config = base_config(dataset);
    struct loader *loader = NULL;
    int shifts[9][9] = { 0 }, mirrored = 0, found = 0, all = 0;
    for (int c = 0; c < 3; c++) {
        config.mean[c] = 0;
        config.std[c] = 1;
    }
    CHECK(loader_create(&loader, &config) == STATUS_OK, "%s", status_message());
    for (int n = 0; n < 180; n++) {
        const struct micro_batch *b = NULL;
        CHECK(loader_next(loader, &b) == STATUS_OK && b, "%s", status_message());
        for (int i = 0; i < b->count; i++, all++) {
            uint8_t pixels[32 * 32 * 3];
            random_pixels((int64_t)b->ids[i], 32, 32, pixels);
            for (int at = 0; at < 162; at++) {
                int dy = at / 18 - 4, dx = at / 2 % 9 - 4, flip = at % 2, wrong = 0;
                for (int k = 0; k < 3072 && !wrong; k++) {
                    int y = k / 96 + dy, x = (flip ? 31 - k / 3 % 32 : k / 3 % 32) + dx;
                    bool inside = x >= 0 && y >= 0 && x < 32 && y < 32;
                    int value = inside ? pixels[(y * 32 + x) * 3 + k % 3] : 0;
                    wrong = lrintf(b->images[i * 3072 + k] * 255) != value;
                }
                if (wrong)
                    continue;
                found++;
                shifts[dy + 4][dx + 4]++;
                mirrored += flip;
                break;
            }
        }
    }
    CHECK(found == all, "%d of %d images are no crop of theirs", all - found, all);
    CHECK(mirrored > all / 3 && mirrored < all * 2 / 3, "%d of %d mirrored", mirrored, all);
    for (int i = 0; i < 81; i++)
        CHECK(shifts[i / 9][i % 9] > 0, "shift %d,%d never drawn", i % 9 - 4, i / 9 - 4);
    loader_destroy(loader);
}

/* Images are mirrored in every second epoch, half of them in the even ones; evaluation mirrors none. */
static void check_flips(void)
{
    enum { IMAGES = 2000 };
    const double mean[3] = { 0, 0, 0 }, std[3] = { 1, 1, 1 };
    struct augmenter training = { 0 }, evaluation = { 0 };
    int even = 0, wrong = 0;
    augmenter_init(&training, AUGMENT_CIFAR, true, 32, 5, mean, std);
    augmenter_init(&evaluation, AUGMENT_CIFAR, false, 32, 5, mean, std);
    for (uint64_t id = 0; id < IMAGES; id++) {
        bool sides[4];
        for (int epoch = 0; epoch < 4; epoch++) {
            sides[epoch] = augment_plan(&training, 32, 32, epoch, id).flip;
            wrong += augment_plan(&evaluation, 32, 32, epoch, id).flip;
        }
        wrong += sides[0] == sides[1] || sides[0] != sides[2] || sides[1] != sides[3];
        even += sides[0];
    }
    CHECK(wrong == 0, "%d images do not alternate", wrong);
    CHECK(even > IMAGES * 2 / 5 && even < IMAGES * 3 / 5, "%d of %d mirrored first", even, IMAGES);
}

static void check_refusals(struct dataset *dataset)
{
    struct loader *loader = NULL;
    struct loader_config config = base_config(dataset);
    config.ranks = 5;
    CHECK(loader_create(&loader, &config) == STATUS_USAGE && !loader, "12 micro-batches on 5 ranks");
    config = base_config(dataset);
    config.micro_batch = 7;
    CHECK(loader_create(&loader, &config) == STATUS_USAGE && !loader, "48 in sevens");
    config = base_config(dataset);
    config.batch = config.micro_batch = 1000;
    CHECK(loader_create(&loader, &config) == STATUS_USAGE && !loader, "batch larger than the set");
    CHECK(strstr(status_message(), "fewer than one batch"), "%s", status_message());
    config = base_config(dataset);
    config.std[1] = 0;
    CHECK(loader_create(&loader, &config) == STATUS_USAGE && !loader, "standard deviation 0");
}

/* A loader can be destroyed at any moment. */
static void check_shutdown(struct dataset *dataset)
{
    for (int i = 0; i < 40; i++) {
        struct loader_config config = base_config(dataset);
        struct loader *loader = NULL;
        const struct micro_batch *b;
        config.workers = 1 + i % 4;
        CHECK(loader_create(&loader, &config) == STATUS_OK, "%s", status_message());
        if (i % 3)
            usleep((unsigned)(i * 37));
        for (int k = 0; k < i % 5; k++)
            CHECK(loader_next(loader, &b) == STATUS_OK, "%s", status_message());
        if (i % 4 == 3)
            CHECK(loader_seek(loader, i, 1) == STATUS_OK, "%s", status_message());
        loader_destroy(loader);
    }
    loader_destroy(NULL);
}

int main(int count, char **arguments)
{
    static const int same[][2] = { { 32, 32 } };
    static const int mixed[][2] = { { 1, 1 }, { 90, 61 }, { 17, 140 }, { 200, 3 }, { 33, 33 } };
    char files[96];
    struct dataset *s = NULL, *l = NULL, *j = NULL;
    if (count > 1) {
        max_workers = atoi(arguments[1]);
        worker_step = 1;
    }
    make_folder(folder);
    snprintf(small, sizeof small, "%s/small", folder);
    snprintf(large, sizeof large, "%s/large", folder);
    CHECK(make_dataset(small, 211, same, 1, 2) == STATUS_OK, "%s", status_message());
    CHECK(make_dataset(large, 205, mixed, 5, 2) == STATUS_OK, "%s", status_message());
    snprintf(files, sizeof files, "%s/files", folder);
    CHECK(make_jpeg_dataset(files, 205, mixed, 5) == STATUS_OK && dataset_open(&j, files) == STATUS_OK, "%s",
          status_message());
    CHECK(dataset_open(&s, small) == STATUS_OK && dataset_open(&l, large) == STATUS_OK, "%s", status_message());
    if (s && l && j) {
        CHECK(dataset_image_size(s) == 32 && dataset_image_size(l) == 0 && dataset_samples(s) == 211, "sizes");
        check_same(s, SHUFFLE_FULL, AUGMENT_CIFAR, 32);
        check_same(s, SHUFFLE_WINDOW, AUGMENT_NONE, 32);
        check_same(s, SHUFFLE_NONE, AUGMENT_NONE, 32);
        check_same(l, SHUFFLE_FULL, AUGMENT_IMAGENET, 23);
        check_same(l, SHUFFLE_WINDOW, AUGMENT_CIFAR, 20);
        check_same(j, SHUFFLE_FULL, AUGMENT_IMAGENET, 23);
        check_same(j, SHUFFLE_WINDOW, AUGMENT_IMAGENET, 23);
        for (int i = 0; i < 3; i++)
            check_epoch(s, (enum shuffle[]){ SHUFFLE_NONE, SHUFFLE_FULL, SHUFFLE_WINDOW }[i]);
        for (int ranks = 1; ranks <= 3; ranks++)
            for (int micro = 1; micro < 300; micro = micro * 3 + 7)
                check_evaluation(s, ranks, micro);
        check_evaluation(l, 4, 64);
        check_raw(l, AUGMENT_CIFAR, true);
        check_raw(l, AUGMENT_IMAGENET, true);
        check_raw(s, AUGMENT_NONE, false);
        check_pixels(s);
        check_crops(s);
        check_flips();
        check_refusals(s);
        check_shutdown(s);
    }
    dataset_close(s);
    dataset_close(l);
    dataset_close(j);
    remove_folder(folder);
    return check_done("loader");
}
