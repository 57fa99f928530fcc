/* corrupted_sets.h - corrupted test sets as they are published: CIFAR-10-C's .npy files and ImageNet-C's folders. */
#ifndef CSC_TRAINER_EVAL_CORRUPTED_SETS_H
#define CSC_TRAINER_EVAL_CORRUPTED_SETS_H

#include <jansson.h>

#include "trainer/config/config.h"
#include "trainer/eval/evaluate.h"

enum corrupted_sets_kind { CORRUPTED_SETS_NONE, CORRUPTED_SETS_CIFAR10_C, CORRUPTED_SETS_IMAGENET_C };

enum status corrupted_sets_parse(const char *text, enum corrupted_sets_kind *kind); /* STATUS_USAGE */

struct corrupted_sets;

/* directory: NAME.npy (5 n, 32, 32, 3) of five severities and labels.npy; or NAME/SEVERITY/CLASS/FILE, perhaps in
 * folders of groups (noise/NAME/...). config: resolved; images are given as its network takes them, this rank's
 * micro-batches of eval.batch. STATUS_DATA, STATUS_IO; STATUS_USAGE if the classes do not fit the network, whose names
 * `classes` are (NULL: unknown; class folders are then numbered in their order); CIFAR-10-C's labels are numbers. */
enum status corrupted_sets_open(struct corrupted_sets **sets, enum corrupted_sets_kind kind, const char *directory,
                                const struct config *config, const json_t *classes, const struct comm *comm);
void corrupted_sets_close(struct corrupted_sets *sets); /* NULL is fine */

/* Every corruption in five severities, by name. */
int corrupted_sets_count(const struct corrupted_sets *sets);
const char *corrupted_sets_name(const struct corrupted_sets *sets, int corruption);

/* Starts one test set; images: how many it has. The source is the suite's. */
enum status corrupted_sets_start(struct corrupted_sets *sets, int corruption, int severity, struct image_source *source,
                                 int64_t *images);

/* AlexNet's mean error over the five severities, by which ImageNet-C's mCE divides; 0 for others than its 15. */
double corrupted_sets_alexnet_error(const char *name);

#endif
