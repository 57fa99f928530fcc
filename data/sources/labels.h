/* labels.h - a label file: the class of each image, by the image's position or by its name. Examples of lines:
 *   n01751748                                    one a line, for the images in the order of their names
 *   ILSVRC2012_val_00000001.JPEG n01751748       or with a comma or tab; folders and the file's ending do not matter
 *   ILSVRC2012_val_00000001,n01751748 1 2 3 4    as in LOC_val_solution.csv: only the first word is used
 *   490                                          an ILSVRC2012_ID, which needs a synset file
 * A line of a synset file holds the id and the name of a class, in either order: "490 n01751748 ...". */
#ifndef CSC_DATA_SOURCES_LABELS_H
#define CSC_DATA_SOURCES_LABELS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/status.h"

struct label_line {
    char *image; /* without its ending; NULL in a file without image names */
    char *name;  /* of the class */
};

struct labels {
    char *text, *synsets; /* copies of the files, cut into words */
    struct label_line *lines;
    int64_t count;
    bool by_image; /* the file names the images; lines are sorted by image then */
};

/* The content of a file. */
struct label_file {
    const char *name; /* for messages */
    const char *text; /* NULL: there is no such file */
    size_t bytes;
};

/* Parses a label file and, if there is one, a synset file. STATUS_DATA. */
enum status labels_parse(struct labels *labels, struct label_file file, struct label_file synsets);

/* The class of the image at position `index` with file name `image`; NULL if the label file has none for it. */
const char *labels_find(const struct labels *labels, int64_t index, const char *image);
void labels_finish(struct labels *labels);

#endif
