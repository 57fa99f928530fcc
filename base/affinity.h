/* affinity.h - the cores that this process may run on, and how it uses them.
 * "OpenMP's binding variables" are OMP_PROC_BIND, OMP_PLACES and GOMP_CPU_AFFINITY. */
#ifndef CSC_BASE_AFFINITY_H
#define CSC_BASE_AFFINITY_H

/* Number of cores that this process can use, at least 1: those in its affinity mask, limited by its control group's
 * quota of processor time (rounded) and by OpenMP's binding variables. The mask is the one that the process started
 * with or that affinity_pin has set. */
int affinity_cores(void);

/* The same for each of `local_ranks` ranks on this host, which share a quota, and an unrestricted mask, equally. */
int affinity_cores_per_rank(int local_ranks);

/* Lets the calling thread, which must not be one of OpenMP's, run on all cores of the mask, even if OpenMP's binding
 * variables have bound the thread that started it. */
void affinity_unbind_thread(void);

/* Warns (log_warn) about settings that make this rank slow: it is bound to fewer cores than its threads and data
 * workers need although the machine has more (Open MPI binds each of one or two ranks to a single core); OpenMP's
 * binding variables do so, or bind all ranks to the same cores; or there are more threads than the quota allows. */
void affinity_warn(int threads, int workers, int local_ranks);

/* Binds the calling thread, and threads that it starts later, to part `part` of `parts` equal parts of the machine's
 * cores. A part keeps cores of one package, and hardware threads of one core, together. Returns the number of cores in
 * it. Does nothing and returns 0 if the process may not use the whole machine, if a part would have fewer than
 * `threads` or fewer than two cores, or if OpenMP's binding variables are set. */
int affinity_pin(int part, int parts, int threads);

/* To be called first in main. OpenMP's threads wait for each other by spinning, which makes steps many times slower if
 * other processes need the cores. Its run-time library reads how long to spin from the environment before main starts.
 * If none of OMP_WAIT_POLICY, GOMP_SPINCOUNT and KMP_BLOCKTIME is set, this sets them to some ten microseconds and
 * executes the program again in this process. */
void affinity_limit_spinning(char **argv);

#endif
