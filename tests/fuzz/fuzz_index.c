/* fuzz_index.c - parses any bytes as index.json. If the first byte is odd, the hash is corrected, so that members are
 * reached. */
#include <stdlib.h>
#include <string.h>

#include "base/hash.h"
#include "data/format/index.h"
#include "data/format/names.h"
#include "data/format/shard.h"
#include "tests/fuzz/fuzz.h"

static const char body[] =
    "{\n \"format\": \"csz\",\n \"version\": 2,\n \"codec\": \"rgbz\",\n \"made_by\": \"hand\",\n \"samples\": 30,\n"
    " \"width\": 32,\n \"height\": 32,\n \"classes\": [\"a\", \"b\"],\n \"counts\": [10, 20],\n \"shards\": [\n"
    "  {\"name\": \"shard-00000.csz\", \"bytes\": 999, \"samples\": 20, \"blocks\": 2, \"hash\": "
    "\"0123456789abcdef\"},\n"
    "  {\"name\": \"shard-00001.csz\", \"bytes\": 99, \"samples\": 10, \"blocks\": 10, \"hash\": "
    "\"0000000000000000\"}\n ]";
static const char key[] = ",\n \"hash\": \"", ending[] = "\"\n}\n";
enum { DIGITS = 16, TAIL = sizeof key - 1 + DIGITS + sizeof ending - 1 };

/* Appends the key, the digits of the hash and the ending to a body. Returns the length. */
static size_t put_tail(char *text, size_t length)
{
    char digits[17];
    memcpy(text + length, key, sizeof key - 1);
    length += sizeof key - 1;
    hash_text(hash_bytes(text, length), digits);
    memcpy(text + length, digits, DIGITS);
    memcpy(text + length + DIGITS, ending, sizeof ending - 1);
    return length + DIGITS + sizeof ending - 1;
}

/* The seed must be accepted, or the fuzzer does not get beyond its fault. */
static void check_seed(const char *text, size_t length)
{
    struct index index;
    if (index_parse(&index, text, length, "seed") != STATUS_OK || index.class_count != 2 || index.shard_count != 2)
        abort();
    index_finish(&index);
}

size_t fuzz_seed(int index, unsigned char *out, size_t capacity)
{
    if (index > 1 || capacity < sizeof body + TAIL + 1)
        return 0;
    out[0] = (unsigned char)index;
    memcpy(out + 1, body, sizeof body - 1);
    size_t length = put_tail((char *)out + 1, sizeof body - 1);
    check_seed((char *)out + 1, length);
    return 1 + length;
}

static void check_accepted(const struct index *index)
{
    int64_t by_class = 0, by_shard = 0;
    for (int i = 0; i < index->class_count; i++) {
        if (!class_name_ok(index->class_names[i]) || index->counts[i] < 0)
            abort();
        by_class += index->counts[i];
    }
    for (int i = 0; i < index->shard_count; i++) {
        if (!shard_name_ok(index->shards[i].name) || index->shards[i].blocks < 1)
            abort();
        by_shard += (int64_t)index->shards[i].samples;
    }
    if (!index->samples != !index->shard_count)
        abort();
    if (by_class != index->samples || by_shard != index->samples || !index->width != !index->height)
        abort();
}

int LLVMFuzzerTestOneInput(const unsigned char *data, size_t size)
{
    struct index index;
    if (!size)
        return 0;
    size_t length = size - 1;
    char *text = malloc(length + TAIL + 1);
    if (!text)
        abort();
    memcpy(text, data + 1, length);
    if (data[0] % 2)
        length = put_tail(text, length > TAIL ? length - TAIL : 0);
    enum status status = index_parse(&index, text, length, "fuzz");
    if (status != STATUS_OK && status != STATUS_DATA)
        abort();
    if (status == STATUS_OK)
        check_accepted(&index);
    index_finish(&index);
    free(text);
    return 0;
}
