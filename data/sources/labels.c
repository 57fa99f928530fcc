/* labels.c - cuts a label file into lines and words, puts names in the place of ILSVRC's numbers, sorts by image. */
#include "data/sources/labels.h"

#include <stdlib.h>
#include <string.h>

#include "data/sources/text.h"

enum { MAX_WORD = 255, MAX_IDS = 100000, MAX_LINES = 100000000 };

static bool is_id(const char *word)
{
    return *word && strlen(word) <= 6 && strspn(word, "0123456789") == strlen(word);
}

/* The next word of *line, ended by a 0 byte; NULL at the line's end. */
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

/* The next line of *text that is not empty, ended by a 0 byte, and its number; NULL at the end. */
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

/* An image's name without folders; its ending is cut off. */
static char *plain_image(char *image)
{
    char *slash = strrchr(image, '/'), *name = slash ? slash + 1 : image, *dot = strrchr(name, '.');
    if (dot)
        *dot = 0;
    return name;
}

static enum status add_line(struct labels *l, size_t *capacity, struct label_line line, const char *name)
{
    enum status status = STATUS_OK;
    if ((size_t)l->count == *capacity) {
        size_t wanted = *capacity ? 2 * *capacity : 1024;
        struct label_line *grown = wanted <= MAX_LINES ? realloc(l->lines, wanted * sizeof *grown) : NULL;
        if (!grown)
            FAIL(STATUS_NOMEM, "%s: out of memory for %zu lines", name, wanted);
        l->lines = grown;
        *capacity = wanted;
    }
    l->lines[l->count++] = line;
fail:
    return status;
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
            continue; /* the csv's head */
        if (strlen(first) > MAX_WORD || (second && strlen(second) > MAX_WORD))
            FAIL(STATUS_DATA, "%s:%lld: a word of more than %d bytes", name, (long long)line_number, MAX_WORD);
        if (!l->count)
            l->by_image = second != NULL;
        if (l->by_image != (second != NULL))
            FAIL(STATUS_DATA, "%s:%lld: %s, unlike the lines before", name, (long long)line_number,
                 second ? "more than one word" : "one word");
        if (second)
            first = plain_image(first);
        TRY(add_line(l, &capacity, (struct label_line){ second ? first : NULL, second ? second : first }, name));
    }
    if (!l->count)
        FAIL(STATUS_DATA, "%s: holds no labels", name);
fail:
    return status;
}

/* names[id] from a synset file's text, which is cut into words. */
static enum status parse_synsets(char **names, char *text, const char *name)
{
    enum status status = STATUS_OK;
    int64_t line_number = 0;
    for (char *line; (line = next_line(&text, &line_number));) {
        char *first = next_word(&line), *second = next_word(&line);
        bool forward = is_id(first);
        char *id = forward ? first : second, *word = forward ? second : first;
        if (!id || !word || !is_id(id) || atoi(id) >= MAX_IDS || names[atoi(id)])
            FAIL(STATUS_DATA, "%s:%lld: not a number and a name, or a number for the second time", name,
                 (long long)line_number);
        names[atoi(id)] = word;
    }
fail:
    return status;
}

/* Replaces the numbers by names. */
static enum status replace_ids(struct labels *l, struct label_file synsets, const char *name)
{
    enum status status = STATUS_OK;
    char *copy = NULL, **names = NULL;
    if (!synsets.text)
        FAIL(STATUS_DATA,
             "%s: holds ILSVRC's numbers, which are not in the order of the names: give their list with --synsets, or "
             "a label file with names such as n01751748",
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
    const char *slash = strrchr(image, '/');
    image = slash ? slash + 1 : image;
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
