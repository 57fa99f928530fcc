/* eval_options.c - parses csc-eval's command line. */
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/options.h"
#include "trainer/eval/eval.h"

static const char usage[] =
    "usage: csc-eval CHECKPOINT|RUN --data DIR [options]\n"
    "\n"
    "Evaluates a checkpoint, or the best checkpoint of a run, on every image of the dataset DIR: accuracy with\n"
    "its 95% interval, accuracy per class, confusion matrix and calibration. Runs alone or under mpirun, with the\n"
    "same results.\n"
    "\n"
    "options:\n"
    "  --data DIR        a dataset made by csc-pack, or the folder of a --suite (required)\n"
    "  --json FILE       write the results as JSON (- for standard output)\n"
    "  --logits FILE     write the logits as safetensors: 'logits' (images, classes) and 'labels', in data order\n"
    "  --limit N         evaluate only the first N images\n"
    "  --batch N         images in a batch (default: the run's eval.batch)\n"
    "  --threads N       threads per rank (default: the cores this process may use)\n"
    "  --device cpu|cuda|auto   where to compute; auto (default) is a GPU if there is one\n"
    "  --precision fp32|tf32|bf16   default fp32, on a GPU too; tf32 needs a GPU; bf16 excludes an adaptive lambda\n"
    "  --seed N          seed of corruptions and attacks (default: 1)\n"
    "\n"
    "noise and blur:\n"
    "  --corruption NAME:SEVERITY   also evaluate corrupted images; severities are 1 to 5; 'all' stands for every\n"
    "                    name or severity. May be repeated. Names: gaussian_noise shot_noise impulse_noise\n"
    "                    speckle_noise gaussian_blur defocus_blur brightness contrast saturate pixelate\n"
    "                    jpeg_compression\n"
    "  --suite cifar10-c|imagenet-c   DIR has CIFAR-10-C's .npy files, or ImageNet-C's folders NAME/SEVERITY/CLASS\n"
    "\n"
    "lambda:\n"
    "  --fit-lambda      fit the rule for an adaptive lambda on DIR, which has training images, and write it to\n"
    "                    CHECKPOINT.lambda.json\n"
    "  --lambda VALUE|FROM:TO:COUNT|adaptive   use this lambda instead of the training lambda. May be repeated\n"
    "  --layers LIST     CSC-layers whose lambda changes: names separated by commas, 'first' (default) or 'all'\n"
    "\n"
    "attacks, in pixel space, on the first N images of --limit:\n"
    "  --attack SPEC     KIND[:KEY=VALUE,...]. May be repeated. Kinds: pgd apgd-ce apgd-t square. Keys:\n"
    "                    norm=linf|l2, eps, steps, step, restarts, loss=ce|margin (pgd), queries (square),\n"
    "                    held=yes (gradients treat lambda(x) as a constant). eps and step may be fractions: 8/255.\n"
    "                    The default is pgd:norm=linf,eps=8/255,steps=20,step=2/255\n"
    "  --no-checks       skip the checks for masked gradients\n"
    "\n"
    "  --help, --version\n"
    "\n"
    "exit codes: 0 done; 2 usage; 65 bad data; 69 the GPU was lost; 71 out of memory; 74 I/O\n";

enum { MAX_LAMBDAS = 1000 };

static enum status add_lambda(struct eval_options *a, struct lambda_setting setting)
{
    enum status status = STATUS_OK;
    if (a->lambdas_count == MAX_LAMBDAS)
        FAIL(STATUS_USAGE, "--lambda: at most %d settings are allowed", MAX_LAMBDAS);
    a->lambdas[a->lambdas_count++] = setting;
fail:
    return status;
}

static bool parse_lambda_value(const char **text, double *value)
{
    char *rest;
    *value = strtod(*text, &rest);
    bool good = rest != *text && *value >= 0 && *value < 1e6;
    *text = rest;
    return good;
}

/* Parses VALUE, FROM:TO:COUNT or adaptive. */
static enum status parse_lambda(void *context, const char *text)
{
    enum status status = STATUS_OK;
    struct eval_options *a = context;
    const char *at = text;
    char *rest = "";
    double from, to;
    long count = 1;
    if (strcmp(text, "adaptive") == 0)
        return add_lambda(a, (struct lambda_setting){ .mode = LAMBDA_ADAPTIVE });
    bool good = parse_lambda_value(&at, &from);
    to = from;
    if (good && *at == ':') {
        at++;
        good = parse_lambda_value(&at, &to) && *at == ':';
        count = good ? strtol(at + 1, &rest, 10) : 0;
        good = good && rest != at + 1 && !*rest && count >= 2 && count <= MAX_LAMBDAS;
    } else {
        good = good && !*at;
    }
    if (!good)
        FAIL(STATUS_USAGE,
             "--lambda=%s: must be a VALUE of at least 0, FROM:TO:COUNT with COUNT from 2 to %d, or adaptive", text,
             MAX_LAMBDAS);
    for (long i = 0; i < count; i++) {
        double value = count > 1 ? from + (to - from) * (double)i / (double)(count - 1) : from;
        TRY(add_lambda(a, (struct lambda_setting){ .mode = LAMBDA_FIXED, .value = value }));
    }
fail:
    return status;
}

static enum status add_corruptions(void *context, const char *text)
{
    enum status status = STATUS_OK;
    struct eval_options *a = context;
    int kind, severity;
    TRY(corruption_parse(text, &kind, &severity));
    for (int k = 0; k < CORRUPTIONS; k++)
        for (int s = 1; s <= CORRUPT_SEVERITIES; s++)
            if ((kind < 0 || k == kind) && (severity < 0 || s == severity))
                a->corruption[k][s - 1] = a->corrupted = true;
fail:
    return status;
}

static enum status parse_sets(void *context, const char *text)
{
    return corrupted_sets_parse(text, &((struct eval_options *)context)->sets);
}

static enum status add_attack(void *context, const char *text)
{
    enum status status = STATUS_OK;
    struct eval_options *a = context;
    if (a->attacks_count == MAX_ATTACKS)
        FAIL(STATUS_USAGE, "--attack: at most %d attacks are allowed", MAX_ATTACKS);
    TRY(attack_parse(text, &a->attacks[a->attacks_count++]));
fail:
    return status;
}

static enum status check_combinations(const struct eval_options *a)
{
    enum status status = STATUS_OK;
    if (!a->data)
        FAIL(STATUS_USAGE, "--data is needed: a dataset made by csc-pack, or the folder of a --suite");
    if (a->sets && (a->corrupted || a->attacks_count || a->fit || a->logits))
        FAIL(STATUS_USAGE, "--suite cannot be combined with --corruption, --attack, --fit-lambda or --logits");
    if (a->fit && (a->corrupted || a->attacks_count || a->lambdas_count || a->logits))
        FAIL(STATUS_USAGE, "--fit-lambda cannot be combined with --corruption, --attack, --lambda or --logits");
fail:
    return status;
}

enum status eval_parse_options(int argc, char **argv, struct eval_options *a, bool *done)
{
    enum status status = STATUS_OK;
    int first;
    *a = (struct eval_options){ .seed = 1 };
    const struct option_row rows[] = {
        { "data", .text = &a->data },
        { "json", .text = &a->json },
        { "logits", .text = &a->logits },
        { "limit", .integer64 = &a->limit, .low = 1, .high = 0x1p63 },
        { "batch", .setting = a->batch, .key = "eval.batch" },
        { "threads", .setting = a->machine.threads, .key = "device.threads" },
        { "device", .setting = a->machine.kind, .key = "device.kind" },
        { "precision", .setting = a->machine.precision, .key = "device.precision" },
        { "seed", .integer64 = (int64_t *)&a->seed, .low = 0, .high = 0x1p63 },
        { "corruption", .parse = add_corruptions },
        { "suite", .parse = parse_sets },
        { "fit-lambda", .on = &a->fit },
        { "lambda", .parse = parse_lambda },
        { "layers", .text = &a->layers },
        { "attack", .parse = add_attack },
        { "no-checks", .on = &a->no_checks },
        { .name = NULL },
    };
    a->lambdas = calloc(MAX_LAMBDAS, sizeof *a->lambdas);
    if (!a->lambdas)
        FAIL(STATUS_NOMEM, "out of memory");
    TRY(options_check(argv));
    TRY(options_parse(rows, a, argc, argv, "csc-eval", usage, &first, done));
    if (*done)
        return STATUS_OK;
    if (first + 1 != argc)
        FAIL(STATUS_USAGE, "one checkpoint or run directory is needed; see csc-eval --help");
    a->checkpoint = argv[first];
    TRY(check_combinations(a));
    if (a->lambdas_count == 0)
        TRY(add_lambda(a, (struct lambda_setting){ .mode = LAMBDA_TRAINED }));
fail:
    return status;
}
