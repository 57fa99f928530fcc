/* imagenet.h - ImageNet's own archives as sources: the training tar, which holds a tar for each class, and the
 * validation tar with its labels.  Nothing is unpacked: images are read where they lie. */
#ifndef CSC_DATA_IMAGENET_H
#define CSC_DATA_IMAGENET_H

#include "data/folder.h"

/* Classes are the names of the tars in the tar, sorted; images are sorted by class and name. STATUS_IO, STATUS_DATA. */
enum status imagenet_open_train(struct folder **folder, const char *path);

/* Images in the order of their names, labelled by a label file (data/labels.h); synsets: a synset file or NULL.
 * Every label must be one of the `classes` names, which are sorted. STATUS_IO, STATUS_DATA. */
enum status imagenet_open_val(struct folder **folder, const char *path, const char *labels, const char *synsets,
                              int classes, char *const *names);

#endif
