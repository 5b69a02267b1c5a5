/*
 * config_parse.h - inside the config floor: what reading, parsing and checking share.
 */
#ifndef CONFIG_CONFIG_PARSE_H
#define CONFIG_CONFIG_PARSE_H

#include "config/config.h"
#include "config/options.h"

/* One `key = value` of the file. */
struct entry {
    char *section; /* as it stands: "pool:adhoc" */
    char *key;
    char *value; /* expanded */
    int line;
    bool
        is_unknown; /* it named a variable that is not set, or is no value for its key: that has been said */
};

struct section {
    char *name;
    int line; /* where it begins first */
};

struct reading {
    const char *name; /* of the file, for messages */
    struct entry *entries;
    size_t count;
    struct section *sections; /* with keys and without, in the file's order */
    size_t section_count;
    bool is_incomplete; /* there is a section whose name could not be made out */
    struct config_errors *errors;
};

/* Adds "NAME:LINE: text" (or "NAME: text" for line 0) to the errors. */
void reading_error(struct reading *reading, int line, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
/* Reads the lines of an INI text into entries, values expanded; mistakes go to the errors. */
void reading_read(struct reading *reading, const char *text);
/* Notes a section, unless it is known already. */
void reading_section(struct reading *reading, const char *name, int line);
void reading_free(struct reading *reading);

/* The configuration that the entries make, which then own `reading`; NULL when there are more errors than `before`. */
struct config *config_from_reading(struct reading *reading, size_t before);

/* Parses a value into the field that `option` describes; a reason in `why` when it cannot be. */
bool value_parse(const struct option *option, void *base, const char *text, char *why,
                 size_t why_bytes);
void value_free(const struct option *option, void *base);
/* Whether something listens beyond loopback that does not say that it may stand open; `what` it is. */
bool config_open_door(const struct config *config, char *what, size_t what_bytes);
/* Whether anything is there that a password could be held against: users_file, auth_query, or a url's user and password. */
bool config_knows_passwords(const struct config *config);
/* The checks of contract 4 over the whole. */
void config_check(const struct config *config, struct reading *reading);

#endif
