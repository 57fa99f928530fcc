/* model_internal.h - what architectures.c uses of model.c. */
#ifndef CSC_LAYERS_MODEL_INTERNAL_H
#define CSC_LAYERS_MODEL_INTERNAL_H

#include "layers/model.h"

#ifndef MODEL_MAX_NODES /* a test sets it */
#define MODEL_MAX_NODES 400
#endif

/* An empty model, with tables for MODEL_MAX_NODES nodes. */
enum status model_new(struct model **model, struct device *device, const struct model_config *config);
/* Once the network is built: plans power iterations and device memory. */
enum status model_plan(struct model *model);

#endif
