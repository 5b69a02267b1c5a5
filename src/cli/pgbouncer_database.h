/*
 * pgbouncer_database.h - one line of PgBouncer's [databases], taken apart, and the [database:NAME] that it becomes.
 */
#ifndef CLI_PGBOUNCER_DATABASE_H
#define CLI_PGBOUNCER_DATABASE_H

#include <stdbool.h>
#include <stdio.h>

#include "cli/pgbouncer_ini.h"

struct pgbouncer_database {
    const struct pgbouncer_setting *from; /* its line */
    char *host; /* a list, with commas; these five are NULL when not given */
    char *port;
    char *user;
    char *password;
    char *dbname;
    char *options;    /* settings made at every login: "-c name=value ..." */
    char *parameters; /* what goes into the url's query as it is: "&name=value..."; never NULL */
    char *pool_mode;  /* NULL: the global one */
    int pool_size;    /* these are -1 when not given */
    int min_pool_size;
    int reserve_pool_size;
    int max_connections;
    int max_clients;
    char *remarks; /* lines of comments about what has no counterpart; never NULL */
};

/* False when the connection string cannot be read.  Free it either way. */
bool pgbouncer_database_read(struct pgbouncer_database *database,
                             const struct pgbouncer_setting *from);
void pgbouncer_database_free(struct pgbouncer_database *database);

/* Writes its section.  `default_host` is where PgBouncer looks without host=, `parameters` joins the url's query.  The
 * name of a variable that must be set before the file can be read goes to `needs` as a line of text. */
void pgbouncer_database_write(const struct pgbouncer_database *database, FILE *out, FILE *needs,
                              const char *default_host, const char *parameters);

/* Whether the value can stand in a file of ours: no comment sign, no ${, no line's end. */
bool pgbouncer_fits(const char *value);
/* Appends "&name=value" to a url's query, percent-encoded. */
void pgbouncer_add_parameter(char **parameters, const char *name, const char *value);
/* A comment, broken into lines of at most 100 columns that begin with "; ". */
void pgbouncer_write_comment(FILE *out, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

#endif
