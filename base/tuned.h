/* tuned.h - choices that were made by measurement, as a small table of key = value.
 * A choice changes the order of sums, and so bits: it is made once, on rank 0, and is then the same on all ranks and
 * after a resume. The trainer owns the table, fills it from the checkpoint, sends rank 0's to all and stores it
 * (trainer/train/memory_plan.c). Who chooses asks first and measures only what is not there:
 *
 *     const char *choice = tuned_get(tuned, key);
 *     if (!choice) {
 *         choice = measure(...);
 *         TRY(tuned_set(tuned, key, choice));
 *     }
 *
 * Keys and values are printable ASCII without '=' or blanks, such as "conv.fwd.64x32x32x64.64.3.1.1.fp32.t2" = "jit:3".
 */
#ifndef CSC_BASE_TUNED_H
#define CSC_BASE_TUNED_H

#include <stdbool.h>
#include <stddef.h>

#include "base/status.h"

struct tuned;

enum { TUNED_MAX_KEY = 127, TUNED_MAX_VALUE = 63, TUNED_MAX_ENTRIES = 4096 }; /* characters, characters, entries */

enum status tuned_create(struct tuned **tuned);
void tuned_destroy(struct tuned *tuned); /* NULL is fine */

/* NULL if nothing was chosen, or tuned is NULL. Valid until the key is set again or the table destroyed. */
const char *tuned_get(const struct tuned *tuned, const char *key);
bool tuned_get_number(const struct tuned *tuned, const char *key, double *value); /* false if absent or no number */

/* Adds or replaces; tuned NULL is a no-op. STATUS_DATA for a key or value out of form or a full table. */
enum status tuned_set(struct tuned *tuned, const char *key, const char *value);

int tuned_count(const struct tuned *tuned);
void tuned_at(const struct tuned *tuned, int index, const char **key, const char **value); /* ordered by key */

/* "key=value\n" for each, ordered by key; the caller frees it. NULL if out of memory. */
char *tuned_print(const struct tuned *tuned);
/* Adds what tuned_print wrote. Untrusted: STATUS_DATA if it is anything else. */
enum status tuned_parse(struct tuned *tuned, const char *text, size_t bytes);

#endif
