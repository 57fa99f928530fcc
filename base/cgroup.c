/* cgroup.c - finds the control group in /proc/self/cgroup and the mount point of its hierarchy in
 * /proc/self/mountinfo, and reads the files of the group and of all its parents. */
#include "base/cgroup.h"

#include <limits.h>
#include <math.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct group {
    bool unified;       /* version 2 */
    size_t root_length; /* length of the mount point in `path`: no group lies above it */
    char path[PATH_MAX];
};

/* Reads the first line of a file of the group; false if there is none. */
static bool read_text(const struct group *group, const char *name, char text[128])
{
    char path[PATH_MAX + 64];
    snprintf(path, sizeof path, "%s/%s", group->path, name);
    FILE *file = fopen(path, "re");
    bool read = file && fgets(text, 128, file);
    if (file)
        fclose(file);
    return read;
}

static bool in_list(const char *list, const char *word)
{
    size_t length = strlen(word);
    for (const char *at = list; (at = strstr(at, word)); at += length)
        if ((at == list || at[-1] == ',') && (at[length] == ',' || at[length] == '\n' || !at[length]))
            return true;
    return false;
}

/* Finds the group's name in its hierarchy: in the one of version 1 that has the controller, or else in that of version
 * 2. */
static bool find_name(const char *root, const char *controller, bool *unified, char name[PATH_MAX])
{
    char path[PATH_MAX], line[PATH_MAX + 128];
    bool found = false;
    snprintf(path, sizeof path, "%s/proc/self/cgroup", root);
    FILE *file = fopen(path, "re");
    while (file && fgets(line, sizeof line, file)) {
        char *controllers = strchr(line, ':'), *group = controllers ? strchr(controllers + 1, ':') : NULL;
        if (!group)
            continue;
        *group++ = 0;
        group[strcspn(group, "\n")] = 0;
        bool two = controllers[1] == 0;
        if (!in_list(controllers + 1, controller) && (!two || found))
            continue;
        found = true;
        *unified = two;
        snprintf(name, PATH_MAX, "%s", group);
        if (!two)
            break;
    }
    if (file)
        fclose(file);
    return found;
}

/* Finds where the hierarchy is mounted, and which of its groups is visible there. */
static bool find_mount(const char *root, const char *controller, bool unified, char top[PATH_MAX], char point[PATH_MAX])
{
    char path[PATH_MAX], line[2 * PATH_MAX], type[32], options[512];
    bool found = false;
    snprintf(path, sizeof path, "%s/proc/self/mountinfo", root);
    FILE *file = fopen(path, "re");
    while (file && !found && fgets(line, sizeof line, file)) {
        char *rest = strstr(line, " - ");
        found = rest && sscanf(rest, " - %31s %*s %511s", type, options) == 2 &&
                strcmp(type, unified ? "cgroup2" : "cgroup") == 0 && (unified || in_list(options, controller)) &&
                sscanf(line, "%*s %*s %*s %4095s %4095s", top, point) == 2;
    }
    if (file)
        fclose(file);
    return found;
}

static bool find_group(const char *root, const char *controller, struct group *group)
{
    char name[PATH_MAX], top[PATH_MAX], point[PATH_MAX];
    if (!find_name(root, controller, &group->unified, name) ||
        !find_mount(root, controller, group->unified, top, point))
        return false;
    const char *below = name; /* a group that is not visible has the limits of the mounted one */
    size_t length = strcmp(top, "/") == 0 ? 0 : strlen(top);
    below = strncmp(name, top, length) == 0 && strncmp(name, "/..", 3) != 0 ? name + length : "";
    if (strcmp(below, "/") == 0)
        below = "";
    group->root_length = strlen(root) + strlen(point);
    return snprintf(group->path, sizeof group->path, "%s%s%s", root, point, below) < (int)sizeof group->path;
}

/* Goes to the parent group; false if there is none. */
static bool go_to_parent(struct group *group)
{
    char *slash = strrchr(group->path + group->root_length, '/');
    if (slash)
        *slash = 0;
    return slash != NULL;
}

double cgroup_cpus(const char *root)
{
    struct group group;
    double cpus = INFINITY, quota, period;
    char text[128], other[128];
    if (!find_group(root, "cpu", &group))
        return cpus;
    do {
        bool limited = group.unified
                           ? read_text(&group, "cpu.max", text) && sscanf(text, "%lf %lf", &quota, &period) == 2
                           : read_text(&group, "cpu.cfs_quota_us", text) && sscanf(text, "%lf", &quota) == 1 &&
                                 read_text(&group, "cpu.cfs_period_us", other) && sscanf(other, "%lf", &period) == 1;
        if (limited && quota > 0 && period > 0)
            cpus = fmin(cpus, quota / period);
    } while (go_to_parent(&group));
    return cpus;
}

int cgroup_cpuset(const char *root)
{
    struct group group;
    char text[128];
    int count = 0, first, last, used;
    if (!find_group(root, "cpuset", &group))
        return 0;
    if (!read_text(&group, group.unified ? "cpuset.cpus.effective" : "cpuset.effective_cpus", text) ||
        !strchr(text, '\n'))
        return 0;
    for (const char *at = text; sscanf(at, "%d%n", &first, &used) == 1; at += *at == ',') {
        at += used;
        last = first;
        if (*at == '-' && sscanf(at + 1, "%d%n", &last, &used) == 1)
            at += 1 + used;
        count += last >= first ? last - first + 1 : 0;
    }
    return count;
}

static bool read_bytes(const struct group *group, const char *name, uint64_t *bytes)
{
    char text[128], *end;
    if (!read_text(group, name, text) || text[0] < '0' || text[0] > '9') /* "max" */
        return false;
    *bytes = strtoull(text, &end, 10);
    return true;
}

/* The part of the memory in use that holds file pages, which the kernel frees before it kills a process. */
static uint64_t reclaimable(const struct group *group)
{
    static const char *const names[2][2] = { { "total_inactive_file ", "total_active_file " },
                                             { "inactive_file ", "active_file " } };
    char path[PATH_MAX + 64], line[128];
    uint64_t bytes = 0;
    snprintf(path, sizeof path, "%s/memory.stat", group->path);
    FILE *file = fopen(path, "re");
    while (file && fgets(line, sizeof line, file))
        for (int i = 0; i < 2; i++)
            if (strncmp(line, names[group->unified][i], strlen(names[group->unified][i])) == 0)
                bytes += strtoull(strchr(line, ' '), NULL, 10);
    if (file)
        fclose(file);
    return bytes;
}

size_t cgroup_memory(const char *root)
{
    struct group group;
    uint64_t memory = SIZE_MAX, limit, used;
    if (!find_group(root, "memory", &group))
        return SIZE_MAX;
    do {
        if (!read_bytes(&group, group.unified ? "memory.max" : "memory.limit_in_bytes", &limit) ||
            limit > INT64_MAX - (1 << 20) || /* version 1 writes a huge number if there is no limit */
            !read_bytes(&group, group.unified ? "memory.current" : "memory.usage_in_bytes", &used))
            continue;
        uint64_t files = reclaimable(&group), in_use = used > files ? used - files : 0,
                 left = limit > in_use ? limit - in_use : 0;
        memory = left < memory ? left : memory;
    } while (go_to_parent(&group));
    return memory;
}
