/* options.h - what every program asks of its command line before it reads it. */
#ifndef CSC_BASE_OPTIONS_H
#define CSC_BASE_OPTIONS_H

#include <stdbool.h>

#include "base/status.h"

/* Whether only a shell could tell what the path means: it begins with ~, or $NAME or ${NAME} is in it. Taken as it
 * is, it would make a folder called ~. Who means that writes ./~ instead. */
bool options_unexpanded(const char *path);

/* Lets options stand behind operands under POSIXLY_CORRECT too. STATUS_USAGE if an operand other than key=value, or
 * the value of an option that is given as --option=value (which shells do not expand), needs a shell. */
enum status options_check(char *const *argv);

#endif
