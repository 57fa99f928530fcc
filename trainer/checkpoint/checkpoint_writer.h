/* checkpoint_writer.h - a thread that writes checkpoints, and clears old ones away, while training goes on. */
#ifndef CSC_TRAINER_CHECKPOINT_CHECKPOINT_WRITER_H
#define CSC_TRAINER_CHECKPOINT_CHECKPOINT_WRITER_H

#include "trainer/checkpoint/checkpoint.h"

struct checkpoint_writer;

struct checkpoint_result {
    struct status_record record; /* code STATUS_OK, or why there is no checkpoint */
    int64_t step;
    char path[PATH_MAX];             /* of a checkpoint */
    struct checkpoint_digest digest; /* of a part */
    double seconds;                  /* that writing took */
};

enum status checkpoint_writer_create(struct checkpoint_writer **writer, const char *run, int keep);

/* Begins to write: a checkpoint (the holder of the run's lock) or a part of one. All that it points to stays untouched
 * until the result has been taken; so must the one before have been. With contents->parts, await_parts is the writer's
 * own: the checkpoint gets its name only after checkpoint_writer_set_parts. */
void checkpoint_writer_start(struct checkpoint_writer *writer, const struct checkpoint_contents *contents);
void checkpoint_writer_start_part(struct checkpoint_writer *writer, const struct checkpoint_part *part);

/* No one writes a part any more: whether all are there, and their sums. */
void checkpoint_writer_set_parts(struct checkpoint_writer *writer, const struct status_record *outcome,
                                 const struct checkpoint_digest *digests);

bool checkpoint_writer_busy(struct checkpoint_writer *writer);

/* Whether a write has ended whose result was not taken yet; takes it. wait: waits for one that is under way. */
bool checkpoint_writer_result(struct checkpoint_writer *writer, bool wait, struct checkpoint_result *result);

/* Waits likewise, but not for parts: without them there is no checkpoint. NULL is fine. */
void checkpoint_writer_destroy(struct checkpoint_writer *writer);

#endif
