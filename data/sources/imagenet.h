/* imagenet.h - ImageNet's own archives as sources: the training tar, which holds a tar for each class, and the
 * validation tar with its label file. Nothing is unpacked; images are read where they lie. */
#ifndef CSC_DATA_SOURCES_IMAGENET_H
#define CSC_DATA_SOURCES_IMAGENET_H

#include "data/sources/folder.h"

/* The classes are the names of the inner tars, sorted; or, if `given` is not NULL, the given ones in their order.
 * Images are sorted by class and name. STATUS_IO, STATUS_DATA; STATUS_USAGE for an image whose class is not given. */
enum status imagenet_open_train(struct folder **folder, const char *path, const struct class_names *given);

/* Images are sorted by file name, whatever folder of the archive they lie in, and labelled by a label file (see
 * labels.h) and, if it is not NULL, a synset file. STATUS_DATA if a label is not one of `classes`, or if an image lies
 * in a folder that is named like another class; STATUS_IO. */
enum status imagenet_open_val(struct folder **folder, const char *path, const char *labels, const char *synsets,
                              const struct class_names *classes);

#endif
