/* test_scaling_model.c - compares the formulas with simulated rings and trees, and the timeline with cases
 * computed by hand. */
#include <math.h>
#include <stdlib.h>

#include "tests/check.h"
#include "trainer/bench/scaling_model.h"

#define CHECK_NEAR(got, wanted, error) \
    CHECK(fabs((got) - (wanted)) <= (error), "%g, not %g", (double)(got), (double)(wanted))

enum { MAX_RANKS = 64 };

/* Simulates a ring of p ranks: in each of 2(p-1) rounds every rank sends one of p pieces to the right. A rank
 * continues when it has sent its piece and received its neighbour's. */
static double walk_ring(int p, double bytes, struct scaling_link link)
{
    double now[MAX_RANKS] = { 0 }, next[MAX_RANKS];
    for (int round = 0; round < 2 * (p - 1); round++) {
        for (int r = 0; r < p; r++) {
            double left = now[(r + p - 1) % p];
            next[r] = fmax(now[r], left) + link.latency_s + bytes / p / link.bytes_s;
        }
        for (int r = 0; r < p; r++)
            now[r] = next[r];
    }
    double last = 0;
    for (int r = 0; r < p; r++)
        last = fmax(last, now[r]);
    return last;
}

/* Simulates a chain of p ranks, one piece after another, over full-duplex links: one direction of a tree of depth
 * p-1. */
static double walk_chain(int p, double bytes, int pieces, struct scaling_link link)
{
    double *at = calloc((size_t)p, sizeof *at); /* when the link of each sender is free */
    double piece = bytes / pieces / link.bytes_s, last = 0;
    for (int i = 0; i < pieces; i++) {
        double t = 0;
        for (int r = 0; r + 1 < p; r++) { /* the link sends the next piece during the latency */
            double sent = fmax(t, at[r]) + piece;
            at[r] = sent;
            t = sent + link.latency_s;
        }
        last = t;
    }
    free(at);
    return last;
}

static void test_ring(void)
{
    struct scaling_link link = { 3e-6, 2e9 };
    for (int p = 2; p <= MAX_RANKS; p++) {
        struct scaling_cluster flat = { .per_node = 1, .node = { 1, 1 }, .net = link, .algorithm = SCALING_RING };
        struct scaling_cluster inside = { .per_node = MAX_RANKS, .node = link, .net = { 1, 1 } };
        double wanted = walk_ring(p, 5e6, link);
        CHECK_NEAR(scaling_all_reduce(&flat, p, 5e6), wanted, 1e-9 * wanted);
        CHECK_NEAR(scaling_all_reduce(&inside, p, 5e6), wanted, 1e-9 * wanted);
    }
}

/* Two ranks are a tree of depth 1. A deeper tree adds the latency of its path, not more bytes per link. */
static void test_tree(void)
{
    struct scaling_link link = { 5e-6, 1e9 };
    struct scaling_cluster c = { .per_node = 1, .net = link, .algorithm = SCALING_TREE };
    for (int depth = 1; depth <= 12; depth++) {
        double one_way = walk_chain(depth + 1, 4e6, 4096, link);
        double got = scaling_all_reduce(&c, 1 << depth, 4e6);
        CHECK_NEAR(got, 2 * one_way, 0.005 * got); /* the last piece also passes depth - 1 links */
    }
}

static void test_cluster(void)
{
    struct scaling_cluster c = {
        .per_node = 8, .node = { 3e-6, 300e9 }, .net = { 5e-6, 45e9 }, .algorithm = SCALING_BEST
    };
    CHECK(scaling_all_reduce(&c, 1, 1e8) == 0, "one rank");
    double before = 0;
    for (int ranks = 2; ranks <= 4096; ranks *= 2) { /* more ranks are never faster */
        double t = scaling_all_reduce(&c, ranks, 46.8e6);
        CHECK(t > before, "%d ranks", ranks);
        before = t;
    }
    for (int ranks = 16; ranks <= 4096; ranks *= 2) { /* the faster of the two, and faster than a ring without nodes */
        struct scaling_cluster ring = c, tree = c, flat = c;
        ring.algorithm = flat.algorithm = SCALING_RING;
        tree.algorithm = SCALING_TREE;
        flat.per_node = 1;
        double r = scaling_all_reduce(&ring, ranks, 46.8e6), t = scaling_all_reduce(&tree, ranks, 46.8e6);
        double best = scaling_all_reduce(&c, ranks, 46.8e6);
        CHECK(best <= r && best <= t && (best == r || best == t), "%d ranks", ranks);
        CHECK(best < scaling_all_reduce(&flat, ranks, 46.8e6), "%d ranks", ranks);
    }
}

static void check_step(const struct scaling_bucket *b, int count, double overlap, double step)
{
    struct scaling_step s = scaling_step(b, count, 10, overlap);
    CHECK_NEAR(s.step_s, step, 1e-12);
    CHECK_NEAR(s.exposed_s, step - 10, 1e-12);
}

static void test_timeline(void)
{
    /* the backward pass ends at 8, the optimizer takes 2 */
    struct scaling_bucket hidden[] = { { 4, 1, 1 }, { 6, 1, 2 }, { 8, 1, 0.5 } };
    check_step(hidden, 3, 1, 10.5); /* only the last one adds time */
    check_step(hidden, 3, 0, 13.5); /* all of them add time */
    check_step(hidden, 3, 0.5, 12); /* 1.5 before the last one begins, and all of the last one */
    struct scaling_bucket late[] = { { 4, 1, 3 }, { 6, 1, 3 }, { 8, 1, 3 } };
    check_step(late, 3, 1, 15); /* the link is busy from 4 to 13 */
    check_step(late, 0, 1, 10);
    check_step((struct scaling_bucket[]){ { 8, 1, 0 } }, 1, 1, 10);
}

int main(void)
{
    test_ring();
    test_tree();
    test_cluster();
    test_timeline();
    return check_done("scale");
}
