/* classes.c - keeps and compares lists of class names. */
#include "trainer/model/classes.h"

#include <stdlib.h>
#include <string.h>

#include "base/log.h"

enum { AMBIGUOUS = -1 };

json_t *classes_list(char *const *names, int count)
{
    json_t *list = json_array();
    for (int i = 0; list && i < count; i++)
        if (json_array_append_new(list, json_string(names[i])) != 0) {
            json_decref(list);
            return NULL;
        }
    return list;
}

enum status classes_read(const json_t *extra, int max_classes, const char *path, const json_t **network)
{
    enum status status = STATUS_OK;
    const json_t *list = json_object_get(extra, "classes"), *name;
    size_t i;
    *network = list;
    if (!list)
        return STATUS_OK;
    if (!json_is_array(list) || json_array_size(list) < 1 || json_array_size(list) > (size_t)max_classes)
        FAIL(STATUS_DATA, "%s/state.json: extra.classes is not a list of 1 to %d names", path, max_classes);
    json_array_foreach(list, i, name) if (!json_is_string(name))
        FAIL(STATUS_DATA, "%s/state.json: extra.classes[%zu] is not a name", path, i);
fail:
    return status;
}

static const char *name_of(const json_t *network, int i)
{
    return json_string_value(json_array_get(network, (size_t)i));
}

static bool same(const json_t *network, char *const *names, int count)
{
    bool all = (size_t)count == json_array_size(network);
    for (int i = 0; all && i < count; i++)
        all = strcmp(names[i], name_of(network, i)) == 0;
    return all;
}

/* An object of name -> index, or AMBIGUOUS. NULL if out of memory. */
static json_t *indices_by_name(const json_t *network)
{
    json_t *indices = json_object();
    for (int i = 0; indices && i < (int)json_array_size(network); i++) {
        bool twice = json_object_get(indices, name_of(network, i)) != NULL;
        if (json_object_set_new(indices, name_of(network, i), json_integer(twice ? AMBIGUOUS : i)) != 0) {
            json_decref(indices);
            return NULL;
        }
    }
    return indices;
}

enum status classes_map(const json_t *network, char *const *names, int count, const char *where, bool log,
                        int32_t **map)
{
    enum status status = STATUS_OK;
    json_t *indices = NULL;
    int all = (int)json_array_size(network);
    *map = NULL;
    if (same(network, names, count))
        return STATUS_OK;
    indices = indices_by_name(network);
    *map = malloc(count * sizeof **map);
    if (!indices || !*map)
        FAIL(STATUS_NOMEM, "out of memory for the names of %d classes", count);
    for (int i = 0; i < count; i++) {
        const json_t *index = json_object_get(indices, names[i]);
        if (!index)
            FAIL(STATUS_USAGE, "%s: class %d, '%s', is none of the network's %d classes (the first is '%s')", where, i,
                 names[i], all, name_of(network, 0));
        (*map)[i] = (int32_t)json_integer_value(index);
        if ((*map)[i] == AMBIGUOUS)
            FAIL(STATUS_USAGE, "%s: class %d, '%s': several of the network's classes have this name", where, i,
                 names[i]);
    }
    if (log)
        log_warn_rank0("%s: %s, so its labels are matched by name", where,
                       count < all ? "not all of the network's classes" : "the network's classes in another order");
fail:
    json_decref(indices);
    if (status != STATUS_OK) {
        free(*map);
        *map = NULL;
    }
    return status;
}
