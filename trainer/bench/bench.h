/* bench.h - the subcommands of csc-bench, each in its bench_NAME.c, and what they share. */
#ifndef CSC_TRAINER_BENCH_BENCH_H
#define CSC_TRAINER_BENCH_BENCH_H

#include <getopt.h>
#include <jansson.h>

#include "base/status.h"

struct bench_command {
    const char *name;
    const char *operands; /* "DIR [options]", for the usage line */
    const char *summary;  /* one line */
    const char *help;     /* what it measures, and its options, one per line */
    /* argv[0] is the name of the subcommand. The caller has handled --help and --version. */
    enum status (*run)(int argc, char **argv);
};

extern const struct bench_command bench_allreduce, bench_layers, bench_loader, bench_scale, bench_step;

/* The next option, as getopt_long returns it, or -1. STATUS_USAGE for an unknown option or a missing value. */
enum status bench_next_option(int argc, char **argv, const struct option *options, int *option);

/* Parse a number between low and high with nothing after it. STATUS_USAGE names the option. */
enum status bench_parse_integer(const char *option, const char *text, long long low, long long high, long long *value);
enum status bench_parse_real(const char *option, const char *text, double low, double high, double *value);

/* *value is the index of text in names, which ends with NULL. STATUS_USAGE names the option. */
enum status bench_parse_choice(const char *option, const char *text, const char *const *names, int *value);

double bench_seconds(void);     /* monotonic clock */
double bench_cpu_seconds(void); /* processor time of all threads of this process */

/* Writes the object to a file, or to standard output for "-"; with path NULL it does nothing. Takes over the
 * reference. */
enum status bench_write_json(json_t *object, const char *path);

#endif
