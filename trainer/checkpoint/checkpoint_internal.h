/* checkpoint_internal.h - what the checkpoint_*.c files share: names, manifest, state and folders. */
#ifndef CSC_TRAINER_CHECKPOINT_CHECKPOINT_INTERNAL_H
#define CSC_TRAINER_CHECKPOINT_CHECKPOINT_INTERNAL_H

#include "trainer/checkpoint/checkpoint.h"

#define CHECKPOINT_MODEL    "model.safetensors"
#define CHECKPOINT_STATE    "state.json"
#define CHECKPOINT_CONFIG   "config.yaml"
#define CHECKPOINT_MANIFEST "MANIFEST"

enum { CHECKPOINT_NAME = 48 };

/* optimizer.safetensors, or of several parts optimizer-%05d-of-%05d.safetensors, where the first is 1 (and its index
 * 0). */
void checkpoint_part_name(char name[CHECKPOINT_NAME], int index, int parts);

/* folder/name; STATUS_IO if too long. */
enum status checkpoint_join(char path[PATH_MAX], const char *folder, const char *name);

/* What MANIFEST says: of the model, the parts of the optimizer state, the state and the configuration, in this order.
 */
struct checkpoint_manifest {
    int parts; /* 1 to CHECKPOINT_PARTS */
    struct checkpoint_digest files[CHECKPOINT_PARTS + 3];
};

/* False if the text is not exactly one that checkpoint_write_manifest could have written, its own hash included. */
bool checkpoint_parse_manifest(const char *text, struct checkpoint_manifest *manifest);

/* Writes MANIFEST over the files that lie in folder. parts 0: the optimizer state is one file, hashed here like the
 * rest. Else its parts have these sums; only their lengths are looked at. */
enum status checkpoint_write_manifest(const char *folder, const struct checkpoint_digest *digests, int parts);
/* Whether a file of the checkpoint is not there, as opposed to one that cannot be read. */
bool checkpoint_lacks_file(const char *folder);
enum status checkpoint_read_manifest(const char *folder, struct checkpoint_manifest *manifest);

enum status checkpoint_write_state(const char *folder, const struct checkpoint_state *state);
/* Reads and checks state.json. state->extra is owned by the caller. */
enum status checkpoint_read_state(const char *folder, struct checkpoint_state *state);
/* The same from text in memory, named `name` in messages. */
enum status checkpoint_parse_state(const char *name, const char *text, size_t bytes, struct checkpoint_state *state);
/* Verifies and reads the state; its step must be the one in the folder's name, if that is step-[0-9]{8}. */
enum status checkpoint_check(const char *folder, struct checkpoint_state *state);

/* The step of a name step-[0-9]{8}, else -1. */
int64_t checkpoint_step_of_name(const char *name);
void checkpoint_step_name(char name[16], int64_t step);

/* Steps of the real folders of that name in RUN/checkpoints, newest first; the caller frees *steps. None if the folder
 * does not exist. */
enum status checkpoint_list_steps(const char *run, int64_t **steps, int *count);

/* Removes a folder of plain files; whatever else is in it stays, and is STATUS_IO. A link is never followed. */
enum status checkpoint_remove(const char *folder);

#endif
