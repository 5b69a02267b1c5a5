/*
 * pgbouncer_ini.h - reads a pgbouncer.ini as PgBouncer does, with the files that it includes.
 */
#ifndef CLI_PGBOUNCER_INI_H
#define CLI_PGBOUNCER_INI_H

#include <stdbool.h>
#include <stddef.h>

/* One `key = value`, where it stood. */
struct pgbouncer_setting {
    char *section; /* databases, users, peers, pgbouncer */
    char *key;     /* without the quotes that PgBouncer allows around a database's name */
    char *value;
    char *file;
    int line;
};

struct pgbouncer_file {
    struct pgbouncer_setting *settings; /* in the order of reading */
    size_t count;
    char *error; /* NULL, or why reading stopped: "FILE:LINE: ..." */
};

/* Reads FILE and what it includes into `file`, which is empty before.  False after setting `error`; free it either way. */
bool pgbouncer_file_read(struct pgbouncer_file *file, const char *path);
void pgbouncer_file_free(struct pgbouncer_file *file);

/* The value that counts, which is the last one given; NULL when the key is not in the section. */
const char *pgbouncer_file_find(const struct pgbouncer_file *file, const char *section,
                                const char *key);

/* Cuts the next `key=value` of a connection string, in which a value may stand in single quotes, doubled inside it.  The
 * texts are the caller's to free.  False at the end, and when the text is no such list: then `*at` is NULL. */
bool pgbouncer_next_pair(const char **at, char **key, char **value);

#endif
