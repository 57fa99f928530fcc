/* fuzz_config.c - reads any bytes as a configuration (if the first byte is even) or as an override of a good one (odd).
 * What is accepted must print, parse again, and print the same. --change may be given any text. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/fuzz/fuzz.h"
#include "trainer/config/config.h"

static const char good[] = "model: {arch: sdnet18-all, layers: [layer0.0, \"a b\"]}\n"
                           "csc:\n  lambda: 0.1\n  step_size: auto\n  backward: one-step\n"
                           "data:\n  train: data/train\n  val: none\n  shuffle: window\n  mean: [0.1, 0.2, .3]\n"
                           "train:\n  epochs: 10 # all\n  batch: 128\n  lr: 1e-1\n  nesterov: true\n"
                           "  schedule:\n    kind: step\n    milestones:\n    - 3\n    - 6.5\n"
                           "run: {name: 'x', seed: 9223372036854775807}\n";

static const char *const seeds[] = {
    good,
    "run:\n  name: \"\\u00e9\\x41\\n\"\n",
    "model: &a {arch: *a}\n---\n...\n",
    "%YAML 1.1\n---\ntrain: !!map\n  lr: |\n    1\n  batch: >-\n    2\n",
    "? train\n: {? lr : 1, <<: {}}\n",
    "\xef\xbb\xbf# \xc3\xa9\ndata: [[[[{}]]]]\n",
};

size_t fuzz_seed(int index, unsigned char *out, size_t capacity)
{
    static const char *const overrides[] = { "train.lr,data", "train.lr=0.2", "model.layers=[a, \"b\"]",
                                             "data.train=a: b #c", "run.name=\"q\\\"" };
    int files = sizeof seeds / sizeof seeds[0], count = files + 5;
    if (index >= count)
        return 0;
    const char *text = index < files ? seeds[index] : overrides[index - files];
    size_t length = strlen(text);
    if (length >= capacity)
        abort();
    out[0] = index < files ? 0 : 1;
    memcpy(out + 1, text, length);
    return length + 1;
}

static void check_round_trip(struct config *config)
{
    struct config again;
    char *first, *second;
    if (config_print(config, &first) != STATUS_OK)
        abort();
    if (config_parse(&again, "printed", first, strlen(first), NULL, 0) != STATUS_OK ||
        config_print(&again, &second) != STATUS_OK || strcmp(first, second) != 0 ||
        config_compare(config, &again, NULL, NULL) != STATUS_OK) {
        fprintf(stderr, "%s\n%s\n", status_message(), first);
        abort();
    }
    config_finish(&again);
    free(first);
    free(second);
}

int LLVMFuzzerTestOneInput(const unsigned char *data, size_t size)
{
    struct config config;
    struct config_facts facts = { 10, 32, 2, 4, false };
    enum status status;
    if (!size)
        return 0;
    char *text = malloc(size), *overrides[] = { text };
    if (!text)
        abort();
    memcpy(text, data + 1, size - 1);
    text[size - 1] = 0;
    status = config_check_change(text);
    if (status != STATUS_OK && (status != STATUS_USAGE || !status_message()[0]))
        abort();
    if (data[0] % 2)
        status = config_parse(&config, "fuzz.yaml", good, sizeof good - 1, overrides, 1);
    else
        status = config_parse(&config, "fuzz.yaml", text, size - 1, NULL, 0);
    if (status != STATUS_OK && (status != STATUS_USAGE || !status_message()[0]))
        abort();
    if (status == STATUS_OK) {
        check_round_trip(&config);
        if (config_resolve(&config, &facts) == STATUS_OK)
            check_round_trip(&config);
        config_finish(&config);
    }
    free(text);
    return 0;
}
