/* libcuda.c - a driver without a GPU, so that cuDNN compiles its fused kernels on any machine. Code can be "loaded"
 * and kernels can be found in it; functions that need a GPU return an error. cuDNN looks up all of these names
 * before it uses any. */
#include <stddef.h>

enum { SUCCESS, NOT_THERE = 34 }; /* CUDA_ERROR_STUB_LIBRARY */

#define WORKS(name)     \
    int name(void);     \
    int name(void)      \
    {                   \
        return SUCCESS; \
    }
#define FAILS(name)       \
    int name(void);       \
    int name(void)        \
    {                     \
        return NOT_THERE; \
    }

/* Functions that set or unload something do nothing. */
WORKS(cuFuncSetAttribute)
WORKS(cuFuncSetCacheConfig)
WORKS(cuKernelSetAttribute)
WORKS(cuKernelSetCacheConfig)
WORKS(cuLibraryGetModule)
WORKS(cuLibraryUnload)
WORKS(cuModuleUnload)

FAILS(cuCtxGetCurrent)
FAILS(cuCtxGetLimit)
FAILS(cuCtxPopCurrent)
FAILS(cuCtxPushCurrent)
FAILS(cuDeviceGet)
FAILS(cuDeviceGetCount)
FAILS(cuGetErrorName)
FAILS(cuGetErrorString)
FAILS(cuLaunchCooperativeKernel)
FAILS(cuLaunchKernel)
FAILS(cuLaunchKernelEx)
FAILS(cuLibraryLoadFromFile)
FAILS(cuLinkAddData)
FAILS(cuLinkComplete)
FAILS(cuLinkCreate)
FAILS(cuLinkDestroy)
FAILS(cuStreamGetCtx)

static char something[4096]; /* handles and addresses point here */

int cuDriverGetVersion(int *version);
int cuDriverGetVersion(int *version)
{
    *version = 13000;
    return SUCCESS;
}

int cuLibraryLoadData(void **library, const void *code);
int cuLibraryLoadData(void **library, const void *code)
{
    (void)code;
    *library = something;
    return SUCCESS;
}

int cuModuleLoadData(void **module, const void *code);
int cuModuleLoadData(void **module, const void *code)
{
    return cuLibraryLoadData(module, code);
}

int cuLibraryGetKernel(void **kernel, void *library, const char *name);
int cuLibraryGetKernel(void **kernel, void *library, const char *name)
{
    (void)library;
    (void)name;
    *kernel = something;
    return SUCCESS;
}

int cuModuleGetFunction(void **function, void *module, const char *name);
int cuModuleGetFunction(void **function, void *module, const char *name)
{
    return cuLibraryGetKernel(function, module, name);
}

int cuKernelGetFunction(void **function, void *kernel);
int cuKernelGetFunction(void **function, void *kernel)
{
    *function = kernel;
    return SUCCESS;
}

int cuLibraryGetGlobal(void **address, size_t *bytes, void *library, const char *name);
int cuLibraryGetGlobal(void **address, size_t *bytes, void *library, const char *name)
{
    (void)library;
    (void)name;
    if (address)
        *address = something;
    if (bytes)
        *bytes = sizeof something;
    return SUCCESS;
}

/* Registers, shared memory and so on are 0. */
int cuFuncGetAttribute(int *value, int attribute, void *function);
int cuFuncGetAttribute(int *value, int attribute, void *function)
{
    (void)attribute;
    (void)function;
    *value = 0;
    return SUCCESS;
}

int cuKernelGetAttribute(int *value, int attribute, void *kernel, int device);
int cuKernelGetAttribute(int *value, int attribute, void *kernel, int device)
{
    (void)device;
    return cuFuncGetAttribute(value, attribute, kernel);
}

int cuOccupancyMaxActiveClusters(int *count, void *function, const void *config);
int cuOccupancyMaxActiveClusters(int *count, void *function, const void *config)
{
    (void)function;
    (void)config;
    *count = 60; /* more than any kernel asks for */
    return SUCCESS;
}

int cuOccupancyMaxPotentialClusterSize(int *size, void *function, const void *config);
int cuOccupancyMaxPotentialClusterSize(int *size, void *function, const void *config)
{
    (void)function;
    (void)config;
    *size = 8;
    return SUCCESS;
}
