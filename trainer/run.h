/* run.h - a run's directory and its one writer. */
#ifndef CSC_TRAINER_RUN_H
#define CSC_TRAINER_RUN_H

#include <limits.h>

#include "base/status.h"

struct run;

/* Creates the directory and takes RUN/lock (host, pid, job). A live writer elsewhere is STATUS_USAGE, saying who; a dead
 * one's lock is taken over with a line saying so. Rank 0 only. The lock is also let go by exit(). */
enum status run_open(struct run **run, const char *directory);
void run_close(struct run *run); /* NULL is fine */

const char *run_directory(const struct run *run);
void run_path(const struct run *run, const char *name, char path[PATH_MAX]); /* RUN/name */

#endif
