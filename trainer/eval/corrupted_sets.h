/* corrupted_sets.h - published sets of corrupted test images (--suite): CIFAR-10-C's .npy files and ImageNet-C's
 * folders. */
#ifndef CSC_TRAINER_EVAL_CORRUPTED_SETS_H
#define CSC_TRAINER_EVAL_CORRUPTED_SETS_H

#include <jansson.h>

#include "trainer/config/config.h"
#include "trainer/eval/evaluate.h"

enum corrupted_sets_kind { CORRUPTED_SETS_NONE, CORRUPTED_SETS_CIFAR10_C, CORRUPTED_SETS_IMAGENET_C };

/* Parses "cifar10-c" or "imagenet-c". STATUS_USAGE. */
enum status corrupted_sets_parse(const char *text, enum corrupted_sets_kind *kind);

struct corrupted_sets;

/* Lists the corruptions in `directory`. For CIFAR-10-C it has NAME.npy (5 n, 32, 32, 3), with five severities one
 * after another, and labels.npy; its labels are class numbers. For ImageNet-C it has NAME/SEVERITY/CLASS/FILE,
 * possibly in folders of groups (noise/NAME/...).
 *
 * config must be resolved: images are prepared for its network, in micro-batches of eval.batch. classes are the names
 * of the network's classes, which must outlive the sets; NULL: unknown, and class folders are numbered in their order.
 * STATUS_DATA, STATUS_IO; STATUS_USAGE if the classes do not fit the network. */
enum status corrupted_sets_open(struct corrupted_sets **sets, enum corrupted_sets_kind kind, const char *directory,
                                const struct config *config, const json_t *classes, const struct comm *comm);
void corrupted_sets_close(struct corrupted_sets *sets); /* accepts NULL */

/* The number of corruptions, sorted by name; each has five severities. */
int corrupted_sets_count(const struct corrupted_sets *sets);
const char *corrupted_sets_name(const struct corrupted_sets *sets, int corruption);

/* Starts the set of one corruption and severity (1..5); *images is its size. The source belongs to the sets and ends
 * with the next start. */
enum status corrupted_sets_start(struct corrupted_sets *sets, int corruption, int severity, struct image_source *source,
                                 int64_t *images);

/* AlexNet's mean error over the five severities, by which ImageNet-C's mCE divides; 0 for corruptions that are not
 * among its 15. */
double corrupted_sets_alexnet_error(const char *name);

#endif
