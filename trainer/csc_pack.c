/* csc_pack.c - csc-pack builds and checks sharded datasets. This file reads the command line; a table holds the
 * subcommands, the options that each accepts, and their help. */
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/affinity.h"
#include "base/log.h"
#include "base/options.h"
#include "data/format/index.h"
#include "trainer/pack/pack_command.h"

enum { MAX_PARTS = 10000 }; /* of --part K/N */

struct subcommand {
    const char *name, *operand_names;
    int min_operands, max_operands;
    enum status (*run)(const struct pack_arguments *arguments);
    const char *help;
};

#define PACK_OPTIONS                                                                                           \
    "  --codec rgbz|jpeg     store the decoded pixels, losslessly, or the original files, if there are any\n"  \
    "                        (default rgbz); with jpeg, WebP files and shrunk images are stored as JPEGs of\n" \
    "                        quality 90\n"                                                                     \
    "  --workers N           threads that read, decode and compress (default: one per core)\n"                 \
    "  --part K/N            pack only part K of N; csc-pack merge joins the parts\n"                          \
    "  --shard-mb N          begin a new shard after N MiB (default 512)\n"                                    \
    "  --force               replace the dataset in OUT, or what another packing began there\n"                \
    "\nIf packing is interrupted, give the same command again: it continues.\n"
#define IMAGE_OPTIONS                                                                                     \
    "  --classes FILE|DATASET  the classes in label order: a file of one name a line, or a packed\n"      \
    "                        dataset; a class may have no images, an image of another class is refused\n" \
    "  --resize short:N      shrink images to a short side of N pixels; smaller ones stay as they are\n"  \
    "  --resize longest:N    the same with the longest side\n"                                            \
    "  --bad stop|skip       what to do about an image that cannot be read (default stop)\n"              \
    "  --estimate            write nothing; estimate size and cost of each codec from a sample of images\n"

/* clang-format off */
static const struct subcommand subcommands[] = {
    { "cifar10", "SRC OUT", 2, 2, run_cifar,
      "Packs CIFAR-10 into OUT/train and OUT/val. SRC is the folder of its binary files\n"
      "(data_batch_1.bin, ..., test_batch.bin), the folder above cifar-10-batches-bin, or the .tar.gz.\n"
      "If only training or only test files are there, only that dataset is written.\n\n" PACK_OPTIONS },
    { "cifar100", "SRC OUT", 2, 2, run_cifar,
      "Packs CIFAR-100, with its 100 fine labels, into OUT/train and OUT/val. SRC is the folder of\n"
      "its binary files (train.bin, test.bin), the folder above cifar-100-binary, or the .tar.gz.\n\n" PACK_OPTIONS },
    { "imagefolder", "DIR|TAR OUT", 2, 2, run_imagefolder,
      "Packs a folder of class folders of JPEG, PNG and WebP files, or a .tar, .tar.gz or .tar.zst of one,\n"
      "into the dataset OUT. The folders' names, sorted by their bytes, are the classes; files are sorted\n"
      "by class and path. Files that are not named as images are left out. Images are converted to 8-bit\n"
      "RGB like Pillow's convert(\"RGB\"). OUT/report.tsv lists the images that were converted and the files\n"
      "that were left out.\n\n"
      "  --root NAME           use the class folders inside the folder NAME, such as train\n"
      IMAGE_OPTIONS PACK_OPTIONS },
    { "imagenet", "TRAIN.tar [VAL.tar LABELS] OUT", 2, 4, run_imagenet,
      "Packs ImageNet's own archives into OUT/train and OUT/val without unpacking them: TRAIN.tar\n"
      "(ILSVRC2012_img_train.tar) holds a tar for each class; VAL.tar holds the validation images.\n"
      "A line of LABELS is a class such as n01751748, for the images in the order of their file names;\n"
      "or an image's name and its class, as in LOC_val_solution.csv. OUT/train/report.tsv and\n"
      "OUT/val/report.tsv list the images that were converted and the files that were left out.\n\n"
      "  --synsets FILE        needed if LABELS has ILSVRC's ids: lines of an id and a class, as in\n"
      "                        map_clsloc.txt\n"
      IMAGE_OPTIONS PACK_OPTIONS },
    { "synth", "OUT", 1, 1, run_synth,
      "Makes images from convolutional dictionaries, one for each class: N images in OUT/train, N/5 others\n"
      "from the same dictionaries in OUT/val, and the dictionaries themselves in OUT/truth.safetensors.\n\n"
      "  --images N            training images (default 5000)\n"
      "  --classes N           classes, each with 6 atoms of 7x7x3 (default 10)\n"
      "  --size N              side of the images in pixels (default 32)\n"
      "  --noise X             standard deviation of the noise, for pixel values in 0..1 (default 0.1)\n"
      "  --seed N              seed of all random numbers; the same seed makes the same files (default 1)\n"
      PACK_OPTIONS },
    { "merge", "PART... OUT", 2, MAX_PARTS + 1, run_merge,
      "Joins all parts of a packing (--part K/N) into OUT. The result is the dataset that one packing would\n"
      "have written, byte for byte; all parts must come from the same versions of csc-pack and zstd. If the\n"
      "parts hold train and val, so will OUT. Every block's hash is compared. The parts are not changed.\n"
      "If merging is interrupted, give the same command again: it continues.\n\n"
      "  --force               replace the dataset in OUT\n" },
    { "verify", "DIR", 1, 1, run_verify,
      "Compares every hash of a dataset and names damaged blocks and shards. The exit code is 65 if there\n"
      "is damage, and 74 if a shard cannot be opened.\n\n"
      "  --deep                also decode every image\n"
      "  --workers N           threads, each of which checks one shard at a time (default: one per core)\n" },
    { "repair", "DIR", 1, 1, run_repair,
      "Repairs damaged blocks and shards in place.\n\n"
      "  --from DIR2           restore them, byte for byte, from a dataset that holds the same blocks: a copy,\n"
      "                        or the input packed again with the same options, or the part in question\n"
      "  --drop                remove what cannot be restored; the dataset then has another fingerprint\n" },
    { "bench", "DIR", 1, 1, run_bench,
      "Measures with the images of a dataset, for each codec: the size, the time to pack, and the time to\n"
      "decode a random crop; and how fast the dataset is read.\n\n"
      "  --resize short:N|longest:N  shrink the images first\n" },
    { "info", "DIR", 1, 1, run_info,
      "Prints what a dataset holds.\n\n"
      "  --json FILE           write it as JSON to FILE, with all classes (- for standard output)\n" },
};
/* clang-format on */
enum { SUBCOMMANDS = sizeof subcommands / sizeof *subcommands };

static void print_help(void)
{
    log_stdout_is_results();
    printf("Usage: csc-pack SUBCOMMAND ... [options]\n\n"
           "Builds and checks datasets of compressed shards.\n\n");
    for (int i = 0; i < SUBCOMMANDS; i++)
        printf("  csc-pack %s %s\n", subcommands[i].name, subcommands[i].operand_names);
    printf("\n  csc-pack SUBCOMMAND --help describes one; --version prints the version.\n"
           "Exit codes: 0 done, 2 usage, 65 bad data, 71 out of memory, 74 input or output failed.\n");
}

static enum status parse_resize(const char *text, struct pack_options *pack)
{
    enum status status = STATUS_OK;
    int64_t value;
    pack->resize = !strncmp(text, "short:", 6)     ? RESIZE_SHORT
                   : !strncmp(text, "longest:", 8) ? RESIZE_LONGEST
                                                   : RESIZE_NONE;
    if (pack->resize == RESIZE_NONE)
        FAIL(STATUS_USAGE, "--resize %s: must be short:N or longest:N", text);
    TRY(options_integer("resize", strchr(text, ':') + 1, 1, 65500, &value));
    pack->resize_to = (int)value;
fail:
    return status;
}

/* Parses "K/N": part K of N, counted from 1. */
static enum status parse_part(const char *text, struct pack_options *pack)
{
    enum status status = STATUS_OK;
    char *slash, *end;
    long part = strtol(text, &slash, 10), parts = *slash == '/' ? strtol(slash + 1, &end, 10) : 0;
    if (slash == text || *slash != '/' || end == slash + 1 || *end || part < 1 || part > parts || parts > MAX_PARTS)
        FAIL(STATUS_USAGE, "--part %s: must be K/N with 1 <= K <= N <= %d", text, MAX_PARTS);
    pack->part = (int)part;
    pack->parts = (int)parts;
fail:
    return status;
}

static enum status set_resize(void *context, const char *text)
{
    struct pack_arguments *a = context;
    a->resize = text;
    return parse_resize(text, &a->pack);
}

static enum status set_part(void *context, const char *text)
{
    return parse_part(text, &((struct pack_arguments *)context)->pack);
}

static enum status set_codec(void *context, const char *text)
{
    enum status status = STATUS_OK;
    if (!codec_parse(text, &((struct pack_arguments *)context)->pack.codec))
        FAIL(STATUS_USAGE, "--codec %s: must be rgbz or jpeg", text);
fail:
    return status;
}

/* Parses options and operands; argv[0] is the subcommand. */
static enum status parse_arguments(struct pack_arguments *a, const struct subcommand *s, int argc, char **argv,
                                   bool *done)
{
    enum status status = STATUS_OK;
    static const char *const reactions[] = { "stop", "skip", NULL };
    bool synth = s->run == run_synth; /* it takes the number of classes, the others a list of them */
    int first, bad = 0, shard_mb = 0;
    char command[32], *help = NULL;
    const struct option_row rows[] = {
        { "force", .on = &a->pack.force },
        { "workers", .integer = &a->pack.workers, .low = 1, .high = 1024 },
        { "bad", .choice = &bad, .names = reactions },
        { "resize", .parse = set_resize },
        { "root", .text = &a->root },
        { "images", .integer64 = &a->synth.images, .low = 1, .high = 0x1p32 },
        { "classes", .text = synth ? NULL : &a->classes, .integer = synth ? &a->synth.classes : NULL, .low = 2,
          .high = SYNTH_MAX_CLASSES },
        { "size", .integer = &a->synth.size, .low = 1, .high = SYNTH_MAX_SIZE },
        { "noise", .number = &a->synth.noise, .low = 0, .high = 10 },
        { "seed", .integer64 = (int64_t *)&a->synth.seed, .low = 0, .high = 0x1p63 },
        { "deep", .on = &a->deep },
        { "json", .text = &a->json },
        { "codec", .parse = set_codec },
        { "part", .parse = set_part },
        { "shard-mb", .integer = &shard_mb, .low = 1, .high = 1 << 20 },
        { "synsets", .text = &a->synsets },
        { "estimate", .on = &a->estimate },
        { "from", .text = &a->from },
        { "drop", .on = &a->drop },
        { .name = NULL },
    };
    snprintf(command, sizeof command, "csc-pack %s", s->name);
    if (asprintf(&help, "Usage: %s %s [options]\n\n%s  --help                this text\n", command, s->operand_names,
                 s->help) < 0) {
        help = NULL;
        FAIL(STATUS_NOMEM, "out of memory");
    }
    TRY(options_parse(rows, a, argc, argv, command, help, &first, done));
    if (*done)
        log_stdout_is_results();
    a->pack.skip_bad = bad;
    a->pack.shard_bytes = (uint64_t)shard_mb << 20;
    a->name = s->name;
    a->operands = argv + first;
    a->operand_count = argc - first;
    if (!*done && (a->operand_count < s->min_operands || a->operand_count > s->max_operands))
        FAIL(STATUS_USAGE, "usage: csc-pack %s %s [options]; see csc-pack %s --help", s->name, s->operand_names,
             s->name);
fail:
    free(help);
    return status;
}

static enum status run(int argc, char **argv)
{
    enum status status = STATUS_OK;
    struct pack_arguments a = {
        .pack = { .workers = affinity_cores() },
        .synth = { .images = 5000, .classes = 10, .size = 32, .noise = 0.1, .seed = 1 },
    };
    const struct subcommand *subcommand = NULL;
    bool done = false;
    TRY(options_check(argv));
    if (argc < 2)
        FAIL(STATUS_USAGE, "a subcommand is missing; csc-pack --help lists them");
    if (!strcmp(argv[1], "--version")) {
        log_stdout_is_results();
        printf("csc-pack %s\n", CSC_VERSION);
        return STATUS_OK;
    }
    if (!strcmp(argv[1], "--help")) {
        print_help();
        return STATUS_OK;
    }
    for (int i = 0; i < SUBCOMMANDS; i++)
        if (!strcmp(argv[1], subcommands[i].name))
            subcommand = &subcommands[i];
    if (!subcommand)
        FAIL(STATUS_USAGE, "'%s' is not a subcommand; csc-pack --help lists them", argv[1]);
    TRY(parse_arguments(&a, subcommand, argc - 1, argv + 1, &done));
    if (!done)
        TRY(subcommand->run(&a));
fail:
    return status;
}

int main(int argc, char **argv)
{
    log_init("csc-pack", 0, 1);
    enum status status = log_finish(run(argc, argv));
    if (status != STATUS_OK)
        log_failure();
    return (int)status;
}
