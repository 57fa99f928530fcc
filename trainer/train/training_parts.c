/* training_parts.c - what the phases of a run share: the clock, agreement of the ranks, intervals of the log. */
#include "trainer/train/training_parts.h"

#include "base/clock.h"
#include "base/log.h"

enum status training_agree(struct training *t, enum status mine)
{
    watchdog_set_waiting(t->options.watchdog, true);
    enum status all = comm_agree(t->comm, mine);
    watchdog_set_waiting(t->options.watchdog, false);
    if (all != STATUS_OK)
        *t->agreed = true;
    return all;
}

/* Training continues where a line cannot be written, for example on a full disk. The operator is told once in a run,
 * even if shorter lines still fit in between. */
enum status training_tolerate_full_disk(bool *warned, enum status written)
{
    if (written == STATUS_IO && !*warned)
        log_warn("%s: lines are lost until it can be written again", status_message());
    *warned |= written == STATUS_IO;
    return written == STATUS_IO ? STATUS_OK : written;
}

void training_start_interval(struct training *t)
{
    t->interval = (struct interval){ .start_s = clock_seconds() };
    loader_stats(t->loader, &t->interval.data);
}
