/* fuzz_classes.c - parses any text as a list of class names. Accepted names must be allowed in a dataset, and each must
 * be found by its name. */
#include <stdlib.h>
#include <string.h>

#include "data/format/index.h"
#include "data/format/names.h"
#include "data/sources/class_names.h"
#include "tests/fuzz/fuzz.h"

static const char *const seeds[] = { "ant\nbee\ncat\n", "\xef\xbb\xbfzebra\r\n\r\nape\r\n", "caf\xc3\xa9\nab\na\nabc" };

size_t fuzz_seed(int index, unsigned char *out, size_t capacity)
{
    if (index > 2 || capacity < strlen(seeds[index]))
        return 0;
    memcpy(out, seeds[index], strlen(seeds[index]));
    return strlen(seeds[index]);
}

int LLVMFuzzerTestOneInput(const unsigned char *data, size_t size)
{
    struct class_names names, copy;
    enum status status = class_names_parse(&names, (const char *)data, size, "fuzz");
    if (status != STATUS_OK && status != STATUS_DATA)
        abort();
    if (status != STATUS_OK)
        return 0;
    if (class_names_copy(&copy, &names) != STATUS_OK || class_names_sort(&copy, "fuzz") != STATUS_OK ||
        copy.count != names.count)
        abort();
    for (int i = 0; i < names.count; i++) {
        size_t length = strlen(names.names[i]);
        if (!class_name_ok(names.names[i]) || class_names_find(&copy, names.names[i], length) != i)
            abort();
        int shorter = class_names_find(&names, names.names[i], length - 1);
        if (shorter >= 0 &&
            (strlen(names.names[shorter]) != length - 1 || strncmp(names.names[shorter], names.names[i], length - 1)))
            abort();
    }
    class_names_finish(&names);
    class_names_finish(&copy);
    return 0;
}
