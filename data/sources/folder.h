/* folder.h - a folder of class folders of images, on disk or in a tar archive, as a source of samples. */
#ifndef CSC_DATA_SOURCES_FOLDER_H
#define CSC_DATA_SOURCES_FOLDER_H

#include "data/sources/class_names.h"
#include "data/write/pack_source.h"

struct folder;

struct folder_options {
    const char *root; /* the folder inside `path` that holds the class folders; NULL: `path` itself */
    /* A compressed archive whose members are not sorted is unpacked into one unnamed file in this folder. NULL: its
     * images come in the archive's order instead. */
    const char *spool;
    const struct class_names *classes; /* the dataset's classes in their order; NULL: those that are found, sorted */
};

/* STATUS_IO, STATUS_DATA; STATUS_USAGE for an image whose class is not among `classes`. */
enum status folder_open(struct folder **folder, const char *path, const struct folder_options *options);
const struct class_names *folder_classes(const struct folder *folder);
struct pack_source *folder_source(struct folder *folder); /* belongs to the folder */
void folder_close(struct folder *folder);

#endif
