/* cifar.h - the binary files of CIFAR-10 and CIFAR-100 as sources of samples. */
#ifndef CSC_DATA_SOURCES_CIFAR_H
#define CSC_DATA_SOURCES_CIFAR_H

#include "data/write/pack_source.h"

struct cifar;

/* `path` is the folder of the binary files, the folder above it, or the .tar.gz. `hundred` selects CIFAR-100 with its
 * fine labels. STATUS_IO; STATUS_DATA if none of the files is there. */
enum status cifar_open(struct cifar **cifar, const char *path, bool hundred);

/* The samples of the training files or of the test files; NULL if there are none. The source belongs to cifar and is
 * valid until the next call. */
struct pack_source *cifar_source(struct cifar *cifar, bool training);
void cifar_close(struct cifar *cifar);

#endif
