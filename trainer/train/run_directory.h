/* run_directory.h - the directory of a run, which one process at a time may write. For rank 0 only. */
#ifndef CSC_TRAINER_TRAIN_RUN_DIRECTORY_H
#define CSC_TRAINER_TRAIN_RUN_DIRECTORY_H

#include <limits.h>

#include "base/status.h"

struct run_directory;

/* The holder of a lock touches it every run_lock_touch_s seconds; one on another host that has not done so for
 * run_lock_stale_s seconds counts as dead. Tests shorten both. */
extern double run_lock_touch_s, run_lock_stale_s;

/* Creates the directory and takes the lock RUN/lock, a file that names host, process and job. If another process writes
 * the run, returns STATUS_USAGE and says which. The lock of a dead process is taken over, with a line in the log: on
 * this host the kernel knows who is alive, on another host this function waits for up to run_lock_stale_s for a touch.
 * It does not wait for an earlier start of the same job, which the scheduler has requeued. exit() also releases the
 * lock. */
enum status run_directory_open(struct run_directory **run, const char *directory);
/* Releases the lock. Removes the directory if run_directory_open created it and nothing was written. NULL is fine. */
void run_directory_close(struct run_directory *run);

/* Warns if the directory was moved or removed since it was opened; once per run. */
void run_directory_check(struct run_directory *run);

const char *run_directory_path(const struct run_directory *run);
void run_directory_file(const struct run_directory *run, const char *name, char path[PATH_MAX]); /* RUN/name */

#endif
