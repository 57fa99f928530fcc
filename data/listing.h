/* listing.h - the files of an image folder, CLASS/.../FILE, sorted by class and path. */
#ifndef CSC_DATA_LISTING_H
#define CSC_DATA_LISTING_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/status.h"

struct listed {
    char *path;      /* below the root: "CLASS/.../FILE" */
    int label;
    int64_t order;   /* in which it was added */
    uint64_t offset; /* of its content, in an archive that is read in any order */
    uint64_t bytes;
};

struct listing {
    struct listed *files;
    int64_t count;
    size_t capacity;
    char **classes;
    int class_count;
    size_t class_capacity;
    int64_t loose;   /* files outside any class folder, left out */
};

/* Whether a path is to be listed at all: not hidden, not empty. */
bool listing_wants(const char *path);

/* Adds a file; one outside of class folders is only counted. */
enum status listing_add_file(struct listing *listing, const char *path, uint64_t offset, uint64_t bytes);
/* Adds a file wherever it lies, without looking for its class. */
enum status listing_add_entry(struct listing *listing, const char *path, uint64_t offset, uint64_t bytes);
/* Adds a folder; only the first component counts, as a class. */
enum status listing_add_folder(struct listing *listing, const char *path);

/* Sorts, labels and checks: STATUS_DATA, naming `where`, for no class, an empty one, or a file that occurs twice. */
enum status listing_complete(struct listing *listing, const char *where, bool rooted);
/* XXH64 over names, sizes and labels, in order. */
enum status listing_fingerprint(const struct listing *listing, uint64_t *fingerprint);
void listing_finish(struct listing *listing);

#endif
