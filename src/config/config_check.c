/*
 * config_check.c - what start-up refuses (contract 4): sums that cannot hold, doors that stand open, loops.
 *
 * It looks at files that have other mistakes too, for all are listed at once.  What rests on a value that is itself wrong is
 * not judged: the complaint would be about the default that stands in its place.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "config/config_parse.h"
#include "config/own_address.h"

static int line_of(const struct reading *reading, const char *section, const char *key)
{
    for (size_t i = 0; i < reading->count; i++) {
        if (strcmp(reading->entries[i].section, section) == 0 &&
            strcmp(reading->entries[i].key, key) == 0)
            return reading->entries[i].line;
    }
    return 0;
}

/* Whether a value of this key could not be made out: in the section, or for "pool:" and "database:" in any such. */
static bool is_unknown(const struct reading *reading, const char *section, const char *key)
{
    size_t length = strlen(section);
    bool is_any = section[length - 1] == ':';
    for (size_t i = 0; i < reading->count; i++) {
        const struct entry *entry = &reading->entries[i];
        if (entry->is_unknown && strcmp(entry->key, key) == 0 &&
            strncmp(entry->section, section, is_any ? length : length + 1) == 0)
            return true;
    }
    return false;
}

static bool is_pool_unknown(const struct reading *reading, const struct config_pool *pool,
                            const char *key)
{
    char *section = memory_printf("pool:%s", pool->name);
    bool is_it = is_unknown(reading, section, key);
    free(section);
    return is_it;
}

static int section_line(const struct reading *reading, const char *section)
{
    for (size_t i = 0; i < reading->section_count; i++) {
        if (strcmp(reading->sections[i].name, section) == 0)
            return reading->sections[i].line;
    }
    return 0;
}

static int pool_line(const struct reading *reading, const struct config_pool *pool, const char *key)
{
    char *section = memory_printf("pool:%s", pool->name);
    int line = line_of(reading, section, key);
    line = line ? line : section_line(reading, section);
    free(section);
    return line;
}

/* What one pool says by itself; a number of its own that is unknown may be any. */
static void check_pool(const struct config_pool *pool, struct reading *reading)
{
    if (pool->listen.count == 0 && !is_pool_unknown(reading, pool, "listen"))
        reading_error(reading, pool_line(reading, pool, "listen"),
                      "pool %s has no listen address: listen = 127.0.0.1:6432", pool->name);
    if (is_pool_unknown(reading, pool, "size") || is_pool_unknown(reading, pool, "max_overflow"))
        return;
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

/* A reservation that is unknown counts as the default, none: what is too much with that is too much with any. */
static void check_sums(const struct config *config, struct reading *reading)
{
    int64_t reserved = 0;
    for (size_t i = 0; i < config->pool_count; i++) {
        check_pool(&config->pools[i], reading);
        reserved += config->pools[i].reserved;
    }
    if (is_unknown(reading, "pgreserve", "total_connections"))
        return;
    if (reserved > config->total_connections)
        reading_error(reading, line_of(reading, "pgreserve", "total_connections"),
                      "the sum of reserved is %lld, but total_connections is %d: lower one or "
                      "raise the other",
                      (long long)reserved, config->total_connections);
    for (size_t i = 0; i < config->pool_count; i++) {
        const struct config_pool *pool = &config->pools[i];
        int64_t left = config->total_connections - (reserved - pool->reserved);
        if (pool->size > left && !is_pool_unknown(reading, pool, "size"))
            reading_error(reading, pool_line(reading, pool, "size"),
                          "size of pool %s is %d, but the reservations of the others leave it "
                          "%lld of total_connections %d",
                          pool->name, pool->size, (long long)(left < 0 ? 0 : left),
                          config->total_connections);
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

/* Whether the file says what check_proof judges by. */
static bool is_proof_known(const struct config *config, const struct reading *reading)
{
    return config->database_count > 0 && !reading->is_incomplete &&
           !is_unknown(reading, "auth", "method") && !is_unknown(reading, "auth", "hba_file") &&
           !is_unknown(reading, "auth", "users_file") &&
           !is_unknown(reading, "auth", "auth_query") &&
           !is_unknown(reading, "tls", "client_mode") &&
           !is_unknown(reading, "tls", "client_ca_file") &&
           !is_unknown(reading, "database:", "url") && !is_unknown(reading, "database:", "user") &&
           !is_unknown(reading, "database:", "password") &&
           !is_unknown(reading, "pool:", "i_know_this_is_open") &&
           !is_unknown(reading, "admin", "i_know_this_is_open");
}

static void check_proof(const struct config *config, struct reading *reading)
{
    if (!is_proof_known(config, reading))
        return;
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
    if (!config->auth_query || is_unknown(reading, "auth", "auth_query"))
        return;
    if (!config->auth_user && !is_unknown(reading, "auth", "auth_user"))
        reading_error(reading, line, "auth_query needs auth_user: the role that runs it");
    if (!strstr(config->auth_query, "$1"))
        reading_error(reading, line, "auth_query has no $1, where the user's name goes");
    if (config->database_count == 0 && !reading->is_incomplete)
        reading_error(reading, line, "auth_query needs an upstream to ask: [database:*] url");
}

static void check_tls(const struct config *config, struct reading *reading)
{
    bool has_pair = config->tls_client_cert_file && config->tls_client_key_file;
    if (config->tls_client_mode == TLS_CLIENT_DISABLE)
        return;
    if (!has_pair && !is_unknown(reading, "tls", "client_cert_file") &&
        !is_unknown(reading, "tls", "client_key_file"))
        reading_error(reading, line_of(reading, "tls", "client_mode"),
                      "TLS for clients needs client_cert_file and client_key_file");
    if (config->tls_client_mode >= TLS_CLIENT_VERIFY_CA && !config->tls_client_ca_file &&
        !is_unknown(reading, "tls", "client_ca_file"))
        reading_error(reading, line_of(reading, "tls", "client_mode"),
                      "checking clients' certificates needs client_ca_file");
}

static bool is_upstream_known(const struct reading *reading, const struct config_database *database)
{
    char *section = memory_printf("database:%s", database->name);
    bool is_it = !is_unknown(reading, section, "url") && !is_unknown(reading, "database:*", "url");
    free(section);
    return is_it;
}

/* Of the url that leads there: the section's own, or that of [database:*]. */
static int url_line(const struct reading *reading, const struct config_database *database)
{
    char *section = memory_printf("database:%s", database->name);
    int line = line_of(reading, section, "url");
    free(section);
    return line ? line : line_of(reading, "database:*", "url");
}

static void check_list(const struct config_database *database,
                       const struct config_address_list *list, struct reading *reading)
{
    for (size_t i = 0; i < list->count; i++) {
        char *place = own_address_in(database, &list->items[i]);
        if (place)
            reading_error(reading, url_line(reading, database),
                          "the upstream of [database:%s] is pgreserve's own listener (%s): it "
                          "would connect to itself",
                          database->name, place);
        free(place);
    }
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
            if (is_upstream_known(reading, &config->databases[d]))
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

/* A section whose name nobody could read may be the one that is missed. */
static void check_sections(const struct config *config, struct reading *reading)
{
    if (config->database_count == 0 && !reading->is_incomplete)
        reading_error(reading, 0, "no [database:*] section: there is no upstream to connect to");
    if (config->pool_count == 0 && !reading->is_incomplete)
        reading_error(reading, 0, "no [pool:NAME] section: there is nothing to connect to");
    if (config->pool_count > 60)
        reading_error(reading, 0, "more than 60 pools");
}

void config_check(const struct config *config, struct reading *reading)
{
    check_sections(config, reading);
    check_sums(config, reading);
    check_proof(config, reading);
    check_query(config, reading);
    check_tls(config, reading);
    check_doors(config, reading);
}
