/*
 * pgbouncer_database.c - one line of [databases] becomes a [database:NAME]: see pgbouncer_database.h.
 *
 * Where it leads is written as a URL, in which anything can stand percent-encoded: our file takes ` ;` for a comment and ${
 * for a variable, and PgBouncer's does not.  What could not be encoded and
 * cannot stand comes from the environment.
 */
#include "cli/pgbouncer_database.h"

#include <ctype.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"

#define COMMENT_COLUMNS 100

/* ---- words ---- */

void pgbouncer_write_comment(FILE *out, const char *format, ...)
{
    va_list args;
    char *text = NULL;
    va_start(args, format);
    if (vasprintf(&text, format, args) < 0)
        text = NULL;
    va_end(args);
    size_t column = 0;
    char *at = text;
    for (char *word; (word = strsep(&at, " \n"));) {
        size_t length = strlen(word);
        if (length == 0)
            continue;
        if (column == 0 || column + 1 + length > COMMENT_COLUMNS) {
            fputs(column ? "\n;" : ";", out);
            column = 1;
        }
        fprintf(out, " %s", word);
        column += 1 + length;
    }
    fputc('\n', out);
    free(text);
}

bool pgbouncer_fits(const char *value)
{
    size_t length = strlen(value);
    return !strchr(value, '\n') && !strstr(value, "${") && !strstr(value, " ;") &&
           !strstr(value, "\t;") && *value != ';' &&
           (length == 0 ||
            (!isspace((unsigned char)value[0]) && !isspace((unsigned char)value[length - 1])));
}

static void append(char **text, const char *more)
{
    char *longer = memory_printf("%s%s", *text, more);
    memory_free_secret(*text);
    *text = longer;
}

/* Everything but what is plain in any part of a URL. */
static char *encode(const char *text)
{
    char *out = memory_alloc(3 * strlen(text) + 1);
    char *at = out;
    for (; *text; text++) {
        if (isalnum((unsigned char)*text) || strchr("-._~", *text))
            *at++ = *text;
        else
            at += snprintf(at, 4, "%%%02X", (unsigned char)*text);
    }
    *at = '\0';
    return out;
}

static void append_encoded(char **text, const char *more)
{
    char *encoded = encode(more);
    append(text, encoded);
    memory_free_secret(encoded);
}

void pgbouncer_add_parameter(char **parameters, const char *name, const char *value)
{
    append(parameters, "&");
    append(parameters, name);
    append(parameters, "=");
    append_encoded(parameters, value);
}

/* ---- reading ---- */

/* What a connection string may hold that has no counterpart, or not there. */
static const struct {
    const char *key;
    const char *why;
} remarked[] = {
    {"auth_user", "[auth] has one auth_user for all databases"},
    {"auth_query", "[auth] has one auth_query for all databases"},
    {"auth_dbname", "[auth] has one auth_dbname for all databases"},
    {"connect_query", "nothing is run at a login: a setting can be given in the url "
                      "(options=-c name=value), anything else by ALTER ROLE ... SET"},
    {"load_balance_hosts", "libpq tries the hosts in the order in which they stand"},
    {"server_lifetime", "recycle is one number for all databases of a pool"},
    {"query_wait_timeout", "timeout is one number for all databases of a pool"},
    {"reserve_pool_timeout", "overflow_delay is one number for all databases of a pool"},
};

static void remark(struct pgbouncer_database *database, const char *key, const char *value,
                   const char *why)
{
    char *text = NULL;
    size_t bytes = 0;
    FILE *out = open_memstream(&text, &bytes);
    pgbouncer_write_comment(out, "%s = %s: %s.", key, value, why);
    fclose(out);
    append(&database->remarks, text);
    free(text);
}

static void take(char **field, const char *value)
{
    memory_free_secret(*field);
    *field = memory_strdup(value);
}

/* A setting that PgBouncer makes at every login.  In `options` a blank separates and a backslash escapes. */
static void take_option(struct pgbouncer_database *database, const char *key, const char *value)
{
    char *before = database->options;
    char *setting = memory_printf("%s%s-c %s=", before ? before : "", before ? " " : "", key);
    for (; *value; value++) {
        char piece[3] = {'\\', *value, '\0'};
        append(&setting, *value == ' ' || *value == '\\' ? piece : piece + 1);
    }
    free(before);
    database->options = setting;
}

static bool take_text(struct pgbouncer_database *database, const char *key, const char *value)
{
    const struct {
        const char *key;
        char **field;
    } texts[] = {{"host", &database->host},     {"port", &database->port},
                 {"user", &database->user},     {"password", &database->password},
                 {"dbname", &database->dbname}, {"pool_mode", &database->pool_mode}};
    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        if (strcmp(texts[i].key, key) == 0) {
            take(texts[i].field, value);
            return true;
        }
    }
    return false;
}

static bool take_number(struct pgbouncer_database *database, const char *key, const char *value)
{
    const struct {
        const char *key;
        int *field;
    } numbers[] = {{"pool_size", &database->pool_size},
                   {"min_pool_size", &database->min_pool_size},
                   {"reserve_pool", &database->reserve_pool_size}, /* its older name */
                   {"reserve_pool_size", &database->reserve_pool_size},
                   {"max_db_connections", &database->max_connections},
                   {"max_db_client_connections", &database->max_clients}};
    for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++) {
        if (strcmp(numbers[i].key, key) == 0) {
            *numbers[i].field = atoi(value);
            return true;
        }
    }
    return false;
}

static void take_pair(struct pgbouncer_database *database, const char *key, const char *value)
{
    if (take_text(database, key, value) || take_number(database, key, value))
        return;
    if (strcmp(key, "client_encoding") == 0 || strcmp(key, "application_name") == 0 ||
        strcmp(key, "target_session_attrs") == 0) {
        pgbouncer_add_parameter(&database->parameters, key, value);
        return;
    }
    if (strcmp(key, "datestyle") == 0 || strcmp(key, "timezone") == 0) {
        take_option(database, key, value);
        return;
    }
    for (size_t i = 0; i < sizeof(remarked) / sizeof(remarked[0]); i++) {
        if (strcmp(remarked[i].key, key) == 0) {
            remark(database, key, value, remarked[i].why);
            return;
        }
    }
    remark(database, key, value, "PgBouncer 1.25 has no such parameter");
}

bool pgbouncer_database_read(struct pgbouncer_database *database,
                             const struct pgbouncer_setting *from)
{
    *database = (struct pgbouncer_database){.from = from,
                                            .parameters = memory_strdup(""),
                                            .remarks = memory_strdup(""),
                                            .pool_size = -1,
                                            .min_pool_size = -1,
                                            .reserve_pool_size = -1,
                                            .max_connections = -1,
                                            .max_clients = -1};
    const char *at = from->value;
    char *key;
    char *value;
    while (pgbouncer_next_pair(&at, &key, &value)) {
        take_pair(database, key, value);
        free(key);
        memory_free_secret(value);
    }
    if (database->options)
        pgbouncer_add_parameter(&database->parameters, "options", database->options);
    return at != NULL;
}

void pgbouncer_database_free(struct pgbouncer_database *database)
{
    free(database->host);
    free(database->port);
    free(database->user);
    memory_free_secret(database->password);
    free(database->dbname);
    free(database->options);
    free(database->parameters);
    free(database->pool_mode);
    free(database->remarks);
}

/* ---- writing ---- */

/* host1:port,host2:port as a URL has them; a socket's directory is percent-encoded, an IPv6 address in brackets. */
static void append_hosts(char **url, const char *hosts, const char *port)
{
    char *copy = memory_strdup(hosts);
    char *at = copy;
    bool is_first = true;
    for (char *host; (host = strsep(&at, ","));) {
        append(url, is_first ? "" : ",");
        is_first = false;
        if (strchr(host, ':')) {
            append(url, "[");
            append(url, host);
            append(url, "]");
        } else {
            append_encoded(url, host);
        }
        append(url, ":");
        append(url, port);
    }
    free(copy);
}

static char *make_url(const struct pgbouncer_database *database, const char *host,
                      const char *parameters)
{
    char *url = memory_strdup("postgresql://");
    if (database->user) {
        append_encoded(&url, database->user);
        if (database->password) {
            append(&url, ":");
            append_encoded(&url, database->password);
        }
        append(&url, "@");
    }
    if (host)
        append_hosts(&url, host, database->port ? database->port : "5432");
    append(&url, "/");
    if (database->dbname)
        append_encoded(&url, database->dbname);
    char *all = memory_printf("%s%s", database->parameters, parameters);
    if (*all) {
        append(&url, "?");
        append(&url, all + 1);
    }
    free(all);
    return url;
}

/* As it is, or from a variable that is named after the database. */
static void write_url(const struct pgbouncer_database *database, FILE *out, FILE *needs,
                      const char *url)
{
    if (pgbouncer_fits(url)) {
        fprintf(out, "url = %s\n", url);
        return;
    }
    char *variable = memory_printf("PGBOUNCER_%s_URL", database->from->key);
    for (char *at = variable; *at; at++)
        *at = isalnum((unsigned char)*at) ? (char)toupper((unsigned char)*at) : '_';
    fprintf(needs, "set %s in the environment: the url of database %s cannot stand in the file\n",
            variable, database->from->key);
    fprintf(out, "url = ${%s}\n", variable);
    free(variable);
}

static bool name_fits(const char *name)
{
    return *name && !strpbrk(name, "]\n") && !strstr(name, " ;") &&
           !isspace((unsigned char)name[strlen(name) - 1]);
}

void pgbouncer_database_write(const struct pgbouncer_database *database, FILE *out, FILE *needs,
                              const char *default_host, const char *parameters)
{
    const char *host = database->host ? database->host : default_host;
    if (!name_fits(database->from->key)) {
        pgbouncer_write_comment(out,
                                "The database \"%s\" is left out: a name is a section of this "
                                "file, where ] cannot stand. "
                                "[database:*] serves it where it leads to the same server.",
                                database->from->key);
        fputc('\n', out);
        return;
    }
    fputs(database->remarks, out);
    fprintf(out, "[database:%s]\n", database->from->key);
    char *url = make_url(database, host, parameters);
    write_url(database, out, needs, url);
    memory_free_secret(url);
    fputc('\n', out);
}
