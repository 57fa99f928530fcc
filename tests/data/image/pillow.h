/* pillow.h - runs tests/data/image/pillow.py with a Python that has Pillow, if there is one. */
#ifndef CSC_TESTS_DATA_IMAGE_PILLOW_H
#define CSC_TESTS_DATA_IMAGE_PILLOW_H

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>

/* False if no Python with Pillow is found; a failing script ends the test. */
static inline bool run_pillow(const char *mode, const char *path)
{
    static const char *const pythons[] = { "python3", "/usr/bin/python3" };
    char command[1024];
    for (int i = 0; i < 2; i++) {
        snprintf(command, sizeof command, "%s -c 'import PIL' >/dev/null 2>&1", pythons[i]);
        if (system(command) != 0)
            continue;
        snprintf(command, sizeof command, "%s '%s/pillow.py' %s '%s'", pythons[i], PILLOW_FOLDER, mode, path);
        if (system(command) != 0) {
            fprintf(stderr, "failed: %s\n", command);
            exit(1);
        }
        return true;
    }
    return false;
}

#endif
