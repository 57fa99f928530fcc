/* eval_options.c - parses csc-eval's command line. */
#include <errno.h>
#include <getopt.h>
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

enum {
    DATA = 256,
    JSON,
    LOGITS,
    LIMIT,
    BATCH,
    THREADS,
    DEVICE,
    PRECISION,
    SEED,
    CORRUPTION,
    SUITE,
    FIT,
    LAMBDA,
    LAYERS,
    ATTACK,
    NO_CHECKS,
    HELP,
    VERSION
};
enum { MAX_LAMBDAS = 1000 };

static const struct option options[] = {
    { "data", required_argument, NULL, DATA },
    { "json", required_argument, NULL, JSON },
    { "logits", required_argument, NULL, LOGITS },
    { "limit", required_argument, NULL, LIMIT },
    { "batch", required_argument, NULL, BATCH },
    { "threads", required_argument, NULL, THREADS },
    { "device", required_argument, NULL, DEVICE },
    { "precision", required_argument, NULL, PRECISION },
    { "seed", required_argument, NULL, SEED },
    { "corruption", required_argument, NULL, CORRUPTION },
    { "suite", required_argument, NULL, SUITE },
    { "fit-lambda", no_argument, NULL, FIT },
    { "lambda", required_argument, NULL, LAMBDA },
    { "layers", required_argument, NULL, LAYERS },
    { "attack", required_argument, NULL, ATTACK },
    { "no-checks", no_argument, NULL, NO_CHECKS },
    { "help", no_argument, NULL, HELP },
    { "version", no_argument, NULL, VERSION },
    { 0 },
};

static enum status parse_integer(const char *name, const char *text, long long min, long long *value)
{
    enum status status = STATUS_OK;
    char *rest;
    errno = 0;
    *value = strtoll(text, &rest, 10);
    if (*rest || rest == text || errno || *value < min)
        FAIL(STATUS_USAGE, "--%s=%s: must be an integer of at least %lld", name, text, min);
fail:
    return status;
}

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
static enum status parse_lambda(struct eval_options *a, const char *text)
{
    enum status status = STATUS_OK;
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

static enum status add_corruptions(struct eval_options *a, const char *text)
{
    enum status status = STATUS_OK;
    int kind, severity;
    TRY(corruption_parse(text, &kind, &severity));
    for (int k = 0; k < CORRUPTIONS; k++)
        for (int s = 1; s <= CORRUPT_SEVERITIES; s++)
            if ((kind < 0 || k == kind) && (severity < 0 || s == severity))
                a->corruption[k][s - 1] = a->corrupted = true;
fail:
    return status;
}

static enum status parse_option(struct eval_options *a, int option)
{
    enum status status = STATUS_OK;
    long long number;
    switch (option) {
    case DATA: a->data = optarg; break;
    case JSON: a->json = optarg; break;
    case LOGITS: a->logits = optarg; break;
    case LIMIT:
        TRY(parse_integer("limit", optarg, 1, &number));
        a->limit = number;
        break;
    case BATCH: snprintf(a->batch, sizeof a->batch, "eval.batch=%s", optarg); break;
    case THREADS: snprintf(a->machine.threads, sizeof a->machine.threads, "device.threads=%s", optarg); break;
    case DEVICE: snprintf(a->machine.kind, sizeof a->machine.kind, "device.kind=%s", optarg); break;
    case PRECISION: snprintf(a->machine.precision, sizeof a->machine.precision, "device.precision=%s", optarg); break;
    case SEED:
        TRY(parse_integer("seed", optarg, 0, &number));
        a->seed = (uint64_t)number;
        break;
    case CORRUPTION: TRY(add_corruptions(a, optarg)); break;
    case SUITE: TRY(corrupted_sets_parse(optarg, &a->sets)); break;
    case FIT: a->fit = true; break;
    case LAMBDA: TRY(parse_lambda(a, optarg)); break;
    case LAYERS: a->layers = optarg; break;
    case ATTACK:
        if (a->attacks_count == MAX_ATTACKS)
            FAIL(STATUS_USAGE, "--attack: at most %d attacks are allowed", MAX_ATTACKS);
        TRY(attack_parse(optarg, &a->attacks[a->attacks_count++]));
        break;
    case NO_CHECKS: a->no_checks = true; break;
    default: FAIL(STATUS_BUG, "option %d", option);
    }
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
    int option;
    *a = (struct eval_options){ .seed = 1 };
    a->lambdas = calloc(MAX_LAMBDAS, sizeof *a->lambdas);
    if (!a->lambdas)
        FAIL(STATUS_NOMEM, "out of memory");
    TRY(options_check(argv));
    opterr = 0;
    while ((option = getopt_long(argc, argv, ":", options, NULL)) != -1) {
        if (option == HELP || option == VERSION) {
            fputs(option == HELP ? usage : "csc-eval " CSC_VERSION "\n", stdout);
            *done = true;
            return STATUS_OK;
        }
        if (option == ':')
            FAIL(STATUS_USAGE, "%s needs a value; see csc-eval --help", argv[optind - 1]);
        if (option == '?')
            FAIL(STATUS_USAGE, "unknown option %s; see csc-eval --help", argv[optind - 1]);
        TRY(parse_option(a, option));
    }
    if (optind + 1 != argc)
        FAIL(STATUS_USAGE, "one checkpoint or run directory is needed; see csc-eval --help");
    a->checkpoint = argv[optind];
    TRY(check_combinations(a));
    if (a->lambdas_count == 0)
        TRY(add_lambda(a, (struct lambda_setting){ .mode = LAMBDA_TRAINED }));
fail:
    return status;
}
