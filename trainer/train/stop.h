/* stop.h - requests to stop with a checkpoint: SIGUSR1, TERM, INT, USR2, XCPU, HUP, or the program's own. */
#ifndef CSC_TRAINER_TRAIN_STOP_H
#define CSC_TRAINER_TRAIN_STOP_H

#include <stdbool.h>

#include "base/status.h"

/* First of all in main: signals that were ignored when the program was loaded are ignored again. The libraries of
 * Debian 13's MPI install a handler of SIGHUP before main. */
void stop_keep_ignored(void);

/* Installs the handlers, which only set a flag. USR2, XCPU and HUP are left alone if they are ignored at that time.
 * Another SIGINT more than half a second after the first ends the process at once. */
enum status stop_install(void);

bool stop_requested(void);
const char *stop_reason(void); /* "SIGUSR1", what stop_request was given, or "" */

void stop_request(const char *reason); /* a string that stays valid */

#endif
