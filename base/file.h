/* file.h - whole files, written so that a crash leaves the old one or the new one. */
#ifndef CSC_BASE_FILE_H
#define CSC_BASE_FILE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

#include "base/status.h"

/* Opens a regular file for reading; *info, if it is not NULL, is what fstat says. Anything else, such as a named pipe,
 * is STATUS_IO at once. */
struct stat;
enum status file_open(const char *path, int *fd, struct stat *info);

/* The same as a stream. */
enum status file_open_stream(const char *path, FILE **file, struct stat *info);

/* The whole file, with a 0 byte behind it; the caller frees *data. Larger than `limit` is STATUS_DATA. */
enum status file_read(const char *path, size_t limit, char **data, size_t *bytes);

/* Writes under a temporary name in the same folder, fsyncs, renames, fsyncs the folder. */
enum status file_write(const char *path, const void *data, size_t bytes);

/* Writes what was asked for to where the user said: "-" is standard output, and /dev/fd/N and the like are this
 * process's own descriptors. A regular file is replaced as file_write does it, behind a link where it leads; anything
 * else, such as a device or a pipe, is written into. */
enum status file_write_output(const char *path, const void *data, size_t bytes);

enum status file_sync_folder(const char *folder);
enum status file_make_folders(const char *path); /* as mkdir -p */
bool file_exists(const char *path);
bool file_is_folder(const char *path);
/* Whether path, which need not exist, is folder/below or lies somewhere inside it; `below` may be NULL. */
bool file_is_inside(const char *path, const char *folder, const char *below);

#endif
