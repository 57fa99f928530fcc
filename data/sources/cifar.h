/* cifar.h - CIFAR-10's and CIFAR-100's binary files as a source of samples. */
#ifndef CSC_DATA_SOURCES_CIFAR_H
#define CSC_DATA_SOURCES_CIFAR_H

#include "data/write/pack.h"

struct cifar;

/* path: the folder of the binary files, or one above it, or the .tar.gz. hundred: CIFAR-100, fine labels.
 * STATUS_IO, STATUS_DATA if none of the files is there. */
enum status cifar_open(struct cifar **cifar, const char *path, bool hundred);

/* The samples of the training or test files; NULL if there are none. Belongs to cifar; one at a time. */
struct pack_source *cifar_source(struct cifar *cifar, bool training);
void cifar_close(struct cifar *cifar);

#endif
