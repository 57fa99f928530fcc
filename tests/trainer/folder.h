/* folder.h - a temporary folder, and functions that write, read and damage files. */
#ifndef CSC_TESTS_TRAINER_FOLDER_H
#define CSC_TESTS_TRAINER_FOLDER_H

#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static char folder_root[] = "/tmp/csc-trainer-XXXXXX";

static inline void folder_make(void)
{
    if (!mkdtemp(folder_root)) {
        perror("mkdtemp");
        abort();
    }
}

static inline void folder_remove(void)
{
    char command[64];
    snprintf(command, sizeof command, "rm -rf %s", folder_root);
    if (system(command) != 0)
        perror(command);
}

static inline void file_put(const char *path, const void *data, size_t bytes)
{
    FILE *file = fopen(path, "wb");
    if (!file || fwrite(data, 1, bytes, file) != bytes || fclose(file) != 0) {
        perror(path);
        abort();
    }
}

/* The text of a file, in one of a few static buffers. */
static inline const char *file_get(const char *path)
{
    static char buffers[4][65536];
    static int next;
    char *buffer = buffers[next++ % 4];
    FILE *file = fopen(path, "rb");
    size_t bytes = file ? fread(buffer, 1, sizeof buffers[0] - 1, file) : 0;
    buffer[bytes] = 0;
    if (file)
        fclose(file);
    return buffer;
}

static inline bool path_exists(const char *path)
{
    struct stat info;
    return lstat(path, &info) == 0;
}

/* Flips a bit of byte `at`; negative: from the end. */
static inline void file_flip(const char *path, long at)
{
    FILE *file = fopen(path, "r+b");
    int c;
    if (!file || fseek(file, at, at < 0 ? SEEK_END : SEEK_SET) != 0 || (c = fgetc(file)) == EOF ||
        fseek(file, at, at < 0 ? SEEK_END : SEEK_SET) != 0 || fputc(c ^ 4, file) == EOF || fclose(file) != 0) {
        perror(path);
        abort();
    }
}

static inline void file_shorten(const char *path, off_t by)
{
    struct stat info;
    if (stat(path, &info) != 0 || truncate(path, info.st_size - by) != 0) {
        perror(path);
        abort();
    }
}

#endif
