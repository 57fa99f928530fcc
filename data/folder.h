/* folder.h - a folder of class folders of JPEG and PNG files, on disk or in a tar archive, as a source. */
#ifndef CSC_DATA_FOLDER_H
#define CSC_DATA_FOLDER_H

#include "data/pack.h"

struct folder;

/* root: the folder inside `path` that holds the class folders, NULL for path itself. A compressed archive whose
 * members are not in sorted order is unpacked into one unnamed file in `spool`, a folder. STATUS_IO, STATUS_DATA. */
enum status folder_open(struct folder **folder, const char *path, const char *root, const char *spool);
struct pack_source *folder_source(struct folder *folder); /* belongs to folder */
void folder_close(struct folder *folder);

#endif
