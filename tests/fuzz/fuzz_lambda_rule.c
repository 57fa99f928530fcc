/* fuzz_lambda_rule.c - reads any bytes as the rule for lambda beside a checkpoint. They are refused, or the values are
 * in range, print and parse again. */
#include <stdlib.h>
#include <string.h>

#include "tests/fuzz/fuzz.h"
#include "trainer/model/lambda_rule.h"

static const char *const seeds[] = {
    "{\"version\":2,\"weights\":\"0123456789abcdef\",\"training_lambda\":0.1,\"steps\":20,\"intercept\":0.05,\"slope\":"
    "0.3,\"low\":0.1,"
    "\"high\":1.4,\"data\":\"\",\"images\":100,\"points\":[{\"sigma\":0.0,\"residual\":0.5,\"best\":0.2,\"top1\":0.5}]"
    "}",
    "{\"version\":2,\"weights\":\"fedcba9876543210\",\"training_lambda\":0,\"steps\":1000,\"intercept\":-1e300,"
    "\"slope\":1e-300,\"low\":0,"
    "\"high\":999999,\"data\":\"0123456789abcdef\",\"images\":0,\"points\":[]}",
};

size_t fuzz_seed(int index, unsigned char *out, size_t capacity)
{
    if (index >= (int)(sizeof seeds / sizeof seeds[0]))
        return 0;
    size_t length = strlen(seeds[index]);
    if (length > capacity)
        abort();
    memcpy(out, seeds[index], length);
    return length;
}

int LLVMFuzzerTestOneInput(const unsigned char *data, size_t size)
{
    struct lambda_rule rule, again;
    char *text;
    enum status status = lambda_rule_parse((const char *)data, size, "fuzz", &rule);
    if (status != STATUS_OK && (status != STATUS_DATA || !status_message()[0]))
        abort();
    if (status != STATUS_OK)
        return 0;
    double lambda = adaptive_lambda(&rule.line, 0.5);
    if (rule.points < 0 || rule.points > LAMBDA_RULE_POINTS || !(lambda >= rule.line.low && lambda <= rule.line.high))
        abort();
    if (lambda_rule_print(&rule, &text) != STATUS_OK ||
        lambda_rule_parse(text, strlen(text), "again", &again) != STATUS_OK || again.points != rule.points)
        abort();
    free(text);
    return 0;
}
