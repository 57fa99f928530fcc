/* optimizer.h - SGD as torch.optim.SGD, or LARS (You et al. 2017), on a model's flat parameters; then unit atoms. */
#ifndef CSC_TRAINER_TRAIN_OPTIMIZER_H
#define CSC_TRAINER_TRAIN_OPTIMIZER_H

#include "layers/model.h"

struct optimizer_config {
    bool lars; /* rate of each weight tensor scaled by 0.001 |w| / (|g| + decay |w|) */
    float momentum, weight_decay;
    bool nesterov;
    bool decay_norm_and_bias; /* false: batch norm and biases are not decayed, nor scaled by LARS */
    float ema;                /* share of the old average that stays at each step; 0 is off */
};

struct optimizer {
    struct model *model;
    struct optimizer_config config;
    struct arena arena;               /* device memory */
    float *velocity;                  /* (model->count) */
    struct sgd_row *rows;             /* device; the parameters', in their order */
    int *row_ends;                    /* host (params_count): rows up to and with this parameter */
    float *ema_weights, *ema_running; /* NULL if off */
    bool first;                       /* velocity is still empty */
};

enum status optimizer_create(struct optimizer **optimizer, struct model *model, const struct optimizer_config *config);
size_t optimizer_bytes(const struct model *model, const struct optimizer_config *config);
void optimizer_destroy(struct optimizer *optimizer); /* NULL is fine */

/* The averages start at the model's present weights. */
void optimizer_start_ema(struct optimizer *optimizer);

/* grads: flat, (model->count), counted `scale` times. Advances weights, projects atoms, averages. */
void optimizer_step(struct optimizer *optimizer, const float *grads, float scale, float lr);

#endif
