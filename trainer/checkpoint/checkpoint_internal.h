/* checkpoint_internal.h - what the checkpoint_*.c files share: names, manifest, state and folders. */
#ifndef CSC_TRAINER_CHECKPOINT_CHECKPOINT_INTERNAL_H
#define CSC_TRAINER_CHECKPOINT_CHECKPOINT_INTERNAL_H

#include "trainer/checkpoint/checkpoint.h"

#define CHECKPOINT_MODEL    "model.safetensors"
#define CHECKPOINT_STATE    "state.json"
#define CHECKPOINT_CONFIG   "config.yaml"
#define CHECKPOINT_MANIFEST "MANIFEST"

enum { CHECKPOINT_NAME = 48 }; /* bytes of a file's name */

struct checkpoint_digest {
    uint64_t hash, bytes; /* XXH64 and length of a file */
};

/* optimizer.safetensors or, if there are several parts, optimizer-%05d-of-%05d.safetensors, where index 0 has the
 * number 1. */
void checkpoint_part_name(char name[CHECKPOINT_NAME], int index, int parts);

/* Writes folder/name to path; STATUS_IO if it is too long. */
enum status checkpoint_join(char path[PATH_MAX], const char *folder, const char *name);

/* The digests in MANIFEST: of the model, the parts of the optimizer state, the state and the configuration, in this
 * order. */
struct checkpoint_manifest {
    int parts; /* 1 to CHECKPOINT_PARTS */
    struct checkpoint_digest files[CHECKPOINT_PARTS + 3];
};

/* Returns false unless checkpoint_write_manifest could have written exactly this text, the hash in its last line
 * included. */
bool checkpoint_parse_manifest(const char *text, struct checkpoint_manifest *manifest);

/* Hashes the files in a folder, whose optimizer state is one file, and writes MANIFEST. */
enum status checkpoint_write_manifest(const char *folder);
enum status checkpoint_read_manifest(const char *folder, struct checkpoint_manifest *manifest);
/* Whether a file of the checkpoint is missing. A file that cannot be read is not. */
bool checkpoint_lacks_file(const char *folder);

enum status checkpoint_write_state(const char *folder, const struct checkpoint_state *state);
/* Reads and checks state.json. The caller owns state->extra. */
enum status checkpoint_read_state(const char *folder, struct checkpoint_state *state);
/* The same for text in memory. Messages call it `name`. */
enum status checkpoint_parse_state(const char *name, const char *text, size_t bytes, struct checkpoint_state *state);
/* Verifies a checkpoint and reads its state. If the folder is called step-[0-9]{8}, the state must be of that step. */
enum status checkpoint_check(const char *folder, struct checkpoint_state *state);

/* The step of a name step-[0-9]{8}; -1 for other names. */
int64_t checkpoint_step_of_name(const char *name);
void checkpoint_step_name(char name[16], int64_t step);

/* Lists the steps of the folders of such a name in RUN/checkpoints, newest first; links do not count. The caller frees
 * *steps. If the folder does not exist there are none. */
enum status checkpoint_list_steps(const char *run, int64_t **steps, int *count);

/* Removes a folder and the files in it. STATUS_IO if it holds anything else, which stays. Does not follow links. */
enum status checkpoint_remove(const char *folder);

#endif
