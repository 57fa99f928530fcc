/* checkpoint_files.h - what the checkpoint_*.c files share: names, manifest, state and folders. */
#ifndef CSC_TRAINER_CHECKPOINT_FILES_H
#define CSC_TRAINER_CHECKPOINT_FILES_H

#include "trainer/checkpoint.h"

#define CHECKPOINT_MODEL "model.safetensors"
#define CHECKPOINT_OPTIMIZER "optimizer.safetensors"
#define CHECKPOINT_STATE "state.json"
#define CHECKPOINT_CONFIG "config.yaml"
#define CHECKPOINT_MANIFEST "MANIFEST"

enum { CHECKPOINT_FILES = 4 };
extern const char *const checkpoint_files[CHECKPOINT_FILES]; /* as MANIFEST lists them */

/* folder/name; STATUS_IO if too long. */
enum status checkpoint_join(char path[PATH_MAX], const char *folder, const char *name);

/* What MANIFEST says of each of checkpoint_files. False if the text is not exactly one that checkpoint_write_manifest could
 * have written, its own hash included. */
struct checkpoint_expected {
    uint64_t hash, bytes;
};
bool checkpoint_parse_manifest(const char *text, struct checkpoint_expected out[CHECKPOINT_FILES]);

/* Writes MANIFEST over the four files that lie in folder. */
enum status checkpoint_write_manifest(const char *folder);

enum status checkpoint_write_state(const char *folder, const struct checkpoint_state *state);
/* Reads and checks state.json. state->extra is owned by the caller. */
enum status checkpoint_read_state(const char *folder, struct checkpoint_state *state);
/* The same from text in memory, named `name` in messages. */
enum status checkpoint_parse_state(const char *name, const char *text, size_t bytes, struct checkpoint_state *state);
/* Verifies and reads the state; its step must be the one in the folder's name, if that is step-[0-9]{8}. */
enum status checkpoint_examine(const char *folder, struct checkpoint_state *state);

/* The step of a name step-[0-9]{8}, else -1. */
int64_t checkpoint_name_step(const char *name);
void checkpoint_name(char name[16], int64_t step);

/* Steps of the real folders of that name in RUN/checkpoints, newest first; the caller frees *steps. None if the folder
 * does not exist. */
enum status checkpoint_steps(const char *run, int64_t **steps, int *count);

/* Removes a folder of plain files; whatever else is in it stays, and is STATUS_IO. A link is never followed. */
enum status checkpoint_remove(const char *folder);

#endif
