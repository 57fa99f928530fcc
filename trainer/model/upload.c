/* upload.c - the two forms of images, bytes and floats, in one place. */
#include "trainer/model/upload.h"

bool upload_takes_bytes(const struct device *device)
{
    return device->ops->upload_pixels != NULL;
}

const void *upload_memory(const struct micro_batch *batch, size_t floats_per_image, size_t *bytes)
{
    *bytes = batch->raw ? batch->raw_bytes : floats_per_image * batch->count * sizeof(float);
    return batch->raw ? batch->raw : batch->images;
}

enum status upload_batch(struct net *net, const struct micro_batch *batch, int count)
{
    if (batch->raw)
        return net_upload_pixels(net, batch->raw, batch->raw_bytes, batch->scale, batch->labels, count);
    return net_upload(net, batch->images, batch->labels, count);
}
