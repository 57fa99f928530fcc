/* checkpoint_state.c - writes struct checkpoint_state to state.json, and reads it. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "trainer/checkpoint/checkpoint_internal.h"

enum { VERSION = 1, MAX_BYTES = 320 << 20 /* enough for a million class names of the greatest length */ };

static json_t *real_or_null(double v)
{
    return isfinite(v) ? json_real(v) : json_null();
}

enum status checkpoint_write_state(const char *folder, const struct checkpoint_state *state)
{
    enum status status = STATUS_OK;
    char path[PATH_MAX], *text = NULL;
    json_t *extra = state->extra ? json_incref(state->extra) : json_object();
    json_t *json = json_pack("{si ss sI sI sI sI si sf so so sI ss ss so}", "version", VERSION, "program",
                             "csc-train " CSC_VERSION, "step", (json_int_t)state->step, "epoch",
                             (json_int_t)state->epoch, "epoch_step", (json_int_t)state->epoch_step, "seed",
                             (json_int_t)state->seed, "ranks", state->ranks, "seconds", state->seconds, "top1",
                             real_or_null(state->top1), "best_top1", real_or_null(state->best_top1), "best_step",
                             (json_int_t)state->best_step, "train", state->train, "val", state->val, "extra", extra);
    if (json)
        text = json_dumps(json, JSON_INDENT(1) | JSON_REAL_PRECISION(17));
    if (!text)
        FAIL(STATUS_NOMEM, "%s: cannot make " CHECKPOINT_STATE, folder);
    TRY(checkpoint_join(path, folder, CHECKPOINT_STATE));
    TRY(file_write(path, text, strlen(text)));
fail:
    free(text);
    json_decref(json);
    return status;
}

static bool get_int(const json_t *json, const char *key, int64_t min, int64_t max, int64_t *out)
{
    const json_t *value = json_object_get(json, key);
    *out = json_integer_value(value);
    return json_is_integer(value) && *out >= min && *out <= max;
}

static bool get_real(const json_t *json, const char *key, bool optional, double *out)
{
    const json_t *value = json_object_get(json, key);
    *out = json_is_number(value) ? json_number_value(value) : NAN;
    return json_is_number(value) || (optional && json_is_null(value));
}

/* Reads a fingerprint, which is sixteen hex digits or empty. */
static bool get_fingerprint(const json_t *json, const char *key, char out[17])
{
    const char *text = json_string_value(json_object_get(json, key));
    size_t length = text ? strlen(text) : 1;
    if ((length != 0 && length != 16) || strspn(text, "0123456789abcdef") != length)
        return false;
    memcpy(out, text, length + 1);
    return true;
}

/* Returns the name of the first field that is missing or wrong, or NULL. */
static const char *fill_state(const json_t *json, struct checkpoint_state *state)
{
    int64_t version, seed, ranks;
    if (!get_int(json, "version", VERSION, VERSION, &version))
        return "version";
    if (!get_int(json, "step", 0, CHECKPOINT_LAST_STEP, &state->step))
        return "step";
    if (!get_int(json, "epoch", 0, CHECKPOINT_LAST_STEP, &state->epoch))
        return "epoch";
    if (!get_int(json, "epoch_step", 0, CHECKPOINT_LAST_STEP, &state->epoch_step))
        return "epoch_step";
    if (!get_int(json, "seed", 0, INT64_MAX, &seed))
        return "seed";
    if (!get_int(json, "ranks", 1, INT_MAX, &ranks))
        return "ranks";
    if (!get_int(json, "best_step", 0, CHECKPOINT_LAST_STEP, &state->best_step))
        return "best_step";
    if (!get_real(json, "seconds", false, &state->seconds))
        return "seconds";
    if (!get_real(json, "top1", true, &state->top1))
        return "top1";
    if (!get_real(json, "best_top1", true, &state->best_top1))
        return "best_top1";
    if (!get_fingerprint(json, "train", state->train))
        return "train";
    if (!get_fingerprint(json, "val", state->val))
        return "val";
    if (!json_is_object(json_object_get(json, "extra")))
        return "extra";
    state->seed = (uint64_t)seed;
    state->ranks = (int)ranks;
    return NULL;
}

enum status checkpoint_parse_state(const char *name, const char *text, size_t bytes, struct checkpoint_state *state)
{
    enum status status = STATUS_OK;
    json_error_t error;
    json_t *json = json_loadb(text, bytes, JSON_REJECT_DUPLICATES, &error);
    *state = (struct checkpoint_state){ 0 };
    if (!json_is_object(json))
        FAIL(STATUS_DATA, "%s: not a JSON object: %s", name, error.text);
    const char *wrong = fill_state(json, state);
    if (wrong)
        FAIL(STATUS_DATA, "%s: '%s' is missing or wrong", name, wrong);
    state->extra = json_incref(json_object_get(json, "extra"));
fail:
    json_decref(json);
    return status;
}

enum status checkpoint_read_state(const char *folder, struct checkpoint_state *state)
{
    enum status status = STATUS_OK;
    char path[PATH_MAX], *text = NULL;
    size_t bytes;
    *state = (struct checkpoint_state){ 0 };
    TRY(checkpoint_join(path, folder, CHECKPOINT_STATE));
    TRY(file_read(path, MAX_BYTES, &text, &bytes));
    TRY(checkpoint_parse_state(path, text, bytes, state));
fail:
    free(text);
    return status;
}

enum status checkpoint_check(const char *folder, struct checkpoint_state *state)
{
    enum status status = STATUS_OK;
    const char *slash = strrchr(folder, '/');
    int64_t named = checkpoint_step_of_name(slash ? slash + 1 : folder);
    *state = (struct checkpoint_state){ 0 };
    TRY(checkpoint_verify(folder));
    TRY(checkpoint_read_state(folder, state));
    if (named >= 0 && named != state->step) {
        json_decref(state->extra);
        state->extra = NULL;
        FAIL(STATUS_DATA, "%s: holds step %lld, not the one in its name", folder, (long long)state->step);
    }
fail:
    return status;
}
