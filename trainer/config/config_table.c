/* config_table.c - all keys: their members in struct config, types, defaults, ranges, and whether a resume may change
 * them. */
#include "trainer/config/config_internal.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#define KEY(member)  .name = #member, .offset = offsetof(struct config, member)
#define LIST(member) KEY(member), .count_offset = offsetof(struct config, member##_count)
#define MATHEMATICS  .effect = CONFIG_MATHEMATICS
#define RECIPE       .effect = CONFIG_RECIPE
#define BITS         .effect = CONFIG_BITS
#define PATHNAME     .type = CONFIG_TEXT, .is_path = true
#define CHOICE(...)                                         \
    .type = CONFIG_CHOICE, .choices = (const char *const[]) \
    {                                                       \
        __VA_ARGS__, NULL                                   \
    }
#define INT(from, to)   .type = CONFIG_INT, .min = (from), .max = (to)
#define INT64(from, to) .type = CONFIG_INT64, .min = (from), .max = (to)
#define AT_LEAST(from)  .type = CONFIG_REAL, .low = (from), .high = INFINITY
#define ABOVE(from)     AT_LEAST(from), .low_excluded = true
#define FRACTION        .type = CONFIG_REAL, .low = 0, .high = 1, .high_excluded = true /* [0, 1) */
#define DEFAULT(text)   .default_text = text
#define AUTO            .default_text = "auto", .unset_word = "auto"
#define NONE            .default_text = "none", .unset_word = "none"

const struct config_key config_keys[] = {
    { KEY(run.name), .type = CONFIG_TEXT, AUTO },
    { KEY(run.dir), PATHNAME, AUTO },
    { KEY(run.seed), INT64(0, INT64_MAX), DEFAULT("1"), MATHEMATICS },
    { KEY(run.log_every), INT(1, INT_MAX), DEFAULT("20") },
    { KEY(run.deterministic), .type = CONFIG_BOOL, DEFAULT("false"), MATHEMATICS },

    { KEY(model.arch),
      CHOICE("resnet18", "resnet34", "resnet50", "sdnet18", "sdnet34", "sdnet50", "sdnet18-all", "sdnet34-all",
             "sdnet50-all"),
      MATHEMATICS },
    { KEY(model.classes), INT(2, 1 << 20), AUTO, MATHEMATICS },
    { KEY(model.stem), CHOICE("auto", "cifar", "imagenet"), DEFAULT("auto"), MATHEMATICS },
    { KEY(model.width), INT(4, 4096), DEFAULT("64"), MATHEMATICS },
    { KEY(model.shortcut), .type = CONFIG_BOOL, DEFAULT("true"), MATHEMATICS },
    { LIST(model.layers), .type = CONFIG_TEXTS, AUTO, MATHEMATICS },
    { KEY(model.init_from), PATHNAME, NONE },

    { KEY(csc.steps), INT(1, 1000), DEFAULT("2"), MATHEMATICS },
    { KEY(csc.lambda), AT_LEAST(0), DEFAULT("0.1"), MATHEMATICS },
    { KEY(csc.mu), AT_LEAST(0), DEFAULT("0"), MATHEMATICS },
    { KEY(csc.nonnegative), .type = CONFIG_BOOL, DEFAULT("true"), MATHEMATICS },
    { KEY(csc.step_size), ABOVE(0), AUTO, MATHEMATICS },
    { KEY(csc.power_iterations), INT(1, 1000), DEFAULT("2"), MATHEMATICS },
    { KEY(csc.backward), CHOICE("unrolled", "one-step", "implicit"), DEFAULT("unrolled"), MATHEMATICS },

    { KEY(data.train), PATHNAME },
    { KEY(data.val), PATHNAME, NONE },
    { KEY(data.augment), CHOICE("auto", "none", "cifar", "imagenet"), .first_choice = -1, DEFAULT("auto"), RECIPE },
    { KEY(data.shuffle), CHOICE("false", "true", "window"), DEFAULT("true"), MATHEMATICS },
    { KEY(data.window), INT64(1, (int64_t)1 << 40), DEFAULT("65536"), MATHEMATICS },
    { KEY(data.image_size), INT(4, 8192), AUTO, MATHEMATICS },
    { KEY(data.workers), INT(1, 1024), AUTO },
    { KEY(data.prefetch), INT(1, 1024), DEFAULT("3") },
    { KEY(data.mean), .type = CONFIG_TRIPLE, .high = 1, AUTO, .unset_value = -1, MATHEMATICS },
    { KEY(data.std), .type = CONFIG_TRIPLE, .high = 1, .low_excluded = true, AUTO, .unset_value = -1, MATHEMATICS },
    { KEY(data.bad_sample), CHOICE("stop", "skip"), DEFAULT("stop") },
    { KEY(data.scaled_jpeg), .type = CONFIG_BOOL, DEFAULT("false"), MATHEMATICS },
    { KEY(data.cache), PATHNAME, NONE },
    { KEY(data.cache_gb), AT_LEAST(0), DEFAULT("0") },

    { KEY(train.epochs), INT64(1, 99999999), NONE, RECIPE },
    { KEY(train.steps), INT64(1, 99999999), NONE, RECIPE },
    { KEY(train.batch), INT(1, 1 << 24), MATHEMATICS },
    { KEY(train.micro_batch), INT(1, 1 << 24), AUTO, MATHEMATICS },
    { KEY(train.optimizer), CHOICE("sgd", "lars"), DEFAULT("sgd"), MATHEMATICS },
    { KEY(train.lr), ABOVE(0), DEFAULT("0.1"), RECIPE },
    { KEY(train.momentum), FRACTION, DEFAULT("0.9"), MATHEMATICS },
    { KEY(train.nesterov), .type = CONFIG_BOOL, DEFAULT("false"), MATHEMATICS },
    { KEY(train.weight_decay), AT_LEAST(0), DEFAULT("1e-4"), RECIPE },
    { KEY(train.decay_norm_and_bias), .type = CONFIG_BOOL, DEFAULT("true"), RECIPE },
    { KEY(train.zero_gamma), .type = CONFIG_BOOL, DEFAULT("false"), MATHEMATICS },
    { KEY(train.label_smoothing), FRACTION, DEFAULT("0"), RECIPE },
    { KEY(train.ema), FRACTION, DEFAULT("0"), RECIPE },
    { KEY(train.clip), AT_LEAST(0), DEFAULT("0"), RECIPE },
    { KEY(train.schedule.kind), CHOICE("constant", "step", "cosine", "onecycle"), DEFAULT("cosine"), RECIPE },
    { KEY(train.schedule.warmup_epochs), AT_LEAST(0), AUTO, .unset_value = -1, RECIPE },
    { LIST(train.schedule.milestones), .type = CONFIG_REALS, .high = INFINITY, .low_excluded = true, DEFAULT("[]"),
      RECIPE },
    { KEY(train.schedule.gamma), .type = CONFIG_REAL, .high = 1, .low_excluded = true, DEFAULT("0.1"), RECIPE },
    { KEY(train.schedule.final_lr), AT_LEAST(0), DEFAULT("0"), RECIPE },
    { KEY(train.on_nonfinite), CHOICE("stop", "skip"), DEFAULT("stop") },

    { KEY(eval.every_epochs), INT(0, INT_MAX), DEFAULT("1") },
    { KEY(eval.batch), INT(1, 1 << 24), AUTO },

    { KEY(device.kind), CHOICE("auto", "cpu", "cuda"), DEFAULT("auto"), BITS },
    { KEY(device.precision), CHOICE("auto", "fp32", "tf32", "bf16"), DEFAULT("auto"), MATHEMATICS },
    { KEY(device.threads), INT(1, 1024), AUTO, BITS },

    { KEY(comm.bucket_mb), .type = CONFIG_REAL, .high = 65536, .low_excluded = true, AUTO, BITS },
    { KEY(comm.grad_dtype), CHOICE("fp32", "bf16"), DEFAULT("fp32"), MATHEMATICS },
    { KEY(comm.timeout_s), .type = CONFIG_REAL, .high = 1e7, .low_excluded = true, DEFAULT("600") },

    { KEY(checkpoint.every_steps), INT64(0, 99999999), DEFAULT("0") },
    { KEY(checkpoint.every_epochs), INT(0, INT_MAX), DEFAULT("1") },
    { KEY(checkpoint.every_minutes), AT_LEAST(0), DEFAULT("0") },
    { KEY(checkpoint.keep), INT(1, INT_MAX), DEFAULT("3") },

    { KEY(log.tensorboard), .type = CONFIG_BOOL, DEFAULT("false") },
    { KEY(log.pictures_every_epochs), INT(0, INT_MAX), DEFAULT("0") },
};

_Static_assert(sizeof config_keys / sizeof *config_keys == CONFIG_KEYS, "CONFIG_KEYS counts the rows");

int config_key_find(const char *name)
{
    for (int row = 0; row < CONFIG_KEYS; row++)
        if (strcmp(config_keys[row].name, name) == 0)
            return row;
    return -1;
}

bool config_is_section(const char *name)
{
    size_t length = strlen(name);
    for (int row = 0; row < CONFIG_KEYS; row++)
        if (length && strncmp(config_keys[row].name, name, length) == 0 && config_keys[row].name[length] == '.')
            return true;
    return false;
}

/* The optimal string alignment distance: insertions, deletions, substitutions and swaps of neighbours. */
static int distance(const char *a, const char *b)
{
    enum { MAX_LENGTH = 48 };
    int rows[3][MAX_LENGTH + 1];
    int *before = rows[0], *last = rows[1], *now = rows[2];
    int m = (int)strlen(a), n = (int)strlen(b);
    if (m > MAX_LENGTH || n > MAX_LENGTH)
        return MAX_LENGTH;
    for (int j = 0; j <= n; j++)
        last[j] = j;
    for (int i = 1; i <= m; i++) {
        now[0] = i;
        for (int j = 1; j <= n; j++) {
            int best = last[j - 1] + (a[i - 1] != b[j - 1]);
            if (last[j] + 1 < best)
                best = last[j] + 1;
            if (now[j - 1] + 1 < best)
                best = now[j - 1] + 1;
            if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] && before[j - 2] + 1 < best)
                best = before[j - 2] + 1;
            now[j] = best;
        }
        int *free_row = before;
        before = last;
        last = now;
        now = free_row;
    }
    return last[n];
}

/* The next part of the row's name after `section`. Returns false if the row is not in this section. */
static bool child_of(int row, const char *section, char *out, size_t capacity)
{
    const char *name = config_keys[row].name;
    size_t length = strlen(section);
    if (length) {
        if (strncmp(name, section, length) != 0 || name[length] != '.')
            return false;
        name += length + 1;
    }
    snprintf(out, capacity, "%.*s", (int)strcspn(name, "."), name);
    return true;
}

void config_suggest_key(const char *name, char *out, size_t capacity)
{
    char section[64] = "";
    const char *dot = strrchr(name, '.');
    if (dot)
        snprintf(section, sizeof section, "%.*s", (int)(dot - name), name);
    if (dot && config_is_section(section))
        config_suggest(section, dot + 1, out, capacity);
    else
        config_suggest("", dot ? section : name, out, capacity);
}

void config_suggest(const char *section, const char *leaf, char *out, size_t capacity)
{
    char candidate[64], best[64] = "";
    int limit = 1 + (int)strlen(leaf) / 4, nearest = limit + 1;
    if (nearest > (int)strlen(leaf))
        nearest = (int)strlen(leaf);
    for (int row = 0; row < CONFIG_KEYS; row++) { /* first among the keys of the section */
        if (!child_of(row, section, candidate, sizeof candidate))
            continue;
        int d = distance(leaf, candidate);
        if (d < nearest) {
            nearest = d;
            strcpy(best, candidate);
        }
    }
    for (int row = 0; row < CONFIG_KEYS && !best[0]; row++) { /* then the same name in another section */
        const char *name = config_keys[row].name;
        if (strcmp(strrchr(name, '.') + 1, leaf) == 0)
            snprintf(best, sizeof best, "%s", name);
    }
    out[0] = 0;
    if (best[0])
        snprintf(out, capacity, " (did you mean '%s'?)", best);
}
