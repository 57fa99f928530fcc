/* stop.c - signal handlers that set a flag, which the loop reads between steps. */
#include "trainer/train/stop.h"

#include <errno.h>
#include <signal.h>
#include <stdatomic.h>
#include <string.h>

#include "base/clock.h"

/* Two interrupts within this time count as one: `timeout -s INT` signals the process, and then its group. */
static const double one_keystroke_s = 0.5;

static const struct {
    int number;
    const char *name;
    bool unless_ignored; /* left alone if it is ignored, as nohup ignores SIGHUP */
} signals[] = {
    { SIGUSR1, "SIGUSR1", false }, { SIGTERM, "SIGTERM", false }, { SIGINT, "SIGINT", false },
    { SIGUSR2, "SIGUSR2", true },  { SIGXCPU, "SIGXCPU", true },  { SIGHUP, "SIGHUP", true },
};
enum { SIGNALS = sizeof signals / sizeof *signals };

static bool ignored[SIGNALS];            /* whether a signal was ignored when the program was loaded */
static atomic_int caught;                /* the first signal; 0 if none */
static _Atomic double interrupted;       /* time of the first SIGINT; 0 if none */
static _Atomic(const char *) own_reason; /* what stop_request was given */

static void on_signal(int number)
{
    int none = 0, error = errno;
    double first = 0, now = clock_seconds();
    atomic_compare_exchange_strong(&caught, &none, number);
    bool again = number == SIGINT && !atomic_compare_exchange_strong(&interrupted, &first, now);
    if (again && now - first > one_keystroke_s) {
        signal(SIGINT, SIG_DFL); /* a second interrupt by hand ends the process now */
        raise(SIGINT);           /* delivered when this handler returns */
    }
    errno = error;
}

/* Runs before the constructors of all libraries, and so before a sanitizer is ready: builds with one leave it out. */
#ifndef CSC_SANITIZED
static void note_ignored(void)
{
    struct sigaction now;
    for (int i = 0; i < SIGNALS; i++)
        ignored[i] = signals[i].unless_ignored && sigaction(signals[i].number, NULL, &now) == 0 &&
                     now.sa_handler == SIG_IGN;
}
__attribute__((section(".preinit_array"), used)) static void (*const before_libraries)(void) = note_ignored;
#endif

void stop_keep_ignored(void)
{
    for (int i = 0; i < SIGNALS; i++)
        if (ignored[i])
            signal(signals[i].number, SIG_IGN);
}

enum status stop_install(void)
{
    enum status status = STATUS_OK;
    struct sigaction before, action = { .sa_handler = on_signal, .sa_flags = SA_RESTART };
    sigemptyset(&action.sa_mask);
    for (int i = 0; i < SIGNALS; i++) {
        bool keep = signals[i].unless_ignored && sigaction(signals[i].number, NULL, &before) == 0 &&
                    before.sa_handler == SIG_IGN;
        if (!keep && sigaction(signals[i].number, &action, NULL) != 0)
            FAIL(STATUS_BUG, "cannot handle %s: %s", signals[i].name, strerror(errno));
    }
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
    int number = atomic_load(&caught);
    for (int i = 0; i < SIGNALS; i++)
        if (signals[i].number == number)
            return signals[i].name;
    return own ? own : "";
}

void stop_request(const char *reason)
{
    atomic_store(&own_reason, reason);
}
