/* config_yaml.c - reads strict YAML from libyaml's events: one document with mappings of known keys, scalars and flat
 * lists. Aliases, anchors and tags are refused, so nothing is ever expanded. The table bounds the depth, because
 * reading stops at an unknown section. The caller limits the size. */
#include "trainer/config/config_internal.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <yaml.h>

enum { MAX_ITEMS = 4096, MAX_SECTIONS = 16 };

struct reader {
    yaml_parser_t parser;
    yaml_event_t event; /* the current event */
    bool has_event;
    struct config_source source;
};

static const char *location_of(const struct reader *reader, yaml_mark_t mark, char out[CONFIG_LOCATION])
{
    return config_location(&reader->source, (int)mark.line + 1, (int)mark.column + 1, out);
}

/* The location of the current event. */
static const char *event_location(const struct reader *reader, char out[CONFIG_LOCATION])
{
    return location_of(reader, reader->event.start_mark, out);
}

static enum status reader_init(struct reader *reader, const struct config_source *source, const char *text,
                               size_t bytes)
{
    *reader = (struct reader){ .source = *source };
    if (!yaml_parser_initialize(&reader->parser))
        return status_report(STATUS_NOMEM, __FILE__, __LINE__, "out of memory");
    yaml_parser_set_encoding(&reader->parser, YAML_UTF8_ENCODING);
    yaml_parser_set_input_string(&reader->parser, (const unsigned char *)text, bytes);
    return STATUS_OK;
}

static void reader_finish(struct reader *reader)
{
    if (reader->has_event)
        yaml_event_delete(&reader->event);
    yaml_parser_delete(&reader->parser);
}

/* Refuses anchors, tags and aliases. */
static enum status refuse_names(const struct reader *reader)
{
    const yaml_event_t *event = &reader->event;
    const yaml_char_t *anchor = NULL, *tag = NULL;
    char location[CONFIG_LOCATION];
    if (event->type == YAML_SCALAR_EVENT) {
        anchor = event->data.scalar.anchor;
        tag = event->data.scalar.tag;
    } else if (event->type == YAML_SEQUENCE_START_EVENT) {
        anchor = event->data.sequence_start.anchor;
        tag = event->data.sequence_start.tag;
    } else if (event->type == YAML_MAPPING_START_EVENT) {
        anchor = event->data.mapping_start.anchor;
        tag = event->data.mapping_start.tag;
    }
    const char *what = event->type == YAML_ALIAS_EVENT ? "aliases" : anchor ? "anchors" : tag ? "tags" : NULL;
    if (what)
        return status_report(STATUS_USAGE, __FILE__, __LINE__, "%s: YAML %s are not allowed here",
                             event_location(reader, location), what);
    return STATUS_OK;
}

static enum status next(struct reader *reader)
{
    enum status status = STATUS_OK;
    char location[CONFIG_LOCATION];
    yaml_parser_t *parser = &reader->parser;
    if (reader->has_event)
        yaml_event_delete(&reader->event);
    reader->has_event = false;
    if (!yaml_parser_parse(parser, &reader->event)) {
        if (parser->error == YAML_MEMORY_ERROR)
            FAIL(STATUS_NOMEM, "out of memory");
        bool marked = parser->error == YAML_SCANNER_ERROR || parser->error == YAML_PARSER_ERROR;
        FAIL(STATUS_USAGE, "%s: not YAML: %s%s%s",
             location_of(reader, marked ? parser->problem_mark : parser->mark, location),
             parser->problem ? parser->problem : "unreadable", parser->context ? ", " : "",
             parser->context ? parser->context : "");
    }
    reader->has_event = true;
    TRY(refuse_names(reader));
fail:
    return status;
}

static enum status copy_scalar(const struct reader *reader, struct config_scalar *out)
{
    enum status status = STATUS_OK;
    const yaml_event_t *event = &reader->event;
    const char *text = (const char *)event->data.scalar.value;
    char location[CONFIG_LOCATION];
    if (strlen(text) != event->data.scalar.length)
        FAIL(STATUS_USAGE, "%s: text with a NUL character", event_location(reader, location));
    *out = (struct config_scalar){
        .text = strdup(text),
        .plain = event->data.scalar.style == YAML_PLAIN_SCALAR_STYLE,
        .line = (int)event->start_mark.line + 1,
        .column = (int)event->start_mark.column + 1,
    };
    if (!out->text)
        FAIL(STATUS_NOMEM, "out of memory");
fail:
    return status;
}

/* Reads a value, a scalar or a list of scalars, which begins at the current event. name: the key, for messages. */
static enum status read_value(struct reader *reader, const char *name, struct config_value *value)
{
    enum status status = STATUS_OK;
    char location[CONFIG_LOCATION];
    *value = (struct config_value){
        .list = reader->event.type == YAML_SEQUENCE_START_EVENT,
        .line = (int)reader->event.start_mark.line + 1,
        .column = (int)reader->event.start_mark.column + 1,
    };
    if (reader->event.type == YAML_MAPPING_START_EVENT)
        FAIL(STATUS_USAGE, "%s: %s: expected a value, got a mapping", event_location(reader, location), name);
    value->items = calloc(value->list ? MAX_ITEMS : 1, sizeof *value->items);
    if (!value->items)
        FAIL(STATUS_NOMEM, "out of memory");
    if (!value->list) {
        TRY(copy_scalar(reader, &value->items[0]));
        value->count = 1;
        return status;
    }
    for (;;) {
        TRY(next(reader));
        if (reader->event.type == YAML_SEQUENCE_END_EVENT)
            return status;
        if (reader->event.type != YAML_SCALAR_EVENT)
            FAIL(STATUS_USAGE, "%s: %s: a list within a list, or a mapping, is too deep",
                 event_location(reader, location), name);
        if (value->count == MAX_ITEMS)
            FAIL(STATUS_USAGE, "%s: %s: more than %d items", event_location(reader, location), name, MAX_ITEMS);
        TRY(copy_scalar(reader, &value->items[value->count]));
        value->count++;
    }
fail:
    config_value_finish(value);
    return status;
}

void config_value_finish(struct config_value *value)
{
    for (int i = 0; i < value->count; i++)
        free(value->items[i].text);
    free(value->items);
    *value = (struct config_value){ 0 };
}

/* Reads the value of a key from the next event on. */
static enum status read_key(struct reader *reader, struct config *config, int row, const struct config_scalar *key)
{
    enum status status = STATUS_OK;
    struct config_value value = { 0 };
    char location[CONFIG_LOCATION];
    if (config->origin[row].line)
        FAIL(STATUS_USAGE, "%s: duplicate key '%s' (first on line %d)",
             config_location(&reader->source, key->line, key->column, location), config_keys[row].name,
             config->origin[row].line);
    TRY(next(reader));
    TRY(read_value(reader, config_keys[row].name, &value));
    TRY(config_set(config, row, &reader->source, &value));
    config->origin[row].line = value.line;
    config->origin[row].column = value.column;
fail:
    config_value_finish(&value);
    return status;
}

static enum status unknown_key(struct reader *reader, const char *section, const struct config_scalar *key)
{
    char location[CONFIG_LOCATION], hint[128];
    config_location(&reader->source, key->line, key->column, location);
    config_suggest(section, key->text, hint, sizeof hint);
    const char *dot = strrchr(key->text, '.');
    if (!section[0] && config_key_find(key->text) >= 0)
        snprintf(hint, sizeof hint, " (in a file, write '%s:' under '%.*s:')", dot + 1, (int)(dot - key->text),
                 key->text);
    return status_report(STATUS_USAGE, __FILE__, __LINE__, "%s: unknown key '%.64s'%s", location, key->text, hint);
}

/* The sections read so far, to find duplicates. */
struct seen_sections {
    char names[MAX_SECTIONS][32];
    int count;
};

static enum status read_mapping(struct reader *reader, struct config *config, const char *section,
                                struct seen_sections *seen);

static enum status read_section(struct reader *reader, struct config *config, const char *name,
                                const struct config_scalar *key, struct seen_sections *seen)
{
    enum status status = STATUS_OK;
    char location[CONFIG_LOCATION];
    for (int i = 0; i < seen->count; i++)
        if (strcmp(seen->names[i], name) == 0)
            FAIL(STATUS_USAGE, "%s: duplicate key '%s'",
                 config_location(&reader->source, key->line, key->column, location), name);
    assert(seen->count < MAX_SECTIONS &&
           strlen(name) < sizeof seen->names[0]); /* the table has fewer and shorter ones */
    snprintf(seen->names[seen->count++], sizeof seen->names[0], "%s", name);
    TRY(next(reader));
    if (reader->event.type != YAML_MAPPING_START_EVENT)
        FAIL(STATUS_USAGE, "%s: '%s' is a section: expected keys below it", event_location(reader, location), name);
    TRY(read_mapping(reader, config, name, seen));
fail:
    return status;
}

/* Reads a mapping after its start event, up to its end. section: "" for the whole file, or such as "train.schedule". */
static enum status read_mapping(struct reader *reader, struct config *config, const char *section,
                                struct seen_sections *seen)
{
    enum status status = STATUS_OK;
    char location[CONFIG_LOCATION], name[128];
    struct config_scalar key = { 0 };
    for (;;) {
        TRY(next(reader));
        if (reader->event.type == YAML_MAPPING_END_EVENT)
            return status;
        if (reader->event.type != YAML_SCALAR_EVENT)
            FAIL(STATUS_USAGE, "%s: expected the name of a key", event_location(reader, location));
        TRY(copy_scalar(reader, &key));
        snprintf(name, sizeof name, "%s%s%.64s", section, section[0] ? "." : "", key.text);
        int row = strchr(key.text, '.') ? -1 : config_key_find(name);
        if (row >= 0)
            TRY(read_key(reader, config, row, &key));
        else if (!strchr(key.text, '.') && config_is_section(name))
            TRY(read_section(reader, config, name, &key, seen));
        else
            TRY(unknown_key(reader, section, &key));
        free(key.text);
        key.text = NULL;
    }
fail:
    free(key.text);
    return status;
}

enum status config_yaml_file(struct config *config, const char *text, size_t bytes)
{
    enum status status = STATUS_OK;
    struct config_source source = { .file = config->file };
    struct reader reader;
    struct seen_sections seen = { .count = 0 };
    char location[CONFIG_LOCATION];
    bool has_mark = bytes >= 3 && memcmp(text, "\xef\xbb\xbf", 3) == 0;
    size_t mark = has_mark ? 3 : 0; /* a byte order mark counts for no column */
    status = config_check_text(&source, text + mark, bytes - mark, true);
    if (status == STATUS_OK)
        status = reader_init(&reader, &source, text + mark, bytes - mark);
    if (status != STATUS_OK)
        return status;
    TRY(next(&reader)); /* stream */
    TRY(next(&reader)); /* document */
    if (reader.event.type != YAML_DOCUMENT_START_EVENT)
        FAIL(STATUS_USAGE, "%s: an empty configuration", event_location(&reader, location));
    TRY(next(&reader));
    if (reader.event.type != YAML_MAPPING_START_EVENT)
        FAIL(STATUS_USAGE, "%s: expected sections of keys, such as 'model:'", event_location(&reader, location));
    TRY(read_mapping(&reader, config, "", &seen));
    TRY(next(&reader)); /* end of document */
    TRY(next(&reader));
    if (reader.event.type != YAML_STREAM_END_EVENT)
        FAIL(STATUS_USAGE, "%s: several documents in one configuration", event_location(&reader, location));
fail:
    reader_finish(&reader);
    return status;
}

enum status config_yaml_value(const struct config_source *source, const char *text, struct config_value *value)
{
    enum status status = STATUS_OK;
    struct reader reader;
    char location[CONFIG_LOCATION];
    status = reader_init(&reader, source, text, strlen(text));
    if (status != STATUS_OK)
        return status;
    *value = (struct config_value){ 0 };
    TRY(next(&reader));
    TRY(next(&reader));
    if (reader.event.type != YAML_DOCUMENT_START_EVENT)
        FAIL(STATUS_USAGE, "%s: no value", event_location(&reader, location));
    TRY(next(&reader));
    TRY(read_value(&reader, "value", value));
    TRY(next(&reader));
    TRY(next(&reader));
    if (reader.event.type != YAML_STREAM_END_EVENT)
        FAIL(STATUS_USAGE, "%s: more than one value", event_location(&reader, location));
    reader_finish(&reader);
    return status;
fail:
    config_value_finish(value);
    reader_finish(&reader);
    return status;
}
