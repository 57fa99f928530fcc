/* phase.h - what a rank's main thread is doing. */
#ifndef CSC_COMM_WATCHDOG_PHASE_H
#define CSC_COMM_WATCHDOG_PHASE_H

/* Only in EXCHANGING a rank waits for other ranks; see also watchdog_set_waiting. STARTING, EVALUATING, SAVING and
 * ENDING may take WATCHDOG_LONG_PHASE_FACTOR times as long as the other phases. The values are part of the frames. */
enum watchdog_phase {
    WATCHDOG_STARTING,
    WATCHDOG_LOADING,
    WATCHDOG_COMPUTING,
    WATCHDOG_EXCHANGING,
    WATCHDOG_UPDATING,
    WATCHDOG_EVALUATING,
    WATCHDOG_SAVING,
    WATCHDOG_ENDING,
    WATCHDOG_PHASES,
};
enum { WATCHDOG_LONG_PHASE_FACTOR = 6 };

#endif
