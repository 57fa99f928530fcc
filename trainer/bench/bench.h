/* bench.h - the subcommands of csc-bench, each in its bench_NAME.c, and what they share. */
#ifndef CSC_TRAINER_BENCH_BENCH_H
#define CSC_TRAINER_BENCH_BENCH_H

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

/* Writes the object to a file, or to standard output for "-"; with path NULL it does nothing. Takes over the
 * reference. */
enum status bench_write_json(json_t *object, const char *path);

#endif
