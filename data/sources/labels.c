/* labels.c - cuts a label file into lines and words, replaces ids by class names, and sorts the lines by image. */
#include "data/sources/labels.h"

#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "data/sources/text.h"

enum { MAX_WORD = 255, MAX_IDS = 100000 };

static bool is_id(const char *word)
{
    return *word && strlen(word) <= 6 && strspn(word, "0123456789") == strlen(word);
}

/* Cuts the next word off *line and ends it with a 0 byte. NULL at the end of the line. */
static char *next_word(char **line)
{
    char *word = *line + strspn(*line, " \t,\r\"");
    if (!*word)
        return NULL;
    char *end = word + strcspn(word, " \t,\r\"");
    *line = *end ? end + 1 : end;
    *end = 0;
    return word;
}

/* Cuts the next line that is not empty off *text, ends it with a 0 byte, and counts lines. NULL at the end. */
static char *next_line(char **text, int64_t *line_number)
{
    while (**text) {
        char *line = *text, *end = strchr(line, '\n');
        *text = end ? end + 1 : line + strlen(line);
        if (end)
            *end = 0;
        ++*line_number;
        if (line[strspn(line, " \t,\r\"")])
            return line;
    }
    return NULL;
}

/* Cuts the ending off an image's name, and returns it without its folders. */
static char *plain_image(char *image)
{
    char *name = basename(image), *dot = strrchr(name, '.');
    if (dot)
        *dot = 0;
    return name;
}

static enum status parse_lines(struct labels *l, const char *name)
{
    enum status status = STATUS_OK;
    char *text = l->text;
    int64_t line_number = 0;
    size_t capacity = 0;
    for (char *line; (line = next_line(&text, &line_number));) {
        char *first = next_word(&line), *second = next_word(&line);
        if (line_number == 1 && second && !strcmp(first, "ImageId"))
            continue; /* the header of LOC_val_solution.csv */
        if (strlen(first) > MAX_WORD || (second && strlen(second) > MAX_WORD))
            FAIL(STATUS_DATA, "%s:%lld: a word has more than %d bytes", name, (long long)line_number, MAX_WORD);
        if (!l->count)
            l->by_image = second != NULL;
        if (l->by_image != (second != NULL))
            FAIL(STATUS_DATA, "%s:%lld: the line has %s, unlike the lines before", name, (long long)line_number,
                 second ? "more than one word" : "one word");
        if (second)
            first = plain_image(first);
        TRY(array_grow(&l->lines, &capacity, (size_t)l->count + 1, sizeof *l->lines));
        l->lines[l->count++] = (struct label_line){ second ? first : NULL, second ? second : first };
    }
    if (!l->count)
        FAIL(STATUS_DATA, "%s: holds no labels", name);
fail:
    return status;
}

/* Sets names[id] from a synset file's text, which it cuts into words. */
static enum status parse_synsets(char **names, char *text, const char *name)
{
    enum status status = STATUS_OK;
    int64_t line_number = 0;
    for (char *line; (line = next_line(&text, &line_number));) {
        char *first = next_word(&line), *second = next_word(&line);
        bool forward = is_id(first);
        char *id = forward ? first : second, *word = forward ? second : first;
        if (!id || !word || !is_id(id) || atoi(id) >= MAX_IDS || names[atoi(id)])
            FAIL(STATUS_DATA, "%s:%lld: the line is not an id and a class name, or has an id for the second time", name,
                 (long long)line_number);
        names[atoi(id)] = word;
    }
fail:
    return status;
}

/* Replaces the ids of all lines by class names. */
static enum status replace_ids(struct labels *l, struct label_file synsets, const char *name)
{
    enum status status = STATUS_OK;
    char *copy = NULL, **names = NULL;
    if (!synsets.text)
        FAIL(
            STATUS_DATA,
            "%s: holds ILSVRC's ids, which are not in the order of the class names; give their list with --synsets, or "
            "use a label file with names such as n01751748",
            name);
    names = calloc(MAX_IDS, sizeof *names);
    if (!names)
        FAIL(STATUS_NOMEM, "%s: out of memory", name);
    TRY(text_copy(&copy, synsets.text, synsets.bytes, synsets.name));
    TRY(parse_synsets(names, copy, synsets.name));
    for (int64_t i = 0; i < l->count; i++) {
        char *id = l->lines[i].name;
        if (!is_id(id) || atoi(id) >= MAX_IDS || !names[atoi(id)])
            FAIL(STATUS_DATA, "%s: label %lld is '%s', which %s does not have", name, (long long)i + 1, id,
                 synsets.name);
        l->lines[i].name = names[atoi(id)];
    }
    l->synsets = copy;
    copy = NULL;
fail:
    free(names);
    free(copy);
    return status;
}

static int compare_lines(const void *a, const void *b)
{
    const struct label_line *x = a, *y = b;
    return strcmp(x->image, y->image);
}

enum status labels_parse(struct labels *l, struct label_file file, struct label_file synsets)
{
    enum status status = STATUS_OK;
    const char *name = file.name;
    *l = (struct labels){ .text = NULL };
    TRY(text_copy(&l->text, file.text, file.bytes, name));
    TRY(parse_lines(l, name));
    if (is_id(l->lines[0].name))
        TRY(replace_ids(l, synsets, name));
    if (!l->by_image)
        return STATUS_OK;
    qsort(l->lines, (size_t)l->count, sizeof *l->lines, compare_lines);
    for (int64_t i = 1; i < l->count; i++)
        if (!strcmp(l->lines[i - 1].image, l->lines[i].image))
            FAIL(STATUS_DATA, "%s: has image '%s' twice", name, l->lines[i].image);
fail:
    if (status != STATUS_OK)
        labels_finish(l);
    return status;
}

const char *labels_find(const struct labels *l, int64_t index, const char *image)
{
    char stem[MAX_WORD + 1];
    if (!l->by_image)
        return index < l->count ? l->lines[index].name : NULL;
    image = basename(image);
    if (strlen(image) > MAX_WORD)
        return NULL;
    strcpy(stem, image);
    struct label_line key = { plain_image(stem), NULL };
    const struct label_line *found = bsearch(&key, l->lines, (size_t)l->count, sizeof *l->lines, compare_lines);
    return found ? found->name : NULL;
}

void labels_finish(struct labels *l)
{
    free(l->text);
    free(l->synsets);
    free(l->lines);
    *l = (struct labels){ .text = NULL };
}
