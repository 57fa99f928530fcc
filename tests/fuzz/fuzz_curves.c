/* fuzz_curves.c - parses any bytes as metrics.jsonl. Accepted input has ascending steps and can be drawn. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/fuzz/fuzz.h"
#include "trainer/report/curves.h"

static const char good[] =
    "{\"event\":\"start\",\"ranks\":1}\n{\"event\":\"step\",\"step\":1,\"loss\":2.5,\"lr\":0.1,\"img_s\":9}\n"
    "{\"event\":\"step\",\"step\":2,\"loss\":null,\"lr\":0.1}\n{\"event\":\"eval\",\"step\":2,\"loss\":2,\"top1\":0.5}"
    "\n";

static const char *const seeds[] = {
    good,
    "{\"event\":\"step\",\"step\":10,\"loss\":1e308}\n{\"event\":\"step\",\"step\":20,\"loss\":-1e308}\n",
    "{\"event\":\"step\",\"step\":5,\"loss\":1}\n{\"event\":\"resume\",\"step\":3}\n{\"event\":\"step\",\"step\":4,"
    "\"loss\":2}\n{\"ev",
    "{\"event\":\"step\",\"step\":1e300,\"loss\":1e20}\n{\"event\":\"step\",\"step\":2e300,\"loss\":1."
    "0000000000000002e20}\n",
    "[]\n",
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

static void check_series(const struct series *s)
{
    for (int i = 1; i < s->count; i++)
        if (!(s->steps[i - 1] < s->steps[i]))
            abort();
}

int LLVMFuzzerTestOneInput(const unsigned char *data, size_t size)
{
    struct curves c;
    char *text = NULL;
    size_t bytes;
    if (curves_parse(&c, "metrics.jsonl", (const char *)data, size) != STATUS_OK) {
        status_clear();
        return 0;
    }
    check_series(&c.loss);
    check_series(&c.top1);
    FILE *out = open_memstream(&text, &bytes);
    if (!out)
        abort();
    const struct curve lines[] = { { "a", "red", &c.loss }, { "b", "blue", &c.eval_loss } };
    curves_draw(out, "loss", lines, 2);
    fclose(out);
    if (bytes > 200000 || strstr(text, "nan") || strstr(text, "inf"))
        abort();
    free(text);
    curves_finish(&c);
    return 0;
}
