/* model_io.h - the tensors of a model by name, in the order and form in which files hold them. Convolutions are
 * (D,C,k,k) in files. All values are F32. */
#ifndef CSC_LAYERS_MODEL_IO_H
#define CSC_LAYERS_MODEL_IO_H

#include "layers/model.h"

/* Where tensors are written to or read from. `find` gives the memory of a tensor, which has dims numbers in its shape,
 * or none if it is a scalar. It fails if there is no such tensor of this shape. */
struct tensor_store {
    enum status (*find)(void *context, const char *name, int dims, const int *shape, float **data);
    void *context;
};

/* Writes the parameters of a flat buffer on the device as PREFIX + NAME, and running statistics if `running` is not
 * NULL. */
enum status model_io_write(const struct model *model, const struct tensor_store *store, const char *prefix,
                           const float *flat, const float *running);
/* Reads the same tensors. All must be there. With `check`, they are only searched, and the model need not be
 * allocated. */
enum status model_io_read(struct model *model, const struct tensor_store *store, const char *prefix, float *flat,
                          float *running, bool check);

/* Vectors of the power iterations, power.LAYER (H,W,C), and step sizes, eta.LAYER. */
enum status model_io_write_power(struct model *model, const struct tensor_store *store);
enum status model_io_read_power(struct model *model, const struct tensor_store *store);

/* Whether a parameter or running statistic has this name. */
bool model_io_has(const struct model *model, const char *name);

#endif
