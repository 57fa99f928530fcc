/* model_build.h - the network of a configuration. Only for model.c. */
#ifndef CSC_LAYERS_MODEL_BUILD_H
#define CSC_LAYERS_MODEL_BUILD_H

#include "layers/model.h"

/* Fills nodes, edges, parameters and their places in the flat buffer; the tables have room. STATUS_USAGE, STATUS_NOMEM. */
enum status model_build(struct model *model);

#endif
