/* bench_trace.h - times every operation of a device, for csc-bench step and layers. */
#ifndef CSC_TRAINER_BENCH_BENCH_TRACE_H
#define CSC_TRAINER_BENCH_BENCH_TRACE_H

#include <jansson.h>

#include "layers/backend/backend.h"

/* The calls of one operation on one shape. */
struct trace_line {
    char name[32], shape[80];
    long calls;
    double seconds, flops; /* of all calls; the flops are those of a direct sum */
    /* Bytes of all calls: read and written, and the minimum if each operand were read or written once. For a
     * convolution on the CPU both are the minimum. */
    double moved, minimum;
};

/* Replaces the device's table: from now on every operation adds to its line. One device at a time. */
void trace_start(struct device *device);
/* Restores the device's own table. */
void trace_stop(struct device *device);

/* The lines, longest time first; valid until the next operation. */
const struct trace_line *trace_lines(int *count);

struct trace_peaks {
    double flops, bytes; /* per second */
};
/* Measures the speed of a large matrix product (a 1x1 convolution of at least 512 channels) and of a copy. */
enum status trace_measure_peaks(struct device *device, struct trace_peaks *peaks);

/* Print the head and a line of the table, or give a line as JSON. Values are per step, of `per` steps; shares are of
 * `total` seconds. */
void trace_print_head(void);
void trace_print(const struct trace_line *line, int per, double total, const struct trace_peaks *peaks);
json_t *trace_json(const struct trace_line *line, int per, double total, const struct trace_peaks *peaks);

#endif
