/*
 * pgbouncer_keys.h - what each key of PgBouncer's [pgbouncer] section becomes here.
 */
#ifndef CLI_PGBOUNCER_KEYS_H
#define CLI_PGBOUNCER_KEYS_H

#include <stddef.h>

#include "config/options.h"

enum pgbouncer_meaning {
    PGBOUNCER_COPIED,    /* `section` and `ours` name the option that takes the value as it is */
    PGBOUNCER_CONVERTED, /* import_pgbouncer.c makes something of it, together with others */
    PGBOUNCER_NONE       /* `why` says why there is no counterpart, or why none is needed */
};

struct pgbouncer_key {
    const char *key;
    enum pgbouncer_meaning meaning;
    enum option_section section;
    const char *ours;
    const char
        *def; /* PgBouncer's default, where it must be written because ours is another; else NULL */
    const char *why;
};

extern const struct pgbouncer_key pgbouncer_keys[];
extern const size_t pgbouncer_key_count;

/* NULL when PgBouncer 1.25 has no such key. */
const struct pgbouncer_key *pgbouncer_key_find(const char *key);

#endif
