/* fuzz.h - a fuzz target, run by libFuzzer (-Dfuzzing=true) or by fuzz_driver.c, which is always built. */
#ifndef CSC_TESTS_FUZZ_FUZZ_H
#define CSC_TESTS_FUZZ_FUZZ_H

#include <stddef.h>

/* Must not crash, and aborts if something that it accepts is inconsistent. */
int LLVMFuzzerTestOneInput(const unsigned char *data, size_t size);

/* The index-th good or nearly good input and its length; 0 if there are no more. */
size_t fuzz_seed(int index, unsigned char *out, size_t capacity);

#endif
