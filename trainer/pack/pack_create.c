/* pack_create.c - the subcommands of csc-pack that write datasets. */
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/log.h"
#include "base/memory.h"
#include "data/sources/cifar.h"
#include "data/sources/folder.h"
#include "data/sources/imagenet.h"
#include "data/write/dataset_writer.h"
#include "data/write/merge.h"
#include "trainer/pack/pack_command.h"

enum { MADE_BY_BYTES = 320 };

static void print_report(const char *directory, const char *classes, enum codec codec, const struct pack_report *r)
{
    char ratio[48] = "";
    if (codec != CODEC_JPEG)
        snprintf(ratio, sizeof ratio, " (%.0f%% of the pixels)", 100.0 * (double)r->bytes / (double)r->raw_bytes);
    log_info("%s: %lld images%s, %.1f MB%s, %.1f s", directory, (long long)r->samples, classes, (double)r->bytes / 1e6,
             ratio, r->seconds);
    for (int n = 0; n < IMAGE_NOTES; n++)
        if (r->notes[n])
            log_info("  %lld images: %s", (long long)r->notes[n], image_note_text(n));
    if (r->skipped)
        log_info("  %lld images left out", (long long)r->skipped);
    if (r->non_images)
        log_info("  %lld files that are not named as images left out", (long long)r->non_images);
}

/* Packs one dataset and prints a summary; with --estimate it only prints the estimate. */
static enum status pack_or_estimate(const struct pack_arguments *a, struct pack_source *source, const char *directory,
                                    const struct pack_options *options)
{
    enum status status = STATUS_OK;
    if (a->estimate)
        return print_estimate(source, options);
    struct pack_report r;
    char classes[40];
    TRY(pack_dataset(source, directory, options, &r));
    snprintf(classes, sizeof classes, " of %d classes", source->class_count);
    print_report(directory, classes, options->codec, &r);
fail:
    return status;
}

/* Returns the options of a packing that keeps its journal, with the index's made_by, such as
 * "csc-pack 1.2.3 imagefolder --codec jpeg --resize short:256". Besides the input, the dataset's bytes depend only on
 * what it says. */
static struct pack_options make_options(const struct pack_arguments *a, const char *what, char made_by[MADE_BY_BYTES])
{
    struct pack_options options = a->pack;
    const struct pack_options *o = &a->pack;
    int length = snprintf(made_by, MADE_BY_BYTES, "csc-pack %s %s", CSC_VERSION, what);
    if (o->codec == CODEC_JPEG)
        length += snprintf(made_by + length, MADE_BY_BYTES - length, " --codec jpeg");
    if (a->resize)
        length += snprintf(made_by + length, MADE_BY_BYTES - length, " --resize %.32s", a->resize);
    if (o->shard_bytes)
        snprintf(made_by + length, MADE_BY_BYTES - length, " --shard-mb %lld", (long long)(o->shard_bytes >> 20));
    options.made_by = made_by;
    options.keep_journal = true;
    return options;
}

/* Removes the journals once both datasets are complete. Those of parts stay, because csc-pack merge needs them. */
static enum status remove_journals(const struct pack_arguments *a, char folders[2][PATH_MAX])
{
    enum status status = STATUS_OK;
    if (a->pack.parts || a->estimate)
        return STATUS_OK;
    for (int i = 0; i < 2; i++)
        if (file_is_folder(folders[i]))
            TRY(dataset_writer_remove_journal(folders[i]));
fail:
    return status;
}

/* Sets folders to OUT/train and OUT/val, neither of which may be a dataset yet. *done tells that nothing is left to do:
 * an earlier process was killed while it removed the journals of two complete datasets. */
static enum status output_folders(const struct pack_arguments *a, const char *out, char folders[2][PATH_MAX],
                                  bool *done)
{
    enum status status = STATUS_OK;
    int datasets = 0, journals = 0;
    if (strlen(out) > PATH_MAX - 64)
        FAIL(STATUS_USAGE, "%s: name too long", out);
    for (int i = 0; i < 2; i++) {
        snprintf(folders[i], PATH_MAX, "%s/%s", out, i ? "val" : "train");
        datasets += dataset_writer_has_index(folders[i]);
        journals += dataset_writer_has_journal(folders[i]);
    }
    *done = datasets == 2 && journals == 1;
    for (int i = 0; i < 2 && !*done; i++)
        TRY(dataset_writer_check_folder(folders[i], a->pack.force));
    if (*done) {
        TRY(remove_journals(a, folders));
        log_info("%s: was complete already", out);
    }
fail:
    return status;
}

enum status run_cifar(const struct pack_arguments *a)
{
    enum status status = STATUS_OK;
    char folders[2][PATH_MAX], made_by[MADE_BY_BYTES];
    struct cifar *cifar = NULL;
    struct pack_options options = make_options(a, a->name, made_by);
    bool done;
    TRY(output_folders(a, a->operands[1], folders, &done));
    if (done)
        return STATUS_OK;
    TRY(cifar_open(&cifar, a->operands[0], !strcmp(a->name, "cifar100")));
    for (int i = 0; i < 2; i++) {
        struct pack_source *source = cifar_source(cifar, i == 0);
        if (source)
            TRY(pack_or_estimate(a, source, folders[i], &options));
    }
    TRY(remove_journals(a, folders));
fail:
    cifar_close(cifar);
    return status;
}

enum status run_synth(const struct pack_arguments *a)
{
    enum status status = STATUS_OK;
    char folders[2][PATH_MAX], truth[PATH_MAX], what[MADE_BY_BYTES / 2], made_by[MADE_BY_BYTES];
    struct synth *synth = NULL;
    const struct synth_config *c = &a->synth;
    bool done;
    snprintf(what, sizeof what, "synth --images %lld --classes %d --size %d --noise %g --seed %llu",
             (long long)c->images, c->classes, c->size, c->noise, (unsigned long long)c->seed);
    struct pack_options options = make_options(a, what, made_by);
    if (options.codec == CODEC_JPEG) /* before anything is written */
        FAIL(STATUS_USAGE, "--codec jpeg stores image files, but these images do not come from files");
    TRY(output_folders(a, a->operands[0], folders, &done));
    if (done)
        return STATUS_OK;
    TRY(synth_create(&synth, c));
    TRY(file_make_folders(a->operands[0]));
    snprintf(truth, sizeof truth, "%s/truth.safetensors", a->operands[0]);
    TRY(synth_write_truth(synth, truth));
    for (int i = 0; i < 2; i++)
        TRY(pack_or_estimate(a, synth_source(synth, i == 0), folders[i], &options));
    TRY(remove_journals(a, folders));
fail:
    synth_destroy(synth);
    return status;
}

/* Reads the classes of --classes. *given stays NULL if there is no such option. */
static enum status read_classes(const struct pack_arguments *a, struct class_names *names,
                                const struct class_names **given)
{
    enum status status = STATUS_OK;
    if (!a->classes)
        return STATUS_OK;
    TRY(class_names_read(names, a->classes));
    *given = names;
fail:
    return status;
}

enum status run_imagefolder(const struct pack_arguments *a)
{
    enum status status = STATUS_OK;
    char made_by[MADE_BY_BYTES];
    const char *source = a->operands[0], *out = a->operands[1];
    struct folder *folder = NULL;
    struct class_names names = { .names = NULL };
    struct folder_options from = { .root = a->root, .spool = a->estimate ? NULL : out };
    struct pack_options options = make_options(a, "imagefolder", made_by);
    options.keep_journal = a->pack.parts != 0;
    if (file_is_inside(out, source, a->root))
        FAIL(STATUS_USAGE, "%s: lies inside the folder that is packed; choose one elsewhere", out);
    TRY(dataset_writer_check_folder(out, a->pack.force));
    TRY(read_classes(a, &names, &from.classes));
    TRY(folder_open(&folder, source, &from));
    TRY(pack_or_estimate(a, folder_source(folder), out, &options));
fail:
    folder_close(folder);
    class_names_finish(&names);
    return status;
}

enum status run_imagenet(const struct pack_arguments *a)
{
    enum status status = STATUS_OK;
    char folders[2][PATH_MAX], made_by[MADE_BY_BYTES];
    struct folder *train = NULL, *val = NULL;
    struct class_names names = { .names = NULL };
    const struct class_names *given = NULL;
    struct pack_options options = make_options(a, "imagenet", made_by);
    bool done, both = a->operand_count == 4;
    int64_t first, end;
    if (a->operand_count == 3)
        FAIL(STATUS_USAGE,
             "%s: a validation archive needs its label file: csc-pack imagenet TRAIN.tar VAL.tar LABELS OUT",
             a->operands[1]);
    TRY(output_folders(a, a->operands[a->operand_count - 1], folders, &done));
    if (done)
        return STATUS_OK;
    TRY(read_classes(a, &names, &given));
    TRY(imagenet_open_train(&train, a->operands[0], given));
    if (both) /* before the long work, so that a wrong label file is reported at once */
        TRY(imagenet_open_val(&val, a->operands[1], a->operands[2], a->synsets, folder_classes(train)));
    if (both)
        TRY(pack_range(&options, folder_source(val)->total, &first, &end));
    TRY(pack_or_estimate(a, folder_source(train), folders[0], &options));
    if (both && !a->estimate)
        TRY(pack_or_estimate(a, folder_source(val), folders[1], &options));
    TRY(remove_journals(a, folders));
fail:
    folder_close(train);
    folder_close(val);
    class_names_finish(&names);
    return status;
}

/* Merges the parts. `below` is "", or the folder in each of them that holds the dataset. */
static enum status merge_below(const struct pack_arguments *a, const char *below, bool keep_journal)
{
    enum status status = STATUS_OK;
    struct pack_report r;
    struct pack_options options = a->pack;
    int count = a->operand_count;
    char **folders = calloc((size_t)count, sizeof *folders);
    if (!folders)
        FAIL(STATUS_NOMEM, "out of memory");
    options.keep_journal = keep_journal;
    for (int i = 0; i < count; i++)
        if (asprintf(&folders[i], "%s%s", a->operands[i], below) < 0) {
            folders[i] = NULL;
            FAIL(STATUS_NOMEM, "out of memory");
        }
    TRY(merge_parts(folders, count - 1, folders[count - 1], &options, &r));
    print_report(folders[count - 1], "", CODEC_JPEG, &r);
fail:
    strings_free(folders, count);
    return status;
}

enum status run_merge(const struct pack_arguments *a)
{
    enum status status = STATUS_OK;
    static const char *const below[] = { "/train", "/val" };
    char folders[2][PATH_MAX], path[PATH_MAX];
    bool done, has[2];
    for (int i = 0; i < 2; i++)
        has[i] = snprintf(path, sizeof path, "%s%s", a->operands[0], below[i]) < PATH_MAX &&
                 dataset_writer_has_index(path);
    if (!has[0] && !has[1])
        return merge_below(a, "", false);
    TRY(output_folders(a, a->operands[a->operand_count - 1], folders, &done));
    for (int i = 0; i < 2 && !done; i++)
        if (has[i])
            TRY(merge_below(a, below[i], true));
    TRY(remove_journals(a, folders));
fail:
    return status;
}
