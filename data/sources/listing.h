/* listing.h - the list of files in an image folder, CLASS/.../FILE, sorted by class and path. */
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
    int64_t order;   /* its position in the order of adding */
    uint64_t offset; /* of its content in an archive that is read in any order */
    uint64_t bytes;
    const char *fault; /* why it cannot be read, as known without reading it, such as "is a link"; NULL: it can */
};

struct listing {
    struct listed_file *files;
    int64_t count;
    size_t capacity;
    struct class_names classes;
    size_t class_capacity;
    int64_t stray_count; /* files outside of all class folders, which are left out */
    char *first_stray;   /* the first of them */
    char **non_images;   /* (non_image_count): files that are not named as images, which are left out */
    int64_t non_image_count;
    size_t non_image_capacity;
};

/* False for a path that is not listed at all: an empty or hidden one, or one in a folder that systems create beside
 * people's files, such as __MACOSX. */
bool listing_accepts(const char *path);
/* Whether a file's name ends like an image's, in a format that can be read here or in another one. */
bool listing_is_image(const char *path);

/* Adds a file. `fault` is why it cannot be read, or NULL. A file outside of the class folders, or one that is not named
 * as an image, is only counted or named. */
enum status listing_add_file(struct listing *listing, const char *path, uint64_t offset, uint64_t bytes,
                             const char *fault);
/* The same for a file whose path does not name its class. */
enum status listing_add_entry(struct listing *listing, const char *path, uint64_t offset, uint64_t bytes,
                              const char *fault);
/* Adds the class that the first component of a folder's path names. */
enum status listing_add_folder(struct listing *listing, const char *path);

/* Labels, sorts and checks the files. `where` is for messages; `rooted` means that the user chose the root, so it is
 * not questioned. If `given` is not NULL, the classes are the given ones in their order, and some may have no files.
 * STATUS_DATA if there is no class or no image, if a class that was found has no images, or if a file occurs twice.
 * STATUS_USAGE for an image whose class is not given. */
enum status listing_complete(struct listing *listing, const char *where, bool rooted, const struct class_names *given);
/* Sorts labelled files by class and path, or in the order in which they were added. */
void listing_sort(struct listing *listing, bool as_added);
/* Sorts the files that are not named as images, and warns that they are left out. */
void listing_warn_non_images(struct listing *listing, const char *where);
/* XXH64 of the files' names, sizes and labels, in order, and of the classes' names. */
enum status listing_fingerprint(const struct listing *listing, uint64_t *fingerprint);
void listing_finish(struct listing *listing);

#endif
