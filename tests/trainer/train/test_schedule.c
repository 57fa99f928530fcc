/* test_schedule.c - compares learning rates with values in closed form, and checks that they neither jump nor leave
 * their range. */
#include <string.h>

#include "tests/check.h"
#include "trainer/train/schedule.h"

static struct config make(const char *kind, const char *more)
{
    struct config config;
    char text[512];
    snprintf(text, sizeof text,
             "model: {arch: sdnet18}\ndata: {train: a}\n"
             "train: {epochs: 10, batch: 1, lr: 0.4, schedule: {kind: %s%s%s}}\n",
             kind, more[0] ? ", " : "", more);
    if (config_parse(&config, "t.yaml", text, strlen(text), NULL, 0) != STATUS_OK) {
        fprintf(stderr, "%s\n", status_message());
        abort();
    }
    return config;
}

static void check_at(const struct schedule *s, int64_t step, double expected)
{
    double lr = schedule_lr(s, step);
    CHECK(fabs(lr - expected) <= 1e-12 * fabs(expected) + 1e-16, "step %lld: %.17g, not %.17g", (long long)step, lr,
          expected);
}

static void check_cosine(void)
{
    struct schedule s;
    struct config c = make("cosine", "final_lr: 0.1");
    schedule_init(&s, &c, 1200, 120);
    check_at(&s, 0, 0.4);
    check_at(&s, 400, 0.1 + 0.3 * 0.75); /* cos(pi/3) = 1/2 */
    check_at(&s, 600, 0.1 + 0.3 * 0.5);
    check_at(&s, 800, 0.1 + 0.3 * 0.25);
    check_at(&s, 1200, 0.1);
    schedule_init(&s, &c, 1, 1); /* one step takes the full rate */
    check_at(&s, 0, 0.4);
    config_finish(&c);

    c = make("cosine", "warmup_epochs: 2.5");
    schedule_init(&s, &c, 1200, 120);
    check_at(&s, 0, 0.004);
    check_at(&s, 150, 0.4 * 0.505); /* half of 300 steps */
    check_at(&s, 300, 0.4);
    check_at(&s, 600, 0.4 * 0.75);
    check_at(&s, 750, 0.4 * 0.5);
    config_finish(&c);
}

static void check_steps(void)
{
    struct schedule s;
    struct config c = make("step", "milestones: [3, 6.5], gamma: 0.1, warmup_epochs: 1");
    schedule_init(&s, &c, 1000, 100);
    check_at(&s, 0, 0.004);
    check_at(&s, 50, 0.4 * 0.505);
    check_at(&s, 100, 0.4);
    check_at(&s, 299, 0.4);
    check_at(&s, 300, 0.04);
    check_at(&s, 649, 0.04);
    check_at(&s, 650, 0.004);
    check_at(&s, 999, 0.004);
    config_finish(&c);

    c = make("constant", "");
    schedule_init(&s, &c, 1000, 100);
    check_at(&s, 0, 0.4);
    check_at(&s, 999, 0.4);
    config_finish(&c);
    c = make("constant", "warmup_epochs: 10");
    schedule_init(&s, &c, 1000, 100);
    check_at(&s, 500, 0.4 * 0.505);
    check_at(&s, 1000, 0.4);
    config_finish(&c);
}

static void check_onecycle(void)
{
    struct schedule s;
    struct config c = make("onecycle", "final_lr: 4e-6");
    schedule_init(&s, &c, 1000, 100); /* warms up for 30% = 300 */
    check_at(&s, 0, 0.4 / 25);
    check_at(&s, 150, 0.4 * 0.52);
    check_at(&s, 300, 0.4);
    check_at(&s, 650, 4e-6 + (0.4 - 4e-6) / 2);
    check_at(&s, 1000, 4e-6);
    config_finish(&c);
    c = make("onecycle", "warmup_epochs: 5");
    schedule_init(&s, &c, 1000, 100);
    check_at(&s, 250, 0.4 * 0.52);
    check_at(&s, 750, 0.2);
    config_finish(&c);
    c = make("onecycle", "warmup_epochs: 0");
    schedule_init(&s, &c, 1000, 100);
    check_at(&s, 0, 0.4);
    config_finish(&c);
}

/* No change is larger than the steepest slope of warm-up or cosine, and no rate is outside (0, lr]. */
static void check_smooth(const char *kind, const char *more, int64_t total, int64_t per_epoch)
{
    struct schedule s;
    struct config c = make(kind, more);
    schedule_init(&s, &c, total, per_epoch);
    double fall = (double)total - s.warmup, limit = 0.4 / (s.warmup > 0 ? s.warmup : 1e18);
    double cosine = fall > 0 ? 0.4 * 1.5708 / fall : 0;
    if (cosine > limit)
        limit = cosine;
    for (int64_t t = 0; t < total; t++) {
        double now = schedule_lr(&s, t), next = schedule_lr(&s, t + 1);
        CHECK(now > 0 && now <= 0.4 + 1e-15, "%s %s: %g at %lld of %lld", kind, more, now, (long long)t,
              (long long)total);
        CHECK(t + 1 == total || fabs(next - now) <= limit * 1.001, "%s %s: jumps from %g to %g at %lld", kind, more,
              now, next, (long long)t);
    }
    config_finish(&c);
}

int main(void)
{
    check_cosine();
    check_steps();
    check_onecycle();
    const int64_t totals[] = { 1, 2, 3, 7, 100, 1237 };
    for (int i = 0; i < 6; i++) {
        check_smooth("cosine", "", totals[i], (totals[i] + 9) / 10);
        check_smooth("cosine", "warmup_epochs: 1", totals[i], (totals[i] + 9) / 10);
        check_smooth("cosine", "warmup_epochs: 10", totals[i], 1000); /* longer than a run of train.steps */
        check_smooth("onecycle", "", totals[i], (totals[i] + 9) / 10);
        check_smooth("constant", "warmup_epochs: 0.3", totals[i], (totals[i] + 9) / 10);
    }
    return check_done("schedule");
}
