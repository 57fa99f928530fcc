/* imagenet.h - ImageNet's own archives as sources: the training tar, which holds a tar for each class, and the
 * validation tar with its labels.  Nothing is unpacked: images are read where they lie. */
#ifndef CSC_DATA_SOURCES_IMAGENET_H
#define CSC_DATA_SOURCES_IMAGENET_H

#include "data/sources/folder.h"

/* Classes are the names of the tars in the tar, sorted, or the `given` ones, if it is not NULL, in their order; images
 * are sorted by class and name. STATUS_IO, STATUS_DATA; STATUS_USAGE for an image whose class is not a given one. */
enum status imagenet_open_train(struct folder **folder, const char *path, const struct class_names *given);

/* Images in the order of their files' names, wherever in the archive they lie, labelled by a label file
 * (data/sources/labels.h); synsets: a synset file or NULL. Every label must be one of `classes`, and that of the folder
 * which the image lies in, if that is named as a class. STATUS_IO, STATUS_DATA. */
enum status imagenet_open_val(struct folder **folder, const char *path, const char *labels, const char *synsets,
                              const struct class_names *classes);

#endif
