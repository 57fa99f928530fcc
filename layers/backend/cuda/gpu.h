/* gpu.h - the state of one GPU: streams, cuDNN and cuBLASLt handles, plans of convolutions. Only for files of this
 * folder. */
#ifndef CSC_LAYERS_BACKEND_CUDA_GPU_H
#define CSC_LAYERS_BACKEND_CUDA_GPU_H

#include <cuda_runtime_api.h>

#include "layers/backend/cuda/device.h"
#include "layers/backend/cuda/gemm.h"
#include "layers/backend/cuda/plan_table.h"

#define GPU_WORKSPACE             ((size_t)256 << 20) /* bytes that a convolution's plan may use on the main stream */
#define GPU_SIDE_STREAM_WORKSPACE ((size_t)32 << 20)  /* and on the other streams */

/* The plan of a convolution: one of the two pointers is set, or neither where neither library has a plan. */
struct plan {
    struct dnn_plan *dnn;
    struct gemm_plan *gemm;
    bool float_result; /* the result is stored in fp32 */
    const char *label; /* describes a fused plan in traces; a string literal; NULL: not fused */
};

enum {
    GPU_BUILD_THREADS = 16, /* threads that build plans */
    GPU_LINEAR_SHAPES = 4   /* sizes of classifiers whose plans are kept */
};

/* The plans of a classifier's three products. */
struct linear_plans {
    int n, c, k;
    struct gemm_plan *plans[3];
};

/* One of the streams that can run at the same time, with the resources that work on it may not share. */
struct gpu_stream {
    cudaStream_t stream;
    cudnnHandle_t dnn;          /* its handle, bound to `stream` */
    void *workspace, *partials; /* partials lie behind the workspace, in the same allocation */
    size_t workspace_bytes;
    cudaEvent_t progress; /* recorded when another stream has to wait for this one */
};

struct gpu {
    struct cuda_device base;
    struct gpu_stream streams[DEVICE_STREAMS]; /* streams[0] is the main stream; the others are used between
                                                streams_begin and streams_end */
    cudaEvent_t events[DEVICE_EVENTS];         /* created when they are first recorded */
    int stream_index; /* the selected stream; stream, dnn, workspace and base.queue below belong to it */
    cudaStream_t stream, copy_stream; /* copy_stream: of prefetched batches */
    struct prefetch {
        void *memory;     /* device */
        size_t capacity;  /* bytes */
        const void *from; /* the host memory whose copy `memory` holds or receives; NULL: none */
        size_t bytes;
        cudaEvent_t arrived, consumed; /* the copy is complete; its reader is done, so that memory may be overwritten */
    } prefetch;
    int index;                                           /* of the GPU among those that the process sees */
    cudnnHandle_t dnn, build_handles[GPU_BUILD_THREADS]; /* build_handles: by thread; NULL: not created yet */
    cublasLtHandle_t gemm;
    struct linear_plans linear[GPU_LINEAR_SHAPES];
    int next_linear;
    void *workspace;
    /* The first error of an operation that returns no status; the next convolution returns it. */
    struct status_record failure;
    bool capturing;              /* between graph_capture_begin and graph_capture_end */
    const char *capture_failure; /* why the capture must fail, a string literal; NULL: nothing has gone wrong yet */
    struct gpu_plan_entry {      /* shared by all convolutions with this key */
        char key[PLAN_KEY];
        struct plan plan;
    } * plans;
    int plan_count;
    size_t plan_capacity;
    struct plan_table plan_table; /* the choices that were measured on this kind of GPU, by any run on this machine */
    char plan_table_path[PLAN_PATH], name[256];     /* path "": the table is not kept in a file */
    bool plan_table_changed, plan_table_unwritable; /* the file lacks an entry; writing it has failed */
    bool warned_unfused;                            /* the warning is given once */
    double plan_table_written_s, search_seconds; /* clock_seconds of the last write; time spent building candidates */
};

/* Keeps the first error in gpu->failure. */
void gpu_check(struct gpu *gpu, cudaError_t error, const char *file, int line);
#define GPU_CHECK(gpu, call) gpu_check(gpu, call, __FILE__, __LINE__)

/* plans.c
 * Reads the table of measured choices. A damaged file in the cache gives a warning; a damaged file that the user
 * named gives STATUS_DATA. */
enum status gpu_init_plans(struct gpu *gpu, int index);
/* Writes the table if it has new entries, and destroys all plans. */
void gpu_finish_plans(struct gpu *gpu);

/* Gets the plan for `spec`, creating it first if necessary. With device->tuned the fastest candidate is taken: a
 * choice that is known from the checkpoint or from the table is not measured again. Without device->tuned the first
 * candidate that can be built is taken. *plan may be empty, which is not an error: neither library has such a plan,
 * or a plain convolution followed by a separate epilogue is faster. A bf16 gradient's plan may store fp32 or bf16. */
enum status gpu_get_plan(struct gpu *gpu, const struct dnn_spec *spec, struct plan *plan);
/* Creates the plans of several specs at once; their candidates are built in parallel. */
enum status gpu_prepare_plans(struct gpu *gpu, const struct dnn_spec *specs, int count);
/* Gets the plan of a fused spec's convolution without its epilogue, with an fp32 result if there is such a plan. */
enum status gpu_get_plain_plan(struct gpu *gpu, const struct dnn_spec *fused, struct plan *plan);
bool gpu_plan_exists(const struct plan *plan);
enum status gpu_run_plan(struct gpu *gpu, const struct plan *plan, const struct dnn_operands *operands);

/* Decides whether CONV_TERMS terms of a gradient are faster as one convolution of CONV_TERMS times the batch. `one`
 * is the spec of a single term; copies_images: stacking also copies the images, not only the codes. The decision is
 * measured and kept as plans are; without device->tuned it follows from the number of bytes to copy. */
enum status gpu_choose_stacking(struct gpu *gpu, const struct dnn_spec *one, bool copies_images, bool *stacks);

void gpu_fill_conv(struct backend *table); /* conv.c */

/* linear.c */
void gpu_fill_linear(struct backend *table);
void gpu_destroy_linear_plans(struct linear_plans *plans);

/* streams.c */
cudaError_t gpu_create_streams(struct gpu *gpu); /* does not create cuDNN's handles */
void gpu_destroy_streams(struct gpu *gpu);
void gpu_select_stream(struct gpu *gpu, int index);
/* Selects the stream and makes it wait for everything queued so far on the stream selected before. */
void gpu_switch_stream(struct gpu *gpu, int index);
void gpu_fill_streams(struct backend *table);

/* graph.c
 * Leaves the slots empty if the environment has CSC_CUDA_GRAPH=0. */
void gpu_fill_graph(struct backend *table);
/* Makes the capture in progress fail, if there is one. why: a string literal. */
void gpu_fail_capture(struct gpu *gpu, const char *why);

void gpu_fill_profile(struct backend *table); /* profile.c */

#endif
