/*
 * config_check.c - what start-up refuses (contract 4): sums that cannot hold, doors that stand open, loops.
 */
#include <arpa/inet.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "config/config_parse.h"

static int line_of(const struct reading *reading, const char *section, const char *key)
{
    for (size_t i = 0; i < reading->count; i++) {
        if (strcmp(reading->entries[i].section, section) == 0 &&
            strcmp(reading->entries[i].key, key) == 0)
            return reading->entries[i].line;
    }
    return 0;
}

static int pool_line(const struct reading *reading, const struct config_pool *pool, const char *key)
{
    char *section = memory_printf("pool:%s", pool->name);
    int line = line_of(reading, section, key);
    for (size_t i = 0; !line && i < reading->count; i++) {
        if (strcmp(reading->entries[i].section, section) == 0)
            line = reading->entries[i].line;
    }
    free(section);
    return line;
}

static void check_sums(const struct config *config, struct reading *reading)
{
    int reserved = 0;
    for (size_t i = 0; i < config->pool_count; i++)
        reserved += config->pools[i].reserved;
    if (reserved > config->total_connections)
        reading_error(reading, line_of(reading, "pgreserve", "total_connections"),
                      "the sum of reserved is %d, but total_connections is %d: lower one or raise "
                      "the other",
                      reserved, config->total_connections);
    for (size_t i = 0; i < config->pool_count; i++) {
        const struct config_pool *pool = &config->pools[i];
        int left = config->total_connections - (reserved - pool->reserved);
        if (pool->size > left)
            reading_error(reading, pool_line(reading, pool, "size"),
                          "size of pool %s is %d, but the reservations of the others leave it %d "
                          "of total_connections %d",
                          pool->name, pool->size, left < 0 ? 0 : left, config->total_connections);
        if (pool->reserved > pool->size + pool->max_overflow)
            reading_error(reading, pool_line(reading, pool, "reserved"),
                          "pool %s reserves %d connections but can open only size + max_overflow "
                          "= %d",
                          pool->name, pool->reserved, pool->size + pool->max_overflow);
        if (pool->size + pool->max_overflow == 0)
            reading_error(reading, pool_line(reading, pool, "size"),
                          "pool %s can open no connection at all: size and max_overflow are 0",
                          pool->name);
    }
}

static bool is_loopback(const char *host)
{
    return strncmp(host, "127.", 4) == 0 || strcmp(host, "::1") == 0 ||
           strcmp(host, "localhost") == 0;
}

static bool is_local_door(const struct config_address_list *list)
{
    for (size_t i = 0; i < list->count; i++) {
        if (!list->items[i].is_unix && !is_loopback(list->items[i].host))
            return false;
    }
    return true;
}

bool config_open_door(const struct config *config, char *what, size_t what_bytes)
{
    for (size_t i = 0; i < config->pool_count; i++) {
        const struct config_pool *pool = &config->pools[i];
        if (!pool->i_know_this_is_open && !is_local_door(&pool->listen)) {
            snprintf(what, what_bytes, "pool %s", pool->name);
            return true;
        }
    }
    snprintf(what, what_bytes, "[admin]");
    return !config->admin_i_know_this_is_open && !is_local_door(&config->admin_listen);
}

bool config_knows_passwords(const struct config *config)
{
    for (size_t i = 0; i < config->database_count; i++) {
        if (config->databases[i].user && config->databases[i].password)
            return true;
    }
    return config->users_file || config->auth_query;
}

static void check_proof(const struct config *config, struct reading *reading)
{
    if (config->hba_file)
        return; /* its lines are checked when it is read: rules.c */
    if (config->auth_method == AUTH_TRUST) {
        for (size_t i = 0; i < config->pool_count; i++) {
            const struct config_pool *pool = &config->pools[i];
            if (!pool->i_know_this_is_open && !is_local_door(&pool->listen))
                reading_error(reading, pool_line(reading, pool, "listen"),
                              "method = trust lets anyone in, and pool %s listens beyond "
                              "loopback: use scram-sha-256, or say i_know_this_is_open = yes",
                              pool->name);
        }
        if (!config->admin_i_know_this_is_open && !is_local_door(&config->admin_listen))
            reading_error(reading, line_of(reading, "admin", "listen"),
                          "method = trust lets anyone in, and [admin] listens beyond loopback: "
                          "use scram-sha-256, or say i_know_this_is_open = yes");
        return;
    }
    if (config->auth_method == AUTH_CERT) {
        if (config->tls_client_mode < TLS_CLIENT_REQUIRE || !config->tls_client_ca_file)
            reading_error(reading, line_of(reading, "auth", "method"),
                          "method = cert needs [tls] client_mode = verify-full and "
                          "client_ca_file");
        return;
    }
    if (config_knows_passwords(config))
        return;
    reading_error(reading, line_of(reading, "database:*", "url"),
                  "no way to tell who a client is: give the upstream's user and password "
                  "(SUPABASE_URL=postgresql://user:password@host:port/database, or url, user and "
                  "password in [database:*]), or [auth] users_file or auth_query");
}

/* Without auth_query the other two may stand: so SET can turn it on. */
static void check_query(const struct config *config, struct reading *reading)
{
    int line = line_of(reading, "auth", "auth_query");
    if (!config->auth_query)
        return;
    if (!config->auth_user)
        reading_error(reading, line, "auth_query needs auth_user: the role that runs it");
    if (!strstr(config->auth_query, "$1"))
        reading_error(reading, line, "auth_query has no $1, where the user's name goes");
    if (config->database_count == 0)
        reading_error(reading, line, "auth_query needs an upstream to ask: [database:*] url");
}

static void check_tls(const struct config *config, struct reading *reading)
{
    if (config->tls_client_mode == TLS_CLIENT_DISABLE)
        return;
    if (!config->tls_client_cert_file || !config->tls_client_key_file)
        reading_error(reading, line_of(reading, "tls", "client_mode"),
                      "TLS for clients needs client_cert_file and client_key_file");
    if (config->tls_client_mode >= TLS_CLIENT_VERIFY_CA && !config->tls_client_ca_file)
        reading_error(reading, line_of(reading, "tls", "client_mode"),
                      "checking clients' certificates needs client_ca_file");
}

/* Whether an upstream's address is this listener's own. */
static bool is_same_place(const struct config_address *at, const char *host, const char *port)
{
    if (atoi(port) != at->port)
        return false;
    if (*host == '/')
        return at->is_unix && strcmp(at->path, host) == 0;
    if (at->is_unix)
        return false;
    if (is_loopback(host))
        return is_loopback(at->host) || strcmp(at->host, "*") == 0 ||
               strcmp(at->host, "0.0.0.0") == 0 || strcmp(at->host, "::") == 0;
    return strcmp(at->host, host) == 0;
}

static void check_list(const struct config_database *database,
                       const struct config_address_list *list, struct reading *reading)
{
    char *hosts = memory_strdup(database->hosts ? database->hosts : "localhost");
    char *ports = memory_strdup(database->ports ? database->ports : "5432");
    char *host_at = hosts;
    char *port_at = ports;
    const char *port = "5432"; /* one port is every host's */
    for (char *host; (host = strsep(&host_at, ","));) {
        const char *next = strsep(&port_at, ",");
        if (next && *next)
            port = next;
        for (size_t i = 0; i < list->count; i++) {
            if (is_same_place(&list->items[i], *host ? host : "localhost", port))
                reading_error(reading, line_of(reading, "database:*", "url"),
                              "the upstream of [database:%s] is pgreserve's own listener (%s port "
                              "%s): it would connect to itself",
                              database->name, *host ? host : "localhost", port);
        }
    }
    free(hosts);
    free(ports);
}

static bool is_same_door(const struct config_address *a, const struct config_address *b)
{
    if (a->is_unix != b->is_unix || a->port != b->port)
        return false;
    return strcmp(a->is_unix ? a->path : a->host, b->is_unix ? b->path : b->host) == 0;
}

static void check_doors(const struct config *config, struct reading *reading)
{
    const struct config_address_list *lists[66];
    int lines[66];
    size_t count = 0;
    for (size_t i = 0; i < config->pool_count && count < 64; i++) {
        lines[count] = pool_line(reading, &config->pools[i], "listen");
        lists[count++] = &config->pools[i].listen;
    }
    lines[count] = line_of(reading, "admin", "listen");
    lists[count++] = &config->admin_listen;
    lines[count] = line_of(reading, "admin", "http");
    lists[count++] = &config->admin_http;
    for (size_t i = 0; i < count; i++) {
        for (size_t d = 0; d < config->database_count; d++)
            check_list(&config->databases[d], lists[i], reading);
        for (size_t k = 0; k < lists[i]->count; k++) {
            for (size_t j = i; j < count; j++) {
                for (size_t l = j == i ? k + 1 : 0; l < lists[j]->count; l++) {
                    if (is_same_door(&lists[i]->items[k], &lists[j]->items[l]))
                        reading_error(reading, lines[j],
                                      "two listeners have the same address, port %u: give this "
                                      "one another",
                                      lists[i]->items[k].port);
                }
            }
        }
    }
}

void config_check(const struct config *config, struct reading *reading)
{
    if (config->pool_count == 0)
        reading_error(reading, 0, "no [pool:NAME] section: there is nothing to connect to");
    if (config->pool_count > 60)
        reading_error(reading, 0, "more than 60 pools");
    for (size_t i = 0; i < config->pool_count; i++) {
        if (config->pools[i].listen.count == 0)
            reading_error(reading, pool_line(reading, &config->pools[i], "listen"),
                          "pool %s has no listen address: listen = 127.0.0.1:6432",
                          config->pools[i].name);
    }
    check_sums(config, reading);
    check_proof(config, reading);
    check_query(config, reading);
    check_tls(config, reading);
    check_doors(config, reading);
}
