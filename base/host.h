/* host.h - the name of the machine. */
#ifndef CSC_BASE_HOST_H
#define CSC_BASE_HOST_H

#include <stdio.h>
#include <unistd.h>

/* Writes it, cut to bytes - 1 characters; "unknown" if it has none. */
static inline void host_name(char *name, size_t bytes)
{
    name[bytes - 1] = 0;
    if (gethostname(name, bytes - 1) != 0 || !name[0])
        snprintf(name, bytes, "unknown");
}

#endif
