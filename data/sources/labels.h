/* labels.h - a label file: one class for each image, by position or by the image's name.
 *   n01751748                                    one a line, in the order of the images' names
 *   ILSVRC2012_val_00000001.JPEG n01751748       or with a comma or a tab; the ending may be missing, a folder in front
 *   ILSVRC2012_val_00000001,n01751748 1 2 3 4    as in LOC_val_solution.csv: only the first word counts
 *   490                                          ILSVRC's own number, which needs a synset file
 * A synset file has the number and the name of each class on a line, in either order: "490 n01751748 ...". */
#ifndef CSC_DATA_SOURCES_LABELS_H
#define CSC_DATA_SOURCES_LABELS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/status.h"

struct label_line {
    char *image; /* without its ending; NULL in a file without images' names */
    char *name;  /* of the class */
};

struct labels {
    char *text, *synsets; /* copies of the files, cut into words */
    struct label_line *lines;
    int64_t count;
    bool by_image; /* lines are sorted by image then */
};

struct label_file {
    const char *name; /* for messages */
    const char *text; /* NULL: there is none */
    size_t bytes;
};

/* Parses a label file and a synset file, which may be none. STATUS_DATA. */
enum status labels_parse(struct labels *labels, struct label_file file, struct label_file synsets);

/* The class of image number `index`, whose file name is `image`; NULL if the file has none for it. */
const char *labels_find(const struct labels *labels, int64_t index, const char *image);
void labels_finish(struct labels *labels);

#endif
