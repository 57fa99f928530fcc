/* evaluate.h - loss and accuracy of a model over a dataset, every image once, on all ranks. */
#ifndef CSC_TRAINER_EVALUATE_H
#define CSC_TRAINER_EVALUATE_H

#include "comm/comm.h"
#include "comm/watch.h"
#include "data/loader.h"
#include "layers/net.h"
#include "trainer/progress.h"

struct evaluation {
    double loss;        /* mean cross-entropy without smoothing */
    double top1, top5;  /* shares; top5 is 1 with five classes or fewer */
    int64_t images;
    double seconds;
};

struct evaluate_options {
    int64_t limit;      /* images, in data order; 0: all */
    int64_t total;      /* images of the dataset, for progress */
    float *logits;      /* (images, K) in data order, on rank 0 of one; or NULL */
    struct csc_diagnostics *diagnostics; /* (csc_count), of the first batch; or NULL */
    struct progress *progress;           /* or NULL */
    struct watch *watch;                 /* told of every batch; or NULL */
    int64_t step;                        /* for the watch */
};

/* Collective. The loader is rewound first; its micro-batch must not exceed the net's n. */
enum status evaluate(struct net *net, int n, const struct model *model, struct loader *loader, struct comm *comm,
                     const struct evaluate_options *options, struct evaluation *out);

#endif
