/* device.h - opens the devices that this build has. */
#ifndef CSC_LAYERS_BACKEND_DEVICE_H
#define CSC_LAYERS_BACKEND_DEVICE_H

#include "layers/backend/backend.h"

/* kind: "ref", "cpu", "cuda" (the first GPU) or "cuda:R" for rank R of this host. Such ranks take the GPUs that they
 * see in turn, whether they see all of the host's or, under a scheduler that divides them, only their own. threads
 * >= 1. STATUS_USAGE if there are more threads than DEVICE_MAX_THREADS, or if this build or machine lacks the kind or
 * the precision. */
enum status device_open(struct device **device, const char *kind, enum precision precision, int threads);
void device_close(struct device *device); /* NULL is fine */

bool device_has_cuda(void); /* whether this build has CUDA, on any machine */
/* STATUS_USAGE, saying why, unless rank `rank` of this host can use its GPU. */
enum status device_check_cuda(int rank);
/* For CUDA devices that are opened later. plans: a file that keeps the fastest plans of convolutions; it is read if it
 * exists and written at the end, instead of this machine's cache. timings: a file that every timing is appended to.
 * Either may be NULL for the default: the cache, and no timings. STATUS_USAGE if this build has no CUDA or a path is
 * too long. */
enum status device_plan_files(const char *plans, const char *timings);

#endif
