/* threads.h - the number of this OpenMP thread and of all; 0 and 1 in builds without OpenMP. */
#ifndef CSC_LAYERS_BACKEND_CPU_THREADS_H
#define CSC_LAYERS_BACKEND_CPU_THREADS_H

#ifdef _OPENMP
#include <omp.h>
#endif

static inline int thread_number(void)
{
#ifdef _OPENMP
    return omp_get_thread_num();
#else
    return 0;
#endif
}

static inline int thread_count(void)
{
#ifdef _OPENMP
    return omp_get_num_threads();
#else
    return 1;
#endif
}

#endif
