/* test_eval.c - the parts of csc-eval that compute or parse: intervals, calibration, the rule for lambda,
 * attacks, classes by name. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "tests/check.h"
#include "trainer/eval/attack.h"
#include "trainer/eval/eval_statistics.h"
#include "trainer/model/classes.h"
#include "trainer/model/lambda_rule.h"

static bool near(double a, double b, double tolerance)
{
    return fabs(a - b) <= tolerance;
}

/* By hand: with z = 1.959964, of 8 in 10 the Wilson interval is 0.4901625 to 0.9433178; of 0 in 10 it ends at
 * 0.2775328. */
static void test_interval(void)
{
    struct confidence_interval i = wilson_interval(8, 10), none = wilson_interval(0, 10), all = wilson_interval(10, 10);
    CHECK(near(i.low, 0.4901625, 1e-6) && near(i.high, 0.9433178, 1e-6), "%.7f %.7f", i.low, i.high);
    CHECK(near(none.low, 0, 1e-9) && near(none.high, 0.2775328, 1e-6), "%.7f %.7f", none.low, none.high);
    CHECK(near(all.low, 1 - none.high, 1e-9) && near(all.high, 1, 1e-9), "%.7f %.7f", all.low, all.high);
}

/* Four images: confidences .9 (hit), .9 (miss), .6 (hit), and a tie of two, which counts as a confusion. */
static void test_statistics(void)
{
    struct eval_statistics t;
    const float sure[] = { 0, (float)log(9.0) }, mild[] = { (float)log(1.5), 0 }, tie[] = { 1, 1 };
    CHECK(eval_statistics_init(&t, 2) == STATUS_OK, "%s", status_message());
    eval_statistics_add(&t, sure, 1);
    eval_statistics_add(&t, sure, 0);
    eval_statistics_add(&t, mild, 0);
    eval_statistics_add(&t, tie, 0);
    CHECK(eval_statistics_confusion(&t, 1, 1) == 1 && eval_statistics_confusion(&t, 0, 1) == 2 &&
              eval_statistics_confusion(&t, 0, 0) == 1,
          "confusion");
    CHECK(eval_statistics_images(&t, 0) == 3 && eval_statistics_images(&t, 1) == 1, "images");
    CHECK(near(eval_statistics_mean_confidence(&t), (.9 + .9 + .6 + .5) / 4, 1e-6), "%.9f",
          eval_statistics_mean_confidence(&t));
    /* bins of 1/15: two of .9 with one hit, .6 with a hit, .5 without */
    double want = (fabs(1.8 - 1) + fabs(.6 - 1) + .5) / 4;
    CHECK(near(eval_statistics_calibration_error(&t), want, 1e-6), "%.9f, not %.9f",
          eval_statistics_calibration_error(&t), want);
    eval_statistics_finish(&t);
}

static struct lambda_rule some_rule(void)
{
    struct lambda_rule r = {
        .points = 3, .images = 100, .weights = "0123456789abcdef", .line = { .training_lambda = .1, .steps = 20 }
    };
    for (int i = 0; i < 3; i++)
        r.point[i] = (struct lambda_point){ .sigma = .1 * i, .residual = .5 + i, .best = .2 + .3 * i, .top1 = .5 };
    return r;
}

static void test_fit(void)
{
    struct lambda_rule r = some_rule(), flat = some_rule();
    CHECK(lambda_rule_fit(&r, 1.4) == STATUS_OK, "%s", status_message());
    /* best - .1 is .4 and .7 where the residual is 1 and 2 above that of the clean: slope (.4 + 1.4) / 5 */
    CHECK(near(r.line.slope, .36, 1e-12) && near(adaptive_lambda(&r.line, .5), .1, 1e-12), "%g %g", r.line.slope,
          r.line.intercept);
    CHECK(near(adaptive_lambda(&r.line, 1), .28, 1e-12) && r.line.steps == 20, "inside");
    CHECK(adaptive_lambda(&r.line, 0) == 0.1 && adaptive_lambda(&r.line, 100) == 1.4, "clamped");
    for (int i = 0; i < 3; i++)
        flat.point[i].residual = 1;
    CHECK(lambda_rule_fit(&flat, 1.4) == STATUS_DATA, "a line through one residual");
}

/* Writes and reads the file beside a checkpoint; it belongs to the weights. */
static void test_rule_file(void)
{
    char folder[] = "/tmp/csc-eval-XXXXXX", path[PATH_MAX], weights[PATH_MAX];
    struct lambda_rule r = some_rule(), back;
    CHECK(mkdtemp(folder) != NULL, "mkdtemp");
    snprintf(path, sizeof path, "%s/step-00000001", folder);
    snprintf(weights, sizeof weights, "%s/model.safetensors", path);
    CHECK(lambda_rule_fit(&r, 1.4) == STATUS_OK && file_make_folders(path) == STATUS_OK, "%s", status_message());
    CHECK(file_write(weights, "weights", 7) == STATUS_OK, "%s", status_message());
    CHECK(lambda_rule_read(path, &back) == STATUS_USAGE, "a rule that is not there");
    CHECK(lambda_rule_write(path, &r) == STATUS_OK, "%s", status_message());
    CHECK(lambda_rule_read(path, &back) == STATUS_OK, "%s", status_message());
    CHECK(back.points == 3 && near(back.line.slope, r.line.slope, 1e-11) && back.images == 100, "what was read");
    CHECK(file_write(weights, "others", 6) == STATUS_OK && lambda_rule_read(path, &back) == STATUS_DATA,
          "other weights");
    CHECK(strstr(status_message(), "other weights") != NULL, "%s", status_message());
    status_clear();
    char command[PATH_MAX + 16];
    snprintf(command, sizeof command, "rm -rf %s", folder);
    CHECK(system(command) == 0, "%s", command);
}

static void test_rule_text(void)
{
    struct lambda_rule r = some_rule(), back;
    char *text = NULL;
    CHECK(lambda_rule_fit(&r, 1.4) == STATUS_OK && lambda_rule_print(&r, &text) == STATUS_OK, "%s", status_message());
    CHECK(lambda_rule_parse(text, strlen(text), "rule", &back) == STATUS_OK, "%s", status_message());
    const struct {
        const char *from, *to;
    } edits[] = {
        { "\"version\": 2", "\"version\": 1" }, { "\"version\": 2", "\"other\": 2" },
        { "\"steps\": 20", "\"steps\": 0" },    { "0123456789abcdef", "0123456789abcdeg" },
        { "\"low\": 0.1", "\"low\": 9.1" },     { "\"images\": 100", "\"images\": -1" },
        { "\"sigma\"", "\"sigmb\"" },
    };
    for (size_t i = 0; i < sizeof edits / sizeof edits[0]; i++) {
        char changed[4096], *at = strstr(text, edits[i].from);
        CHECK(at != NULL, "%s is not in %s", edits[i].from, text);
        snprintf(changed, sizeof changed, "%.*s%s%s", (int)(at - text), text, edits[i].to, at + strlen(edits[i].from));
        CHECK(lambda_rule_parse(changed, strlen(changed), "rule", &back) == STATUS_DATA, "accepted: %s", edits[i].to);
    }
    status_clear();
    free(text);
}

static void test_attack_text(void)
{
    struct attack a, again;
    char text[160];
    const struct {
        const char *text, *whole;
    } good[] = {
        { "pgd", "pgd:norm=linf,eps=8/255,step=2/255,steps=20,restarts=1,loss=ce" },
        { "pgd:norm=l2", "pgd:norm=l2,eps=127.5/255,step=0.075,steps=20,restarts=1,loss=ce" },
        { "pgd:eps=0.5/255,loss=margin,held=yes,restarts=3",
          "pgd:norm=linf,eps=0.5/255,step=2/255,steps=20,restarts=3,loss=margin,held=yes" },
        { "apgd-t:steps=7", "apgd-t:norm=linf,eps=8/255,steps=7,restarts=1" },
        { "square:queries=9,eps=0", "square:norm=linf,eps=0/255,queries=9,restarts=1" },
    };
    const char *const bad[] = { "",
                                "pdg",
                                "pgd:eps",
                                "pgd:eps=-1",
                                "pgd:eps=1/",
                                "pgd:eps=8/0",
                                "pgd:norm=l1",
                                "pgd:queries=3",
                                "apgd-ce:loss=margin",
                                "apgd-ce:step=1/255",
                                "square:norm=l2",
                                "square:steps=3",
                                "pgd:steps=0" };
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++) {
        CHECK(attack_parse(good[i].text, &a) == STATUS_OK, "%s: %s", good[i].text, status_message());
        attack_text(&a, text, sizeof text);
        CHECK(strcmp(text, good[i].whole) == 0, "%s: %s", good[i].text, text);
        CHECK(attack_parse(text, &again) == STATUS_OK && memcmp(&a.steps, &again.steps, sizeof a.steps) == 0, "%s",
              text);
    }
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        CHECK(attack_parse(bad[i], &a) == STATUS_USAGE, "accepted: %s", bad[i]);
    status_clear();
}

/* Maps classes of data to the network's: the same, a subset, another order, an unknown one, an ambiguous one. */
static void test_classes(void)
{
    static char *const network[] = { "ant", "bee", "cat" }, *const some[] = { "cat", "ant" };
    static char *const other[] = { "ant", "dog" }, *const twice[] = { "crane", "ant", "crane" };
    json_t *list = classes_list(network, 3), *ambiguous = classes_list(twice, 3);
    int32_t *map;
    CHECK(classes_map(list, network, 3, "data", true, &map) == STATUS_OK && !map, "the same are mapped");
    CHECK(classes_map(list, some, 2, "data", true, &map) == STATUS_OK && map && map[0] == 2 && map[1] == 0, "some");
    free(map);
    CHECK(classes_map(list, network, 2, "data", false, &map) == STATUS_OK && map && map[0] == 0 && map[1] == 1,
          "the first");
    free(map);
    CHECK(classes_map(list, other, 2, "data", true, &map) == STATUS_USAGE && !map &&
              strstr(status_message(), "class 1, 'dog'"),
          "%s", status_message());
    CHECK(classes_map(ambiguous, twice, 3, "data", true, &map) == STATUS_OK && !map, "the same, some of one name");
    CHECK(classes_map(ambiguous, twice + 1, 1, "data", true, &map) == STATUS_OK && map && map[0] == 1, "ant");
    free(map);
    CHECK(classes_map(ambiguous, twice, 2, "data", true, &map) == STATUS_USAGE &&
              strstr(status_message(), "'crane': several"),
          "%s", status_message());
    status_clear();
    json_decref(list);
    json_decref(ambiguous);
}

int main(void)
{
    test_classes();
    test_interval();
    test_statistics();
    test_fit();
    test_rule_file();
    test_rule_text();
    test_attack_text();
    return check_done("eval");
}
