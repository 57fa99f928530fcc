/* upload.h - copies a loader's micro-batch to a net. */
#ifndef CSC_TRAINER_MODEL_UPLOAD_H
#define CSC_TRAINER_MODEL_UPLOAD_H

#include "data/read/loader.h"
#include "layers/net.h"

/* Whether the loader should give this device images as bytes, which it normalises itself. */
bool upload_takes_bytes(const struct device *device);

/* The memory of a micro-batch's images, bytes or floats, and its size. */
const void *upload_memory(const struct micro_batch *batch, size_t floats_per_image, size_t *bytes);

/* Copies the first `count` images and their labels. */
enum status upload_batch(struct net *net, const struct micro_batch *batch, int count);

#endif
