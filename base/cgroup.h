/* cgroup.h - the limits that a container or a batch system sets for this process through control groups, version 1 or
 * 2. The limits of all parent groups count too. `root` is "", or in tests a folder that stands for /. */
#ifndef CSC_BASE_CGROUP_H
#define CSC_BASE_CGROUP_H

#include <stddef.h>

double cgroup_cpus(const char *root);   /* quota of processor time in cores, such as 0.5; INFINITY without a quota */
int cgroup_cpuset(const char *root);    /* number of processors that the group may run on; 0 if unknown */
size_t cgroup_memory(const char *root); /* bytes that can still be allocated; SIZE_MAX without a limit */

#endif
