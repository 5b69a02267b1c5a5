/*
 * import_pool.c - the cap and the one pool that PgBouncer's pools become: see import_inside.h.
 *
 * PgBouncer makes a pool for each pair of a database and a user, as large as default_pool_size, and has no limit over all of
 * them; here one pool with one limit serves them all from the listener that PgBouncer had.  So the sizes are added up, one
 * for each line of [databases], and the sum is the cap.
 */
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "cli/import_inside.h"

#define POOL "automation" /* the name that the shipped dashboard, alerts and README know */

/* ---- sizes ---- */

/* What one line of [databases] may open: its pool, its reserve, and at most max_db_connections of both. */
static void add_sizes(const struct import *import, const struct pgbouncer_database *database,
                      int *size, int *reserve)
{
    int pool = database->pool_size >= 0 ? database->pool_size
                                        : import_number(import, "default_pool_size", 20);
    int more = database->reserve_pool_size >= 0 ? database->reserve_pool_size
                                                : import_number(import, "reserve_pool_size", 0);
    int most = database->max_connections >= 0 ? database->max_connections
                                              : import_number(import, "max_db_connections", 0);
    if (import_number(import, "reserve_pool_timeout", 5) == 0)
        more = 0;
    if (most > 0) { /* reached by several users' pools together */
        pool = most - more > 0 ? most - more : most;
        more = most - pool;
    }
    *size += pool;
    *reserve += more;
}

static void sum_sizes(const struct import *import, int *size, int *reserve)
{
    *size = 0;
    *reserve = 0;
    for (size_t i = 0; i < import->database_count; i++)
        add_sizes(import, &import->databases[i], size, reserve);
    if (import->database_count == 0)
        *size = import_number(import, "default_pool_size", 20);
    if (*size < 1)
        *size = 1;
}

/* Limits that were for a database are the pool's, when there is only one database. */
static void write_client_limit(struct import *import)
{
    int limit = import_number(import, "max_db_client_connections", 0);
    if (import->database_count == 1 && import->databases[0].max_clients >= 0)
        limit = import->databases[0].max_clients;
    if (limit > 0 && import->database_count == 1)
        fprintf(import->out, "max_clients = %d\n", limit);
    else if (limit > 0)
        import_note(import, "max_db_client_connections",
                    "a pool's max_clients counts those of all its "
                    "databases together");
    for (size_t i = 0; i < import->database_count && import->database_count > 1; i++) {
        if (import->databases[i].max_clients > 0)
            pgbouncer_write_comment(import->notes_out,
                                    "[databases] %s, max_db_client_connections = %d: a pool's "
                                    "max_clients counts those of all its databases together.",
                                    import->databases[i].from->key,
                                    import->databases[i].max_clients);
    }
}

void import_cap(struct import *import)
{
    int size;
    int reserve;
    sum_sizes(import, &size, &reserve);
    fputs("[pgreserve]\n", import->out);
    pgbouncer_write_comment(
        import->out,
        "PgBouncer has no limit over everything.  This is the sum over [databases] of what one "
        "user "
        "may open there, or of max_db_connections.  \"pgreserve check -c FILE\" says whether the "
        "server can hold it.");
    fprintf(import->out, "total_connections = %d\n", size + reserve);
    if (import_number(import, "verbose", 0) > 0)
        fputs("log_level = debug\n", import->out);
    import_section(import, OPTION_PGRESERVE);
    fputc('\n', import->out);
}

/* ---- where it listens ---- */

static bool is_loopback(const char *host)
{
    return strncmp(host, "127.", 4) == 0 || strcmp(host, "::1") == 0 ||
           strcmp(host, "localhost") == 0;
}

/* listen_addr, listen_port and unix_socket_dir as one list; whether all of it is this host's alone. */
static bool write_listen(struct import *import)
{
    const char *port = import_given_or(import, "listen_port", "6432");
    const char *directory = import_given(import, "unix_socket_dir");
    char *copy = memory_strdup(import_given_or(import, "listen_addr", ""));
    char *at = copy;
    const char *separator = "";
    bool is_local = true;
    fputs("listen = ", import->out);
    for (char *host; (host = strsep(&at, ","));) {
        host += strspn(host, " \t");
        host[strcspn(host, " \t")] = '\0';
        if (!*host)
            continue;
        fprintf(import->out, strchr(host, ':') ? "%s[%s]:%s" : "%s%s:%s", separator, host, port);
        is_local = is_local && is_loopback(host);
        separator = ", ";
    }
    free(copy);
    if (!directory)
        directory = "/tmp"; /* PgBouncer's default */
    if (*directory == '/')
        fprintf(import->out, "%sunix:%s:%s", separator, directory, port);
    else if (*directory)
        import_note(import, "unix_socket_dir", "there are no sockets in the abstract namespace");
    fputc('\n', import->out);
    return is_local;
}

/* ---- the pool ---- */

static int mode_rank(const char *mode)
{
    static const char *const modes[] = {"session", "transaction", "statement"};
    for (int i = 0; i < 3; i++) {
        if (strcmp(mode, modes[i]) == 0)
            return i;
    }
    return -1;
}

/* One mode for all databases and users.  Where they differ it is transaction mode, in which a client that needs its session
 * keeps its connection; statement mode refuses transactions, so it holds only where nothing else is asked for. */
static void write_mode(struct import *import)
{
    const char *mode = import_given_or(import, "pool_mode", "session");
    bool differ = false;
    for (size_t i = 0; i < import->database_count; i++) {
        const char *own = import->databases[i].pool_mode;
        differ |= own && strcmp(own, mode) != 0;
    }
    for (size_t i = 0; i < import->file.count; i++) {
        const struct pgbouncer_setting *setting = &import->file.settings[i];
        const char *own =
            strcmp(setting->section, "users") == 0 ? strstr(setting->value, "pool_mode=") : NULL;
        differ |= own && strncmp(own + strlen("pool_mode="), mode, strlen(mode)) != 0;
    }
    if (mode_rank(mode) < 0)
        import_note(import, "pool_mode", "there are session, transaction and statement");
    if (!differ) {
        fprintf(import->out, "mode = %s\n", mode_rank(mode) < 0 ? "session" : mode);
        return;
    }
    pgbouncer_write_comment(
        import->out,
        "The mode is the pool's here, and databases or users had different ones.  In transaction "
        "mode whoever needs a session keeps its connection while it has one; a second [pool:NAME] "
        "with a listener of its own may have another mode.");
    fputs("mode = transaction\n", import->out);
}

static void write_prefill(struct import *import)
{
    int least = import_number(import, "min_pool_size", 0);
    for (size_t i = 0; i < import->database_count; i++) {
        if (import->databases[i].min_pool_size > least)
            least = import->databases[i].min_pool_size;
    }
    if (least > 0)
        pgbouncer_write_comment(
            import->out, "min_pool_size = %d: not some but all of size are kept open.", least);
    fprintf(import->out, "prefill = %s\n", least > 0 ? "on" : "off");
}

static void write_overflow(struct import *import, int reserve)
{
    const char *idle = import_given_or(import, "server_idle_timeout", "600");
    fprintf(import->out, "max_overflow = %d\n", reserve);
    if (reserve > 0 || import_given(import, "reserve_pool_timeout"))
        fprintf(import->out, "overflow_delay = %s\noverflow_idle = %s\n",
                import_given_or(import, "reserve_pool_timeout", "5"),
                strcmp(idle, "0") == 0 ? "7d" : idle);
    if (import_given(import, "server_idle_timeout"))
        import_note(import, "server_idle_timeout",
                    "connections up to size stay open for the next "
                    "client; what goes beyond it closes after "
                    "overflow_idle");
}

static void write_lifetime(struct import *import)
{
    const char *lifetime = import_given_or(import, "server_lifetime", "3600");
    if (strcmp(lifetime, "0") == 0)
        import_note(import, "server_lifetime",
                    "there is no single use of connections: recycle has its "
                    "default");
    else
        fprintf(import->out, "recycle = %s\n", lifetime);
}

void import_pool(struct import *import)
{
    int size;
    int reserve;
    sum_sizes(import, &size, &reserve);
    fputs("[pool:" POOL "]\n", import->out);
    bool is_local = write_listen(import);
    if (import->has_trust && !is_local) {
        pgbouncer_write_comment(import->out, "auth_type = %s lets anyone in who reaches this port.",
                                import_given_or(import, "auth_type", ""));
        fputs("i_know_this_is_open = yes\n", import->out);
    }
    write_mode(import);
    fprintf(import->out, "size = %d\n", size);
    write_prefill(import);
    write_overflow(import, reserve);
    write_lifetime(import);
    write_client_limit(import);
    import_section(import, OPTION_POOL);
    const char *query = import_given(import, "server_check_query");
    if (query && *query)
        import_note(import, "server_check_query",
                    "the ping is pgreserve's own, in the background; "
                    "pre_ping = off leaves it out");
    fputc('\n', import->out);
}
