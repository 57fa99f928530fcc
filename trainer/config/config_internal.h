/* config_internal.h - the table of configuration keys and what the config_*.c files share. */
#ifndef CSC_TRAINER_CONFIG_CONFIG_INTERNAL_H
#define CSC_TRAINER_CONFIG_CONFIG_INTERNAL_H

#include "trainer/config/config.h"

enum config_type {
    CONFIG_BOOL,
    CONFIG_INT,    /* int */
    CONFIG_INT64,  /* int64_t or uint64_t below 2^63 */
    CONFIG_REAL,   /* double */
    CONFIG_TEXT,   /* char * */
    CONFIG_CHOICE, /* an enum: `first` + index in `choices` */
    CONFIG_TRIPLE, /* double[3] */
    CONFIG_TEXTS,  /* char ** and int */
    CONFIG_REALS,  /* double * and int */
};

/* What a resume may do: change it; not change it where bits are promised (run.deterministic); change it if --change
 * lists it; not change it. */
enum config_effect { CONFIG_FREE, CONFIG_BITS, CONFIG_RECIPE, CONFIG_MATHEMATICS };

struct config_key {
    const char *name; /* "train.schedule.kind" */
    size_t offset;    /* in struct config */
    enum config_type type;
    enum config_effect effect;
    const char *default_text;   /* the default as it would be written; NULL: required */
    const char *unset_word;     /* "auto" or "none", where that is a value ... */
    double unset_value;         /* ... and the number it is stored as; text and lists: NULL */
    int64_t min, max;           /* CONFIG_INT, CONFIG_INT64 */
    double low, high;           /* CONFIG_REAL and each of a CONFIG_TRIPLE or CONFIG_REALS */
    bool low_excluded;          /* low itself is out */
    bool high_excluded;         /* high itself is out */
    const char *const *choices; /* ends with NULL */
    int first_choice;
    size_t count_offset; /* of a list */
    bool is_path;        /* CONFIG_TEXT */
};

extern const struct config_key config_keys[]; /* CONFIG_KEYS rows */

int config_key_find(const char *name);    /* row, or -1 */
bool config_is_section(const char *name); /* "train", "train.schedule" */

/* " (did you mean 'lambda'?)" for an unknown `leaf` in `section` ("" is the top), or "". */
void config_suggest(const char *section, const char *leaf, char *out, size_t capacity);
/* The same for an unknown dotted name. */
void config_suggest_key(const char *name, char *out, size_t capacity);

/* One written value: a scalar (one item) or a list of them. */
struct config_scalar {
    char *text;
    bool plain; /* not quoted */
    int line, column;
};
struct config_value {
    bool list;
    int line, column;
    struct config_scalar *items;
    int count;
};
void config_value_finish(struct config_value *value);

/* Where a value is written: in a file, or (override not NULL) on the command line. */
struct config_source {
    const char *file;
    const char *override;
};

enum { CONFIG_LOCATION = 512 };
/* "file:12:7" or "override 'train.lr=x'"; returns out. */
const char *config_location(const struct config_source *source, int line, int column, char out[CONFIG_LOCATION]);
/* The same of the row's value in use; "file" if it is a default. */
const char *config_key_location(const struct config *config, int row, char out[CONFIG_LOCATION]);

/* UTF-8 without control characters (lines: but tab, newline and carriage return). STATUS_USAGE. */
enum status config_check_text(const struct config_source *source, const char *text, size_t bytes, bool lines);

/* config_yaml.c: a whole file into *config; one value (an override's right side). */
enum status config_yaml_file(struct config *config, const char *text, size_t bytes);
enum status config_yaml_value(const struct config_source *source, const char *text, struct config_value *value);

/* config_value.c: checks type and range and stores; the value's text; releases a stored one. */
enum status config_set(struct config *config, int row, const struct config_source *source,
                       const struct config_value *value);
enum status config_set_default(struct config *config, int row);
char *config_format(const struct config *config, int row);
void config_release(struct config *config, int row);

#endif
