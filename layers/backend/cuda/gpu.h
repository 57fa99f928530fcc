/* gpu.h - the GPU behind the table: streams, cuDNN, plans. Only for layers/cuda. */
#ifndef CSC_LAYERS_BACKEND_CUDA_GPU_H
#define CSC_LAYERS_BACKEND_CUDA_GPU_H

#include <cuda_runtime_api.h>

#include "layers/backend/cuda/device.h"
#include "layers/backend/cuda/gemm.h"
#include "layers/backend/cuda/plan_table.h"

#define GPU_WORKSPACE             ((size_t)256 << 20) /* bytes that a convolution's plan may use, */
#define GPU_SIDE_STREAM_WORKSPACE ((size_t)32 << 20)  /* and in any lane but the first: more than one image wants */

/* Of a convolution, by cuDNN or by cuBLASLt; both NULL: neither has one. */
struct plan {
    struct dnn_plan *dnn;
    struct gemm_plan *gemm;
    bool float_result; /* it stores fp32 */
    const char *label; /* of a fused one, for a trace; a literal */
};

enum {
    GPU_BUILD_THREADS = 16,
    GPU_LINEAR_SHAPES = 4
}; /* threads that build plans; shapes of classifiers whose plans are kept */

/* By enum dnn_kind; NULL: none. */
struct linear_plans {
    int n, c, k;
    struct gemm_plan *plans[3];
};

/* What work that is queued side by side has of its own. */
struct gpu_stream {
    cudaStream_t stream;
    cudnnHandle_t dnn;          /* whose stream is that one */
    void *workspace, *partials; /* behind it, of the same allocation */
    size_t workspace_bytes;
    cudaEvent_t progress; /* by what waits for it: what was queued there so far */
};

struct gpu {
    struct cuda_device base;
    struct gpu_stream streams[DEVICE_LANES]; /* the first is all there is, but between fork and join */
    cudaEvent_t events[DEVICE_MARKS];        /* NULL: not used yet */
    int stream_index;                        /* that is queued in; stream, dnn, workspace and base.queue are its */
    cudaStream_t stream, copy_stream;        /* of kernels; of batches that come ahead */
    struct prefetch {
        void *memory;     /* device */
        size_t capacity;  /* bytes */
        const void *from; /* host: what lies there or is on its way; NULL: nothing */
        size_t bytes;
        cudaEvent_t arrived, consumed; /* it has arrived; memory may be written again */
    } prefetch;
    int index;                                           /* of the GPU on this host */
    cudnnHandle_t dnn, build_handles[GPU_BUILD_THREADS]; /* builders: of threads that build plans; NULL: not yet */
    cublasLtHandle_t gemm;
    struct linear_plans linear[GPU_LINEAR_SHAPES];
    int next_linear;
    void *workspace;
    /* Operations without a status leave their first failure here; the next convolution returns it. */
    struct status_record failure;
    bool capturing;              /* the stream is being captured */
    const char *capture_failure; /* why that must fail; NULL: so far it need not */
    struct gpu_plan_entry {      /* shared by all convolutions of a shape */
        char key[PLAN_KEY];
        struct plan plan;
    } * plans;
    int plan_count, plan_capacity;
    struct plan_table
        plan_table; /* choices measured on such a GPU by any run of this machine, as in known_path; "" : no file */
    char plan_table_path[512], name[256];           /* name: the GPU's */
    bool plan_table_changed, plan_table_unwritable; /* there is more than the file has; which cannot be written */
    bool warned_unfused;                            /* that something is not fused is said once */
    double plan_table_written_s,
        search_seconds; /* when it was (clock_seconds); seconds that building candidates took */
};

/* Remembers the first failure. */
void gpu_check(struct gpu *gpu, cudaError_t error, const char *file, int line);
#define GPU_CHECK(gpu, call) gpu_check(gpu, call, __FILE__, __LINE__)

/* plans.c. Reads what is known of this GPU. A damaged file of the cache is a warning, one that was asked for
 * STATUS_DATA. */
enum status gpu_init_plans(struct gpu *gpu, int index);
/* Writes what has been learnt; destroys all plans. */
void gpu_finish_plans(struct gpu *gpu);

/* The plan for this graph: by measured time (recorded in device->tuned and the machine's file, and taken from there),
 * or without a table of choices the first one. Having none is no error: there is none, or of a fused graph its
 * convolution alone and a pass behind it are faster. Of a gradient in bf16 it may store fp32 or bf16. */
enum status gpu_get_plan(struct gpu *gpu, const struct dnn_spec *spec, struct plan *plan);
/* So that gpu_plan finds all of these: built side by side. */
enum status gpu_prepare_plans(struct gpu *gpu, const struct dnn_spec *specs, int count);
/* The plan of a fused graph's convolution alone: to fp32 if there is one, else to the precision. */
enum status gpu_get_plain_plan(struct gpu *gpu, const struct dnn_spec *fused, struct plan *plan);
bool gpu_plan_exists(const struct plan *plan);
enum status gpu_run_plan(struct gpu *gpu, const struct plan *plan, const struct dnn_operands *operands);

/* Whether a gradient's CONV_TERMS terms are faster as one convolution of so many times the batch than as one each; one:
 * of a term. copies_images: a term's image is copied for that, as its code is. Measured, recorded and taken over as
 * plans are; without a table of choices by how much is copied. */
enum status gpu_choose_stacking(struct gpu *gpu, const struct dnn_spec *one, bool copies_images, bool *stacks);

void gpu_fill_conv(struct backend *table); /* conv.c */

/* linear.c */
void gpu_fill_linear(struct backend *table);
void gpu_destroy_linear_plans(struct linear_plans *plans);

/* streams.c */
cudaError_t gpu_create_streams(struct gpu *gpu); /* all but cuDNN's handles */
void gpu_destroy_streams(struct gpu *gpu);
void gpu_select_stream(struct gpu *gpu, int index);
/* Goes on in that lane, after what has been queued in the one before. */
void gpu_switch_stream(struct gpu *gpu, int index);
void gpu_fill_streams(struct backend *table);

/* graph.c. Nothing where CSC_CUDA_GRAPH is 0. */
void gpu_fill_graph(struct backend *table);
/* Makes the recording under way fail, if there is one; why: a literal. */
void gpu_fail_capture(struct gpu *gpu, const char *why);

void gpu_fill_profile(struct backend *table); /* profile.c */

#endif
