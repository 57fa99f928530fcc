/* test_folder.c - images of every kind are decoded as by Pillow; archives give the same datasets as folders; errors
 * name the file. */
#include <limits.h>
#include <sys/stat.h>

#include "base/file.h"
#include "base/log.h"
#include "data/image/decode.h"
#include "data/read/dataset_internal.h"
#include "data/sources/folder.h"
#include "tests/check.h"
#include "tests/data/image/pillow.h"
#include "tests/data/make.h"

static char folder[64];

static const char *at(const char *name)
{
    static char paths[4][PATH_MAX];
    static int turn;
    turn = (turn + 1) % 4;
    snprintf(paths[turn], PATH_MAX, "%s/%s", folder, name);
    return paths[turn];
}

static void shell(const char *format, const char *argument)
{
    char command[512], line[640];
    snprintf(command, sizeof command, format, argument);
    snprintf(line, sizeof line, "cd '%s' && %s", folder, command);
    CHECK(system(line) == 0, "%s", line);
}

static enum status pack(const char *path, const char *root, const char *out, bool skip_bad, struct pack_report *report)
{
    struct folder *source = NULL;
    struct pack_options options = { .workers = 2, .skip_bad = skip_bad, .made_by = "a test" };
    *report = (struct pack_report){ 0 };
    enum status status = folder_open(&source, path, &(struct folder_options){ .root = root, .spool = out });
    if (status == STATUS_OK)
        status = pack_dataset(folder_source(source), out, &options, report);
    folder_close(source);
    return status;
}

/* The files, in the order in which they must be packed. */
static const char *const files[] = {
    "colour/full-chroma.jpeg",
    "colour/pixel.png",
    "colour/plain.jpg",
    "colour/plain.png",
    "colour/progressive.JPEG",
    "grey/bits.png",
    "grey/grey.jpg",
    "grey/grey.png",
    "grey/sixteen.png",
    "grey/with-alpha.png",
    "odd/cmyk.jpg",
    "odd/nested/below.png",
    "odd/palette-clear.png",
    "odd/palette.png",
    "odd/really-a.jpg.png",
    "odd/really-a.png.jpg",
    "odd/rgba.png",
};
enum { FILES = sizeof files / sizeof *files };

/* Compares the dataset's images with the pixels that Pillow wrote for the files, in this order. */
static void check_pixels(const char *set, const char *expected_in, const char *const *names, int count)
{
    struct dataset *d = NULL;
    struct block_reader reader = { 0 };
    struct block block = { 0 };
    CHECK(dataset_open(&d, set) == STATUS_OK, "%s", status_message());
    CHECK(d && dataset_samples(d) == count && dataset_classes(d) == (names == files ? 3 : 1), "samples");
    for (int i = 0; d && i < count; i++) {
        char path[PATH_MAX], *expected = NULL;
        size_t bytes;
        struct sample_location location = dataset_locate(d, i);
        snprintf(path, sizeof path, "%s/%sexpected/%s.rgb", folder, expected_in, names[i]);
        CHECK(file_read(path, 1 << 24, &expected, &bytes) == STATUS_OK, "%s", status_message());
        CHECK(dataset_read_block(d, location, &reader, &block) == STATUS_OK, "%s", status_message());
        const struct block_sample *s = &block.samples[location.sample];
        CHECK(s->label == (names != files || i < 5 ? 0 : i < 10 ? 1 : 2), "%s: label %d", names[i], s->label);
        CHECK(get32((uint8_t *)expected) == (uint32_t)s->width && get32((uint8_t *)expected + 4) == (uint32_t)s->height,
              "%s: %d x %d", names[i], s->width, s->height);
        int most = 0;
        struct view view = { NULL, 0, 0, 0 };
        struct box all = { 0, 0, s->width, s->height };
        CHECK(block_decode_box(&block, location.sample, all, 1, &reader, &view) == STATUS_OK, "%s", status_message());
        for (size_t k = 0; view.pixels && k < bytes - 8; k++) {
            int difference = abs(view.pixels[k] - (uint8_t)expected[8 + k]);
            most = difference > most ? difference : most;
        }
        CHECK(most == 0, "%s: off by %d", names[i], most);
        free(expected);
    }
    block_reader_finish(&reader);
    block_finish(&block);
    dataset_close(d);
}

static void check_notes(const struct pack_report *r)
{
    static const int expected[IMAGE_NOTES] = { 4, 1, 0, 1, 2, 3, 2 };
    for (int i = 0; i < IMAGE_NOTES; i++)
        CHECK(r->notes[i] == expected[i], "note %d: %lld", i, (long long)r->notes[i]);
    CHECK(r->samples == FILES && r->skipped == 0, "%lld samples", (long long)r->samples);
}

/* Damage that does not concern pixels does not matter: an image is accepted if one of two checksums is right, or if
 * only its last bytes are missing. */
static void check_sound(void)
{
    static const char *const names[] = { "a/cut-in-checksum.png", "a/text-for-the-end-marker.jpg",
                                         "a/window-too-small.png", "a/wrong-crc-of-pixels.png" };
    struct pack_report report;
    CHECK(pack(at("sound/in"), NULL, at("sound/out"), false, &report) == STATUS_OK, "%s", status_message());
    check_pixels(at("sound/out"), "sound/", names, 4);
}

static void check_refused(void)
{
    static const struct {
        const char *file, *says;
    } cases[] = {
        { "stray-marker.jpg", "JPEG: Unsupported marker type 0xa4" },
        { "gamma-crc.png", "PNG: gAMA: CRC error" },
        { "no-checksum.png", "PNG: damaged: no checksum of its pixels is right" },
        { "rows-missing.png", "PNG: Not enough image data" },
        { "side.png", "70000 x 1 pixels; at most 65500 a side and 134217728 in all" },
        { "pixels.png", "12000 x 11500 pixels; at most 65500 a side and 134217728 in all" },
        { "a.gif", "a GIF; JPEG, PNG and WebP are read" },
        { "a.bmp", "a BMP; JPEG, PNG and WebP are read" },
#ifdef CSC_WEBP
        { "animated.webp", "an animated WebP" },
        { "cut.webp", "WebP: the file ends too early" },
#else
        { "cut.webp", "built without" },
#endif
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char path[PATH_MAX], *data = NULL;
        size_t bytes;
        struct image image = { 0 };
        unsigned notes = 0;
        snprintf(path, sizeof path, "%s/refused/%s", folder, cases[i].file);
        if (strstr(path, ".webp") && !file_exists(path))
            continue;
        CHECK(file_read(path, 1 << 24, &data, &bytes) == STATUS_OK, "%s", status_message());
        CHECK(decode_image((uint8_t *)data, bytes, cases[i].file, &image, &notes) == STATUS_DATA, "%s passes",
              cases[i].file);
        CHECK(strstr(status_message(), cases[i].says), "%s", status_message());
        image_finish(&image);
        free(data);
    }
}

/* WebP files are decoded as by Pillow. With the jpeg codec they are stored as JPEGs. */
static void check_webp(void)
{
#ifdef CSC_WEBP
    static const char *const names[] = { "a/clear-lossless.webp", "a/clear.webp", "a/large.webp", "a/lossless.webp",
                                         "a/lossy.webp" };
    struct pack_report report;
    struct folder *source = NULL;
    struct pack_options options = { .workers = 2, .codec = CODEC_JPEG, .made_by = "a test" };
    struct dataset *d = NULL;
    struct block_reader reader = { 0 };
    struct block block = { 0 };
    if (!file_is_folder(at("webp")))
        return;
    CHECK(pack(at("webp/in"), NULL, at("webp/out"), false, &report) == STATUS_OK, "%s", status_message());
    CHECK(report.notes[NOTE_ALPHA] == 2 && report.notes[NOTE_REENCODED] == 0, "notes");
    check_pixels(at("webp/out"), "webp/", names, 5);
    CHECK(folder_open(&source, at("webp/in"), &(struct folder_options){ .root = NULL }) == STATUS_OK, "%s",
          status_message());
    CHECK(pack_dataset(folder_source(source), at("webp/jpeg"), &options, &report) == STATUS_OK, "%s", status_message());
    CHECK(report.notes[NOTE_REENCODED] == 5, "%lld are said to be JPEGs now", (long long)report.notes[NOTE_REENCODED]);
    CHECK(dataset_open(&d, at("webp/jpeg")) == STATUS_OK && dataset_samples(d) == 5, "%s", status_message());
    for (int i = 0; d && i < 5; i++) {
        struct sample_location location = dataset_locate(d, i);
        CHECK(dataset_read_block(d, location, &reader, &block) == STATUS_OK, "%s", status_message());
        const struct block_sample *s = &block.samples[location.sample];
        CHECK(decode_is_jpeg(block.data + s->offset, s->bytes), "%s is not stored as a JPEG", names[i]);
    }
    folder_close(source);
    block_reader_finish(&reader);
    block_finish(&block);
    dataset_close(d);
#endif
}

/* The same images come from archives: sorted or not, with a root or without. */
static void check_archives(void)
{
    static const struct {
        const char *command, *file, *root;
    } cases[] = {
        { "tar --sort=name -C in -cf a.tar .", "a.tar", NULL },
        { "tar --sort=name -cf b.tar in", "b.tar", "in" },
        { "tar -C in -czf c.tar.gz odd grey colour", "c.tar.gz", NULL },
        { "mkdir -p deep/er && cp -r in deep/er/train && touch deep/er/x && tar -cf - deep | zstd -q -o d.tar.zst",
          "d.tar.zst", "/deep/er/train/" },
    };
    struct dataset *first = NULL;
    struct pack_report report;
    CHECK(dataset_open(&first, at("plain")) == STATUS_OK, "%s", status_message());
    for (int i = 0; first && i < 4; i++) {
        struct dataset *d = NULL;
        char out[32];
        snprintf(out, sizeof out, "archive-%d", i);
        if (i == 3 && system("zstd --version >/dev/null 2>&1") != 0)
            continue;
        shell("%s", cases[i].command);
        CHECK(pack(at(cases[i].file), cases[i].root, at(out), false, &report) == STATUS_OK, "%s", status_message());
        CHECK(dataset_open(&d, at(out)) == STATUS_OK, "%s", status_message());
        if (d)
            CHECK(!strcmp(dataset_fingerprint(d), dataset_fingerprint(first)), "%s gives another dataset",
                  cases[i].file);
        dataset_close(d);
    }
    CHECK(pack(at("b.tar"), NULL, at("wrong"), false, &report) == STATUS_DATA && strstr(status_message(), "--root in"),
          "%s", status_message());
    CHECK(!file_exists(at("wrong/index.json")), "an index was written");
    shell("head -c 3000 %s > cut.tar.gz", "c.tar.gz");
    CHECK(pack(at("cut.tar.gz"), NULL, at("cut"), false, &report) == STATUS_DATA, "%s", status_message());
    CHECK(pack(at("in/grey/grey.png"), NULL, at("cut"), false, &report) == STATUS_DATA, "%s", status_message());
    CHECK(pack(at("absent.tar"), NULL, at("cut"), false, &report) == STATUS_IO, "%s", status_message());
    dataset_close(first);
}

/* Folders without images are refused. */
static void check_empty(void)
{
    struct pack_report report;
    shell("%s", "mkdir -p void noimages/a noimages/b hollow/a hollow/b && cp in/grey/grey.png hollow/a");
    CHECK(pack(at("void"), NULL, at("out-1"), false, &report) == STATUS_DATA &&
              strstr(status_message(), "no class folders"),
          "%s", status_message());
    CHECK(pack(at("noimages"), NULL, at("out-2"), false, &report) == STATUS_DATA &&
              strstr(status_message(), "no images"),
          "%s", status_message());
    CHECK(pack(at("hollow"), NULL, at("out-3"), false, &report) == STATUS_DATA &&
              strstr(status_message(), "class folder 'b' is empty"),
          "%s", status_message());
    shell("%s", "tar --sort=name -C hollow -cf hollow.tar a b");
    CHECK(pack(at("hollow.tar"), NULL, at("out-4"), false, &report) == STATUS_DATA &&
              strstr(status_message(), "class folder 'b' is empty"),
          "%s", status_message());
    CHECK(pack(at("nowhere"), NULL, at("out-5"), false, &report) == STATUS_IO, "%s", status_message());
    CHECK(!file_exists(at("out-3/index.json")), "an index was written");
}

/* A bad image stops the packing with its name, or is left out. An image that was cut off within its pixels is bad. */
static void check_bad(void)
{
    struct pack_report report;
    struct dataset *d = NULL;
    shell("%s", "cp -r in faulty && head -c 500 in/colour/plain.jpg > faulty/colour/cut.jpg && "
                "echo hello > faulty/odd/text.jpg && : > faulty/grey/nothing.png && echo x > faulty/odd/.hidden");
    CHECK(pack(at("faulty"), NULL, at("stopped"), false, &report) == STATUS_DATA &&
              strstr(status_message(), "colour/cut.jpg"),
          "%s", status_message());
    CHECK(!file_exists(at("stopped/index.json")), "an index was written");
    CHECK(pack(at("faulty"), NULL, at("skipped"), true, &report) == STATUS_OK && report.skipped == 3,
          "%lld skipped: %s", (long long)report.skipped, status_message());
    CHECK(dataset_open(&d, at("skipped")) == STATUS_OK && dataset_samples(d) == FILES, "%s", status_message());
    dataset_close(d);
    for (int f = 0; f < FILES; f++) {
        char path[PATH_MAX], *data = NULL;
        size_t bytes;
        struct image image = { 0 };
        unsigned notes = 0;
        snprintf(path, sizeof path, "%s/in/%s", folder, files[f]);
        CHECK(file_read(path, 1 << 24, &data, &bytes) == STATUS_OK, "%s", status_message());
        int passed = 0;
        for (size_t length = 0; length < bytes * 3 / 4 && length + 30 < bytes; length += 1 + bytes / 50)
            passed += decode_image((uint8_t *)data, length, files[f], &image, &notes) != STATUS_DATA;
        CHECK(passed == 0, "%s: %d of its beginnings passed for the whole", files[f], passed);
        image_finish(&image);
        free(data);
    }
}

int main(void)
{
    struct pack_report report;
    log_init("test", 0, 1);
    make_folder(folder);
    if (!run_pillow("images", folder)) {
        remove_folder(folder);
        return check_skip("no Python with Pillow");
    }
    CHECK(pack(at("in"), NULL, at("plain"), false, &report) == STATUS_OK, "%s", status_message());
    check_notes(&report);
    check_pixels(at("plain"), "", files, FILES);
    check_sound();
    check_refused();
    check_webp();
    check_archives();
    check_empty();
    check_bad();
    remove_folder(folder);
    return check_done("folder");
}
