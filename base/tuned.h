/* tuned.h - a table key = value of choices that were made by measurement.
 * A choice changes the order of additions and so the bits of the result. It is therefore made once, on rank 0, and is
 * then the same on all ranks and after a resume. The trainer owns the table, fills it from the checkpoint, sends rank
 * 0's to all ranks and stores it. Code that needs a choice asks first and measures only if there is none:
 *
 *     const char *choice = tuned_get(tuned, key);
 *     if (!choice) {
 *         choice = measure(...);
 *         TRY(tuned_set(tuned, key, choice));
 *     }
 *
 * Keys and values are printable ASCII without '=' and blanks: "conv.fwd.64x32x32x64.64.3.1.1.fp32.t2" = "jit:3". */
#ifndef CSC_BASE_TUNED_H
#define CSC_BASE_TUNED_H

#include <stdbool.h>
#include <stddef.h>

#include "base/status.h"

struct tuned;

enum { TUNED_MAX_KEY = 127, TUNED_MAX_VALUE = 63, TUNED_MAX_ENTRIES = 4096 }; /* characters, characters, entries */

enum status tuned_create(struct tuned **tuned);
void tuned_destroy(struct tuned *tuned); /* NULL is fine */

/* Returns NULL if there is no choice or `tuned` is NULL. Valid until the next tuned_set or tuned_destroy. */
const char *tuned_get(const struct tuned *tuned, const char *key);
bool tuned_get_number(const struct tuned *tuned, const char *key, double *value); /* false if absent or not a number */

/* Adds or replaces a choice; does nothing if `tuned` is NULL. STATUS_DATA for a malformed key or value or a full table.
 */
enum status tuned_set(struct tuned *tuned, const char *key, const char *value);

/* The entries in the order of their keys; index from 0 to tuned_count - 1. */
int tuned_count(const struct tuned *tuned);
void tuned_at(const struct tuned *tuned, int index, const char **key, const char **value);

/* Returns "key=value\n" for each entry, in the order of the keys; the caller frees it. NULL if out of memory. */
char *tuned_print(const struct tuned *tuned);

/* Adds what tuned_print has written. STATUS_DATA if `text`, which is not trusted, is anything else. */
enum status tuned_parse(struct tuned *tuned, const char *text, size_t bytes);

#endif
