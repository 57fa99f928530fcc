/* plan_table.h - the fastest plan of each convolution on one kind of GPU: a table, kept in a text file.
 *     # graph=choice milliseconds TFLOP/s kernel
 *     cudnn.91900.adjoint.add.256x56x56x64.64.3.1.1.bf16=e2:24.13 0.3120 345.1 cudnn_generated_convBwdData_...
 * Lines that begin with # are comments. Everything behind the choice is optional. */
#ifndef CSC_LAYERS_BACKEND_CUDA_PLAN_TABLE_H
#define CSC_LAYERS_BACKEND_CUDA_PLAN_TABLE_H

#include "layers/backend/cuda/dnn.h"

enum { PLAN_KEY = DNN_SPEC_KEY, PLAN_LINE = 512, PLAN_PATH = 512 };

struct plan_entry {
    char key[PLAN_KEY], choice[DNN_CHOICE_TEXT];
    float ms, tflops;             /* 0: not measured */
    char kernel[DNN_KERNEL_NAME]; /* "" if cuDNN does not tell */
};

struct plan_table {
    struct plan_entry *entries;
    int count;
    size_t capacity;
};

void plan_table_finish(struct plan_table *table);
const struct plan_entry *plan_table_find(const struct plan_table *table, const char *key); /* NULL if absent */
enum status plan_table_set(struct plan_table *table, const struct plan_entry *entry); /* adds or replaces an entry */

/* Adds the file's entries. The file is not trusted: STATUS_DATA, with file and line, if it is malformed. */
enum status plan_table_read(struct plan_table *table, const char *path);
/* heading: text of the first line, such as the GPU's name. */
enum status plan_table_write(const struct plan_table *table, const char *path, const char *heading);
/* Prints one line of the file. */
void plan_entry_print(const struct plan_entry *entry, char line[PLAN_LINE]);

#endif
