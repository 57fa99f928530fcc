/* csc_bench.c - the program csc-bench: chooses the subcommand; also the functions that all subcommands share. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/affinity.h"
#include "base/log.h"
#include "base/options.h"
#include "trainer/bench/bench.h"
#include "trainer/report/json_output.h"

static const struct bench_command *const commands[] = {
    &bench_layers, &bench_step, &bench_loader, &bench_allreduce, &bench_scale,
};
enum { COMMANDS = sizeof commands / sizeof *commands };

enum status bench_write_json(json_t *object, const char *path)
{
    if (path)
        return json_output(object, path);
    json_decref(object);
    return STATUS_OK;
}

static void print_help(void)
{
    printf("usage: csc-bench SUBCOMMAND ... [options]\n\nMeasures parts of csc-train on this machine.\n\n");
    for (int i = 0; i < COMMANDS; i++)
        printf("  csc-bench %-10s %s\n", commands[i]->name, commands[i]->summary);
    printf("\ncsc-bench SUBCOMMAND --help describes a subcommand; --version prints the version.\n"
           "exit codes: 0 done; 2 usage; 65 bad data; 71 out of memory; 74 I/O\n");
}

static enum status run(int argc, char **argv)
{
    enum status status = STATUS_OK;
    const struct bench_command *command = NULL;
    TRY(options_check(argv));
    if (argc < 2)
        FAIL(STATUS_USAGE, "a subcommand is needed; csc-bench --help lists them");
    if (!strcmp(argv[1], "--version")) {
        puts("csc-bench " CSC_VERSION);
        return STATUS_OK;
    }
    if (!strcmp(argv[1], "--help")) {
        print_help();
        return STATUS_OK;
    }
    for (int i = 0; i < COMMANDS; i++)
        if (!strcmp(argv[1], commands[i]->name))
            command = commands[i];
    if (!command)
        FAIL(STATUS_USAGE, "'%s' is not a subcommand; csc-bench --help lists them", argv[1]);
    for (int i = 2; i < argc; i++)
        if (!strcmp(argv[i], "--help")) {
            printf("usage: csc-bench %s %s\n\n%s", command->name, command->operands, command->help);
            return STATUS_OK;
        }
    TRY(command->run(argc - 1, argv + 1));
fail:
    return status;
}

int main(int argc, char **argv)
{
    affinity_limit_spinning(argv);
    log_init("csc-bench", 0, 1);
    log_stdout_is_results();
    enum status status = log_finish(run(argc, argv));
    if (status != STATUS_OK)
        log_failure();
    return (int)status;
}
