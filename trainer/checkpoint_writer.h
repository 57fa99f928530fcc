/* checkpoint_writer.h - a thread that writes checkpoints, and clears old ones away, while training goes on. */
#ifndef CSC_TRAINER_CHECKPOINT_WRITER_H
#define CSC_TRAINER_CHECKPOINT_WRITER_H

#include "trainer/checkpoint.h"

struct checkpoint_writer;

struct checkpoint_result {
    struct status_record record; /* code STATUS_OK, or why there is no checkpoint */
    int64_t step;
    char path[PATH_MAX];
    double seconds;              /* that writing took */
};

/* For the holder of the run's lock. */
enum status checkpoint_writer_create(struct checkpoint_writer **writer, const char *run, int keep);

/* Begins to write. All that contents points to stays untouched until the result has been taken; so must the one before
 * have been. */
void checkpoint_writer_start(struct checkpoint_writer *writer, const struct checkpoint_contents *contents);

/* Whether a write has ended whose result was not taken yet; takes it. wait: waits for one that is under way. */
bool checkpoint_writer_result(struct checkpoint_writer *writer, bool wait, struct checkpoint_result *result);

void checkpoint_writer_destroy(struct checkpoint_writer *writer); /* waits likewise; NULL is fine */

#endif
