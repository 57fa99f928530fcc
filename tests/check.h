/* check.h - what the tests share: checks that count, seeds that replay, skips that say why. */
#ifndef CSC_TESTS_CHECK_H
#define CSC_TESTS_CHECK_H

#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>

static int check_failures, check_total; /* a file's own: only the one with main includes this */

#define CHECK(condition, ...)                                               \
    do {                                                                    \
        check_total++;                                                      \
        if (!(condition)) {                                                 \
            check_failures++;                                               \
            fprintf(stderr, "%s:%d: %s: ", __FILE__, __LINE__, #condition); \
            fprintf(stderr, __VA_ARGS__);                                   \
            fprintf(stderr, "\n");                                          \
        }                                                                   \
    } while (0)

/* At the end of main: return check_done("name"); a program that checked nothing has failed. */
static inline int check_done(const char *name)
{
    printf("%s: %d checks, %d failed\n", name, check_total, check_failures);
    return check_failures || !check_total ? 1 : 0;
}

static inline int check_skip(const char *why)
{
    printf("skipped: %s\n", why);
    return 77;
}

#endif
