/* nvrtc.c - whether cuDNN will find NVRTC, CUDA's run-time compiler, which it loads by name for its first fused
 * graph. Searches as cuDNN does: where the program and the system look, then where libcudnn_graph looks. */
#include "layers/backend/cuda/nvrtc.h"

#include <cudnn_graph.h>
#include <dlfcn.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>

#define TEXT(value)    #value
#define NAME_OF(major) "libcudnn_graph.so." TEXT(major)

/* The library stays loaded, for cuDNN. */
static bool loads(const char *folder, const char *library)
{
    char path[PATH_MAX];
    int length = snprintf(path, sizeof path, "%s%s%s", folder, folder[0] ? "/" : "", library);
    return length < (int)sizeof path && dlopen(path, RTLD_LAZY) != NULL;
}

bool library_found(const char *library)
{
    Dl_serinfo size, *search = NULL;
    bool found = loads("", library);
    void *graph = found ? NULL : dlopen(NAME_OF(CUDNN_MAJOR), RTLD_LAZY | RTLD_NOLOAD);
    if (graph && dlinfo(graph, RTLD_DI_SERINFOSIZE, &size) == 0)
        search = malloc(size.dls_size);
    if (search && dlinfo(graph, RTLD_DI_SERINFOSIZE, search) == 0 && dlinfo(graph, RTLD_DI_SERINFO, search) == 0)
        for (unsigned i = 0; i < search->dls_cnt && !found; i++)
            found = loads(search->dls_serpath[i].dls_name, library);
    free(search);
    if (graph)
        dlclose(graph);
    return found;
}

bool nvrtc_found(char name[32])
{
    snprintf(name, 32, "libnvrtc.so.%zu", cudnnGetCudartVersion() / 1000);
    return library_found(name) || library_found("libnvrtc.so"); /* the names that cuDNN tries */
}
