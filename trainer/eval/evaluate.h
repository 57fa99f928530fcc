/* evaluate.h - loss and accuracy of a model over a dataset, every image once, on all ranks. */
#ifndef CSC_TRAINER_EVAL_EVALUATE_H
#define CSC_TRAINER_EVAL_EVALUATE_H

#include "comm/comm.h"
#include "comm/watchdog/watchdog.h"
#include "data/read/loader.h"
#include "layers/net.h"
#include "trainer/eval/eval_statistics.h"
#include "trainer/model/adaptive.h"
#include "trainer/report/progress.h"

/* Sums are exact, so all but the time is the same for any number of ranks. */
struct evaluation {
    double loss;       /* mean cross-entropy without smoothing */
    double top1, top5; /* shares; top5 is 1 with five classes or fewer */
    int64_t images;
    int64_t missing; /* damaged, and left out */
    double seconds;
};

/* Where images come from: this rank's micro-batches in data order; *batch is NULL at their end. A source starts at its
 * first one. */
struct image_source {
    enum status (*next)(void *context, const struct micro_batch **batch);
    void *context;
};
struct image_source evaluate_loader(struct loader *loader);

struct evaluate_options {
    int64_t limit;                       /* images, in data order; 0: all */
    int64_t total;                       /* images that there are to evaluate */
    float *logits;                       /* (images, K) in data order, on rank 0 of one; or NULL */
    int64_t *labels;                     /* (images) likewise */
    struct eval_statistics *statistics;  /* adds to it; or NULL */
    struct csc_diagnostics *diagnostics; /* (csc_count), of the first batch; or NULL */
    struct adaptive *adaptive;           /* lambda by image; or NULL: as the net has it */
    struct progress *progress;           /* or NULL */
    struct watchdog *watchdog;           /* told of every batch; or NULL */
    int64_t step;                        /* for the watchdog */
    const char *phase;                   /* what progress calls it; NULL: "evaluating" */
};

/* How many of a micro-batch lie within the first `limit` images; 0 is no limit. */
int evaluate_images_within(const struct micro_batch *batch, int64_t limit);

/* For the line that gives the images: "" or " (3 damaged ones left out)". */
void evaluate_missing_text(int64_t missing, char text[64]);

/* Collective. n: the net's. STATUS_DATA if every image is damaged. */
enum status evaluate_source(struct net *net, int n, const struct model *model, const struct image_source *source,
                            struct comm *comm, const struct evaluate_options *options, struct evaluation *out);

/* The same from a loader, which is rewound first; its micro-batch must not exceed n. */
enum status evaluate(struct net *net, int n, const struct model *model, struct loader *loader, struct comm *comm,
                     const struct evaluate_options *options, struct evaluation *out);

#endif
