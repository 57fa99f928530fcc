/* bench_trace.h - a device whose every operation is timed, for csc-bench step and layers. */
#ifndef CSC_TRAINER_BENCH_BENCH_TRACE_H
#define CSC_TRAINER_BENCH_BENCH_TRACE_H

#include <jansson.h>

#include "layers/backend/backend.h"

/* One operation on one shape. */
struct trace_line {
    char name[32], shape[80];
    long calls;
    double seconds, flops; /* of all calls; flops of a direct sum */
    double moved, minimum; /* bytes read and written by passes over memory, and if each operand were once; of a
                            * convolution on the CPU   only the latter is known */
};

/* From here on every operation of the device adds to its line. One device at a time. */
void trace_start(struct device *device);
void trace_reset(void);
/* Gives the device its own table back. */
void trace_stop(struct device *device);

/* Lines by time, longest first; valid until the next operation. */
const struct trace_line *trace_lines(int *count);

struct trace_peaks {
    double flops, bytes;
}; /* a second */
/* What this device reaches in a large matrix product, a 1x1 convolution of 512 channels, and in a copy. */
enum status trace_measure_peaks(struct device *device, struct trace_peaks *peaks);

/* One line of a table, and as JSON; share is of `total` seconds. */
void trace_print_head(void);
void trace_print(const struct trace_line *line, int per, double total, const struct trace_peaks *peaks);
json_t *trace_json(const struct trace_line *line, int per, double total, const struct trace_peaks *peaks);

#endif
