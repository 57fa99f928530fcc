/* affinity.h - the cores that this process may run on. */
#ifndef CSC_BASE_AFFINITY_H
#define CSC_BASE_AFFINITY_H

/* Cores in this process's affinity mask, as it started or as affinity_pin left it, or fewer: the nearest number to its
 * control group's quota of processor time, and those that OMP_PLACES and its like leave to OpenMP. At least one. */
int affinity_cores(void);

/* The same for one of so many ranks of this host: a quota, and a mask that no launcher has narrowed, are shared out. */
int affinity_cores_per_rank(int local_ranks);

/* Lets the calling thread, which is not OpenMP's, run on all of the mask where OMP_PROC_BIND and its like have bound
 * the thread that started it. */
void affinity_unbind_thread(void);

/* Warns, through log_warn, where this rank was bound to fewer cores than its threads and data workers need although the
 * machine has more (Open MPI binds each of one or two ranks to a single core), where OMP_PROC_BIND and its like do that
 * or bind all ranks to the same cores, and where there are more threads than the quota. local_ranks: on this host. */
void affinity_warn(int threads, int workers, int local_ranks);

/* Where this process may use all cores of the machine: keeps the calling thread, and the threads that it will start, to
 * share `part` of `parts`, at least `threads` and two cores; cores of one package and hardware threads of one core stay
 * together. Returns how many those are; 0 if it left things as they were, as it does where OMP_PROC_BIND and its like
 * are set. */
int affinity_pin(int part, int parts, int threads);

/* To be called first in main. OpenMP's threads wait for each other by spinning, up to milliseconds, which on cores that
 * others need too makes steps many times slower. Its run-time reads how long from the environment before main: where
 * nothing is set there (OMP_WAIT_POLICY, GOMP_SPINCOUNT, KMP_BLOCKTIME), this sets some ten microseconds and starts the
 * program again in this process. */
void affinity_limit_spinning(char **argv);

#endif
