/* cgroup.h - what a container or a batch system lets this process have: the limits of its control groups, version 1 or
 * 2, and of all groups above them. */
#ifndef CSC_BASE_CGROUP_H
#define CSC_BASE_CGROUP_H

#include <stddef.h>

/* root: "", or a folder that stands for / in a test. */

double cgroup_cpus(const char *root);   /* of processor time, such as 0.5; INFINITY without a quota */
int cgroup_cpuset(const char *root);    /* how many processors the group may run on; 0 if there is no telling */
size_t cgroup_memory(const char *root); /* bytes that can still be taken; SIZE_MAX without a limit */

#endif
