/* test_order.c - every order is a permutation, and looks like a random one. */
#include <string.h>

#include "data/read/order.h"
#include "tests/check.h"

static char seen[1 << 20];

static void check_permutation(enum shuffle shuffle, uint64_t n, uint64_t window, uint64_t seed, int64_t epoch)
{
    struct order order;
    uint64_t twice = 0, outside = 0;
    order_init(&order, shuffle, n, window, seed, epoch);
    memset(seen, 0, n);
    for (uint64_t i = 0; i < n; i++) {
        uint64_t at = order_at(&order, i);
        outside += at >= n;
        if (at < n)
            twice += seen[at]++;
    }
    CHECK(!outside && !twice, "n %llu, window %llu, seed %llu, epoch %lld: %llu outside, %llu twice",
          (unsigned long long)n, (unsigned long long)window, (unsigned long long)seed, (long long)epoch,
          (unsigned long long)outside, (unsigned long long)twice);
}

/* Every sample comes first equally often: a chi-square test over epochs, at 5 sigma. */
static void check_uniform(uint64_t n)
{
    enum { EPOCHS = 4000 };
    int first[64] = { 0 }, followed = 0;
    for (int64_t epoch = 0; epoch < EPOCHS; epoch++) {
        struct order order;
        order_init(&order, SHUFFLE_FULL, n, 0, 5, epoch);
        uint64_t at = order_at(&order, 0);
        first[at]++;
        followed += order_at(&order, 1) == (at + 1) % n;
    }
    double chi = 0, expected = (double)EPOCHS / (double)n;
    for (uint64_t i = 0; i < n; i++)
        chi += (first[i] - expected) * (first[i] - expected) / expected;
    double freedom = (double)n - 1;
    CHECK(chi < freedom + 5 * sqrt(2 * freedom), "n %llu: chi-square %g", (unsigned long long)n, chi);
    double share = 1 / freedom, sigma = sqrt(share * (1 - share) / EPOCHS);
    CHECK(fabs((double)followed / EPOCHS - share) < 5 * sigma, "n %llu: neighbours stay in %d of %d epochs",
          (unsigned long long)n, followed, EPOCHS);
}

/* The samples of a window come from at most 65 stretches of the dataset. */
static void check_stretches(void)
{
    enum { N = 100000, WINDOW = 6400 };
    struct order order;
    order_init(&order, SHUFFLE_WINDOW, N, WINDOW, 1, 2);
    for (int begin = 0; begin + WINDOW <= N; begin += WINDOW) {
        memset(seen, 0, N);
        int stretches = 0;
        for (int i = 0; i < WINDOW; i++)
            seen[order_at(&order, (uint64_t)(begin + i))] = 1;
        for (int i = 0; i < N; i++)
            stretches += seen[i] && !seen[(i + N - 1) % N];
        CHECK(stretches <= 65 && stretches > 20, "%d stretches", stretches);
    }
}

/* order_measure calls a full shuffle random and no shuffle not; windows are in between, and larger ones are better. */
static void check_quality(void)
{
    enum { N = 200000, BATCH = 256 };
    static const struct {
        enum shuffle shuffle;
        uint64_t window;
        double low, high, separation;
    } cases[] = {
        { SHUFFLE_FULL, 0, .97, 1.03, .8 },
        { SHUFFLE_WINDOW, N, .9, 1.1, .8 },
        { SHUFFLE_WINDOW, 65536, .8, 1.2, .2 },
        { SHUFFLE_WINDOW, 4096, .7, 1.3, .01 },
    };
    struct order order;
    double before = 2;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        order_init(&order, cases[i].shuffle, N, cases[i].window, 3, 1);
        struct order_quality q = order_measure(&order, BATCH, N);
        CHECK(q.displacement > cases[i].low && q.displacement < cases[i].high, "case %zu: displacement %g", i,
              q.displacement);
        CHECK(q.separation > cases[i].separation && q.separation <= before + .1, "case %zu: separation %g", i,
              q.separation);
        before = q.separation;
    }
    order_init(&order, SHUFFLE_NONE, N, 0, 3, 1);
    struct order_quality none = order_measure(&order, BATCH, N);
    CHECK(none.displacement == 0 && none.separation < .01, "unshuffled: %g, %g", none.displacement, none.separation);
}

int main(void)
{
    for (uint64_t n = 1; n < 300; n++)
        for (int64_t epoch = 0; epoch < 4; epoch++) {
            check_permutation(SHUFFLE_NONE, n, 0, 1, epoch);
            check_permutation(SHUFFLE_FULL, n, 0, n, epoch);
            check_permutation(SHUFFLE_WINDOW, n, 1 + n / 3, 1, epoch);
            check_permutation(SHUFFLE_WINDOW, n, 64, 1, epoch);
        }
    static const uint64_t large[] = { 1023, 1024, 1025, 50000, 65536, 65537, 262143, 1000003 };
    for (size_t i = 0; i < sizeof large / sizeof *large; i++) {
        check_permutation(SHUFFLE_FULL, large[i], 0, 3, 1);
        check_permutation(SHUFFLE_WINDOW, large[i], 65536, 3, 1);
        check_permutation(SHUFFLE_WINDOW, large[i], 1000, 3, 1);
    }
    check_uniform(10);
    check_uniform(37);
    check_uniform(64);
    check_stretches();
    check_quality();
    return check_done("order");
}
