/* test_watchdog.c - the table, the frames, and four ranks as threads of one process that hang, fail, and receive
 * connections of strangers. */
#include <arpa/inet.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stddef.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "comm/watchdog/sockets.h"
#include "comm/watchdog/table.h"
#include "comm/watchdog/watchdog.h"
#include "tests/check.h"

/* ---- the table ---- */

static struct watchdog_entry entries[4];

static struct watchdog_table new_table(double now)
{
    for (int i = 0; i < 4; i++) {
        entries[i] = (struct watchdog_entry){ .last_heard = now,
                                              .last_progress = now,
                                              .progress = { WATCHDOG_EXCHANGING, false, 17, 5 } };
        snprintf(entries[i].host, sizeof entries[i].host, "node%d", i);
    }
    return (struct watchdog_table){ .size = 4, .timeout = 10, .ranks = entries };
}

static void heard_all_but(struct watchdog_table *t, double now, int but)
{
    for (int i = 0; i < 4; i++)
        if (i != but)
            t->ranks[i].last_heard = now;
}

static void check_table(void)
{
    char line[512] = "";
    struct watchdog_table t = new_table(100);
    CHECK(watchdog_table_check(&t, 109, line) == STATUS_OK, "%s", line);

    heard_all_but(&t, 111, 2); /* it is stopped */
    t.ranks[2].progress = (struct watchdog_progress){ WATCHDOG_COMPUTING, false, 16, 9 };
    CHECK(watchdog_table_check(&t, 111, line) == STATUS_HUNG && strstr(line, "rank 2 on node2 hangs: not heard of") &&
              strstr(line, "step 16, computing"),
          "%s", line);
    watchdog_table_shift(&t, 5); /* but so was this process */
    CHECK(watchdog_table_check(&t, 111, line) == STATUS_OK, "%s", line);
    CHECK(watchdog_table_check(&t, 116, line) == STATUS_HUNG, "shifted for good");

    t = new_table(100);
    heard_all_but(&t, 112, -1); /* all are heard; rank 3 does not wait and makes no progress */
    t.ranks[3].progress = (struct watchdog_progress){ WATCHDOG_LOADING, false, 17, 5 };
    CHECK(watchdog_table_check(&t, 109, line) == STATUS_OK, "%s", line);
    CHECK(watchdog_table_check(&t, 112, line) == STATUS_HUNG &&
              strstr(line, "rank 3 on node3 hangs: no progress for 12 s") && strstr(line, "step 17, loading data"),
          "%s", line);
    t.ranks[3].progress.waits = true; /* now all wait: who is furthest behind? */
    t.ranks[3].progress.step = 16;
    CHECK(watchdog_table_check(&t, 112, line) == STATUS_HUNG && strstr(line, "all ranks wait") &&
              strstr(line, "rank 3"),
          "%s", line);
    struct watchdog_progress moving = { WATCHDOG_EVALUATING, false, 17,
                                        6 }; /* rank 3 makes progress, and the others wait for it */
    watchdog_table_heartbeat(&t, 3, &moving, 111);
    CHECK(watchdog_table_check(&t, 112, line) == STATUS_OK, "%s", line);
    heard_all_but(&t, 171, -1);
    CHECK(watchdog_table_check(&t, 170, line) == STATUS_OK, "a long phase has a limit of its own: %s", line);
    heard_all_but(&t, 172, -1);
    CHECK(watchdog_table_check(&t, 172, line) == STATUS_HUNG && strstr(line, "evaluating"), "%s", line);

    t = new_table(100);
    t.ranks[1].lost = true;
    CHECK(watchdog_table_check(&t, 100.5, line) == STATUS_OK, "%s", line);
    CHECK(watchdog_table_check(&t, 101.5, line) == STATUS_LOST && strstr(line, "rank 1 on node1 ended without a word"),
          "%s", line);
    t.ranks[1].unmonitored = true;
    CHECK(watchdog_table_check(&t, 101.5, line) == STATUS_OK, "who said goodbye is not missed: %s", line);
    t = new_table(100);
    t.ranks[0].last_heard = 111; /* a whole node is silent */
    CHECK(watchdog_table_check(&t, 111, line) == STATUS_HUNG && strstr(line, "rank 1 on node1 (and 2 more)"), "%s",
          line);
    CHECK(watchdog_table_silent(&t, 1, 111) && !watchdog_table_silent(&t, 0, 111), "silent");
}

static void check_frames(void)
{
    const struct watchdog_frame f = { .magic = WATCHDOG_MAGIC,
                                      .type = WATCHDOG_HEARTBEAT,
                                      .rank = 3,
                                      .progress = { WATCHDOG_SAVING, true, 123456789, 42 } };
    int accepted = 0;
    CHECK(watchdog_frame_valid(&f), "heartbeat");
    for (size_t bit = 0; bit < 8 * sizeof f; bit++) {
        struct watchdog_frame flipped = f;
        ((uint8_t *)&flipped)[bit / 8] ^= (uint8_t)(1 << bit % 8);
        if (!watchdog_frame_valid(&flipped))
            continue;
        accepted++;
        CHECK(bit / 8 >= offsetof(struct watchdog_frame, type) && bit / 8 < offsetof(struct watchdog_frame, token),
              "bit %zu", bit);
        CHECK(flipped.rank >= 0 && (unsigned)flipped.progress.phase < WATCHDOG_PHASES && flipped.progress.waits <= 1 &&
                  flipped.progress.step >= 0 && flipped.progress.step <= WATCHDOG_MAX_STEP,
              "bit %zu", bit);
    }
    CHECK(accepted > 0 && accepted < 8 * WATCHDOG_FRAME_BYTES, "%d", accepted);
    CHECK(watchdog_token_equal((const uint8_t *)"0123456789abcdef", (const uint8_t *)"0123456789abcdef") &&
              !watchdog_token_equal((const uint8_t *)"0123456789abcdef", (const uint8_t *)"0123456789abcdeg"),
          "token");
}

/* ---- ranks as threads ---- */

enum { RANKS = 4 };

static struct {
    pthread_barrier_t barrier;
    void *shared[RANKS];
    void (*visit)(const struct watchdog_addresses *addresses); /* called once the first coordinator listens */
    bool visited;
} job;

static enum status meet_ranks(struct comm *comm, void *data)
{
    job.shared[comm->rank] = data;
    pthread_barrier_wait(&job.barrier);
    return STATUS_OK;
}

static enum status broadcast(struct comm *comm, void *data, size_t bytes, int root)
{
    meet_ranks(comm, data);
    if (bytes == sizeof(struct watchdog_addresses) && comm->rank == root && job.visit && !job.visited) {
        job.visited = true;
        job.visit(data);
    }
    if (comm->rank != root)
        memcpy(data, job.shared[root], bytes);
    pthread_barrier_wait(&job.barrier);
    return STATUS_OK;
}

static enum status all_reduce_max_i64(struct comm *comm, int64_t *data, size_t count)
{
    int64_t maximum = 0;
    meet_ranks(comm, data);
    for (int i = 0; i < RANKS && count == 1; i++)
        maximum = *(int64_t *)job.shared[i] > maximum ? *(int64_t *)job.shared[i] : maximum;
    pthread_barrier_wait(&job.barrier);
    *data = maximum;
    pthread_barrier_wait(&job.barrier);
    return STATUS_OK;
}

static enum status all_gather(struct comm *comm, const void *data, size_t bytes, void *out)
{
    meet_ranks(comm, (void *)data);
    for (int i = 0; i < RANKS; i++)
        memcpy((char *)out + (size_t)i * bytes, job.shared[i], bytes);
    pthread_barrier_wait(&job.barrier);
    return STATUS_OK;
}

static const struct comm_ops ops = {
    .name = "threads", .broadcast = broadcast, .all_reduce_max_i64 = all_reduce_max_i64, .all_gather = all_gather
};

struct rank {
    struct comm comm;
    pthread_t thread;
    int scene;
    atomic_int ended, report_count; /* exit code; number of reports */
    char line[512];                 /* the last report; written before it is counted */
    bool started, may_report;
};
static struct rank ranks[RANKS];

static void on_report(void *context, const char *line)
{
    struct rank *r = context;
    snprintf(r->line, sizeof r->line, "%s", line);
    atomic_fetch_add(&r->report_count, 1);
}

static void on_job_end(void *context, enum status code)
{
    atomic_store(&((struct rank *)context)->ended, code);
}

static void sleep_5_ms(void)
{
    nanosleep(&(struct timespec){ .tv_nsec = 5000000 }, NULL);
}

/* Steps until the job ends, for at most 90 s. */
static void run_steps(struct rank *r, struct watchdog *watchdog, int64_t last)
{
    for (int64_t turn = 0; !atomic_load(&r->ended) && turn < 18000; turn++) {
        int64_t step = turn < last ? turn : last;
        if (turn < last) {
            watchdog_enter(watchdog, WATCHDOG_LOADING, step);
            watchdog_enter(watchdog, WATCHDOG_COMPUTING, step);
            watchdog_enter(watchdog, WATCHDOG_EXCHANGING, step);
        }
        sleep_5_ms();
    }
}

enum { HANG = 2, CALM, FAIL_TWICE, FAIL_ALL };

static void *rank_main(void *context)
{
    struct rank *r = context;
    struct watchdog *watchdog = NULL;
    struct watchdog_options options = { .timeout_s = 5, .report = on_report, .end_process = on_job_end, .context = r };
    r->started = watchdog_start(&watchdog, &r->comm, &options) == STATUS_OK;
    if (r->scene == HANG && r->comm.rank == 2) { /* its main thread hangs while it loads step 21 */
        for (int64_t step = 0; step < 20; step++)
            watchdog_enter(watchdog, WATCHDOG_EXCHANGING, step);
        watchdog_enter(watchdog, WATCHDOG_LOADING, 21);
        while (!atomic_load(&r->ended))
            sleep_5_ms();
    } else if (r->scene == HANG) {
        run_steps(r, watchdog, 21);
    } else if (r->scene == FAIL_TWICE && r->comm.rank % 2) {
        watchdog_enter(watchdog, WATCHDOG_LOADING, 3);
        r->may_report = watchdog_announce_failure(watchdog, STATUS_DATA);
    } else if (r->scene == FAIL_TWICE) {
        run_steps(r, watchdog, 3);
    } else if (r->scene == FAIL_ALL) { /* all end, the coordinators too, without waiting for one another */
        r->may_report = watchdog_announce_failure(watchdog, STATUS_DATA);
        watchdog_stop(watchdog);
        return NULL;
    } else {
        for (int64_t step = 0; step < 50; step++) {
            watchdog_enter(watchdog, WATCHDOG_COMPUTING, step);
            watchdog_set_waiting(watchdog, true);
            watchdog_set_waiting(watchdog, false);
        }
    }
    pthread_barrier_wait(&job.barrier);
    watchdog_stop(watchdog);
    return NULL;
}

static void run_scene(int scene, void (*visit)(const struct watchdog_addresses *addresses))
{
    job.visit = visit;
    job.visited = false;
    for (int i = 0; i < RANKS; i++) {
        struct rank *r = &ranks[i];
        r->comm = (struct comm){ .ops = &ops, .rank = i, .size = RANKS, .local_rank = i, .local_size = RANKS };
        r->scene = scene;
        r->may_report = false;
        atomic_store(&r->ended, 0);
        atomic_store(&r->report_count, 0);
    }
    for (int i = 0; i < RANKS; i++)
        if (pthread_create(&ranks[i].thread, NULL, rank_main, &ranks[i]) != 0)
            abort();
    for (int i = 0; i < RANKS; i++)
        pthread_join(ranks[i].thread, NULL);
    for (int i = 0; i < RANKS; i++)
        CHECK(ranks[i].started, "rank %d did not start", i);
}

/* Connections of strangers: silence, noise, a greeting without the token, and the beginning of one. */
static int strangers[6];

static void connect_strangers(const struct watchdog_addresses *addresses)
{
    struct sockaddr_in address;
    memcpy(&address, &addresses->list[0], sizeof address);
    CHECK(addresses->count > 0 && address.sin_family == AF_INET && address.sin_addr.s_addr == htonl(INADDR_LOOPBACK),
          "one host: loopback first");
    for (int i = 0; i < 6; i++) {
        struct watchdog_frame frame = {
            .magic = WATCHDOG_MAGIC, .type = i == 4 ? WATCHDOG_END : WATCHDOG_HELLO, .rank = 1 + i % 3, .code = 2
        };
        if (i < 2)
            memset(&frame, 0x5a, sizeof frame);
        strangers[i] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        bool in = connect(strangers[i], (struct sockaddr *)&address, sizeof address) == 0;
        CHECK(in, "stranger %d", i);
        if (in && i > 0 && send(strangers[i], &frame, i == 5 ? 20 : sizeof frame, MSG_NOSIGNAL) < 0)
            CHECK(false, "send");
    }
}

static void check_ranks(void)
{
    pthread_barrier_init(&job.barrier, NULL, RANKS);
    run_scene(CALM, connect_strangers);
    for (int i = 0; i < RANKS; i++)
        CHECK(!ranks[i].ended && !ranks[i].report_count, "rank %d ended with %d: %s", i, ranks[i].ended, ranks[i].line);
    for (int i = 0; i < 6; i++) { /* all were closed without an answer */
        char byte;
        CHECK(recv(strangers[i], &byte, 1, 0) <= 0, "stranger %d was answered", i);
        close(strangers[i]);
    }

    run_scene(HANG, NULL);
    for (int i = 0; i < RANKS; i++) {
        CHECK(ranks[i].ended == STATUS_HUNG, "rank %d: %d", i, ranks[i].ended);
        CHECK(ranks[i].report_count == (i == 0), "rank %d reported %d times: %s", i, ranks[i].report_count,
              ranks[i].line);
    }
    CHECK(strstr(ranks[0].line, "rank 2 on ") && strstr(ranks[0].line, "step 21, loading data"), "%s", ranks[0].line);

    run_scene(FAIL_TWICE, NULL);
    CHECK(ranks[1].may_report != ranks[3].may_report, "ranks 1 and 3 report: %d and %d", ranks[1].may_report,
          ranks[3].may_report);
    CHECK(ranks[0].ended == STATUS_DATA && ranks[2].ended == STATUS_DATA && !ranks[0].report_count &&
              !ranks[2].report_count,
          "the others end with %d and %d", ranks[0].ended, ranks[2].ended);

    for (int i = 0; i < 50; i++) {
        run_scene(FAIL_ALL, NULL);
        int reports = ranks[0].may_report + ranks[1].may_report + ranks[2].may_report + ranks[3].may_report;
        CHECK(reports == 1, "%d of 4 ranks that fail at once report, in round %d", reports, i);
    }
    pthread_barrier_destroy(&job.barrier);
}

int main(void)
{
    check_table();
    check_frames();
    check_ranks();
    return check_done("watchdog");
}
