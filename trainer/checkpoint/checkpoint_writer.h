/* checkpoint_writer.h - writes checkpoints and deletes old ones in a thread while training continues. For the process
 * that holds the run's lock. */
#ifndef CSC_TRAINER_CHECKPOINT_CHECKPOINT_WRITER_H
#define CSC_TRAINER_CHECKPOINT_CHECKPOINT_WRITER_H

#include "trainer/checkpoint/checkpoint.h"

struct checkpoint_writer;

struct checkpoint_result {
    struct status_record record; /* its code is STATUS_OK, or it says why nothing was written */
    int64_t step;
    char path[PATH_MAX];
    double seconds; /* how long it took */
};

/* keep: for checkpoint_retain, after each checkpoint. */
enum status checkpoint_writer_create(struct checkpoint_writer **writer, const char *run, int keep);

/* Starts to write a checkpoint. The result of the write before must have been taken. All memory that the contents point
 * to must stay unchanged until the result of this one has been taken. After STATUS_NOMEM nothing was started. */
enum status checkpoint_writer_start(struct checkpoint_writer *writer, const struct checkpoint_contents *contents);

/* Takes the result of a write that has ended; returns false if there is none. With `wait` it waits for a write that is
 * under way. */
bool checkpoint_writer_result(struct checkpoint_writer *writer, bool wait, struct checkpoint_result *result);

/* Waits for a write that is under way. NULL is fine. */
void checkpoint_writer_destroy(struct checkpoint_writer *writer);

#endif
