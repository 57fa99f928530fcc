/* pack_job.h - a run of consecutive samples that a worker reads, decodes, shrinks and compresses. */
#ifndef CSC_DATA_WRITE_PACK_JOB_H
#define CSC_DATA_WRITE_PACK_JOB_H

#include <zstd.h>

#include "data/image/resize.h"
#include "data/write/pack_options.h"
#include "data/write/pack_source.h"
#include "data/write/pack_batch.h"

enum {
    PACK_GROUP = 63, /* samples; no job crosses a multiple of it. Of CIFAR's images these are three full blocks. */
};

enum pack_job_state { PACK_JOB_FREE, PACK_JOB_READY, PACK_JOB_RUNNING, PACK_JOB_DONE };

struct pack_job {
    enum pack_job_state state;
    int64_t first; /* samples [first, first + count) of the source */
    int count;
    struct pack_item items[PACK_GROUP]; /* read by the caller if the source is not parallel */
    struct pack_batch_sample samples[PACK_GROUP];
    struct status_record errors[PACK_GROUP]; /* code STATUS_OK: the sample is good */
    bool skippable[PACK_GROUP];              /* --bad skip covers the error */
    char names[PACK_GROUP][512];
    struct shard_frame frames[PACK_GROUP]; /* (frame_count): the job's blocks */
    int frame_count;
    uint8_t *frame_data; /* their bytes, one after the other */
    size_t frame_data_bytes, frame_data_capacity;
    struct status_record job_error; /* an error that concerns the whole job, such as no memory */
};

/* What a worker keeps from one job to the next; zero-initialise it. */
struct pack_worker {
    struct pack_item item; /* of a parallel source */
    struct image image, resized;
    struct resizer resizer;
    ZSTD_CCtx *zstd;
    uint8_t *raw; /* records of the block that is being filled */
    size_t raw_bytes, raw_capacity;
    uint32_t raw_samples;
    uint8_t *file; /* a JPEG that was made of a shrunk image or a WebP file */
    size_t file_capacity;
};

/* The number of samples of a job that begins at sample `first`; it does not go beyond `end`. */
int pack_job_length(const struct pack_source *source, int64_t first, int64_t end);

/* Reads sample i of the job into *item. A failure is recorded in the job. */
void pack_job_read(struct pack_job *job, int i, struct pack_source *source, struct pack_item *item);

/* Reads (if the source is parallel), decodes and compresses the job's samples. Failures are recorded in the job. */
void pack_job_process(struct pack_job *job, struct pack_source *source, const struct pack_options *options,
                      struct pack_worker *worker);
void pack_job_finish(struct pack_job *job);
void pack_worker_finish(struct pack_worker *worker);

#endif
