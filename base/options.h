/* options.h - checks of a command line that every program makes before it reads its options. */
#ifndef CSC_BASE_OPTIONS_H
#define CSC_BASE_OPTIONS_H

#include <stdbool.h>
#include <stdint.h>

#include "base/status.h"

/* Whether the path contains something that a shell should have expanded: a ~ at its beginning, $NAME or ${NAME}. Used
 * as it is, it would create a folder named ~. (A user who means such a name writes ./~.) */
bool options_unexpanded(const char *path);

/* Removes POSIXLY_CORRECT from the environment, so that getopt accepts options after operands. Returns STATUS_USAGE if
 * an operand, or the value of --option=value (which shells do not expand), is unexpanded. Operands key=value are not
 * checked here: the configuration does that. */
enum status options_check(char *const *argv);

/* Parse the value of option --NAME: an integer or a number in [low, high]. STATUS_USAGE. */
enum status options_integer(const char *name, const char *text, int64_t low, int64_t high, int64_t *value);
enum status options_number(const char *name, const char *text, double low, double high, double *value);

#endif
