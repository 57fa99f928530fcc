/* evaluate.c - each rank evaluates its micro-batches; then the sums of losses and hits are all-reduced. */
#include "trainer/eval/evaluate.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "trainer/model/upload.h"

enum { LOSS, TOP1, TOP5, IMAGES, SUMS_COUNT };

static void add_batch(const struct micro_batch *batch, int used, const float *losses, const float *logits, int classes,
                      const struct evaluate_options *options, double sums[SUMS_COUNT])
{
    size_t at = (size_t)sums[IMAGES];
    for (int i = 0; i < used; i++) {
        const float *row = logits + (size_t)i * classes;
        int rank = eval_label_rank(row, classes, batch->labels[i]);
        sums[LOSS] += eval_to_fixed_point(losses[i]);
        sums[TOP1] += rank < 1;
        sums[TOP5] += rank < 5;
        if (options->statistics)
            eval_statistics_add(options->statistics, row, batch->labels[i]);
        if (options->logits)
            memcpy(options->logits + (at + i) * classes, row, classes * sizeof *row);
        if (options->labels)
            options->labels[at + i] = batch->labels[i];
    }
    sums[IMAGES] += used;
}

int evaluate_images_within(const struct micro_batch *batch, int64_t limit)
{
    int used = batch->count;
    while (limit > 0 && used > 0 && (int64_t)batch->ids[used - 1] >= limit)
        used--;
    return used;
}

void evaluate_missing_text(int64_t missing, char text[64])
{
    text[0] = 0;
    if (missing > 0)
        snprintf(text, 64, " (%lld damaged %s left out)", (long long)missing, missing == 1 ? "one" : "ones");
}

static enum status evaluate_local(struct net *net, int n, int classes, const struct image_source *source,
                                  const struct evaluate_options *options, double sums[SUMS_COUNT])
{
    enum status status = STATUS_OK;
    const struct micro_batch *batch;
    struct csc_diagnostics *diagnostics = options->diagnostics;
    float *losses = malloc(n * sizeof *losses), *logits = malloc((size_t)n * classes * sizeof *logits);
    if (!losses || !logits)
        FAIL(STATUS_NOMEM, "out of memory for an evaluation");
    for (;;) {
        watchdog_enter(options->watchdog, WATCHDOG_EVALUATING, options->step);
        TRY(source->next(source->context, &batch));
        int used = batch ? evaluate_images_within(batch, options->limit) : 0;
        if (used == 0)
            break;
        if (options->adaptive)
            TRY(adaptive_apply(options->adaptive, net, batch->images, used));
        TRY(upload_batch(net, batch, used));
        TRY(net_infer(net, diagnostics));
        TRY(net_losses(net, 0, losses, logits));
        add_batch(batch, used, losses, logits, classes, options, sums);
        if (options->progress)
            progress_phase(options->progress, options->phase ? options->phase : "evaluating",
                           (int64_t)batch->ids[used - 1] + 1, options->total);
        diagnostics = NULL;
    }
fail:
    free(losses);
    free(logits);
    return status;
}

enum status evaluate_source(struct net *net, int n, const struct model *model, const struct image_source *source,
                            struct comm *comm, const struct evaluate_options *options, struct evaluation *out)
{
    enum status status = STATUS_OK;
    double sums[SUMS_COUNT] = { 0 }, start = clock_seconds();
    status = evaluate_local(net, n, model->config.classes, source, options, sums);
    watchdog_set_waiting(options->watchdog, true);
    TRY(comm_agree(comm, status));
    TRY(comm->ops->all_reduce_f64(comm, sums, SUMS_COUNT));
    if (options->statistics)
        TRY(eval_statistics_all_reduce(options->statistics, comm));
    watchdog_set_waiting(options->watchdog, false);
    double images = sums[IMAGES];
    if (!(images > 0))
        FAIL(STATUS_DATA, "none of the %lld images can be read", (long long)options->total);
    *out = (struct evaluation){ .loss = sums[LOSS] * EVAL_FIXED_POINT_UNIT / images,
                                .top1 = sums[TOP1] / images,
                                .top5 = sums[TOP5] / images,
                                .images = (int64_t)images,
                                .missing = options->total - (int64_t)images,
                                .seconds = clock_seconds() - start };
fail:
    return status;
}

static enum status next_from_loader(void *context, const struct micro_batch **batch)
{
    return loader_next(context, batch);
}

struct image_source evaluate_loader(struct loader *loader)
{
    return (struct image_source){ next_from_loader, loader };
}

enum status evaluate(struct net *net, int n, const struct model *model, struct loader *loader, struct comm *comm,
                     const struct evaluate_options *options, struct evaluation *out)
{
    enum status status = STATUS_OK;
    struct image_source source = evaluate_loader(loader);
    TRY(comm_agree(comm, loader_seek(loader, 0, 0)));
    TRY(evaluate_source(net, n, model, &source, comm, options, out));
fail:
    return status;
}
