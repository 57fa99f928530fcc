/* emulate.c - runs blocks of threads as fibers, see layers/backend/cuda/kernels/emulate.h. */
#undef _FORTIFY_SOURCE /* it would end the program at a jump to another stack */
#include "layers/backend/cuda/kernels/emulate.h"

#include <assert.h>
#include <setjmp.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <ucontext.h>

#include "tests/gpu_emulation/fake_cuda.h"

enum {
    MAX_THREADS = 1024,
    MAX_SHARED = 16,
    LANES = 32,
    STACK = 128 * 1024,
    MAX_ARGUMENT_BYTES = 4096
}; /* CUDA's limit */

enum state { WAITING_TO_START, RUNNING, AT_BARRIER, AT_SHUFFLE, DONE };

/* swapcontext makes a system call each time, for the signal mask: so it only makes a fiber's first step, and jumps
 * do the rest. AddressSanitizer must see every switch, so there swapcontext makes all of them. */
#if defined(__SANITIZE_ADDRESS__)
#define JUMPS 0
#elif !defined(__has_feature)
#define JUMPS 1
#else
#define JUMPS !__has_feature(address_sanitizer)
#endif

struct context {
    ucontext_t begun;
    jmp_buf left;
    bool waits; /* `left` is where it continues */
};

/* A fiber runs threads to their end, one after another. A thread that has to wait keeps its fiber. */
struct fiber {
    struct context context;
    bool started;
};

static struct thread {
    enum state state;
    struct fiber *fiber;
    double offered; /* its value in a shuffle */
} threads_of_block[MAX_THREADS];

static struct fiber fibers[MAX_THREADS], *idle[MAX_THREADS];
static int idle_count;

struct emulated_index threadIdx, blockIdx, blockDim, gridDim;

static struct context scheduler;
static struct fiber *current_fiber; /* the fiber that runs */
static emulated_kernel *running;
static const void *running_arguments;
static unsigned thread_count, started_count; /* of the block */
static bool backwards;
static const void *shared_seen[MAX_SHARED];
static int shared_count;
static unsigned launches;

static unsigned in_order(unsigned i)
{
    return backwards ? thread_count - 1 - i : i;
}

static void leave(struct context *from, struct context *to)
{
    if (!JUMPS) {
        swapcontext(&from->begun, &to->begun);
    } else if (_setjmp(from->left) == 0) {
        from->waits = true;
        if (to->waits)
            _longjmp(to->left, 1);
        setcontext(&to->begun);
    }
}

static void wait_as(enum state state)
{
    struct fiber *mine = current_fiber;
    threads_of_block[threadIdx.x].state = state;
    leave(&mine->context, &scheduler);
}

static void fiber_main(void)
{
    for (;;) {
        while (started_count < thread_count) {
            threadIdx.x = in_order(started_count++);
            threads_of_block[threadIdx.x].fiber = current_fiber;
            threads_of_block[threadIdx.x].state = RUNNING;
            running(running_arguments);
            threads_of_block[threadIdx.x].state = DONE;
        }
        struct fiber *mine = current_fiber;
        idle[idle_count++] = mine;
        leave(&mine->context, &scheduler);
    }
}

static void resume(struct fiber *fiber)
{
    current_fiber = fiber;
    leave(&scheduler, &fiber->context);
}

void emulate_barrier(void)
{
    wait_as(AT_BARRIER);
}

double emulate_shuffle(double v, int lanes)
{
    threads_of_block[threadIdx.x].offered = v;
    wait_as(AT_SHUFFLE);
    double received = threads_of_block[threadIdx.x ^ (unsigned)lanes].offered;
    wait_as(AT_SHUFFLE); /* nobody offers a new value before all have received this one */
    return received;
}

/* The first thread of each block that gets here fills the memory with NaN. */
void emulate_shared(void *memory, size_t bytes)
{
    for (int i = 0; i < shared_count; i++)
        if (shared_seen[i] == memory)
            return;
    assert(shared_count < MAX_SHARED);
    shared_seen[shared_count++] = memory;
    memset(memory, 0xff, bytes);
}

static void make_fiber(struct fiber *f)
{
    char *stack = malloc(STACK);
    if (!stack || getcontext(&f->context.begun) != 0) {
        fprintf(stderr, "emulate: out of memory for threads\n");
        abort();
    }
    f->context.begun.uc_stack.ss_sp = stack; /* never freed */
    f->context.begun.uc_stack.ss_size = STACK;
    f->context.begun.uc_link = NULL;
    makecontext(&f->context.begun, fiber_main, 0);
    f->started = true;
}

static struct fiber *idle_fiber(void)
{
    if (idle_count > 0)
        return idle[--idle_count];
    for (int i = 0; i < MAX_THREADS; i++)
        if (!fibers[i].started) {
            make_fiber(&fibers[i]);
            return &fibers[i];
        }
    abort();
}

static bool all_in(unsigned from, unsigned to, enum state state)
{
    for (unsigned t = from; t < to; t++)
        if (threads_of_block[t].state != state)
            return false;
    return true;
}

static void release(unsigned from, unsigned to)
{
    for (unsigned t = from; t < to; t++)
        threads_of_block[t].state = RUNNING;
}

/* Releases the threads whose barrier or shuffle is complete. Returns false if the block has ended. */
static bool advance(void)
{
    bool moved = false;
    unsigned threads = thread_count;
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

static void run_block(void)
{
    shared_count = 0;
    started_count = 0;
    for (unsigned t = 0; t < thread_count; t++)
        threads_of_block[t].state = WAITING_TO_START;
    do {
        for (unsigned i = 0; i < thread_count; i++) {
            threadIdx.x = in_order(i);
            struct thread *t = &threads_of_block[threadIdx.x];
            if (t->state == RUNNING)
                resume(t->fiber);
            else if (t->state == WAITING_TO_START)
                resume(idle_fiber());
        }
    } while (advance());
}

/* A launch; the kernel's arguments follow it in memory. */
struct launch {
    emulated_kernel *kernel;
    unsigned threads, x, y;
};

static void run_launch(const void *launch)
{
    const struct launch *l = launch;
    size_t blocks = (size_t)l->x * l->y;
    backwards = launches++ % 2;
    thread_count = l->threads;
    running = l->kernel;
    running_arguments = l + 1;
    blockDim = (struct emulated_index){ l->threads, 1 };
    gridDim = (struct emulated_index){ l->x, l->y };
    fake_cuda_unlock();
    for (size_t i = 0; i < blocks; i++) {
        size_t b = backwards ? blocks - 1 - i : i;
        blockIdx = (struct emulated_index){ (unsigned)(b % l->x), (unsigned)(b / l->x) };
        run_block();
    }
    fake_cuda_lock();
    fake_cuda_advance_clock(0.1);
}

void emulate_launch(void *stream, emulated_kernel *kernel, const void *arguments, size_t bytes, unsigned threads,
                    size_t blocks_x, size_t blocks_y)
{
    struct {
        struct launch launch;
        char arguments[MAX_ARGUMENT_BYTES];
    } all = { { kernel, threads, (unsigned)blocks_x, (unsigned)blocks_y }, "" };
    assert(threads <= MAX_THREADS && threads % LANES == 0 && bytes <= MAX_ARGUMENT_BYTES);
    assert(blocks_x >= 1 && blocks_x <= 0x7fffffff && blocks_y >= 1 && blocks_y <= 65535); /* CUDA's limits */
    memcpy(all.arguments, arguments, bytes);
    fake_cuda_enqueue(stream, run_launch, &all, sizeof all.launch + bytes);
}
