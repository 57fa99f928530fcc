/* bench.h - csc-bench's subcommands, each in its bench_NAME.c, and what they share. */
#ifndef CSC_TRAINER_BENCH_BENCH_H
#define CSC_TRAINER_BENCH_BENCH_H

#include <getopt.h>
#include <jansson.h>

#include "base/status.h"

struct bench_command {
    const char *name;
    const char *operands; /* "DIR [options]", for the usage line */
    const char *summary;  /* one line */
    const char *help;     /* what it measures, and its options, each on a line of its own */
    /* argv[0] is the subcommand's name; --help, --version and the choice of the subcommand are done with. */
    enum status (*run)(int argc, char **argv);
};

extern const struct bench_command bench_allreduce, bench_layers, bench_loader, bench_scale, bench_step;

/* The next option as getopt_long gives it (its `val`), or -1; STATUS_USAGE for an unknown one or a missing value. */
enum status bench_next_option(int argc, char **argv, const struct option *options, int *option);

/* Numbers in a range and nothing behind them; STATUS_USAGE names the option. */
enum status bench_parse_integer(const char *option, const char *text, long long low, long long high, long long *value);
enum status bench_parse_real(const char *option, const char *text, double low, double high, double *value);

/* value: the place of text among names, which NULL ends; STATUS_USAGE names the option. */
enum status bench_parse_choice(const char *option, const char *text, const char *const *names, int *value);

double bench_seconds(void);     /* seconds, monotonic */
double bench_cpu_seconds(void); /* processor time of all threads of this process, in seconds */

/* Writes the object to a file, or to standard output for "-"; NULL does nothing. Takes the reference. */
enum status bench_write_json(json_t *object, const char *path);

#endif
