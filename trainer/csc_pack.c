/* csc_pack.c - csc-pack: builds and checks sharded datasets.
 * One function per subcommand, and one table that finds them and holds their help. */
#include <ctype.h>
#include <errno.h>
#include <getopt.h>
#include <jansson.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/affinity.h"
#include "base/file.h"
#include "base/log.h"
#include "data/cifar.h"
#include "data/dataset_internal.h"
#include "data/dataset_writer.h"
#include "data/folder.h"
#include "data/pack.h"
#include "data/synth.h"
#include "data/verify.h"

enum flag {
    FLAG_HELP = 256, FLAG_FORCE, FLAG_WORKERS, FLAG_BAD, FLAG_RESIZE, FLAG_ROOT, FLAG_IMAGES, FLAG_CLASSES,
    FLAG_SIZE, FLAG_NOISE, FLAG_SEED, FLAG_DEEP, FLAG_JSON, FLAG_CODEC,
};

static const struct option long_options[] = {
    { "help", no_argument, NULL, FLAG_HELP },        { "force", no_argument, NULL, FLAG_FORCE },
    { "workers", required_argument, NULL, FLAG_WORKERS }, { "bad", required_argument, NULL, FLAG_BAD },
    { "resize", required_argument, NULL, FLAG_RESIZE }, { "root", required_argument, NULL, FLAG_ROOT },
    { "images", required_argument, NULL, FLAG_IMAGES }, { "classes", required_argument, NULL, FLAG_CLASSES },
    { "size", required_argument, NULL, FLAG_SIZE },   { "noise", required_argument, NULL, FLAG_NOISE },
    { "seed", required_argument, NULL, FLAG_SEED },   { "deep", no_argument, NULL, FLAG_DEEP },
    { "json", required_argument, NULL, FLAG_JSON },   { "codec", required_argument, NULL, FLAG_CODEC },
    { NULL, 0, NULL, 0 },
};

struct arguments {
    const struct subcommand *subcommand;
    char **operands;
    struct pack_options pack;
    struct synth_config synth;
    const char *root, *json;
    bool deep, help;
};

struct subcommand {
    const char *name, *operand_names;
    int operands;
    enum flag accepts[8]; /* 0 ends it */
    enum status (*run)(const struct arguments *arguments);
    const char *help;
};

/* ---- packing ---- */

static void say_notes(const struct pack_report *r)
{
    static const char *const texts[NOTES] = {
        "grey", "CMYK", "16 bits a channel", "16-bit grey (values above 255 become white, as in Pillow)", "palette",
        "transparency dropped", "named as another format than they are", "made smaller",
    };
    for (int n = 0; n < NOTES; n++)
        if (r->notes[n])
            log_info("  %lld images: %s", (long long)r->notes[n], texts[n]);
    if (r->skipped)
        log_info("  %lld bad images skipped", (long long)r->skipped);
}

/* Packs one dataset and says what became of it. */
static enum status pack_one(struct pack_source *source, const char *directory, const struct pack_options *options)
{
    enum status status = STATUS_OK;
    struct pack_report r;
    TRY(pack_dataset(source, directory, options, &r));
    log_info("%s: %lld images of %d classes, %.1f MB (%.0f%% of the pixels), %.1f s", directory, (long long)r.samples,
             source->classes, (double)r.bytes / 1e6, 100.0 * (double)r.bytes / (double)r.raw_bytes, r.seconds);
    say_notes(&r);
fail:
    return status;
}

/* OUT/train and OUT/val; neither may be a dataset yet. */
static enum status output_folders(const struct arguments *a, const char *out, char train[PATH_MAX], char val[PATH_MAX])
{
    enum status status = STATUS_OK;
    if (strlen(out) > PATH_MAX - 64)
        FAIL(STATUS_USAGE, "%s: name too long", out);
    snprintf(train, PATH_MAX, "%s/train", out);
    snprintf(val, PATH_MAX, "%s/val", out);
    TRY(dataset_writer_check(train, a->pack.force));
    TRY(dataset_writer_check(val, a->pack.force));
fail:
    return status;
}

static enum status run_cifar(const struct arguments *a)
{
    enum status status = STATUS_OK;
    char folders[2][PATH_MAX];
    struct cifar *cifar = NULL;
    struct pack_options options = a->pack;
    bool hundred = !strcmp(a->subcommand->name, "cifar100");
    options.made_by = hundred ? "csc-pack " CSC_VERSION " cifar100" : "csc-pack " CSC_VERSION " cifar10";
    TRY(output_folders(a, a->operands[1], folders[0], folders[1]));
    TRY(cifar_open(&cifar, a->operands[0], hundred));
    for (int i = 0; i < 2; i++) {
        struct pack_source *source = cifar_source(cifar, i == 0);
        if (source)
            TRY(pack_one(source, folders[i], &options));
    }
fail:
    cifar_close(cifar);
    return status;
}

static enum status run_synth(const struct arguments *a)
{
    enum status status = STATUS_OK;
    char folders[2][PATH_MAX], truth[PATH_MAX], made_by[256];
    struct synth *synth = NULL;
    struct pack_options options = a->pack;
    const struct synth_config *c = &a->synth;
    snprintf(made_by, sizeof made_by, "csc-pack %s synth --images %lld --classes %d --size %d --noise %g --seed %llu",
             CSC_VERSION, (long long)c->images, c->classes, c->size, c->noise, (unsigned long long)c->seed);
    options.made_by = made_by;
    TRY(output_folders(a, a->operands[0], folders[0], folders[1]));
    TRY(synth_create(&synth, c));
    TRY(file_make_folders(a->operands[0]));
    snprintf(truth, sizeof truth, "%s/truth.safetensors", a->operands[0]);
    TRY(synth_write_truth(synth, truth));
    for (int i = 0; i < 2; i++)
        TRY(pack_one(synth_source(synth, i == 0), folders[i], &options));
fail:
    synth_destroy(synth);
    return status;
}

static enum status run_imagefolder(const struct arguments *a)
{
    enum status status = STATUS_OK;
    struct folder *folder = NULL;
    struct pack_options options = a->pack;
    options.made_by = "csc-pack " CSC_VERSION " imagefolder";
    TRY(dataset_writer_check(a->operands[1], a->pack.force));
    TRY(folder_open(&folder, a->operands[0], a->root, a->operands[1]));
    TRY(pack_one(folder_source(folder), a->operands[1], &options));
fail:
    folder_close(folder);
    return status;
}

/* ---- looking at a dataset ---- */

static enum status run_verify(const struct arguments *a)
{
    enum status status = STATUS_OK;
    struct dataset *dataset = NULL;
    struct verify_report r;
    TRY(dataset_open(&dataset, a->operands[0]));
    TRY(dataset_verify(dataset, a->deep, &r));
    log_info("%s: good: %lld images in %lld blocks, %.1f MB, every hash%s, %.1f s", a->operands[0],
             (long long)dataset_samples(dataset), (long long)r.blocks, (double)r.bytes / 1e6,
             a->deep ? " and every image" : "", r.seconds);
fail:
    dataset_close(dataset);
    return status;
}

static uint64_t shard_bytes(const struct dataset *d)
{
    uint64_t bytes = 0;
    for (int i = 0; i < d->index.shards; i++)
        bytes += d->index.shard[i].bytes;
    return bytes;
}

static enum status write_info_json(const struct dataset *d, const char *path)
{
    enum status status = STATUS_OK;
    char *text = NULL;
    json_t *names = json_array(), *counts = json_array();
    for (int i = 0; i < d->index.classes; i++) {
        json_array_append_new(names, json_string(d->index.names[i]));
        json_array_append_new(counts, json_integer(d->index.counts[i]));
    }
    json_t *object = json_pack("{s:s,s:s,s:I,s:i,s:i,s:i,s:I,s:I,s:I,s:s,s:o,s:o}", "codec", "rgbz", "made_by",
                               d->index.made_by, "samples", (json_int_t)d->index.samples, "width", d->index.width,
                               "height", d->index.height, "shards", d->index.shards, "blocks",
                               (json_int_t)dataset_blocks(d), "bytes", (json_int_t)shard_bytes(d), "decoded_bytes",
                               (json_int_t)d->raw_bytes, "fingerprint", d->index.hash, "classes", names, "counts", counts);
    text = object ? json_dumps(object, JSON_INDENT(1)) : NULL;
    if (!text)
        FAIL(STATUS_NOMEM, "%s: out of memory", path);
    TRY(file_write(path, text, strlen(text)));
fail:
    free(text);
    json_decref(object);
    return status;
}

static enum status run_info(const struct arguments *a)
{
    enum status status = STATUS_OK;
    enum { SHOWN = 20 };
    struct dataset *d = NULL;
    TRY(dataset_open(&d, a->operands[0]));
    char size[48] = "sizes differ";
    if (d->index.width)
        snprintf(size, sizeof size, "%d x %d pixels", d->index.width, d->index.height);
    log_info("%s: %lld images, %s, %d classes", a->operands[0], (long long)d->index.samples, size, d->index.classes);
    log_info("  codec rgbz, %d shards, %lld blocks, %.1f MB (decoded %.1f MB)", d->index.shards,
             (long long)dataset_blocks(d), (double)shard_bytes(d) / 1e6, (double)d->raw_bytes / 1e6);
    log_info("  made by %s, fingerprint %s", d->index.made_by, d->index.hash);
    for (int i = 0; i < d->index.classes && i < SHOWN; i++)
        log_info("  %5d  %-24s %lld", i, d->index.names[i], (long long)d->index.counts[i]);
    if (d->index.classes > SHOWN)
        log_info("  ... and %d more classes (--json has them all)", d->index.classes - SHOWN);
    if (a->json)
        TRY(write_info_json(d, a->json));
fail:
    dataset_close(d);
    return status;
}

/* ---- the command line ---- */

#define PACK_OPTIONS                                                                            \
    "  --force               replace the dataset that OUT holds\n"                               \
    "  --workers N           threads that decode and compress (default: one per core)\n"         \
    "  --codec rgbz          how pixels are stored; lossless\n"

static const struct subcommand subcommands[] = {
    { "cifar10", "SRC OUT", 2, { FLAG_FORCE, FLAG_WORKERS, FLAG_CODEC }, run_cifar,
      "Packs CIFAR-10 into OUT/train and OUT/val. SRC is the folder of its binary files\n"
      "(data_batch_1.bin, ..., test_batch.bin), or of cifar-10-batches-bin/, or the .tar.gz.\n"
      "Of the two datasets, those are written whose files are there.\n\n" PACK_OPTIONS },
    { "cifar100", "SRC OUT", 2, { FLAG_FORCE, FLAG_WORKERS, FLAG_CODEC }, run_cifar,
      "Packs CIFAR-100, with its 100 fine labels, into OUT/train and OUT/val. SRC is the folder of\n"
      "its binary files (train.bin, test.bin), or of cifar-100-binary/, or the .tar.gz.\n\n" PACK_OPTIONS },
    { "imagefolder", "DIR|TAR OUT", 2,
      { FLAG_FORCE, FLAG_WORKERS, FLAG_CODEC, FLAG_ROOT, FLAG_BAD, FLAG_RESIZE }, run_imagefolder,
      "Packs a folder of class folders of JPEG and PNG files, or a .tar, .tar.gz or .tar.zst of one,\n"
      "into the dataset OUT. Classes are the folders' names, sorted; files are sorted by path. Images\n"
      "become 8-bit RGB as Pillow's convert(\"RGB\") makes them.\n\n"
      "  --root NAME           take the class folders inside folder NAME, such as train\n"
      "  --bad stop|skip       at an image that cannot be read (default stop)\n"
      "  --resize short:N      make the short side N pixels, never larger than it is\n"
      "  --resize longest:N    the same with the longest side\n" PACK_OPTIONS },
    { "synth", "OUT", 1, { FLAG_FORCE, FLAG_WORKERS, FLAG_CODEC, FLAG_IMAGES, FLAG_CLASSES, FLAG_SIZE, FLAG_NOISE, FLAG_SEED },
      run_synth,
      "Makes images composed from class-specific convolutional dictionaries: OUT/train with N\n"
      "images, OUT/val with N/5 others of the same dictionaries, and the dictionaries themselves\n"
      "in OUT/truth.safetensors.\n\n"
      "  --images N            training images (default 5000)\n"
      "  --classes N           classes, each with 6 atoms of 7x7x3 (default 10)\n"
      "  --size N              side of the images in pixels (default 32)\n"
      "  --noise X             standard deviation of the noise, of values in 0..1 (default 0.1)\n"
      "  --seed N              the same seed makes the same files (default 1)\n" PACK_OPTIONS },
    { "verify", "DIR", 1, { FLAG_DEEP }, run_verify,
      "Compares every hash of a dataset; names every damaged block and exits with 65 if there is one.\n\n"
      "  --deep                decode every image too\n" },
    { "info", "DIR", 1, { FLAG_JSON }, run_info,
      "Says what a dataset holds.\n\n"
      "  --json FILE           write it to FILE, all classes included\n" },
};
enum { SUBCOMMANDS = sizeof subcommands / sizeof *subcommands };

static void print_help(const struct subcommand *s)
{
    if (s) {
        printf("Usage: csc-pack %s %s [options]\n\n%s  --help                this text\n", s->name, s->operand_names, s->help);
        return;
    }
    printf("Usage: csc-pack SUBCOMMAND ... [options]\n\n"
           "Builds and checks datasets of compressed shards.\n\n");
    for (int i = 0; i < SUBCOMMANDS; i++)
        printf("  csc-pack %s %s\n", subcommands[i].name, subcommands[i].operand_names);
    printf("\n  csc-pack SUBCOMMAND --help tells more; --version prints the version.\n"
           "Exit codes: 0 done, 2 usage, 65 bad data, 71 out of memory, 74 input or output failed.\n");
}

/* An integer in [low, high] and nothing behind it. */
static enum status parse_integer(const char *name, const char *text, long long low, long long high, long long *value)
{
    enum status status = STATUS_OK;
    char *end;
    errno = 0;
    *value = strtoll(text, &end, 10);
    if (errno || end == text || *end || isspace((unsigned char)*text) || *value < low || *value > high)
        FAIL(STATUS_USAGE, "--%s %s: must be an integer between %lld and %lld", name, text, low, high);
fail:
    return status;
}

static enum status parse_number(const char *name, const char *text, double *value)
{
    enum status status = STATUS_OK;
    char *end;
    errno = 0;
    *value = strtod(text, &end);
    if (errno || end == text || *end)
        FAIL(STATUS_USAGE, "--%s %s: must be a number", name, text);
fail:
    return status;
}

static enum status parse_resize(const char *text, struct pack_options *pack)
{
    enum status status = STATUS_OK;
    long long value;
    pack->resize = !strncmp(text, "short:", 6) ? RESIZE_SHORT : !strncmp(text, "longest:", 8) ? RESIZE_LONGEST : RESIZE_NONE;
    if (pack->resize == RESIZE_NONE)
        FAIL(STATUS_USAGE, "--resize %s: must be short:N or longest:N", text);
    TRY(parse_integer("resize", strchr(text, ':') + 1, 1, 65500, &value));
    pack->resize_to = (int)value;
fail:
    return status;
}

static enum status parse_flag(struct arguments *a, int flag, const char *name, const char *text)
{
    enum status status = STATUS_OK;
    long long value = 0;
    switch (flag) {
    case FLAG_FORCE: a->pack.force = true; break;
    case FLAG_DEEP: a->deep = true; break;
    case FLAG_ROOT: a->root = text; break;
    case FLAG_JSON: a->json = text; break;
    case FLAG_RESIZE: TRY(parse_resize(text, &a->pack)); break;
    case FLAG_NOISE: TRY(parse_number(name, text, &a->synth.noise)); break;
    case FLAG_WORKERS: TRY(parse_integer(name, text, 1, 1024, &value)); a->pack.workers = (int)value; break;
    case FLAG_IMAGES: TRY(parse_integer(name, text, 1, 1LL << 32, &value)); a->synth.images = value; break;
    case FLAG_CLASSES: TRY(parse_integer(name, text, 2, 1000, &value)); a->synth.classes = (int)value; break;
    case FLAG_SIZE: TRY(parse_integer(name, text, 1, 4096, &value)); a->synth.size = (int)value; break;
    case FLAG_SEED: TRY(parse_integer(name, text, 0, LLONG_MAX, &value)); a->synth.seed = (uint64_t)value; break;
    case FLAG_BAD:
        if (strcmp(text, "stop") && strcmp(text, "skip"))
            FAIL(STATUS_USAGE, "--bad %s: must be stop or skip", text);
        a->pack.skip_bad = !strcmp(text, "skip");
        break;
    case FLAG_CODEC:
        if (strcmp(text, "rgbz"))
            FAIL(STATUS_USAGE, "--codec %s: this version writes rgbz", text);
        break;
    }
fail:
    return status;
}

static bool accepts(const struct subcommand *s, int flag)
{
    for (size_t i = 0; i < sizeof s->accepts / sizeof *s->accepts && s->accepts[i]; i++)
        if ((int)s->accepts[i] == flag)
            return true;
    return false;
}

/* argv[0] is the subcommand. */
static enum status parse_arguments(struct arguments *a, int argc, char **argv)
{
    enum status status = STATUS_OK;
    const struct subcommand *s = a->subcommand;
    int index = 0;
    opterr = 0;
    for (int flag; (flag = getopt_long(argc, argv, ":", long_options, &index)) != -1;) {
        if (flag == FLAG_HELP) {
            a->help = true;
            return STATUS_OK;
        }
        if (flag == ':')
            FAIL(STATUS_USAGE, "%s needs a value", argv[optind - 1]);
        if (flag == '?' || !accepts(s, flag))
            FAIL(STATUS_USAGE, "csc-pack %s has no option %s (csc-pack %s --help lists them)", s->name, argv[optind - 1],
                 s->name);
        TRY(parse_flag(a, flag, long_options[index].name, optarg));
    }
    a->operands = argv + optind;
    if (argc - optind != s->operands)
        FAIL(STATUS_USAGE, "usage: csc-pack %s %s [options]; csc-pack %s --help tells more", s->name, s->operand_names,
             s->name);
fail:
    return status;
}

static enum status run(int argc, char **argv)
{
    enum status status = STATUS_OK;
    struct arguments a = {
        .pack = { .workers = affinity_cores() },
        .synth = { .images = 5000, .classes = 10, .size = 32, .noise = 0.1, .seed = 1 },
    };
    if (argc < 2)
        FAIL(STATUS_USAGE, "a subcommand is missing; csc-pack --help lists them");
    if (!strcmp(argv[1], "--version")) {
        printf("csc-pack %s\n", CSC_VERSION);
        return STATUS_OK;
    }
    if (!strcmp(argv[1], "--help")) {
        print_help(NULL);
        return STATUS_OK;
    }
    for (int i = 0; i < SUBCOMMANDS; i++)
        if (!strcmp(argv[1], subcommands[i].name))
            a.subcommand = &subcommands[i];
    if (!a.subcommand)
        FAIL(STATUS_USAGE, "'%s' is not a subcommand; csc-pack --help lists them", argv[1]);
    TRY(parse_arguments(&a, argc - 1, argv + 1));
    if (a.help)
        print_help(a.subcommand);
    else
        TRY(a.subcommand->run(&a));
fail:
    return status;
}

int main(int argc, char **argv)
{
    log_init("csc-pack", 0, 1);
    enum status status = run(argc, argv);
    if (status != STATUS_OK)
        log_failure();
    return (int)status;
}
