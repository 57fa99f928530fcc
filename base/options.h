/* options.h - checks of a command line that every program makes before it reads its options. */
#ifndef CSC_BASE_OPTIONS_H
#define CSC_BASE_OPTIONS_H

#include <stdbool.h>

#include "base/status.h"

/* Whether the path contains something that a shell should have expanded: a ~ at its beginning, $NAME or ${NAME}. Used
 * as it is, it would create a folder named ~. (A user who means such a name writes ./~.) */
bool options_unexpanded(const char *path);

/* Removes POSIXLY_CORRECT from the environment, so that getopt accepts options after operands. Returns STATUS_USAGE if
 * an operand, or the value of --option=value (which shells do not expand), is unexpanded. Operands key=value are not
 * checked here: the configuration does that. */
enum status options_check(char *const *argv);

#endif
