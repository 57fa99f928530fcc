/* stop.h - requests to stop the run with a checkpoint, by SIGUSR1, SIGTERM, SIGINT, SIGUSR2, SIGXCPU or SIGHUP, or by
 * the program itself. */
#ifndef CSC_TRAINER_TRAIN_STOP_H
#define CSC_TRAINER_TRAIN_STOP_H

#include <stdbool.h>

#include "base/status.h"

/* Ignores signals again that were ignored when the program was loaded. Call it first in main: the libraries of Debian
 * 13's MPI install a handler of SIGHUP before main starts. */
void stop_keep_ignored(void);

/* Installs the handlers, which only set a flag. SIGUSR2, SIGXCPU and SIGHUP stay ignored if they are ignored now. A
 * second SIGINT, more than half a second after the first, ends the process at once. */
enum status stop_install(void);

bool stop_requested(void);
/* The name of the signal, such as "SIGUSR1", or the reason given to stop_request, or "". */
const char *stop_reason(void);

/* reason must stay valid. */
void stop_request(const char *reason);

#endif
