/* fuzz_driver.c - a fuzz target on its seeds and on mutations of them, for compilers without libFuzzer.
 * Usage: fuzz-TARGET [SEED [RUNS]]; the seed is printed, so that a failure can be repeated. FILE... runs those instead.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/philox.h"
#include "tests/fuzz/fuzz.h"

enum { CAPACITY = 4096 };

/* clang-format off */
static const char *const tokens[] = {
    ":", " ", "\n", "- ", "[", "]", "{", "}", ",", "\"", "'", "&a ", "*a", "!!", "#", "%", "---\n", "\t", "0", "-1",
    "1e999", "18446744073709551616", "9223372036854775807", ".nan", "auto", "none", "null", "\xff", "\xc3",
    "\xe2\x80\xa8", "shape", "data_offsets", "__metadata__", "F32", "train", "lr", "=",
};
/* clang-format on */

static uint32_t below(struct philox *random, size_t bound)
{
    return bound ? philox_below(random, (uint32_t)bound) : 0;
}

/* One small change; returns the new length. */
static size_t mutate(struct philox *random, unsigned char *data, size_t length)
{
    size_t at = below(random, length + 1), count = 1 + below(random, 8);
    const char *token = tokens[below(random, sizeof tokens / sizeof tokens[0])];
    size_t token_length = strlen(token);
    switch (below(random, 6)) {
    case 0: /* flip a bit */
        if (at < length)
            data[at] ^= (unsigned char)(1 << below(random, 8));
        return length;
    case 1: /* set a byte */
        if (at < length)
            data[at] = (unsigned char)philox_u32(random);
        return length;
    case 2: /* remove some */
        if (at + count > length)
            return length;
        memmove(data + at, data + at + count, length - at - count);
        return length - count;
    case 3: /* cut */ return below(random, 4) ? length : at;
    case 4: /* repeat some */
        if (at + count > length || length + count > CAPACITY)
            return length;
        memmove(data + at + count, data + at, length - at);
        return length + count;
    default: /* insert a token */
        if (length + token_length > CAPACITY)
            return length;
        memmove(data + at + token_length, data + at, length - at);
        memcpy(data + at, token, token_length);
        return length + token_length;
    }
}

/* The target sees an exact allocation, so that a sanitizer notices a read beyond it. */
static void run(const unsigned char *data, size_t length)
{
    unsigned char *exact = malloc(length ? length : 1);
    if (!exact)
        abort();
    memcpy(exact, data, length);
    LLVMFuzzerTestOneInput(exact, length);
    free(exact);
}

static int run_files(char **paths, int count)
{
    static unsigned char data[1 << 20];
    for (int i = 0; i < count; i++) {
        FILE *file = fopen(paths[i], "rb");
        if (!file) {
            perror(paths[i]);
            return 1;
        }
        run(data, fread(data, 1, sizeof data, file));
        fclose(file);
    }
    return 0;
}

int main(int count, char **arguments)
{
    unsigned char data[CAPACITY];
    char *end = NULL;
    uint64_t seed = count > 1 ? strtoull(arguments[1], &end, 0) : 1;
    long runs = count > 2 ? strtol(arguments[2], NULL, 0) : 30000;
    struct philox random;
    int seeds = 0;
    if (end && *end)
        return run_files(arguments + 1, count - 1);
    printf("seed %llu, %ld runs\n", (unsigned long long)seed, runs);
    fflush(stdout);
    for (size_t length; (length = fuzz_seed(seeds, data, sizeof data)) > 0; seeds++)
        run(data, length);
    for (long i = 0; i < runs; i++) {
        philox_init(&random, seed, 0, (uint64_t)i);
        size_t length = fuzz_seed((int)below(&random, (size_t)seeds), data, sizeof data);
        for (uint32_t changes = 1 + below(&random, 6); changes; changes--)
            length = mutate(&random, data, length);
        run(data, length);
    }
    printf("%d seeds and %ld mutations survived\n", seeds, runs);
    return seeds ? 0 : 1;
}
