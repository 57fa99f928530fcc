/* config_change.c - what a resume may change. Keys that change the mathematics may differ only if --change lists
 * them. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "trainer/config/config_internal.h"

enum { KEY_LIST = CONFIG_KEYS * 32 }; /* bytes for the names of all keys, with commas */

/* ---- a list of keys and sections, separated by commas ---- */

static const char *next_item(const char *item)
{
    item += strcspn(item, ",");
    return *item ? item + 1 : NULL;
}

static bool item_means(const char *item, int row)
{
    const char *key = config_keys[row].name;
    size_t length = strcspn(item, ",");
    return strncmp(item, key, length) == 0 && (!key[length] || key[length] == '.');
}

/* The length of a run is given in epochs or in steps, so each of the two keys allows both. */
static bool item_allows(const char *item, int row)
{
    int epochs = config_key_find("train.epochs"), steps = config_key_find("train.steps");
    return item_means(item, row) ||
           ((row == epochs || row == steps) && (item_means(item, epochs) || item_means(item, steps)));
}

static bool allows(const char *list, int row)
{
    for (const char *item = list; item; item = next_item(item))
        if (item_allows(item, row))
            return true;
    return false;
}

static void append_key(char *list, size_t capacity, const char *comma, const char *key)
{
    size_t length = strlen(list);
    snprintf(list + length, capacity - length, "%s%s", length ? comma : "", key);
}

static enum status refuse_item(int row)
{
    enum status status = STATUS_OK;
    const struct config_key *key = &config_keys[row];
    char recipe[KEY_LIST] = "";
    if (key->effect == CONFIG_FREE)
        FAIL(STATUS_USAGE, "--change: %s may differ at any resume: leave it out", key->name);
    if (key->effect == CONFIG_BITS)
        FAIL(STATUS_USAGE, "--change: %s may differ at a resume unless run.deterministic fixes it: leave it out",
             key->name);
    for (int r = 0; r < CONFIG_KEYS; r++)
        if (config_keys[r].effect == CONFIG_RECIPE)
            append_key(recipe, sizeof recipe, ", ", config_keys[r].name);
    FAIL(STATUS_USAGE, "--change: %s cannot change at a resume; what can: %s", key->name, recipe);
fail:
    return status;
}

enum status config_check_change(const char *list)
{
    enum status status = STATUS_OK;
    for (const char *item = list; item; item = next_item(item)) {
        char name[64], hint[128];
        bool known = false;
        for (int row = 0; row < CONFIG_KEYS; row++) {
            if (!item_means(item, row))
                continue;
            known = true;
            bool section = config_keys[row].name[strcspn(item, ",")];
            if (config_keys[row].effect == CONFIG_MATHEMATICS || (config_keys[row].effect != CONFIG_RECIPE && !section))
                TRY(refuse_item(row));
        }
        snprintf(name, sizeof name, "%.*s", (int)strcspn(item, ","), item);
        config_suggest_key(name, hint, sizeof hint);
        if (!known)
            FAIL(STATUS_USAGE, "--change: unknown key '%s'%s", name, hint);
    }
fail:
    return status;
}

/* ---- two configurations ---- */

struct difference {
    char *before, *after; /* as text; both are NULL if they agree */
};

static enum status find_differences(const struct config *old, const struct config *now,
                                    struct difference found[CONFIG_KEYS])
{
    enum status status = STATUS_OK;
    for (int row = 0; row < CONFIG_KEYS; row++) {
        struct difference *d = &found[row];
        if (config_keys[row].effect == CONFIG_FREE)
            continue;
        d->before = config_format(old, row);
        d->after = config_format(now, row);
        if (!d->before || !d->after)
            FAIL(STATUS_NOMEM, "out of memory");
        if (strcmp(d->before, d->after) == 0) {
            free(d->before);
            free(d->after);
            *d = (struct difference){ 0 };
        }
    }
fail:
    return status;
}

/* Reports the first difference that is not allowed, and all keys that --change could allow. */
static enum status refuse_differences(const struct config *old, const struct config *now,
                                      const struct difference found[CONFIG_KEYS], const char *change)
{
    char location[CONFIG_LOCATION], missing[KEY_LIST] = "";
    bool bits = old->run.deterministic || now->run.deterministic;
    int first = -1;
    for (int row = 0; row < CONFIG_KEYS; row++) {
        enum config_effect effect = config_keys[row].effect;
        if (!found[row].before || (effect == CONFIG_BITS && !bits) || (effect == CONFIG_RECIPE && allows(change, row)))
            continue;
        if (first < 0 || (config_keys[first].effect == CONFIG_RECIPE && effect != CONFIG_RECIPE))
            first = row; /* differences that --change cannot allow come first */
        if (effect == CONFIG_RECIPE)
            append_key(missing, sizeof missing, ",", config_keys[row].name);
    }
    if (first < 0)
        return STATUS_OK;
    const struct config_key *key = &config_keys[first];
    bool recipe = key->effect == CONFIG_RECIPE;
    return status_report(STATUS_USAGE, __FILE__, __LINE__,
                         "%s: cannot resume with another %s: the checkpoint has "
                         "%.200s, this configuration %.200s%s%s%s",
                         config_key_location(now, first, location), key->name, found[first].before, found[first].after,
                         key->effect == CONFIG_BITS ? " (run.deterministic fixes it)" : "",
                         recipe ? "; allow it with --change=" : "", recipe ? missing : "");
}

/* Writes "train.lr 0.1 -> 0.05, train.clip 0 -> 1", or NULL if there is no difference. */
static enum status describe(const struct difference found[CONFIG_KEYS], char **text)
{
    size_t bytes = 0;
    FILE *out = open_memstream(text, &bytes);
    if (!out)
        return status_report(STATUS_NOMEM, __FILE__, __LINE__, "out of memory");
    for (int row = 0; row < CONFIG_KEYS; row++)
        if (found[row].before && config_keys[row].effect == CONFIG_RECIPE)
            fprintf(out, "%s%s %s -> %s", ftell(out) ? ", " : "", config_keys[row].name, found[row].before,
                    found[row].after);
    fclose(out);
    if (*text && !bytes) {
        free(*text);
        *text = NULL;
    }
    return STATUS_OK;
}

/* Logs listed keys that do not differ. That is no error: a job that is started again with the same command lists keys
 * that its last start has already changed. */
static void say_what_agrees(const struct difference found[CONFIG_KEYS], const char *change)
{
    for (const char *item = change; item; item = next_item(item)) {
        bool differs = false;
        for (int row = 0; row < CONFIG_KEYS; row++)
            differs |= found[row].before && item_allows(item, row);
        if (!differs)
            log_info("--change: %.*s does not differ from the checkpoint's", (int)strcspn(item, ","), item);
    }
}

enum status config_compare(const struct config *old, const struct config *now, const char *change, char **changed)
{
    enum status status = STATUS_OK;
    struct difference found[CONFIG_KEYS] = { 0 };
    TRY(find_differences(old, now, found));
    TRY(refuse_differences(old, now, found, change));
    if (changed)
        TRY(describe(found, changed));
    say_what_agrees(found, change);
fail:
    for (int row = 0; row < CONFIG_KEYS; row++) {
        free(found[row].before);
        free(found[row].after);
    }
    return status;
}
