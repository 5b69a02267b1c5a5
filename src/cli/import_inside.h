/*
 * import_inside.h - inside `pgreserve import-pgbouncer`: what its files share.
 */
#ifndef CLI_IMPORT_INSIDE_H
#define CLI_IMPORT_INSIDE_H

#include <stdbool.h>
#include <stdio.h>

#include "cli/pgbouncer_database.h"
#include "cli/pgbouncer_ini.h"
#include "cli/pgbouncer_keys.h"

struct import {
    const char *path;
    struct pgbouncer_file file;
    struct pgbouncer_database *databases;
    size_t database_count;
    FILE *out;
    FILE *err;
    char *notes; /* comments for the end of the file */
    size_t notes_bytes;
    FILE *notes_out;
    bool has_trust; /* clients prove nothing */
};

/* A value of [pgbouncer]: NULL when it is not given; `def` when it is not given or empty. */
const char *import_given(const struct import *import, const char *key);
const char *import_given_or(const struct import *import, const char *key, const char *def);
int import_number(const struct import *import, const char *key, int def);

/* A comment at the end of the file: the key, its value, and why there is no counterpart. */
void import_note(struct import *import, const char *key, const char *why);
/* Writes one setting that is copied as it is, or its default, or a note. */
void import_copied(struct import *import, const struct pgbouncer_key *key);
/* All of them that belong into a section of ours. */
void import_section(struct import *import, enum option_section section);

/* import_pool.c: [pgreserve] and [pool:automation]. */
void import_cap(struct import *import);
void import_pool(struct import *import);

#endif
