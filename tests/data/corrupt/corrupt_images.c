/* corrupt_images.c - corrupts raw images for test_corrupt.py:
 * corrupt-images cifar|imagenet NAME:SEVERITY WIDTH HEIGHT SEED [FIRST_ID] <IN >OUT, both (n, HEIGHT, WIDTH, 3) bytes.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "data/corrupt/corrupt.h"

int main(int count, char **arguments)
{
    struct corrupter scratch = { 0 };
    int kind, severity;
    if (count < 6 || corruption_parse(arguments[2], &kind, &severity) != STATUS_OK || kind < 0 || severity < 0) {
        fprintf(stderr, "usage or %s\n", status_message());
        return 2;
    }
    struct corruption c = corruption_make(kind, severity, strcmp(arguments[1], "imagenet") == 0,
                                          strtoull(arguments[5], NULL, 10));
    int width = atoi(arguments[3]), height = atoi(arguments[4]);
    uint64_t id = count > 6 ? strtoull(arguments[6], NULL, 10) : 0;
    size_t bytes = (size_t)width * height * 3;
    uint8_t *pixels = malloc(bytes);
    for (; pixels && fread(pixels, 1, bytes, stdin) == bytes; id++)
        if (corrupt(&c, &scratch, pixels, width, height, id) != STATUS_OK ||
            fwrite(pixels, 1, bytes, stdout) != bytes) {
            fprintf(stderr, "%s\n", status_message());
            return 1;
        }
    corrupter_finish(&scratch);
    free(pixels);
    return 0;
}
