/* affinity.h - the cores that this process may run on. */
#ifndef CSC_BASE_AFFINITY_H
#define CSC_BASE_AFFINITY_H

/* Cores in this process's affinity mask; all of the machine's if there is no telling. */
int affinity_cores(void);

/* Warns once, through log_warn, where this rank was bound to fewer cores than its threads and data workers
 * need although the machine has more: Open MPI binds each of one or two ranks to a single core.
 * local_ranks: ranks on this host. */
void affinity_warn(int threads, int workers, int local_ranks);

/* Where this process may use all cores of the machine: keeps the calling thread, and the threads that it will start, to
 * share `part` of `parts`, at least `threads` and two cores; cores of one package and hardware threads of one core stay together.
 * Returns how many those are; 0 if it left things as they were, as it does where OMP_PROC_BIND is false. */
int affinity_pin(int part, int parts, int threads);

/* To be called first in main. OpenMP's threads wait for each other by spinning, up to milliseconds, which on cores that
 * others need too makes steps many times slower. Its run-time reads how long from the environment before main: where
 * nothing is set there (OMP_WAIT_POLICY, GOMP_SPINCOUNT, KMP_BLOCKTIME), this sets some ten microseconds and starts the
 * program again in this process. */
void affinity_wait_calmly(char **argv);

#endif
