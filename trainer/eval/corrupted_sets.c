/* corrupted_sets.c - lists the corruptions of CIFAR-10-C and ImageNet-C, and reads their images as normalised
 * micro-batches. */
#include "trainer/eval/corrupted_sets.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "data/corrupt/corrupt.h"
#include "data/read/augment.h"
#include "data/sources/folder.h"
#include "data/sources/npy.h"
#include "trainer/model/classes.h"

enum { MAX_CORRUPTIONS = 64, SIDE = 32, CHANNELS = 3 };

struct corrupted_sets {
    enum corrupted_sets_kind kind;
    char directory[PATH_MAX];
    char *names[MAX_CORRUPTIONS], *paths[MAX_CORRUPTIONS]; /* of the corruptions, sorted by name */
    const json_t *class_names;                             /* of the network, or NULL */
    int count, classes, batch, size, rank, ranks;
    struct augmenter augmenter;
    struct augment_scratch scratch;
    struct npy images, labels; /* of CIFAR-10-C */
    char images_path[PATH_MAX], labels_path[PATH_MAX];
    int64_t first_image,
        total_images;      /* of CIFAR-10-C: first image of the severity in the file; of both: number of images */
    struct folder *folder; /* of ImageNet-C */
    int32_t *label_map;    /* from class folders to the network's classes, or NULL */
    bool mapping_logged;   /* the line about labels by name was printed */
    struct pack_item item;
    struct image decoded;
    int64_t next_batch; /* index of the next micro-batch of rank 0 */
    float *pixels;      /* (batch,S,S,3) */
    int32_t *batch_labels;
    uint64_t *ids;
    int64_t *raw_labels; /* labels from the file */
    uint8_t *raw_pixels; /* (batch,32,32,3) */
    struct micro_batch micro;
};

enum status corrupted_sets_parse(const char *text, enum corrupted_sets_kind *kind)
{
    enum status status = STATUS_OK;
    *kind = strcmp(text, "cifar10-c") == 0    ? CORRUPTED_SETS_CIFAR10_C
            : strcmp(text, "imagenet-c") == 0 ? CORRUPTED_SETS_IMAGENET_C
                                              : CORRUPTED_SETS_NONE;
    if (*kind == CORRUPTED_SETS_NONE)
        FAIL(STATUS_USAGE, "--suite=%s: must be cifar10-c or imagenet-c", text);
fail:
    return status;
}

double corrupted_sets_alexnet_error(const char *name)
{
    /* Source: github.com/hendrycks/robustness, ImageNet-C/test.py */
    static const struct {
        const char *name;
        double error;
    } published[] = {
        { "gaussian_noise", 0.886428 },
        { "shot_noise", 0.894468 },
        { "impulse_noise", 0.922640 },
        { "defocus_blur", 0.819880 },
        { "glass_blur", 0.826268 },
        { "motion_blur", 0.785948 },
        { "zoom_blur", 0.798360 },
        { "snow", 0.866816 },
        { "frost", 0.826572 },
        { "fog", 0.819324 },
        { "brightness", 0.564592 },
        { "contrast", 0.853204 },
        { "elastic_transform", 0.646056 },
        { "pixelate", 0.717840 },
        { "jpeg_compression", 0.606500 },
    };
    for (size_t i = 0; i < sizeof published / sizeof published[0]; i++)
        if (strcmp(published[i].name, name) == 0)
            return published[i].error;
    return 0;
}

/* ---- which corruptions are there ---- */

static enum status add_corruption(struct corrupted_sets *s, const char *name, size_t length, const char *path)
{
    enum status status = STATUS_OK;
    int at = s->count;
    if (s->count == MAX_CORRUPTIONS)
        FAIL(STATUS_DATA, "%s: more than %d corruptions", s->directory, MAX_CORRUPTIONS);
    char *copy = strndup(name, length), *where = strdup(path);
    if (!copy || !where) {
        free(copy);
        free(where);
        FAIL(STATUS_NOMEM, "%s: out of memory", s->directory);
    }
    for (; at > 0 && strcmp(s->names[at - 1], copy) > 0; at--) {
        s->names[at] = s->names[at - 1];
        s->paths[at] = s->paths[at - 1];
    }
    s->names[at] = copy;
    s->paths[at] = where;
    s->count++;
fail:
    return status;
}

/* Adds the corruptions of a folder: its .npy files, or its folders that have a folder "1". Searches `depth`
 * levels of other folders too. */
static enum status list_folder(struct corrupted_sets *s, const char *folder, int depth)
{
    enum status status = STATUS_OK;
    char path[PATH_MAX], first[PATH_MAX];
    struct dirent *entry;
    DIR *dir = opendir(folder);
    if (!dir)
        FAIL(STATUS_IO, "%s: %s", folder, strerror(errno));
    while ((entry = readdir(dir))) {
        size_t length = strlen(entry->d_name);
        if (entry->d_name[0] == '.')
            continue;
        if (snprintf(path, sizeof path, "%s/%s", folder, entry->d_name) >= (int)sizeof path ||
            snprintf(first, sizeof first, "%s/1", path) >= (int)sizeof first)
            FAIL(STATUS_IO, "%s: a path is too long", folder);
        if (s->kind == CORRUPTED_SETS_CIFAR10_C) {
            if (length > 4 && strcmp(entry->d_name + length - 4, ".npy") == 0 &&
                strcmp(entry->d_name, "labels.npy") != 0)
                TRY(add_corruption(s, entry->d_name, length - 4, path));
        } else if (file_is_folder(first)) {
            TRY(add_corruption(s, entry->d_name, length, path));
        } else if (depth > 0 && file_is_folder(path)) {
            TRY(list_folder(s, path, depth - 1));
        }
    }
fail:
    if (dir)
        closedir(dir);
    return status;
}

static enum status allocate(struct corrupted_sets *s)
{
    enum status status = STATUS_OK;
    s->pixels = malloc((size_t)s->batch * s->size * s->size * CHANNELS * sizeof *s->pixels);
    s->batch_labels = malloc(s->batch * sizeof *s->batch_labels);
    s->ids = malloc(s->batch * sizeof *s->ids);
    s->raw_labels = malloc(s->batch * sizeof *s->raw_labels);
    s->raw_pixels = malloc((size_t)s->batch * SIDE * SIDE * CHANNELS);
    if (!s->pixels || !s->batch_labels || !s->ids || !s->raw_labels || !s->raw_pixels)
        FAIL(STATUS_NOMEM, "out of memory for a batch of images");
fail:
    return status;
}

enum status corrupted_sets_open(struct corrupted_sets **out, enum corrupted_sets_kind kind, const char *directory,
                                const struct config *config, const json_t *classes, const struct comm *comm)
{
    enum status status = STATUS_OK;
    struct corrupted_sets *s = calloc(1, sizeof *s);
    if (!s)
        FAIL(STATUS_NOMEM, "out of memory");
    *s = (struct corrupted_sets){ .kind = kind,
                                  .class_names = classes,
                                  .classes = config->model.classes,
                                  .batch = config->eval.batch,
                                  .size = config->data.image_size,
                                  .rank = comm->rank,
                                  .ranks = comm->size,
                                  .images.fd = -1,
                                  .labels.fd = -1 };
    snprintf(s->directory, sizeof s->directory, "%s", directory);
    augmenter_init(&s->augmenter, AUGMENT_NONE, false, s->size, 0, config->data.mean, config->data.std);
    TRY(list_folder(s, directory, 1));
    if (s->count == 0)
        FAIL(STATUS_DATA, "%s: has no corruption (%s)", directory,
             kind == CORRUPTED_SETS_CIFAR10_C ? "NAME.npy" : "NAME/SEVERITY/CLASS/FILE");
    TRY(allocate(s));
    *out = s;
    s = NULL;
fail:
    corrupted_sets_close(s);
    return status;
}

void corrupted_sets_close(struct corrupted_sets *s)
{
    if (!s)
        return;
    for (int i = 0; i < s->count; i++) {
        free(s->names[i]);
        free(s->paths[i]);
    }
    npy_close(&s->images);
    npy_close(&s->labels);
    folder_close(s->folder);
    free(s->label_map);
    free(s->item.data);
    image_finish(&s->decoded);
    augment_scratch_finish(&s->scratch);
    free(s->pixels);
    free(s->batch_labels);
    free(s->ids);
    free(s->raw_labels);
    free(s->raw_pixels);
    free(s);
}

int corrupted_sets_count(const struct corrupted_sets *s)
{
    return s->count;
}

const char *corrupted_sets_name(const struct corrupted_sets *s, int corruption)
{
    return s->names[corruption];
}

/* ---- micro-batches ---- */

static enum status prepare_image(struct corrupted_sets *s, int i, struct view view, int64_t label, int64_t id)
{
    enum status status = STATUS_OK;
    if (label < 0 || label >= s->classes)
        FAIL(STATUS_DATA, "%s: image %lld has label %lld, but the network has %d classes", s->directory, (long long)id,
             (long long)label, s->classes);
    struct augment_plan plan = augment_plan(&s->augmenter, view.width, view.height, 0, (uint64_t)id);
    TRY(augment_begin(&s->augmenter, &s->scratch, &plan,
                      view_crop(view, plan.input.x, plan.input.y, plan.input.width, plan.input.height)));
    TRY(augment_end(&s->augmenter, &s->scratch, &plan, s->pixels + (size_t)i * s->size * s->size * CHANNELS));
    s->batch_labels[i] = (int32_t)label;
    s->ids[i] = (uint64_t)id;
fail:
    return status;
}

static void set_batch(struct corrupted_sets *s, int count, const struct micro_batch **batch)
{
    s->micro = (struct micro_batch){
        .images = s->pixels, .labels = s->batch_labels, .ids = s->ids, .count = count, .index = (int)s->next_batch
    };
    *batch = count > 0 ? &s->micro : NULL;
}

static enum status next_from_npy(void *context, const struct micro_batch **batch)
{
    enum status status = STATUS_OK;
    struct corrupted_sets *s = context;
    int64_t start = (s->next_batch + s->rank) * s->batch, left = s->total_images - start;
    int count = left <= 0 ? 0 : left < s->batch ? (int)left : s->batch;
    size_t values = SIDE * SIDE * CHANNELS;
    if (count > 0) {
        TRY(npy_read(&s->images, (s->first_image + start) * (int64_t)values, count * (int64_t)values, s->raw_pixels));
        TRY(npy_read_integers(&s->labels, s->first_image + start, count, s->raw_labels));
    }
    for (int i = 0; i < count; i++) {
        struct view view = { s->raw_pixels + i * values, SIDE * CHANNELS, SIDE, SIDE };
        TRY(prepare_image(s, i, view, s->raw_labels[i], start + i));
    }
    set_batch(s, count, batch);
    s->next_batch += s->ranks;
fail:
    return status;
}

static enum status next_from_folders(void *context, const struct micro_batch **batch)
{
    enum status status = STATUS_OK;
    struct corrupted_sets *s = context;
    struct pack_source *source = folder_source(s->folder);
    int64_t start = (s->next_batch + s->rank) * s->batch;
    int count = 0;
    for (; count < s->batch && start + count < s->total_images; count++) {
        unsigned notes = 0;
        TRY(source->read(source, start + count, &s->item));
        TRY(source->decode(source, &s->item, &s->decoded, &notes));
        int64_t label = s->label_map ? s->label_map[s->item.label] : s->item.label;
        TRY(prepare_image(s, count, view_image(&s->decoded), label, start + count));
    }
    set_batch(s, count, batch);
    s->next_batch += s->ranks;
fail:
    return status;
}

static enum status start_npy(struct corrupted_sets *s, int corruption, int severity)
{
    enum status status = STATUS_OK;
    npy_close(&s->images);
    npy_close(&s->labels);
    snprintf(s->images_path, sizeof s->images_path, "%s", s->paths[corruption]);
    snprintf(s->labels_path, sizeof s->labels_path, "%.*s/labels.npy", PATH_MAX - 16, s->directory);
    TRY(npy_open(&s->images, s->images_path));
    TRY(npy_open(&s->labels, s->labels_path));
    const struct npy *n = &s->images;
    if (n->kind != 'u' || n->item_bytes != 1 || n->dims != 4 || n->shape[1] != SIDE || n->shape[2] != SIDE ||
        n->shape[3] != CHANNELS || n->shape[0] < CORRUPT_SEVERITIES || n->shape[0] % CORRUPT_SEVERITIES)
        FAIL(STATUS_DATA, "%s: must be bytes of shape (5 n, %d, %d, 3)", s->images_path, SIDE, SIDE);
    if (s->labels.dims != 1 || s->labels.shape[0] != n->shape[0])
        FAIL(STATUS_DATA, "%s: must have as many labels as %s has images (%lld)", s->labels_path, s->images_path,
             (long long)n->shape[0]);
    s->total_images = n->shape[0] / CORRUPT_SEVERITIES;
    s->first_image = (severity - 1) * s->total_images;
fail:
    return status;
}

static enum status start_folders(struct corrupted_sets *s, int corruption, int severity)
{
    enum status status = STATUS_OK;
    char path[PATH_MAX];
    folder_close(s->folder);
    s->folder = NULL;
    if (snprintf(path, sizeof path, "%s/%d", s->paths[corruption], severity) >= (int)sizeof path)
        FAIL(STATUS_IO, "%s: a path is too long", s->paths[corruption]);
    TRY(folder_open(&s->folder, path, &(struct folder_options){ .root = NULL }));
    const struct pack_source *source = folder_source(s->folder);
    free(s->label_map);
    s->label_map = NULL;
    if (s->class_names)
        TRY(classes_map(s->class_names, source->class_names, source->class_count, path, !s->mapping_logged,
                        &s->label_map));
    s->mapping_logged = s->mapping_logged || s->label_map;
    if (!s->class_names && source->class_count != s->classes)
        FAIL(STATUS_USAGE, "%s: has %d class folders, but the network has %d classes: their numbers would not match",
             path, source->class_count, s->classes);
    s->total_images = source->total;
fail:
    return status;
}

enum status corrupted_sets_start(struct corrupted_sets *s, int corruption, int severity, struct image_source *source,
                                 int64_t *images)
{
    enum status status = STATUS_OK;
    bool file = s->kind == CORRUPTED_SETS_CIFAR10_C;
    if (file)
        TRY(start_npy(s, corruption, severity));
    else
        TRY(start_folders(s, corruption, severity));
    s->next_batch = 0;
    *images = s->total_images;
    *source = (struct image_source){ file ? next_from_npy : next_from_folders, s };
fail:
    return status;
}
