/* optimizer.h - SGD as torch.optim.SGD, or LARS (You et al. 2017), on a model's flat parameters. After each step the
 * atoms of dictionaries are scaled back to unit norm. */
#ifndef CSC_TRAINER_TRAIN_OPTIMIZER_H
#define CSC_TRAINER_TRAIN_OPTIMIZER_H

#include "layers/model.h"

struct optimizer_config {
    bool lars; /* scales the rate of each weight tensor by 0.001 |w| / (|g| + weight_decay |w|) */
    float momentum, weight_decay;
    bool nesterov;
    bool decay_norm_and_bias; /* whether weight decay applies to batch norm and biases; LARS never scales them */
    float ema;                /* weight of the old average at each step; 0: no averages */
};

struct optimizer {
    struct model *model;
    struct optimizer_config config;
    struct arena arena;               /* device memory of velocity, rows and averages */
    float *velocity;                  /* (model->count) */
    struct sgd_row *rows;             /* device: the parameters cut into rows, in their order */
    int *row_ends;                    /* host, (params_count): index behind the last row of each parameter */
    float *ema_weights, *ema_running; /* averages, (count) and (running_count); NULL without ema */
    bool first;                       /* no step was taken yet, so velocity holds nothing */
};

enum status optimizer_create(struct optimizer **optimizer, struct model *model, const struct optimizer_config *config);
size_t optimizer_bytes(const struct model *model, const struct optimizer_config *config);
void optimizer_destroy(struct optimizer *optimizer); /* NULL is fine */

/* Starts the averages at the model's present weights and running statistics. */
void optimizer_start_ema(struct optimizer *optimizer);

/* Updates the weights with the gradient scale * grads, projects the atoms and updates the averages. grads: device,
 * (model->count). */
void optimizer_step(struct optimizer *optimizer, const float *grads, float scale, float lr);

#endif
