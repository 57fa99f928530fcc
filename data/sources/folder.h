/* folder.h - a folder of class folders of JPEG and PNG files, on disk or in a tar archive, as a source. */
#ifndef CSC_DATA_SOURCES_FOLDER_H
#define CSC_DATA_SOURCES_FOLDER_H

#include "data/sources/class_names.h"
#include "data/write/pack.h"

struct folder;

struct folder_options {
    const char *root; /* the folder inside `path` that holds the class folders; NULL: path itself */
    /* A folder: a compressed archive whose members are not in sorted order is unpacked into one unnamed file there.
     * NULL: its images come in the archive's order. */
    const char *spool;
    const struct class_names *classes; /* the dataset's; NULL: those that are found */
};

/* STATUS_IO, STATUS_DATA; STATUS_USAGE for an image whose class is not among the given ones. */
enum status folder_open(struct folder **folder, const char *path, const struct folder_options *options);
const struct class_names *folder_classes(const struct folder *folder);
struct pack_source *folder_source(struct folder *folder); /* belongs to folder */
void folder_close(struct folder *folder);

#endif
