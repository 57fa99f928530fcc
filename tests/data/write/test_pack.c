/* test_pack.c - what the report lists of files that are not images. */
#include "base/file.h"
#include "base/log.h"
#include "data/write/pack.h"
#include "tests/check.h"
#include "tests/data/make.h"

static char folder[64];

/* Packs 10 images; the source also has `names` files that are not images, with names of `bytes` bytes. */
static enum status pack_beside(const char *directory, int64_t names, size_t bytes, struct pack_report *report)
{
    static const int sizes[][2] = { { 8, 8 } };
    static char *classes[] = { "zero", "one", "two" };
    char *name = malloc(bytes + 1), **list = malloc((size_t)names * sizeof *list);
    struct random_source source = { { .read = random_read,
                                      .decode = random_decode,
                                      .bytes = random_bytes,
                                      .parallel = true,
                                      .total = 10,
                                      .class_count = 3,
                                      .class_names = classes,
                                      .non_images = list,
                                      .non_image_count = names },
                                    sizes,
                                    1 };
    struct pack_options options = { .workers = 1, .made_by = "a test" };
    enum status status = name && list ? STATUS_OK : STATUS_NOMEM;
    if (status == STATUS_OK) {
        memset(name, 'x', bytes);
        name[bytes] = 0;
        for (int64_t i = 0; i < names; i++)
            list[i] = name;
        status = pack_dataset(&source.source, directory, &options, report);
    }
    free(list);
    free(name);
    return status;
}

/* Names that do not fit into one record of the journal are left out of the report, and packing continues. */
static void check_long_names(void)
{
    struct pack_report report = { 0 };
    char set[96], path[128], *text = NULL;
    size_t bytes = 0;
    snprintf(set, sizeof set, "%s/few", folder);
    CHECK(pack_beside(set, 1000, 4000, &report) == STATUS_OK && report.non_images == 1000, "%lld names: %s",
          (long long)report.non_images, status_message());
    snprintf(set, sizeof set, "%s/many", folder);
    CHECK(pack_beside(set, 20000, 4000, &report) == STATUS_OK && report.samples == 10, "%s", status_message());
    CHECK(report.non_images > 5000 && report.non_images < 20000, "%lld names", (long long)report.non_images);
    snprintf(path, sizeof path, "%s/report.tsv", set);
    CHECK(file_read(path, (size_t)1 << 30, &text, &bytes) == STATUS_OK, "%s", status_message());
    int64_t lines = 0;
    for (size_t i = 0; i < bytes; i++)
        lines += text[i] == '\n';
    CHECK(lines == report.non_images, "%lld lines for %lld names", (long long)lines, (long long)report.non_images);
    free(text);
}

int main(void)
{
    log_init("test", 0, 1);
    make_folder(folder);
    check_long_names();
    remove_folder(folder);
    return check_done("pack");
}
