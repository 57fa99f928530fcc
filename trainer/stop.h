/* stop.h - requests to stop with a checkpoint: SIGUSR1, SIGTERM, SIGINT, or the program's own. */
#ifndef CSC_TRAINER_STOP_H
#define CSC_TRAINER_STOP_H

#include <stdbool.h>

#include "base/status.h"

/* Installs the handlers, which only set a flag. A second SIGINT ends the process at once. */
enum status stop_install(void);

bool stop_requested(void);
const char *stop_reason(void); /* "SIGUSR1", what stop_request was given, or "" */

void stop_request(const char *reason); /* a string that stays valid */

#endif
