/* upload.h - a micro-batch on its way from the loader to a net. */
#ifndef CSC_TRAINER_MODEL_UPLOAD_H
#define CSC_TRAINER_MODEL_UPLOAD_H

#include "data/read/loader.h"
#include "layers/net.h"

/* Whether the loader should leave images as bytes to this device. */
bool upload_wants_raw(const struct device *device);

/* The memory of its images, raw or floats. */
const void *upload_memory(const struct micro_batch *batch, size_t floats_per_image, size_t *bytes);

/* The first `count` of its images, and their labels. */
enum status upload_batch(struct net *net, const struct micro_batch *batch, int count);

#endif
