/* corrupted_sets.h - corrupted test sets as they are published: CIFAR-10-C's .npy files and ImageNet-C's folders. */
#ifndef CSC_TRAINER_EVAL_CORRUPTED_SETS_H
#define CSC_TRAINER_EVAL_CORRUPTED_SETS_H

#include <jansson.h>

#include "trainer/config/config.h"
#include "trainer/eval/evaluate.h"

enum suite_kind { SUITE_NONE, SUITE_CIFAR10_C, SUITE_IMAGENET_C };

enum status suite_parse(const char *text, enum suite_kind *kind); /* STATUS_USAGE */

struct suite;

/* directory: NAME.npy (5 n, 32, 32, 3) of five severities and labels.npy; or NAME/SEVERITY/CLASS/FILE, perhaps in
 * folders of groups (noise/NAME/...). config: resolved; images are given as its network takes them, this rank's
 * micro-batches of eval.batch. STATUS_DATA, STATUS_IO; STATUS_USAGE if the classes do not fit the network, whose names
 * `classes` are (NULL: unknown; class folders are then numbered in their order); CIFAR-10-C's labels are numbers. */
enum status suite_open(struct suite **suite, enum suite_kind kind, const char *directory, const struct config *config,
                       const json_t *classes, const struct comm *comm);
void suite_close(struct suite *suite); /* NULL is fine */

/* Every corruption in five severities, by name. */
int suite_corruptions(const struct suite *suite);
const char *suite_name(const struct suite *suite, int corruption);

/* Starts one test set; images: how many it has. The source is the suite's. */
enum status suite_start(struct suite *suite, int corruption, int severity, struct image_source *source,
                        int64_t *images);

/* AlexNet's mean error over the five severities, by which ImageNet-C's mCE divides; 0 for others than its 15. */
double suite_alexnet_error(const char *name);

#endif
