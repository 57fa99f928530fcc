/* profile.c - tells a profiler where to begin and end, and marks each step as an NVTX range. A build without NVTX's
 * headers leaves the ranges out. */
#include <cuda_profiler_api.h>
#if __has_include(<nvtx3/nvToolsExt.h>)
#include <nvtx3/nvToolsExt.h>
#define STEP_BEGINS() nvtxRangePushA("step")
#define STEP_ENDS()   nvtxRangePop()
#else
#define STEP_BEGINS() ((void)0)
#define STEP_ENDS()   ((void)0)
#endif

#include "layers/backend/cuda/gpu.h"

static void profile(struct device *device, enum profile_event mark)
{
    struct gpu *gpu = (struct gpu *)device;
    switch (mark) {
    case PROFILE_START: GPU_CHECK(gpu, cudaProfilerStart()); break;
    case PROFILE_STEP_START: STEP_BEGINS(); break;
    case PROFILE_STEP_END: STEP_ENDS(); break;
    case PROFILE_STOP: GPU_CHECK(gpu, cudaProfilerStop()); break;
    }
}

void gpu_fill_profile(struct backend *table)
{
    table->profile = profile;
}
