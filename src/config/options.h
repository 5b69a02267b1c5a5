/*
 * options.h - the one table of settings: what the parser, SHOW CONFIG, the help and the checks walk (contract 4).
 */
#ifndef CONFIG_OPTIONS_H
#define CONFIG_OPTIONS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

enum option_section {
    OPTION_PGRESERVE,
    OPTION_DATABASE,
    OPTION_POOL,
    OPTION_ADMIN,
    OPTION_AUTH,
    OPTION_TLS
};

enum option_type {
    OPTION_INT,       /* int */
    OPTION_BOOL,      /* bool */
    OPTION_DURATION,  /* int64_t, microseconds */
    OPTION_TEXT,      /* char *, NULL when empty */
    OPTION_SECRET,    /* the same, never shown */
    OPTION_PIN,       /* int: allow is -1, deny is 0, else a number */
    OPTION_CHOICE,    /* int or enum: the index into `choices` */
    OPTION_ADDRESSES, /* struct config_address_list */
    OPTION_NAMES,     /* struct config_names */
    OPTION_NETWORKS   /* struct config_networks */
};

struct option {
    enum option_section section;
    const char *key;
    enum option_type type;
    size_t offset;   /* of its field in struct config, or struct config_pool for a pool's */
    const char *def; /* as it would stand in the file */
    int64_t min;     /* of a number */
    int64_t max;     /* of a number, or a duration in microseconds */
    const char *const *choices; /* NULL-terminated; of a choice */
    bool is_changeable;         /* by a reload */
    const char *help;
};

/* PgBouncer's auth_query where none is given (1.25), which is also the one that we recommend. */
#define PGBOUNCER_AUTH_QUERY                                                                       \
    "SELECT rolname, CASE WHEN rolvaliduntil < pg_catalog.now() THEN NULL ELSE rolpassword END "   \
    "FROM pg_catalog.pg_authid WHERE rolname=$1 AND rolcanlogin"

extern const struct option options[];
extern const size_t option_count;

/* NULL when the section has no such key. */
const struct option *option_find(enum option_section section, const char *key);
/* Every key with its default and its line of help, by sections. */
void options_print_help(FILE *out);
/* The options part of pgreserve.ini(5), in mdoc. */
void options_print_mdoc(FILE *out);
/* The keys for which the manual has sentences of its own, by index, for the test; false behind the last one. */
bool options_manual_names(size_t index, enum option_section *section, const char **key);

#endif
