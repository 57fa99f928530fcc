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

/* Adds a file; one outside of class folders is only counted. *taken: whether it was added. */
enum status listing_add_file(struct listing *listing, const char *path, bool *taken);
/* Adds a folder; only the first component counts, as a class. */
enum status listing_add_folder(struct listing *listing, const char *path);

/* Sorts, labels and checks: STATUS_DATA, naming `where`, for no class, an empty one, or a file that occurs twice. */
enum status listing_complete(struct listing *listing, const char *where, bool rooted);
void listing_finish(struct listing *listing);

#endif
