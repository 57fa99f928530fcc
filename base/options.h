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

/* An option of a command line. Exactly one of the members from `on` to `parse` is set, and says where its value goes.
 */
struct option_row {
    const char *name; /* without the dashes; NULL ends a list */
    bool *on;         /* the option has no value, and sets this */
    const char **text;
    int *integer;
    int64_t *integer64;
    double *number;
    int *choice;                                           /* the index of the value in `names`, which ends with NULL */
    char *setting;                                         /* "KEY=VALUE", cut to OPTION_SETTING_BYTES */
    enum status (*parse)(void *context, const char *text); /* anything else */
    double low, high;                                      /* limits of an integer or a number */
    double unit;                                           /* of a number: it is multiplied by this; 0: as it is */
    const char *const *names;
    const char *key; /* of a setting */
};
enum { OPTION_SETTING_BYTES = 64 };

/* Reads the options of a command line whose argv[0] is not looked at. Operands are moved to the end, where *operands is
 * the index of the first. `command` is for messages. An option exists if a line of `help` begins with its name. With
 * --help or --version, this prints `help` or the version and sets *done; if `done` is NULL, there are no such options.
 */
enum status options_parse(const struct option_row *rows, void *context, int argc, char **argv, const char *command,
                          const char *help, int *operands, bool *done);

/* Parses the value of option --NAME: an integer in [low, high]. STATUS_USAGE. */
enum status options_integer(const char *name, const char *text, double low, double high, int64_t *value);

/* Sets *value to the index of the text in `names`, which ends with NULL. STATUS_USAGE if it is none of them. */
enum status options_choice(const char *name, const char *text, const char *const *names, int *value);

#endif
