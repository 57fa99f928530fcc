/* run_directory.h - a run's directory and its one writer. */
#ifndef CSC_TRAINER_TRAIN_RUN_DIRECTORY_H
#define CSC_TRAINER_TRAIN_RUN_DIRECTORY_H

#include <limits.h>

#include "base/status.h"

struct run_directory;

/* Creates the directory and takes RUN/lock (host, pid, job). A live writer elsewhere is STATUS_USAGE, saying who; a
 * dead one's lock is taken over with a line saying so. On this host the kernel knows who is alive. A holder on another
 * host is alive if it touches its lock while we watch for run_lock_stale_s; a requeued job's former self is not waited
 * for. Rank 0 only. The lock is also let go by exit(). A directory that was created here and stayed empty is removed by
 * run_directory_close. */
extern double run_lock_touch_s, run_lock_stale_s; /* seconds between touches; tests shorten them */
enum status run_directory_open(struct run_directory **run, const char *directory);
void run_directory_close(struct run_directory *run); /* NULL is fine */

/* Warns, once, if the directory was moved or removed. */
void run_directory_check(struct run_directory *run);

const char *run_directory_path(const struct run_directory *run);
void run_directory_file(const struct run_directory *run, const char *name, char path[PATH_MAX]); /* RUN/name */

#endif
