/* check_ops.c - every operation of a backend against the plain one, on random odd shapes; or timed.
 * Operands carry guard words; inputs must stay as they were; draws with small dyadic values must agree to
 * the bit, so that thresholds and ties are met exactly. All kernel sets of the CPU are run, at several
 * numbers of threads. A run is repeated by its seed. */
#include <assert.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdarg.h>
#include <string.h>

#include "base/clock.h"
#include "layers/backend/cpu/cpu.h"
#include "layers/backend/device.h"
#include "layers/backend/element.h"
#include "tests/check.h"
#include "tests/gpu_emulation/emulated.h"
#include "tests/layers/backend/ops.h"

enum { GUARD = 16 };          /* words, one line of cache */
#define GUARD_WORD 0x7fedface /* as a float, a NaN */

enum { ANY_PRECISION = -1 };

struct options {
    uint64_t seed;
    int rounds, max_draws, threads; /* max_draws: of an operation; 0: all */
    bool bench;
    int precision;      /* of a bench; of a device's checks if not -1 */
    const char *device; /* NULL: the CPU's, with each of its kernel sets */
    char **names;       /* of the operations; NULL: all */
};

static void must(enum status status)
{
    if (status == STATUS_OK)
        return;
    fprintf(stderr, "%s\n", status_message());
    exit(status);
}

/* ---- random numbers ---- */

int random_in(struct task *task, int low, int high)
{
    return low + (int)philox_below(task->random, (uint32_t)(high - low + 1));
}

bool random_bool(struct task *task)
{
    return philox_u32(task->random) & 1;
}

float random_value(struct task *task)
{
    if (task->exact)
        return (float)random_in(task, -16, 16) / 8;
    if (task->timed)
        return (float)philox_u32(task->random) * 0x1p-31f - 1;
    return (float)philox_normal(task->random);
}

float random_factor(struct task *task)
{
    static const float powers[] = { 0.5f, 1, 2, -1, -0.5f };
    return task->exact ? PICK(task, powers) : (float)(0.25 + 1.75 * philox_uniform(task->random));
}

/* ---- operands ---- */

static enum precision precision_of(const struct task *task)
{
    return task->device[TESTED]->precision;
}

static size_t bytes_of(const struct task *task, const struct operand *o)
{
    return o->count * (o->kind == ACTIVATIONS ? precision_bytes(precision_of(task)) : sizeof(float));
}

static size_t words_of(const struct task *task, const struct operand *o)
{
    return (bytes_of(task, o) + sizeof(uint32_t) - 1) / sizeof(uint32_t);
}

void *task_data(const struct task *task, int operand, int side)
{
    return (uint32_t *)task->operand[operand].arena[side].memory + GUARD;
}

int first_side(const struct task *task)
{
    return task->timed ? TESTED : REF;
}

/* Memory for `count` words between guards. It starts with `filled` bytes of host; the rest is guard words, too. */
static struct arena guarded(struct device *device, const void *host, size_t filled, size_t count)
{
    struct arena arena = { 0 };
    size_t bytes = (count + 2 * GUARD) * sizeof(uint32_t);
    uint32_t *words = malloc(bytes);
    for (size_t i = 0; i < count + 2 * GUARD; i++)
        words[i] = GUARD_WORD;
    if (filled)
        memcpy(words + GUARD, host, filled);
    arena_take(&arena, bytes);
    must(device->ops->arena_allocate(device, &arena));
    device->ops->copy_in(device, arena.memory, words, bytes);
    free(words);
    return arena;
}

void *task_memory(struct task *task, const char *name, int side, size_t bytes)
{
    assert(task->hiddens < MAX_HIDDEN);
    struct hidden *h = &task->hidden[task->hiddens++];
    size_t words = (bytes + sizeof(uint32_t) - 1) / sizeof(uint32_t);
    *h = (struct hidden){ name, side, words * sizeof(uint32_t), guarded(task->device[side], NULL, 0, words) };
    return (uint32_t *)h->arena.memory + GUARD;
}

void task_device_scalars(struct task *task, int draw, const float *factors, int count)
{
    struct device *device = task->device[TESTED];
    if (!device->ops->step_scalars || task->timed || draw / 2 % 2 == 0)
        return;
    float *there = task_memory(task, "factors", TESTED, count * sizeof *factors);
    device->ops->copy_in(device, there, factors, count * sizeof *factors);
    task->device_scalars = there;
    task_say(task, ", factors on the device");
}

int task_operand(struct task *task, const char *name, const void *host, size_t count, bool written,
                 enum operand_kind kind)
{
    assert(task->operands < MAX_OPERANDS);
    struct operand *o = &task->operand[task->operands];
    *o = (struct operand){ .name = name, .count = count, .written = written, .kind = kind };
    o->host = malloc(count * sizeof(float) + 1);
    if (kind == ACTIVATIONS)
        for (size_t i = 0; i < count; i++)
            element_store(precision_of(task), o->host, i, ((const float *)host)[i]);
    else
        memcpy(o->host, host, count * sizeof(float));
    for (int side = first_side(task); side < SIDES; side++)
        o->arena[side] = guarded(task->device[side], o->host, bytes_of(task, o), words_of(task, o));
    return task->operands++;
}

static int random_operand(struct task *task, const char *name, size_t count, bool written, enum operand_kind kind)
{
    float *host = malloc(count * sizeof *host + sizeof *host);
    for (size_t i = 0; i < count; i++)
        host[i] = random_value(task);
    int index = task_operand(task, name, host, count, written, kind);
    free(host);
    return index;
}

int task_input(struct task *task, const char *name, size_t count)
{
    return random_operand(task, name, count, false, FLOATS);
}

int task_output(struct task *task, const char *name, size_t count)
{
    return random_operand(task, name, count, true, FLOATS);
}

int task_activations(struct task *task, const char *name, size_t count)
{
    return random_operand(task, name, count, false, ACTIVATIONS);
}

int task_result(struct task *task, const char *name, size_t count)
{
    return random_operand(task, name, count, true, ACTIVATIONS);
}

void task_say(struct task *task, const char *format, ...)
{
    size_t used = strlen(task->what);
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(task->what + used, sizeof task->what - used, format, arguments);
    va_end(arguments);
}

/* ---- comparison ---- */

/* What `arena` of one side holds between its guards, which are verified; the caller frees it. */
static uint32_t *fetch(const struct task *task, const char *name, int side, const struct arena *arena, size_t count)
{
    size_t words = count + 2 * GUARD;
    uint32_t *all = malloc(words * sizeof *all);
    int bad = 0;
    task->device[side]->ops->copy_out(task->device[side], all, arena->memory, words * sizeof *all);
    for (int i = 0; i < GUARD; i++)
        bad += (all[i] != GUARD_WORD) + (all[words - 1 - i] != GUARD_WORD);
    CHECK(bad == 0, "%s %s: %d guard words round %s overwritten (%s)", task->op->name, task->what, bad, name,
          side == REF ? "ref" : "tested");
    memmove(all, all + GUARD, count * sizeof *all);
    return all;
}

static void compare_whole(const struct task *task, const struct operand *o, const int32_t *a, const int32_t *b)
{
    size_t differ = 0;
    for (size_t i = 0; i < o->count; i++)
        differ += a[i] != b[i];
    CHECK(differ == 0, "%s %s: %zu of %zu whole numbers of %s differ", task->op->name, task->what, differ, o->count,
          o->name);
}

/* A GPU rounds to bf16 a weight gradient before it is added, and before the epilogue results for images whose channels
 * are folded, or that its libraries have in bf16 only. */
static bool rounds_between(const struct task *task)
{
    bool rounds = task->terms > 0 || (strcmp(task->op->name, "conv_adjoint") == 0 && task->conv_shape.c % 8 != 0);
    return task->conv[TESTED] && task->conv[TESTED]->precision == PRECISION_BF16 && task->device[TESTED]->ops->stream &&
           (rounds || !task->emulated);
}

/* As a GPU's classifier is too where the network need not be exact. */
static bool in_tf32(const struct task *task)
{
    bool classifier = strncmp(task->op->name, "linear_", 7) == 0;
    if (classifier)
        return task->device[TESTED]->ops->stream && !task->emulated && precision_of(task) != PRECISION_FP32;
    return task->conv[TESTED] && task->conv[TESTED]->precision == PRECISION_TF32;
}

/* Of the worst element. In tf32 the operands of a convolution are rounded to 11 bits: 4e-4 of a product's size, and the
 * worst of thousands is ten times that; in bf16 to 8 bits. */
static double tolerance_of(const struct task *task)
{
    double tolerance = task->op->tolerance + (precision_of(task) == PRECISION_BF16 ? task->op->roundings : 0);
    if (rounds_between(task))
        return tolerance + 0.06;
    if (in_tf32(task))
        tolerance += 8e-3;
    return task->exact ? 0 : tolerance * (task->slack > 0 ? task->slack : 1);
}

/* Of the error's root mean square over enough elements to be one. */
static double mean_tolerance_of(const struct task *task, const struct operand *o)
{
    return o->count < 64 ? INFINITY : rounds_between(task) ? 1e-2 : in_tf32(task) ? 1e-3 : INFINITY;
}

/* A bf16 result may fall to the other side of a rounding: so one unit in the last place is allowed. */
static void compare_real(const struct task *task, const struct operand *o, const void *a, const void *b, double *worst)
{
    enum precision precision = o->kind == ACTIVATIONS ? precision_of(task) : PRECISION_FP32;
    bool rounded = precision == PRECISION_BF16 && !task->exact;
    double squares = 0, largest = 0, errors = 0;
    size_t at = 0;
    for (size_t i = 0; i < o->count; i++) {
        double x = element_load(precision, a, i), difference = fabs(x - element_load(precision, b, i));
        squares += x * x;
        errors += difference * difference;
        if (rounded && difference <= 0x1p-7 * fabs(x))
            difference = 0;
        if (!(difference <= largest)) {
            largest = difference;
            at = i;
        }
    }
    double scale = fmax(sqrt(squares / (o->count ? (double)o->count : 1)), o->scale);
    double error = largest == 0 ? 0 : largest / scale; /* a NaN stays a NaN */
    double tolerance = tolerance_of(task);
    CHECK(error <= tolerance, "%s %s: %s[%zu] is %.9g, should be %.9g: %.2g of the root mean square, at most %.2g%s",
          task->op->name, task->what, o->name, at, element_load(precision, b, at), element_load(precision, a, at),
          error, tolerance, task->exact ? " (exact draw)" : "");
    double mean = errors == 0 ? 0 : sqrt(errors / (double)o->count) / scale;
    CHECK(mean <= mean_tolerance_of(task, o), "%s %s: %s is off by %.2g on average, at most %.2g", task->op->name,
          task->what, o->name, mean, mean_tolerance_of(task, o));
    if (error > *worst)
        *worst = error;
}

static void compare(struct task *task, double *worst)
{
    for (int i = 0; i < task->operands; i++) {
        struct operand *o = &task->operand[i];
        size_t bytes = bytes_of(task, o);
        uint32_t *a = fetch(task, o->name, REF, &o->arena[REF], words_of(task, o));
        uint32_t *b = fetch(task, o->name, TESTED, &o->arena[TESTED], words_of(task, o));
        if (!o->written)
            CHECK(!memcmp(a, o->host, bytes) && !memcmp(b, o->host, bytes), "%s %s: input %s was changed",
                  task->op->name, task->what, o->name);
        else if (o->kind == INT32)
            compare_whole(task, o, (int32_t *)a, (int32_t *)b);
        else
            compare_real(task, o, a, b, worst);
        if (bytes % sizeof *a) /* half a word of guard behind an odd number of bf16 */
            CHECK(a[bytes / sizeof *a] >> 16 == GUARD_WORD >> 16 && b[bytes / sizeof *b] >> 16 == GUARD_WORD >> 16,
                  "%s %s: the element behind %s was overwritten", task->op->name, task->what, o->name);
        free(a);
        free(b);
    }
    for (int i = 0; i < task->hiddens; i++) {
        const struct hidden *h = &task->hidden[i];
        free(fetch(task, h->name, h->side, &h->arena, h->bytes / sizeof(uint32_t)));
    }
    CHECK(fabs(task->result[REF] - task->result[TESTED]) <= task->op->tolerance * fabs(task->result[REF]),
          "%s %s: %.17g, should be %.17g", task->op->name, task->what, task->result[TESTED], task->result[REF]);
}

static void finish(struct task *task)
{
    for (int i = 0; i < task->operands; i++)
        free(task->operand[i].host);
    for (int i = 0; i < task->hiddens; i++)
        task->device[task->hidden[i].side]->ops->arena_finish(task->device[task->hidden[i].side],
                                                              &task->hidden[i].arena);
    for (int side = first_side(task); side < SIDES; side++) {
        struct device *device = task->device[side];
        if (task->conv[side])
            device->ops->conv_destroy(task->conv[side]);
        for (int i = 0; i < task->operands; i++)
            device->ops->arena_finish(device, &task->operand[i].arena[side]);
    }
}

/* ---- checking and timing ---- */

static void check_op(const struct op *op, struct device *ref, struct device *tested, const struct options *options)
{
    double worst = 0, tolerance = 0;
    int runs = 0;
    int draws = op->draws * options->rounds;
    draws = options->max_draws > 0 && options->max_draws < draws ? options->max_draws : draws;
    for (int draw = 0; draw < draws; draw++)
        for (int exact = 0; exact <= op->exact; exact++) {
            struct philox random;
            struct task task = { .op = op,
                                 .device = { ref, tested },
                                 .random = &random,
                                 .exact = exact,
                                 .emulated = options->device && strcmp(options->device, "emulated") == 0 };
            philox_init(&random, options->seed, 0x7e570000u + exact, (uint64_t)draw);
            if (op->plan(&task, draw, NULL)) {
                op->run(&task, REF);
                op->run(&task, TESTED);
                compare(&task, &worst);
                tolerance = fmax(tolerance, tolerance_of(&task));
                runs++;
            }
            CHECK(!task.failure[0], "%s %s: %s", op->name, task.what, task.failure);
            finish(&task);
        }
    printf("  %-18s %4d runs, worst error %.2g of %.2g\n", op->name, runs, worst, tolerance);
    CHECK(runs > 0, "%s: no draw was run", op->name);
}

/* Times at least 5 runs in at least half a second; prints the fastest. */
static void time_op(const struct op *op, struct device *device, const struct options *options)
{
    for (int i = 0; i < 7 && op->bench[i][0]; i++) {
        struct philox random;
        struct task task = { .op = op, .device = { NULL, device }, .random = &random, .timed = true };
        double fastest = INFINITY, start = clock_seconds();
        philox_init(&random, options->seed, 0x7e570000u, 0);
        check_total++;
        if (!op->plan(&task, 0, op->bench[i]))
            CHECK(false, "%s: not planned", op->name);
        op->run(&task, TESTED);
        for (int run = 0; run < 5 || clock_seconds() - start < 0.5; run++) {
            double before = clock_seconds();
            op->run(&task, TESTED);
            fastest = fmin(fastest, clock_seconds() - before);
        }
        printf("  %-18s %-60s %9.3f ms %8.1f GFLOP/s %7.1f GB/s\n", op->name, task.what, 1e3 * fastest,
               1e-9 * task.work / fastest, 1e-9 * task.traffic / fastest);
        finish(&task);
    }
}

static bool wanted(const struct op *op, const struct options *options)
{
    bool any = false;
    for (char **name = options->names; name && *name; name++)
        any |= !strcmp(*name, op->name);
    return any || !options->names || !*options->names;
}

static void all_ops(struct device *ref, struct device *tested, const struct options *options)
{
    const struct op *families[] = { conv_ops, norm_ops, small_ops,
                                    tested->ops->norm_max_forward ? norm_max_ops : NULL };
    for (int f = 0; f < 4 && families[f]; f++)
        for (const struct op *op = families[f]; op->name; op++)
            if (wanted(op, options) && options->bench)
                time_op(op, tested, options);
            else if (wanted(op, options))
                check_op(op, ref, tested, options);
}

static const char usage[] =
    "check_ops [options] [OPERATION...]: the CPU backend against the plain one\n"
    "  --seed=N      of the random shapes and values (default 1)\n"
    "  --rounds=N    times as many draws (default 1)\n"
    "  --most=N      draws of an operation (default all): for devices that take long to plan a shape\n"
    "  --threads=N   default: 1, 2 and 3 in turn; with --bench 2\n"
    "  --bench       time instead of check\n"
    "  --bf16        with --bench: in bf16 (checks are in both precisions)\n"
    "  --device=NAME instead of the CPU: cuda, or emulated (its kernels on the host)\n"
    "  --precision=NAME  of a device: fp32, tf32 or bf16 alone\n";

/* Another device in each precision against the plain backend of that precision. */
static void run_device(const struct options *options)
{
    static const enum precision precisions[] = { PRECISION_FP32, PRECISION_TF32, PRECISION_BF16 };
    unsetenv("XDG_CACHE_HOME"); /* plans that are measured for these shapes are kept nowhere */
    unsetenv("HOME");
    for (int run = 0; run < (options->bench ? 1 : 3); run++) {
        enum precision precision = options->bench ? (enum precision)options->precision : precisions[run];
        if (!options->bench && options->precision != ANY_PRECISION && precision != (enum precision)options->precision)
            continue;
        if (precision == PRECISION_TF32 && strcmp(options->device, "emulated") == 0)
            continue; /* its convolutions have none */
        struct device *ref = NULL, *tested = NULL;
        must(device_open(&ref, "ref", precision == PRECISION_BF16 ? precision : PRECISION_FP32, 1));
        must(any_device_open(&tested, options->device, precision, 1));
        printf("%s, %s\n", tested->ops->name, precision_name(precision));
        all_ops(ref, tested, options);
        device_close(tested);
        device_close(ref);
    }
}

/* Each set of kernels in each precision against the plain backend of that precision. */
static void run_all(const struct options *options)
{
    const struct kernels *sets[CPU_KERNEL_SETS];
    if (options->device) {
        run_device(options);
        return;
    }
    int kernels = options->bench ? (cpu_kernel_sets(sets), 1) : cpu_kernel_sets(sets);
    for (int run = 0; run < (options->bench ? 1 : 2 * kernels); run++) {
        const struct kernels *set = sets[run / 2];
        enum precision precision = options->bench ? (enum precision)options->precision
                                   : run % 2      ? PRECISION_BF16
                                                  : PRECISION_FP32;
        int threads = options->threads ? options->threads : options->bench ? 2 : (run / 2 + 1) % 3 + 1;
        struct device *ref = NULL, *tested = NULL;
        must(device_open(&ref, "ref", precision, 1));
        must(cpu_open_with(&tested, precision, threads, set));
        printf("%s, %s, kernels %s, %d threads\n", tested->ops->name, precision_name(precision), set->name, threads);
        all_ops(ref, tested, options);
        device_close(tested);
        device_close(ref);
    }
}

static int precision_named(const char *name)
{
    for (int p = PRECISION_FP32; p <= PRECISION_BF16; p++)
        if (strcmp(name, precision_name(p)) == 0)
            return p;
    return ANY_PRECISION;
}

int main(int count, char **arguments)
{
    static const struct option longs[] = {
        { "seed", required_argument, NULL, 's' },   { "rounds", required_argument, NULL, 'r' },
        { "most", required_argument, NULL, 'm' },   { "threads", required_argument, NULL, 't' },
        { "bench", no_argument, NULL, 'b' },        { "bf16", no_argument, NULL, 'B' },
        { "device", required_argument, NULL, 'd' }, { "precision", required_argument, NULL, 'p' },
        { "help", no_argument, NULL, 'h' },         { 0 }
    };
    struct options options = { .seed = 1, .rounds = 1, .precision = ANY_PRECISION };
    for (int o; (o = getopt_long(count, arguments, "", longs, NULL)) != -1;)
        if (o == 's')
            options.seed = strtoull(optarg, NULL, 0);
        else if (o == 'r')
            options.rounds = atoi(optarg);
        else if (o == 'm')
            options.max_draws = atoi(optarg);
        else if (o == 't')
            options.threads = atoi(optarg);
        else if (o == 'b')
            options.bench = true;
        else if (o == 'd')
            options.device = optarg;
        else if (o == 'B')
            options.precision = PRECISION_BF16;
        else if (o == 'p' && precision_named(optarg) != ANY_PRECISION)
            options.precision = precision_named(optarg);
        else {
            fputs(usage, o == 'h' ? stdout : stderr);
            return o == 'h' ? 0 : 2;
        }
    options.names = arguments + optind;
    if (options.bench && options.precision == ANY_PRECISION)
        options.precision = PRECISION_FP32;
    if (options.device && any_device_missing(options.device))
        return check_skip(any_device_missing(options.device));
    printf("seed %" PRIu64 "\n", options.seed);
    run_all(&options);
    return check_done("ops");
}
