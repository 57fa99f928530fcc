/* pack_command.h - csc-pack's subcommands and the arguments that they get from the command line. */
#ifndef CSC_TRAINER_PACK_PACK_COMMAND_H
#define CSC_TRAINER_PACK_PACK_COMMAND_H

#include <stdbool.h>

#include "base/status.h"
#include "data/sources/synth.h"
#include "data/write/pack.h"

struct pack_arguments {
    const char *name; /* of the subcommand */
    char **operands;
    int operand_count;
    struct pack_options pack;
    struct synth_config synth;
    const char *resize; /* the option's text, or NULL */
    const char *root, *json, *synsets, *from;
    const char *classes; /* --classes of imagefolder and imagenet: a file or a dataset; NULL: not given */
    bool deep, drop, estimate;
};

/* These write datasets (pack_create.c). */
enum status run_cifar(const struct pack_arguments *arguments);
enum status run_imagefolder(const struct pack_arguments *arguments);
enum status run_imagenet(const struct pack_arguments *arguments);
enum status run_synth(const struct pack_arguments *arguments);
enum status run_merge(const struct pack_arguments *arguments);

/* These work on a dataset (pack_inspect.c). */
enum status run_verify(const struct pack_arguments *arguments);
enum status run_info(const struct pack_arguments *arguments);
enum status run_repair(const struct pack_arguments *arguments);
enum status run_bench(const struct pack_arguments *arguments);
/* Prints an estimate of the source's size with each codec, and of the time to pack and to decode it. */
enum status print_estimate(struct pack_source *source, const struct pack_options *options);

#endif
