/* emulate.c - blocks of threads as fibers, see emulate.h. */
#include "layers/cuda/emulate.h"

#include <assert.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <ucontext.h>

enum { MOST_THREADS = 1024, MOST_SHARED = 16, LANES = 32, STACK = 128 * 1024 };

enum state { RUNNING, AT_BARRIER, AT_SHUFFLE, DONE };

static struct fiber {
    ucontext_t context;
    char *stack;
    enum state state;
    double given; /* to a shuffle */
} fibers[MOST_THREADS];

struct emulated_index threadIdx, blockIdx, blockDim, gridDim;

static ucontext_t scheduler;
static emulated_kernel *running;
static const void *running_arguments;
static const void *shared_seen[MOST_SHARED];
static int shared_count;
static unsigned launches;

static void wait_as(enum state state)
{
    struct fiber *f = &fibers[threadIdx.x];
    f->state = state;
    swapcontext(&f->context, &scheduler);
}

static void fiber_main(void)
{
    for (;;) {
        running(running_arguments);
        wait_as(DONE);
    }
}

void emulate_barrier(void)
{
    wait_as(AT_BARRIER);
}

double emulate_shuffle(double v, int lanes)
{
    fibers[threadIdx.x].given = v;
    wait_as(AT_SHUFFLE);
    double taken = fibers[threadIdx.x ^ (unsigned)lanes].given;
    wait_as(AT_SHUFFLE); /* nobody gives again before all have taken */
    return taken;
}

/* The first thread of a block that comes by fills the memory with NaN. */
void emulate_shared(void *memory, size_t bytes)
{
    for (int i = 0; i < shared_count; i++)
        if (shared_seen[i] == memory)
            return;
    assert(shared_count < MOST_SHARED);
    shared_seen[shared_count++] = memory;
    memset(memory, 0xff, bytes);
}

static void ready_fiber(struct fiber *f)
{
    if (!f->stack) {
        f->stack = malloc(STACK);
        if (!f->stack || getcontext(&f->context) != 0) {
            fprintf(stderr, "emulate: out of memory for threads\n");
            abort();
        }
        f->context.uc_stack.ss_sp = f->stack;
        f->context.uc_stack.ss_size = STACK;
        f->context.uc_link = NULL;
        makecontext(&f->context, fiber_main, 0);
    }
    f->state = RUNNING;
}

static bool all_in(unsigned from, unsigned to, enum state state)
{
    for (unsigned t = from; t < to; t++)
        if (fibers[t].state != state)
            return false;
    return true;
}

static void release(unsigned from, unsigned to)
{
    for (unsigned t = from; t < to; t++)
        fibers[t].state = RUNNING;
}

/* Lets threads go on whose barrier or shuffle is complete; false if the block has ended. */
static bool advance(unsigned threads)
{
    bool moved = false;
    if (all_in(0, threads, DONE))
        return false;
    if (all_in(0, threads, AT_BARRIER)) {
        release(0, threads);
        return true;
    }
    for (unsigned w = 0; w < threads; w += LANES)
        if (all_in(w, w + LANES, AT_SHUFFLE)) {
            release(w, w + LANES);
            moved = true;
        }
    if (!moved) {
        fprintf(stderr, "emulate: some threads of block %u,%u wait at a barrier or shuffle that others never reach\n",
                blockIdx.x, blockIdx.y);
        abort();
    }
    return true;
}

static void run_block(unsigned threads, bool backwards)
{
    shared_count = 0;
    for (unsigned t = 0; t < threads; t++)
        ready_fiber(&fibers[t]);
    do {
        for (unsigned i = 0; i < threads; i++) {
            threadIdx.x = backwards ? threads - 1 - i : i;
            if (fibers[threadIdx.x].state == RUNNING)
                swapcontext(&scheduler, &fibers[threadIdx.x].context);
        }
    } while (advance(threads));
}

void emulate_launch(emulated_kernel *kernel, const void *arguments, unsigned threads, size_t blocks_x, size_t blocks_y)
{
    assert(threads <= MOST_THREADS && threads % LANES == 0);
    assert(blocks_x >= 1 && blocks_x <= 0x7fffffff && blocks_y >= 1 && blocks_y <= 65535); /* CUDA's limits */
    bool backwards = launches++ % 2;
    running = kernel;
    running_arguments = arguments;
    blockDim = (struct emulated_index){ threads, 1 };
    gridDim = (struct emulated_index){ (unsigned)blocks_x, (unsigned)blocks_y };
    for (size_t i = 0; i < blocks_x * blocks_y; i++) {
        size_t b = backwards ? blocks_x * blocks_y - 1 - i : i;
        blockIdx = (struct emulated_index){ (unsigned)(b % blocks_x), (unsigned)(b / blocks_x) };
        run_block(threads, backwards);
    }
}
