/* stop.c - signal handlers that set a flag; the step loop looks at it between steps. */
#include "trainer/stop.h"

#include <errno.h>
#include <signal.h>
#include <stdatomic.h>
#include <string.h>

static atomic_int caught;                /* the first signal, 0 if none */
static atomic_int interrupts;            /* how often SIGINT came */
static _Atomic(const char *) own_reason; /* stop_request's */

static void on_signal(int number)
{
    int none = 0, error = errno;
    atomic_compare_exchange_strong(&caught, &none, number);
    if (number == SIGINT && atomic_fetch_add(&interrupts, 1) > 0) { /* asked twice by hand: now */
        signal(SIGINT, SIG_DFL);
        raise(SIGINT); /* taken when this handler returns */
    }
    errno = error;
}

enum status stop_install(void)
{
    enum status status = STATUS_OK;
    const int numbers[] = { SIGUSR1, SIGTERM, SIGINT };
    struct sigaction action = { .sa_handler = on_signal, .sa_flags = SA_RESTART };
    sigemptyset(&action.sa_mask);
    for (int i = 0; i < 3; i++)
        if (sigaction(numbers[i], &action, NULL) != 0)
            FAIL(STATUS_BUG, "cannot handle signal %d: %s", numbers[i], strerror(errno));
fail:
    return status;
}

bool stop_requested(void)
{
    return atomic_load(&caught) != 0 || atomic_load(&own_reason) != NULL;
}

const char *stop_reason(void)
{
    const char *own = atomic_load(&own_reason);
    switch (atomic_load(&caught)) {
    case SIGUSR1:
        return "SIGUSR1";
    case SIGTERM:
        return "SIGTERM";
    case SIGINT:
        return "SIGINT";
    default:
        return own ? own : "";
    }
}

void stop_request(const char *reason)
{
    atomic_store(&own_reason, reason);
}
