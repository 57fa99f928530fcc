/* pack_command.h - csc-pack's subcommands and what its command line gives them. */
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
    const char *resize; /* as given, or NULL */
    const char *root, *json, *synsets, *from;
    const char *classes; /* a list of them, or a dataset */
    bool deep, drop, estimate, help;
};

/* pack_create.c: these write datasets. */
enum status run_cifar(const struct pack_arguments *arguments);
enum status run_imagefolder(const struct pack_arguments *arguments);
enum status run_imagenet(const struct pack_arguments *arguments);
enum status run_synth(const struct pack_arguments *arguments);
enum status run_merge(const struct pack_arguments *arguments);

/* pack_inspect.c: these look at one. */
enum status run_verify(const struct pack_arguments *arguments);
enum status run_info(const struct pack_arguments *arguments);
enum status run_repair(const struct pack_arguments *arguments);
enum status run_bench(const struct pack_arguments *arguments);
/* What packing the source with each codec would give, from a sample of it. */
enum status print_estimate(struct pack_source *source, const struct pack_options *options);

#endif
