/* architectures.h - the network of a configuration. Only for model.c. */
#ifndef CSC_LAYERS_ARCHITECTURES_H
#define CSC_LAYERS_ARCHITECTURES_H

#include "layers/model.h"

/* Fills nodes, edges, parameters and their places in the flat buffer; the tables have room. STATUS_USAGE, STATUS_NOMEM.
 */
enum status model_build(struct model *model);

#endif
