/* checkpoint_writer.h - a thread that writes checkpoints and deletes old ones while training continues. */
#ifndef CSC_TRAINER_CHECKPOINT_CHECKPOINT_WRITER_H
#define CSC_TRAINER_CHECKPOINT_CHECKPOINT_WRITER_H

#include "trainer/checkpoint/checkpoint.h"

struct checkpoint_writer;

struct checkpoint_result {
    struct status_record record; /* its code is STATUS_OK, or it says why nothing was written */
    int64_t step;
    char path[PATH_MAX];             /* of a whole checkpoint */
    struct checkpoint_digest digest; /* of a part */
    double seconds;                  /* how long it took */
};

/* keep: for checkpoint_retain, after each whole checkpoint. */
enum status checkpoint_writer_create(struct checkpoint_writer **writer, const char *run, int keep);

/* Starts to write a whole checkpoint (only the holder of the run's lock may), or a part of one. The result of the write
 * before must have been taken. All memory that the argument points to must stay unchanged until the result of this one
 * has been taken. With contents->parts, the writer sets await_parts itself, and waits for checkpoint_writer_set_parts
 * before the checkpoint gets its final name. */
void checkpoint_writer_start(struct checkpoint_writer *writer, const struct checkpoint_contents *contents);
void checkpoint_writer_start_part(struct checkpoint_writer *writer, const struct checkpoint_part *part);

/* Tells the writer of a whole checkpoint that nobody writes a part any more: whether all parts were written, and their
 * digests. */
void checkpoint_writer_set_parts(struct checkpoint_writer *writer, const struct status_record *outcome,
                                 const struct checkpoint_digest *digests);

bool checkpoint_writer_busy(struct checkpoint_writer *writer);

/* Takes the result of a write that has ended; returns false if there is none. With `wait` it waits for a write that is
 * under way. */
bool checkpoint_writer_result(struct checkpoint_writer *writer, bool wait, struct checkpoint_result *result);

/* Waits for a write that is under way. A checkpoint whose parts are still unknown is given up. NULL is fine. */
void checkpoint_writer_destroy(struct checkpoint_writer *writer);

#endif
