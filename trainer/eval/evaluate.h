/* evaluate.h - loss and accuracy of a model over a dataset. All ranks together evaluate every image once. */
#ifndef CSC_TRAINER_EVAL_EVALUATE_H
#define CSC_TRAINER_EVAL_EVALUATE_H

#include "comm/comm.h"
#include "comm/watchdog/watchdog.h"
#include "data/read/loader.h"
#include "layers/net.h"
#include "trainer/eval/eval_statistics.h"
#include "trainer/model/adaptive.h"
#include "trainer/report/progress.h"

/* Everything except the time is the same for any number of ranks, because the sums are exact. */
struct evaluation {
    double loss;       /* mean cross-entropy without smoothing */
    double top1, top5; /* fractions of the images; top5 is 1 with five classes or fewer */
    int64_t images;
    int64_t missing; /* damaged images, which are left out */
    double seconds;
};

/* A source of images: next gives this rank's micro-batches in data order, and sets *batch to NULL at the end. A new
 * source starts at its first micro-batch. */
struct image_source {
    enum status (*next)(void *context, const struct micro_batch **batch);
    void *context;
};
struct image_source evaluate_loader(struct loader *loader);

struct evaluate_options {
    int64_t limit;   /* only the first images, in data order; 0: all */
    int64_t total;   /* number of images to evaluate, for progress and for the count of missing ones */
    float *logits;   /* (images, K) in data order, or NULL; only with one rank */
    int64_t *labels; /* (images), or NULL; only with one rank */
    struct eval_statistics *statistics;  /* the evaluation is added to it; or NULL */
    struct csc_diagnostics *diagnostics; /* (csc_count), of the first batch; or NULL */
    struct adaptive *adaptive;           /* sets lambda for each image; NULL: the net's own lambda */
    struct progress *progress;           /* rank 0, or NULL */
    struct watchdog *watchdog;           /* notified before every batch; or NULL */
    int64_t step;                        /* the optimizer step, for the watchdog */
    const char *phase;                   /* the name of the phase in the progress; NULL: "evaluating" */
};

/* The number of images of a micro-batch that are within the first `limit` images of the data; 0: no limit. */
int evaluate_images_within(const struct micro_batch *batch, int64_t limit);

/* Text to follow the number of images: "" or " (3 damaged ones left out)". */
void evaluate_missing_text(int64_t missing, char text[64]);

/* Evaluates the images of a source. Collective. n is the batch of the net. STATUS_DATA if every image is damaged. */
enum status evaluate_source(struct net *net, int n, const struct model *model, const struct image_source *source,
                            struct comm *comm, const struct evaluate_options *options, struct evaluation *out);

/* The same from a loader, which is rewound first. Its micro-batch must not be larger than n. */
enum status evaluate(struct net *net, int n, const struct model *model, struct loader *loader, struct comm *comm,
                     const struct evaluate_options *options, struct evaluation *out);

#endif
