/* run_directory.h - a run's directory and its one writer. */
#ifndef CSC_TRAINER_TRAIN_RUN_DIRECTORY_H
#define CSC_TRAINER_TRAIN_RUN_DIRECTORY_H

#include <limits.h>

#include "base/status.h"

struct run;

/* Creates the directory and takes RUN/lock (host, pid, job). A live writer elsewhere is STATUS_USAGE, saying who; a
 * dead one's lock is taken over with a line saying so. On this host the kernel knows who is alive. A holder on another
 * host is alive if it touches its lock while we watch for run_stale_s; a requeued job's former self is not waited for.
 * Rank 0 only. The lock is also let go by exit(). A directory that was created here and stayed empty is removed by
 * run_close. */
extern double run_beat_s, run_stale_s; /* seconds between touches; tests shorten them */
enum status run_open(struct run **run, const char *directory);
void run_close(struct run *run); /* NULL is fine */

/* Warns, once, if the directory was moved or removed. */
void run_look(struct run *run);

const char *run_directory(const struct run *run);
void run_path(const struct run *run, const char *name, char path[PATH_MAX]); /* RUN/name */

#endif
