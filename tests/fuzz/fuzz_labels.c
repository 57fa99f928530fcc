/* fuzz_labels.c - parses any text as a label file, and what follows its first 0 byte as a synset file. */
#include <stdlib.h>
#include <string.h>

#include "data/sources/labels.h"
#include "tests/fuzz/fuzz.h"

static const char *const seeds[] = {
    "n01440764\nn01443537\nn01440764\n",
    "ILSVRC2012_val_00000002.JPEG n01440764\nILSVRC2012_val_00000001.JPEG\tn01443537\r\n",
    ("ImageId,PredictionString\n"
     "ILSVRC2012_val_00000001,n01440764 1 2 3 4 \n"
     "ILSVRC2012_val_00000002,n01443537 1 2 3 4 \n"),
    "490\n361\n361\n\0n01751748 490 sea_snake\n361 n02077923\n",
};
static const size_t lengths[] = { 30, 79, 111, 51 };

size_t fuzz_seed(int index, unsigned char *out, size_t capacity)
{
    if (index > 3 || capacity < lengths[index])
        return 0;
    memcpy(out, seeds[index], lengths[index]);
    return lengths[index];
}

int LLVMFuzzerTestOneInput(const unsigned char *data, size_t size)
{
    struct labels labels;
    const char *text = (const char *)data, *zero = memchr(data, 0, size);
    size_t bytes = zero ? (size_t)(zero - text) : size;
    enum status status = labels_parse(
        &labels, (struct label_file){ "fuzz", text, bytes },
        (struct label_file){ "synsets", zero ? zero + 1 : NULL, zero ? size - bytes - 1 : 0 });
    if (status != STATUS_OK && status != STATUS_DATA)
        abort();
    if (status == STATUS_OK && (labels.count < 1 || labels.count > (int64_t)size))
        abort();
    for (int64_t i = 0; status == STATUS_OK && i < labels.count; i++) {
        const char *image = labels.by_image ? labels.lines[i].image : "any";
        const char *found = labels_find(&labels, i, image);
        if (!*labels.lines[i].name || strlen(labels.lines[i].name) > size)
            abort();
        if (!labels.by_image && found != labels.lines[i].name)
            abort();
    }
    if (status == STATUS_OK && !labels.by_image && labels_find(&labels, labels.count, "any"))
        abort();
    labels_finish(&labels);
    return 0;
}
