/* config.c - finds and loads a configuration: first the file, then overrides, then checks across keys. */
#include "trainer/config/config.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/options.h"
#include "trainer/config/config_internal.h"

#ifndef CSC_CONFIG_DIR_INSTALLED
#define CSC_CONFIG_DIR_INSTALLED "/usr/local/share/csc-train/configs"
#endif

enum { MAX_BYTES = 256 * 1024 };

const char *config_location(const struct config_source *source, int line, int column, char out[CONFIG_LOCATION])
{
    if (source->override)
        snprintf(out, CONFIG_LOCATION, "override '%.200s'", source->override);
    else if (line)
        snprintf(out, CONFIG_LOCATION, "%.400s:%d:%d", source->file, line, column);
    else
        snprintf(out, CONFIG_LOCATION, "%.400s", source->file);
    return out;
}

const char *config_key_location(const struct config *config, int row, char out[CONFIG_LOCATION])
{
    const struct config_origin *origin = &config->origin[row];
    struct config_source source = { .file = config->file, .override = origin->override };
    return config_location(&source, origin->line, origin->column, out);
}

/* Reports "LOCATION OF KEY: MESSAGE". */
static __attribute__((format(printf, 3, 4))) enum status refuse(const struct config *config, const char *key,
                                                                const char *format, ...)
{
    char location[CONFIG_LOCATION], text[512];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    config_key_location(config, config_key_find(key), location);
    return status_report(STATUS_USAGE, __FILE__, __LINE__, "%s: %s", location, text);
}

/* The next code point and its length, or -1 if the text is not valid UTF-8. Overlong forms and surrogates are not
 * valid. */
static int32_t decode(const unsigned char *s, size_t left, size_t *length)
{
    static const int32_t smallest[5] = { 0, 0, 0x80, 0x800, 0x10000 };
    size_t n = s[0] < 0x80 ? 1 : (s[0] & 0xe0) == 0xc0 ? 2 : (s[0] & 0xf0) == 0xe0 ? 3 : (s[0] & 0xf8) == 0xf0 ? 4 : 0;
    if (!n || n > left)
        return -1;
    int32_t c = n == 1 ? s[0] : s[0] & (0xff >> (n + 1));
    for (size_t i = 1; i < n; i++) {
        if ((s[i] & 0xc0) != 0x80)
            return -1;
        c = c << 6 | (s[i] & 0x3f);
    }
    *length = n;
    return c < smallest[n] || c > 0x10ffff || (c >= 0xd800 && c <= 0xdfff) ? -1 : c;
}

/* Characters that cannot be seen in a file, or that YAML takes for a line break within text. */
static bool is_control(int32_t c, bool lines)
{
    if (c == '\t' || c == '\n' || c == '\r')
        return !lines;
    return c < 0x20 || (c >= 0x7f && c < 0xa0) || c == 0x2028 || c == 0x2029 || c == 0xfeff || c == 0xfffe ||
           c == 0xffff;
}

enum status config_check_text(const struct config_source *source, const char *text, size_t bytes, bool lines)
{
    char location[CONFIG_LOCATION];
    int line = 1, column = 1;
    for (size_t at = 0, length; at < bytes; at += length) {
        int32_t c = decode((const unsigned char *)text + at, bytes - at, &length);
        config_location(source, lines ? line : 0, column, location);
        if (c < 0)
            return status_report(STATUS_USAGE, __FILE__, __LINE__, "%s: not UTF-8 (byte 0x%02x)", location,
                                 (unsigned char)text[at]);
        if (is_control(c, lines))
            return status_report(STATUS_USAGE, __FILE__, __LINE__, "%s: control character U+%04X", location,
                                 (unsigned)c);
        column++;
        if (c == '\n') {
            line++;
            column = 1;
        }
    }
    return STATUS_OK;
}

enum status config_find(const char *path, char found[PATH_MAX])
{
    enum status status = STATUS_OK;
    const char *variable = getenv("CSC_CONFIG_DIR");
    if (variable && !variable[0])
        variable = NULL;
    if (strlen(path) >= PATH_MAX)
        FAIL(STATUS_USAGE, "%.200s...: name too long", path);
    snprintf(found, PATH_MAX, "%s", path);
    if (file_exists(found))
        return status;
    if (path[0] == '/')
        FAIL(STATUS_USAGE, "%s: no such configuration", path);
    if (variable && snprintf(found, PATH_MAX, "%s/%s", variable, path) < PATH_MAX && file_exists(found))
        return status;
    if (snprintf(found, PATH_MAX, "%s/%s", CSC_CONFIG_DIR_INSTALLED, path) < PATH_MAX && file_exists(found))
        return status;
    FAIL(STATUS_USAGE, "%s: no such configuration here, in $CSC_CONFIG_DIR (%s) or in %s", path,
         variable ? variable : "not set", CSC_CONFIG_DIR_INSTALLED);
fail:
    return status;
}

static enum status set_defaults(struct config *config)
{
    enum status status = STATUS_OK;
    for (int row = 0; row < CONFIG_KEYS; row++)
        if (!config->origin[row].line && !config->origin[row].override)
            TRY(config_set_default(config, row));
fail:
    return status;
}

/* The value of an override. A text is taken literally, as the shell passed it; other values are YAML. */
static enum status override_value(const struct config_source *source, int row, const char *text,
                                  struct config_value *value)
{
    enum status status = STATUS_OK;
    if (config_keys[row].type != CONFIG_TEXT)
        return config_yaml_value(source, text, value);
    *value = (struct config_value){ .items = calloc(1, sizeof *value->items) };
    if (!value->items)
        FAIL(STATUS_NOMEM, "out of memory");
    value->items[0] = (struct config_scalar){ .text = strdup(text), .plain = true };
    value->count = 1;
    if (!value->items[0].text)
        FAIL(STATUS_NOMEM, "out of memory");
fail:
    return status;
}

static enum status unknown_override(const struct config_source *source, const char *name)
{
    char location[CONFIG_LOCATION], hint[128] = "";
    if (config_is_section(name))
        snprintf(hint, sizeof hint, " (it is a section; give %s.KEY=VALUE)", name);
    else
        config_suggest_key(name, hint, sizeof hint);
    return status_report(STATUS_USAGE, __FILE__, __LINE__, "%s: unknown key '%.64s'%s",
                         config_location(source, 0, 0, location), name, hint);
}

static enum status apply_override(struct config *config, const char *text)
{
    enum status status = STATUS_OK;
    struct config_source source = { .file = config->file, .override = text };
    struct config_value value = { 0 };
    char location[CONFIG_LOCATION], name[128];
    const char *equals = strchr(text, '=');
    config_location(&source, 0, 0, location);
    TRY(config_check_text(&source, text, strlen(text), false));
    if (!equals)
        FAIL(STATUS_USAGE, "%s: expected key=value", location);
    snprintf(name, sizeof name, "%.*s", (int)(equals - text < 100 ? equals - text : 100), text);
    int row = config_key_find(name);
    if (row < 0)
        return unknown_override(&source, name);
    if (config->origin[row].override)
        FAIL(STATUS_USAGE, "%s: already given by '%s'", location, config->origin[row].override);
    if (!equals[1])
        FAIL(STATUS_USAGE, "%s: no value", location);
    TRY(override_value(&source, row, equals + 1, &value));
    TRY(config_set(config, row, &source, &value));
    config->origin[row] = (struct config_origin){ .override = strdup(text) };
    if (!config->origin[row].override)
        FAIL(STATUS_NOMEM, "out of memory");
fail:
    config_value_finish(&value);
    return status;
}

/* An override of train.epochs replaces train.steps of the file, and the reverse. */
static void resolve_length(struct config *config)
{
    const struct config_origin *epochs = &config->origin[config_key_find("train.epochs")];
    const struct config_origin *steps = &config->origin[config_key_find("train.steps")];
    if (epochs->override && !steps->override && config->train.epochs)
        config->train.steps = 0;
    if (steps->override && !epochs->override && config->train.steps)
        config->train.epochs = 0;
}

static enum status check_required(const struct config *config)
{
    for (int row = 0; row < CONFIG_KEYS; row++)
        if (!config_keys[row].default_text && !config->origin[row].line && !config->origin[row].override)
            return status_report(STATUS_USAGE, __FILE__, __LINE__, "%s: %s is required", config->file,
                                 config_keys[row].name);
    if (config->train.epochs && config->train.steps)
        return refuse(config, "train.steps", "train.epochs and train.steps are both given; give one");
    if (!config->train.epochs && !config->train.steps)
        return status_report(STATUS_USAGE, __FILE__, __LINE__, "%s: train.epochs or train.steps is required",
                             config->file);
    return STATUS_OK;
}

static enum status check_model(const struct config *config)
{
    bool all = config->model.arch >= CONFIG_ARCH_SDNET18_ALL;
    if (config->model.width % 4)
        return refuse(config, "model.width", "model.width must be a multiple of 4, not %d", config->model.width);
    if (!config->model.shortcut && !all)
        return refuse(config, "model.shortcut", "model.shortcut: only the -all networks can drop their shortcuts");
    return STATUS_OK;
}

static enum status check_schedule(const struct config *config)
{
    const char *key = "train.schedule.milestones";
    int count = config->train.schedule.milestones_count;
    const double *milestones = config->train.schedule.milestones;
    enum config_schedule kind = config->train.schedule.kind;
    double epochs = (double)config->train.epochs;
    if (kind == CONFIG_STEP && !count)
        return refuse(config, "train.schedule.kind", "train.schedule.kind: step needs train.schedule.milestones");
    if (kind != CONFIG_STEP && count)
        return refuse(config, key, "%s needs train.schedule.kind: step", key);
    for (int i = 1; i < count; i++)
        if (milestones[i] <= milestones[i - 1])
            return refuse(config, key, "%s must ascend, but %g follows %g", key, milestones[i], milestones[i - 1]);
    if (count && epochs > 0 && milestones[count - 1] >= epochs)
        return refuse(config, key, "%s: %g is not before the end of %g epochs", key, milestones[count - 1], epochs);
    if (epochs > 0 && config->train.schedule.warmup_epochs > epochs)
        return refuse(config, "train.schedule.warmup_epochs",
                      "train.schedule.warmup_epochs of %g is longer than the run's %g epochs",
                      config->train.schedule.warmup_epochs, epochs);
    if (config->train.schedule.final_lr > 0 && (kind == CONFIG_CONSTANT || kind == CONFIG_STEP))
        return refuse(config, "train.schedule.final_lr",
                      "train.schedule.final_lr needs train.schedule.kind: cosine or onecycle");
    if (config->train.schedule.final_lr > config->train.lr)
        return refuse(config, "train.schedule.final_lr", "train.schedule.final_lr of %g is above train.lr of %g",
                      config->train.schedule.final_lr, config->train.lr);
    return STATUS_OK;
}

static enum status check_train(const struct config *config)
{
    int batch = config->train.batch, micro = config->train.micro_batch;
    if (micro && batch % micro)
        return refuse(config, "train.micro_batch", "train.micro_batch of %d does not divide train.batch of %d", micro,
                      batch);
    if (config->train.nesterov && !(config->train.momentum > 0))
        return refuse(config, "train.nesterov", "train.nesterov needs train.momentum above 0");
    return check_schedule(config);
}

/* ---- the folder of the run ---- */

/* The path of a folder `name` beside `folder`. The caller frees it. NULL if out of memory. */
static char *beside(const char *folder, const char *name)
{
    size_t length = strlen(folder);
    while (length > 1 && folder[length - 1] == '/')
        length--;
    size_t parent = length; /* length of the path up to its last part, slash included */
    while (parent && folder[parent - 1] != '/')
        parent--;
    size_t last = length - parent;
    bool dots = (last == 1 || last == 2) &&
                strncmp(folder + parent, "..", last) == 0; /* their parent is not written in the path */
    char *path = NULL;
    int made = dots ? asprintf(&path, "%.*s/../%s", (int)length, folder, name)
                    : asprintf(&path, "%.*s%s", (int)parent, folder, name);
    return made < 0 ? NULL : path;
}

/* Chooses run.dir unless the command line gives it. If the file is the config.yaml of a run, it is that run's folder
 * (`home`), which may have been moved since. A run.name on the command line also names the folder. */
static enum status choose_run_dir(struct config *config, const char *home)
{
    enum status status = STATUS_OK;
    char *dir = NULL;
    bool renamed = config->origin[config_key_find("run.name")].override && config->run.name;
    const char *folder = home ? home : config->run.dir;
    if (config->origin[config_key_find("run.dir")].override || !folder || !(home || renamed))
        return STATUS_OK;
    dir = renamed ? beside(folder, config->run.name) : strdup(folder);
    if (!dir)
        FAIL(STATUS_NOMEM, "out of memory");
    if (strlen(dir) >= PATH_MAX)
        TRY(refuse(config, "run.name", "run.dir becomes longer than %d bytes", PATH_MAX - 1));
    free(config->run.dir);
    config->run.dir = dir;
    return status;
fail:
    free(dir);
    return status;
}

/* Whether the file is the config.yaml of a run; `home` becomes the run's folder. */
static bool find_run_folder(const char *file, const char *text, char home[PATH_MAX])
{
    char path[PATH_MAX];
    const char *slash = strrchr(file, '/');
    int length = slash == file ? 1 : slash ? (int)(slash - file) : 1;
    if (strcmp(slash ? slash + 1 : file, "config.yaml") != 0 || !config_is_printed(text))
        return false;
    snprintf(home, PATH_MAX, "%.*s", length, slash ? file : ".");
    return (snprintf(path, sizeof path, "%s/metrics.jsonl", home) < PATH_MAX && file_exists(path)) ||
           (snprintf(path, sizeof path, "%s/checkpoints", home) < PATH_MAX && file_is_folder(path));
}

/* Sets run.name to the file's name without folders and ending, and run.dir to runs/NAME, where they are not given. */
static enum status default_names(struct config *config)
{
    enum status status = STATUS_OK;
    if (!config->run.name) {
        const char *slash = strrchr(config->file, '/'), *base = slash ? slash + 1 : config->file;
        const char *dot = strrchr(base, '.');
        config->run.name = strndup(base, dot && dot > base ? (size_t)(dot - base) : strlen(base));
    }
    if (config->run.name && !config->run.dir && asprintf(&config->run.dir, "runs/%s", config->run.name) < 0)
        config->run.dir = NULL;
    if (!config->run.name || !config->run.dir)
        FAIL(STATUS_NOMEM, "out of memory");
    const char *name = config->run.name;
    if (!name[0] || strchr(name, '/') || strcmp(name, ".") == 0 || strcmp(name, "..") == 0 || strlen(name) > 200)
        TRY(refuse(config, "run.name", "run.name must be a file's name of at most 200 bytes, not '%.64s'", name));
fail:
    return status;
}

/* Refuses ~ and $HOME in paths: no shell would expand them, so folders of these names would be made. */
static enum status check_paths(const struct config *config)
{
    for (int row = 0; row < CONFIG_KEYS; row++) {
        const struct config_key *key = &config_keys[row];
        const char *path = key->is_path ? *(char *const *)((const char *)config + key->offset) : NULL;
        if (path && options_unexpanded(path))
            return refuse(config, key->name, "%s: '%.200s': no shell has expanded the ~ or $ in it: write the path out",
                          key->name, path);
    }
    return STATUS_OK;
}

/* home: the folder of the run whose config.yaml the text is, or NULL. */
static enum status parse(struct config *config, const char *name, const char *text, size_t bytes,
                         char *const *overrides, int count, const char *home)
{
    enum status status = STATUS_OK;
    *config = (struct config){ .file = strdup(name) };
    if (!config->file)
        FAIL(STATUS_NOMEM, "out of memory");
    if (bytes > MAX_BYTES)
        FAIL(STATUS_USAGE, "%s: %zu bytes, more than the %d that a configuration may have", name, bytes, MAX_BYTES);
    TRY(config_yaml_file(config, text, bytes));
    for (int i = 0; i < count; i++)
        TRY(apply_override(config, overrides[i]));
    TRY(set_defaults(config));
    resolve_length(config);
    TRY(check_required(config));
    TRY(check_model(config));
    TRY(check_train(config));
    TRY(choose_run_dir(config, home));
    TRY(default_names(config));
    return status;
fail:
    config_finish(config);
    return status;
}

enum status config_parse(struct config *config, const char *name, const char *text, size_t bytes,
                         char *const *overrides, int count)
{
    return parse(config, name, text, bytes, overrides, count, NULL);
}

enum status config_load(struct config *config, const char *path, char *const *overrides, int count)
{
    enum status status = STATUS_OK;
    char found[PATH_MAX], home[PATH_MAX], *text = NULL;
    size_t bytes;
    *config = (struct config){ 0 };
    TRY(config_find(path, found));
    status = file_read(found, MAX_BYTES, &text, &bytes);
    if (status == STATUS_IO || status == STATUS_DATA) /* it cannot be read, or is too large */
        FAIL(STATUS_USAGE, "%s", status_message());
    TRY(status);
    TRY(parse(config, found, text, bytes, overrides, count, find_run_folder(found, text, home) ? home : NULL));
    status = check_paths(config);
    if (status != STATUS_OK)
        config_finish(config);
fail:
    free(text);
    return status;
}

void config_finish(struct config *config)
{
    for (int row = 0; row < CONFIG_KEYS; row++) {
        config_release(config, row);
        free(config->origin[row].override);
    }
    free(config->file);
    *config = (struct config){ 0 };
}
