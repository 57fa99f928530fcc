/* listing.h - the files of an image folder, CLASS/.../FILE, sorted by class and path. */
#ifndef CSC_DATA_SOURCES_LISTING_H
#define CSC_DATA_SOURCES_LISTING_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/status.h"
#include "data/sources/class_names.h"

struct listed_file {
    char *path; /* below the root: "CLASS/.../FILE" */
    int label;
    int64_t order;   /* in which it was added */
    uint64_t offset; /* of its content, in an archive that is read in any order */
    uint64_t bytes;
    const char *fault; /* why it cannot be read, known from its place: "is a link"; NULL: nothing */
};

struct listing {
    struct listed_file *files;
    int64_t count;
    size_t capacity;
    struct class_names classes;
    size_t class_capacity;
    int64_t stray_count; /* files outside any class folder, left out; the first of them */
    char *first_stray;
    char **non_images; /* (non_image_count): files that are not named as images, left out */
    int64_t non_image_count;
    size_t non_image_capacity;
};

/* Whether a path is to be listed at all: not empty, not hidden, nor what systems put beside people's files. */
bool listing_accepts(const char *path);
/* Whether a file is an image by its name's ending, of a format that is read here or of another. */
bool listing_is_image(const char *path);

/* Adds a file, with its fault or NULL. One outside of class folders is counted, one that is no image is an other. */
enum status listing_add_file(struct listing *listing, const char *path, uint64_t offset, uint64_t bytes,
                             const char *fault);
/* The same wherever it lies, without looking for its class. */
enum status listing_add_entry(struct listing *listing, const char *path, uint64_t offset, uint64_t bytes,
                              const char *fault);
/* Adds a folder; only the first component counts, as a class. */
enum status listing_add_folder(struct listing *listing, const char *path);

/* Sorts, labels and checks: STATUS_DATA, naming `where`, for no class, an empty one, or a file that occurs twice.
 * `given`, if it is not NULL, are the classes then, in their order; some may be empty, and an image of another class is
 * STATUS_USAGE. */
enum status listing_complete(struct listing *listing, const char *where, bool rooted, const struct class_names *given);
/* Sorts labelled files by class and path, or as they were added. */
void listing_sort(struct listing *listing, bool as_added);
/* Sorts the others and says that they are left out. */
void listing_warn_non_images(struct listing *listing, const char *where);
/* XXH64 over names, sizes and labels, in order, and over the classes' names. */
enum status listing_fingerprint(const struct listing *listing, uint64_t *fingerprint);
void listing_finish(struct listing *listing);

#endif
