/* config_internal.h - the table of keys, and what the config_*.c files share. Tests may include it; others do not. */
#ifndef CSC_TRAINER_CONFIG_CONFIG_INTERNAL_H
#define CSC_TRAINER_CONFIG_CONFIG_INTERNAL_H

#include "trainer/config/config.h"

enum config_type {
    CONFIG_BOOL,
    CONFIG_INT,    /* int */
    CONFIG_INT64,  /* int64_t or uint64_t below 2^63 */
    CONFIG_REAL,   /* double */
    CONFIG_TEXT,   /* char * */
    CONFIG_CHOICE, /* an enum, stored as first_choice + index in choices */
    CONFIG_TRIPLE, /* double[3] */
    CONFIG_TEXTS,  /* char ** and its int count */
    CONFIG_REALS,  /* double * and its int count */
};

/* What a key has an effect on, and so whether a resume may change it. */
enum config_effect {
    CONFIG_FREE,       /* nothing that is trained: it may change */
    CONFIG_BITS,       /* only rounding: it may change, but not with run.deterministic */
    CONFIG_RECIPE,     /* it may change if --change lists it */
    CONFIG_MATHEMATICS /* it may not change */
};

struct config_key {
    const char *name; /* "train.schedule.kind" */
    size_t offset;    /* in struct config */
    enum config_type type;
    enum config_effect effect;
    const char *default_text;   /* the default as it would be written; NULL: the key is required */
    const char *unset_word;     /* "auto" or "none", if that is a value; otherwise NULL */
    double unset_value;         /* what unset_word is stored as; texts and lists: NULL */
    int64_t min, max;           /* CONFIG_INT, CONFIG_INT64 */
    double low, high;           /* CONFIG_REAL, and each value of CONFIG_TRIPLE and CONFIG_REALS */
    bool low_excluded;          /* low itself is out of range */
    bool high_excluded;         /* high itself is out of range */
    const char *const *choices; /* ends with NULL */
    int first_choice;
    size_t count_offset; /* of a list's count, in struct config */
    bool is_path;        /* a CONFIG_TEXT that names a file or folder */
};

extern const struct config_key config_keys[]; /* CONFIG_KEYS rows */

int config_key_find(const char *name);    /* row, or -1 */
bool config_is_section(const char *name); /* "train", "train.schedule" */

/* For an unknown key `leaf` of `section` ("" is the top) writes " (did you mean 'lambda'?)", or "" if no key is
 * similar. */
void config_suggest(const char *section, const char *leaf, char *out, size_t capacity);
/* The same for an unknown dotted name. */
void config_suggest_key(const char *name, char *out, size_t capacity);

struct config_scalar {
    char *text;
    bool plain; /* written without quotes */
    int line, column;
};

/* A value as it was written: a scalar, which is one item, or a list of them. */
struct config_value {
    bool list;
    int line, column;
    struct config_scalar *items;
    int count;
};
void config_value_finish(struct config_value *value);

/* Where a value was written: in a file or, if override is not NULL, on the command line. */
struct config_source {
    const char *file;
    const char *override;
};

enum { CONFIG_LOCATION = 512 }; /* bytes of a location's text */
/* Writes "file:12:7" or "override 'train.lr=x'" to out, and returns out. */
const char *config_location(const struct config_source *source, int line, int column, char out[CONFIG_LOCATION]);
/* The same for the value of a row; for a default it is the file alone. */
const char *config_key_location(const struct config *config, int row, char out[CONFIG_LOCATION]);

/* STATUS_USAGE unless the text is UTF-8 without control characters. With `lines`, tab, newline and carriage return are
 * allowed. */
enum status config_check_text(const struct config_source *source, const char *text, size_t bytes, bool lines);

/* ---- config_yaml.c ---- */

/* Reads a whole file into *config. */
enum status config_yaml_file(struct config *config, const char *text, size_t bytes);
/* Reads one value, as on the right side of an override. */
enum status config_yaml_value(const struct config_source *source, const char *text, struct config_value *value);

/* ---- config_value.c ---- */

/* Checks type and range of a value, and stores it. */
enum status config_set(struct config *config, int row, const struct config_source *source,
                       const struct config_value *value);
enum status config_set_default(struct config *config, int row);
void config_release(struct config *config, int row); /* frees what config_set has stored */

/* ---- config_print.c ---- */

/* The value of a row as text; the caller frees it. NULL if out of memory. */
char *config_format(const struct config *config, int row);

#endif
