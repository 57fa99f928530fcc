/* ops.h - what check_ops is made of. An operation is planned as a task: operands with guard words on the
 * plain and on the tested device, filled alike; it is run on both and every operand is compared. */
#ifndef CSC_TESTS_LAYERS_BACKEND_OPS_H
#define CSC_TESTS_LAYERS_BACKEND_OPS_H

#include "base/philox.h"
#include "layers/backend/backend.h"

enum { REF, TESTED, SIDES };
enum { MAX_OPERANDS = 10, MAX_HIDDEN = 7, MAX_DIMENSIONS = 8 };

/* Activations have the element type of the device's precision. */
enum operand_kind { FLOATS, INT32 /* compared exactly */, ACTIVATIONS };

struct operand {
    const char *name;
    size_t count;
    enum operand_kind kind;
    void *host; /* as filled; an operand that the operation must not change still equals it */
    bool written;
    double scale;              /* the size of what cancels in it, where that is above its own; 0 if not said */
    struct arena arena[SIDES]; /* guard, data, guard */
};

/* Memory that an operation uses on one side and nobody compares: packed weights, scratch. */
struct hidden {
    const char *name;
    int side;
    size_t bytes;
    struct arena arena; /* guard, data, guard */
};

struct task {
    const struct op *op;
    struct device *device[SIDES];
    struct philox *random;
    bool exact;    /* small dyadic values: no operation rounds, results must be equal, thresholds and ties are hit */
    bool timed;    /* only the tested side */
    bool emulated; /* the tested device's libraries are the tests' own, and round once */
    char what[200];
    char failure[256]; /* why the device has no such operation, or what else was wrong; "": nothing */
    struct operand operand[MAX_OPERANDS];
    int operands;
    struct hidden hidden[MAX_HIDDEN];
    int hiddens;
    double slack;         /* times its tolerance, for shapes that are computed in a less exact way; 0 is 1 */
    double work, traffic; /* flops, bytes of one run */

    /* what the operations are planned with */
    struct conv_shape conv_shape;
    struct epilogue epilogue;
    int terms;
    bool stacked;
    float alpha[3];
    const float *device_scalars; /* in the tested device's memory instead of the host's; NULL: the host's */
    struct conv *conv[SIDES];
    void *scratch[SIDES];
    struct norm_shape norm;
    struct pool_shape pool;
    struct sgd sgd;
    int n, c, k;
    bool add, accumulate, of_sum;
    double result[SIDES]; /* of an operation that returns a number */
};

struct op {
    const char *name;
    /* Chooses a shape (`fixed` if not NULL) and makes the operands; false if this draw is not worth a run. */
    bool (*plan)(struct task *task, int draw, const int *fixed);
    void (*run)(struct task *task, int side);
    double tolerance; /* of max |difference| / root mean square of the plain result */
    double roundings; /* more than that in bf16: several roundings of one activation */
    int draws;
    bool exact; /* has draws without rounding */
    int bench[7][MAX_DIMENSIONS];
};

extern const struct op conv_ops[], norm_ops[], norm_max_ops[], small_ops[]; /* each ends with a NULL name */

/* New operands of the task, the same values on both sides. An input must not change. */
int task_input(struct task *task, const char *name, size_t count);
int task_output(struct task *task, const char *name, size_t count);
int task_activations(struct task *task, const char *name, size_t count);
int task_result(struct task *task, const char *name, size_t count); /* activations, written */
/* host holds count floats or int32; activations are rounded. */
int task_operand(struct task *task, const char *name, const void *host, size_t count, bool written,
                 enum operand_kind kind);
/* Guarded memory of one side, filled with NaN; bytes is rounded up to whole words. */
void *task_memory(struct task *task, const char *name, int side, size_t bytes);
/* Every second pair of draws, on a device that computes step sizes itself: `count` factors move to
 * task->device_scalars. */
void task_device_scalars(struct task *task, int draw, const float *factors, int count);
void *task_data(const struct task *task, int operand, int side);
void task_say(struct task *task, const char *format, ...) __attribute__((format(printf, 2, 3)));

int first_side(const struct task *task); /* REF, or TESTED when timed */

int random_in(struct task *task, int low, int high); /* both included */
bool random_bool(struct task *task);
float random_value(struct task *task);  /* normal, or a multiple of 1/8 in -2..2 */
float random_factor(struct task *task); /* 0.25 .. 2, or a power of two */

#define PICK(task, list) ((list)[random_in((task), 0, sizeof(list) / sizeof *(list)-1)])

#endif
