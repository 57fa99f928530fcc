/* other_onednn.c - linked into csc-train, makes the oneDNN that it loads look like another version. */
#include <dnnl.h>

const dnnl_version_t *dnnl_version(void)
{
    static const dnnl_version_t other = { .major = 1, .minor = 96, .patch = 7, .hash = "other" };
    return &other;
}
