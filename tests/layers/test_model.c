/* test_model.c - a network that is larger than the model's tables is refused. Compiled with MODEL_MAX_NODES 42, the
 * number of operations of ResNet-18 for small images. */
#include <string.h>

#include "layers/backend/device.h"
#include "layers/model.h"
#include "tests/check.h"

static enum status create(struct device *device, int depth, bool imagenet_stem)
{
    struct model_config config = { .depth = depth,
                                   .imagenet_stem = imagenet_stem,
                                   .shortcut = true,
                                   .width = 4,
                                   .classes = 10,
                                   .image_size = 64,
                                   .csc = { .steps = 2, .lambda = 0.1f, .nonnegative = true } };
    struct model *model = NULL;
    enum status status = model_create(&model, device, &config);
    CHECK((status == STATUS_OK) == (model != NULL), "depth %d: status %d, but a model %p", depth, status,
          (void *)model);
    model_destroy(model);
    return status;
}

int main(void)
{
    struct device *device = NULL;
    if (device_open(&device, "ref", PRECISION_FP32, 1) != STATUS_OK) {
        fprintf(stderr, "%s\n", status_message());
        return 1;
    }
    CHECK(create(device, 18, false) == STATUS_OK, "a network that fills the table is refused: %s", status_message());
    CHECK(create(device, 18, true) == STATUS_USAGE && strstr(status_message(), "more than 42 operations"),
          "one operation too many: %s", status_message());
    CHECK(create(device, 50, false) == STATUS_USAGE && strstr(status_message(), "more than 42 operations"),
          "many operations too many: %s", status_message());
    device_close(device);
    return check_done("model");
}
