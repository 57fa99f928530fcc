/* file.h - files and folders. file_write replaces files atomically: a crash leaves the old file or the new one.
 * Functions that return enum status fail with STATUS_IO where nothing else is said, and name the path. */
#ifndef CSC_BASE_FILE_H
#define CSC_BASE_FILE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/types.h>

#include "base/status.h"

struct stat;

/* Opens a regular file for reading. It never waits: a named pipe or another special file is STATUS_IO. `info`, if not
 * NULL, receives the file's fstat. On failure *fd is -1. */
enum status file_open(const char *path, int *fd, struct stat *info);

/* The same as a stream; NULL on failure. */
enum status file_open_stream(const char *path, FILE **file, struct stat *info);

/* Reads a whole file and appends a 0 byte. The caller frees *data. A file of more than `limit` bytes is STATUS_DATA. */
enum status file_read(const char *path, size_t limit, char **data, size_t *bytes);

/* Reads `bytes` bytes at an offset of an open file, fewer only where the file ends. Returns how many bytes it read, or
 * -1 with errno set. */
ssize_t file_read_at(int fd, void *out, size_t bytes, uint64_t offset);

/* Writes all of the bytes at an offset of an open file, or at its position. Returns false with errno set if that
 * fails. */
bool file_write_at(int fd, const void *data, size_t bytes, uint64_t offset);
bool file_write_all(int fd, const void *data, size_t bytes);

/* Writes a temporary file in the same folder, syncs it, renames it to `path` and syncs the folder. */
enum status file_write(const char *path, const void *data, size_t bytes);

/* Writes output to a path that the user gave. "-" is standard output, and /dev/fd/N and the like are descriptors of
 * this process. A regular file is replaced as by file_write, where a symbolic link leads if it is one. Devices and
 * pipes are written into. */
enum status file_write_output(const char *path, const void *data, size_t bytes);

enum status file_sync_folder(const char *folder);
enum status file_make_folders(const char *path); /* like mkdir -p */
bool file_exists(const char *path);
bool file_is_folder(const char *path);

/* Whether `path`, which need not exist, is or lies inside `folder`/`below`; `below` may be NULL. */
bool file_is_inside(const char *path, const char *folder, const char *below);

#endif
