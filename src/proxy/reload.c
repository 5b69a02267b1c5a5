/*
 * reload.c - what the configuration means for the pools, at the start and again at SIGHUP.
 *
 * A new file is read beside the old one; when anything in it is wrong, the old one stays in force.  Otherwise each option
 * that can change at run time takes effect: numbers at once (what is too much goes when it is free), a changed
 * upstream by replacing its connections, users and certificates for the next logins.
 */
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/memory.h"
#include "base/process.h"
#include "config/config_parse.h"
#include "proxy/auth_query.h"
#include "proxy/login.h"
#include "proxy/listener.h"
#include "proxy/proxy.h"
#include "proxy/upstream.h"

struct pool_settings reload_settings(const struct config_pool *config)
{
    return (struct pool_settings){.size = config->size,
                                  .max_overflow = config->max_overflow,
                                  .login_burst = config->login_burst,
                                  .prefill = config->prefill,
                                  .pre_ping = config->pre_ping,
                                  .borrow = config->borrow,
                                  .timeout_us = config->timeout_us,
                                  .recycle_us = config->recycle_us,
                                  .pre_ping_idle_us = config->pre_ping_idle_us,
                                  .overflow_delay_us = config->overflow_delay_us,
                                  .overflow_idle_us = config->overflow_idle_us,
                                  .wait_notice_us = config->wait_notice_us};
}

/* The lane that is kept filled: the database and user that the URL names. */
void reload_choose_primary(struct proxy_pool *pool)
{
    const struct config *config = pool->proxy->config;
    const struct config_database *database = config_find_database(config, "*");
    if (!database && config->database_count > 0)
        database = &config->databases[0];
    pool->pool.primary = NULL;
    if (!database || !database->user)
        return;
    const char *name = database->dbname ? database->dbname : database->user;
    if (strcmp(database->name, "*") != 0 && !database->dbname)
        name = database->name;
    struct lane *lane = proxy_lane(pool, database, name, database->user, database->password, NULL);
    pool->pool.primary = &lane->lane;
}

static bool same_text(const char *a, const char *b)
{
    return a == b || (a && b && strcmp(a, b) == 0);
}

static bool same_upstream(const struct config_database *a, const struct config_database *b)
{
    if (!a || !b || !same_text(a->hosts, b->hosts) || !same_text(a->hostaddrs, b->hostaddrs) ||
        !same_text(a->ports, b->ports) || !same_text(a->user, b->user) ||
        !same_text(a->password, b->password) || !same_text(a->dbname, b->dbname))
        return false;
    size_t i = 0;
    for (; a->keywords && a->keywords[i] && b->keywords && b->keywords[i]; i++) {
        if (!same_text(a->keywords[i], b->keywords[i]) || !same_text(a->values[i], b->values[i]))
            return false;
    }
    return (!a->keywords || !a->keywords[i]) && (!b->keywords || !b->keywords[i]);
}

static void report_unchangeable(void *arg, const char *line)
{
    (void)arg;
    log_event(LOG_LEVEL_WARNING, "reload", LOG_FIELD_KIND("reason", line));
}

static void report_pool(const char *name, const char *what)
{
    char *line = memory_printf("[pool:%s] %s", name, what);
    report_unchangeable(NULL, line);
    free(line);
}

static bool has_pool(const struct proxy *proxy, const char *name)
{
    for (size_t i = 0; i < proxy->pool_count; i++) {
        if (strcmp(proxy->pools[i]->name, name) == 0)
            return true;
    }
    return false;
}

/* What listens is what was there at the start: said at every reload, until a restart. */
static void report_pools(const struct proxy *proxy)
{
    const struct config *config = proxy->config;
    for (size_t i = 0; i < config->pool_count; i++) {
        if (!has_pool(proxy, config->pools[i].name))
            report_pool(config->pools[i].name, "is new: it needs a restart");
    }
    for (size_t i = 0; i < proxy->pool_count; i++) {
        if (!proxy->pools[i]->config)
            report_pool(
                proxy->pools[i]->name,
                "is not in the file any more: it serves nobody, and listens until a restart");
    }
}

/* As PgBouncer does for a database that its file has no more: nothing says any longer how they are to be served.  Who has a
 * connection of a section that is gone keeps it, for it lives, until it lets go. */
static void end_unserved_clients(struct proxy *proxy)
{
    for (struct client *next, *client = TAILQ_FIRST(&proxy->clients); client; client = next) {
        next = TAILQ_NEXT(client, link);
        if (client->pool && !client->pool->config && client->state != CLIENT_STARTUP)
            session_end_without_pool(client);
        else if (client->lane && client->lane->is_gone && !client->server)
            session_end_without_section(client);
    }
}

static bool has_section(const struct config *config, const char *name)
{
    const struct config_database *found = config_find_database(config, name);
    return found && strcmp(found->name, name) == 0;
}

static bool same_place(const struct config_database *a, const struct config_database *b)
{
    return same_text(a->hosts, b->hosts) && same_text(a->hostaddrs, b->hostaddrs) &&
           same_text(a->ports, b->ports);
}

/* What the section leads to has changed; `now` may be that of [database:*], which is another's, or NULL.  A password goes
 * to the server that it was meant for and no other. */
static void change_lane(struct proxy *proxy, struct lane *lane, const struct config_database *was,
                        const struct config_database *now)
{
    bool is_its_own = now && strcmp(now->name, lane->section) == 0;
    bool is_named = is_its_own && now->password && (!now->user || same_text(now->user, lane->user));
    pool_lane_dispose(&lane->lane);
    upstream_changed(proxy, lane->section);
    if (is_named) {
        memory_free_secret(lane->password);
        lane->password = memory_strdup(now->password);
    }
    bool is_for_another = was && is_its_own && lane->password && !same_place(was, now) &&
                          same_text(lane->password, was->password);
    lane->is_gone = !is_its_own || (!is_named && (lane->is_gone || is_for_another));
}

static void report_sections(const struct config *old, const struct config *next)
{
    for (size_t i = 0; i < old->database_count; i++) {
        const struct config_database *was = &old->databases[i];
        if (has_section(next, was->name) ||
            same_upstream(was, config_find_database(next, was->name)))
            continue;
        char *line = memory_printf("[database:%s] is not in the file any more: its clients have to "
                                   "connect again",
                                   was->name);
        log_event(LOG_LEVEL_WARNING, "reload", LOG_FIELD_KIND("reason", line));
        free(line);
    }
}

static void adopt_config(struct proxy *proxy, struct config *next)
{
    struct config *old = proxy->config;
    struct lane *lane;
    struct lane *after;
    HASH_ITER (hh, proxy->lanes, lane, after) {
        const struct config_database *was = config_find_database(old, lane->section);
        const struct config_database *now = config_find_database(next, lane->section);
        if (!same_upstream(was, now))
            change_lane(proxy, lane, was, now);
    }
    report_sections(old, next);
    proxy->config = next;
    proxy->budget.total = next->total_connections;
    for (size_t i = 0; i < proxy->pool_count; i++) {
        struct proxy_pool *pool = proxy->pools[i];
        pool->config = config_find_pool(next, pool->name);
        struct pool_settings settings = {.login_burst = 1, .timeout_us = CLOCK_S};
        if (pool->config)
            settings = reload_settings(pool->config);
        pool_configure(&pool->pool, &settings, pool->config ? pool->config->reserved : 0);
        reload_choose_primary(pool);
    }
    config_free(old);
}

static bool refuse(struct config *next, struct users *users, struct config_errors *errors,
                   const char *reason, char *error, size_t error_bytes)
{
    for (size_t i = 0; i < errors->count; i++)
        log_event(LOG_LEVEL_ERROR, "reload", LOG_FIELD_KIND("reason", errors->items[i]));
    snprintf(error, error_bytes, "%s", errors->count > 0 ? errors->items[0] : reason);
    log_event(LOG_LEVEL_ERROR, "the old configuration stays in force",
              LOG_FIELD_KIND("reason", error));
    if (users)
        users_free(users);
    config_free(next);
    config_errors_free(errors);
    return false;
}

/* The file may say that we listen on loopback alone, and have been so checked, while we listen elsewhere until a restart. */
static void check_trust(const struct config *next, struct config_errors *errors)
{
    char door[128];
    if (!next->hba_file && next->auth_method == AUTH_TRUST &&
        config_open_door(next, door, sizeof(door)))
        rule_error(errors, next->path, 0,
                   "method = trust lets anyone in, and %s listens beyond loopback until a restart",
                   door);
}

bool proxy_adopt(struct proxy *proxy, struct config *next, char *error, size_t error_bytes)
{
    struct config_errors errors = {0};
    struct users *users = NULL;
    struct rules *rules = NULL;
    struct tls_context *tls = NULL;
    char reason[256] = "";
    config_keep_unchangeable(next, proxy->config, report_unchangeable, NULL);
    if (next->users_file)
        users = users_load(next->users_file, false, &errors);
    rules = rules_load(next, &errors);
    check_trust(next, &errors);
    if (errors.count == 0 && next->tls_client_mode != TLS_CLIENT_DISABLE)
        tls = tls_context_new(next, reason, sizeof(reason));
    if (errors.count > 0 || reason[0]) {
        rules_free(rules);
        return refuse(next, users, &errors, reason, error, error_bytes);
    }
    config_errors_free(&errors);
    if (proxy->users)
        users_free(proxy->users);
    proxy->users = users;
    rules_free(proxy->rules);
    proxy->rules = rules;
    if (proxy->tls)
        tls_context_free(proxy->tls);
    proxy->tls = tls;
    adopt_config(proxy, next);
    end_unserved_clients(proxy);
    auth_query_reloaded(proxy);
    verifiers_refresh(proxy);
    process_allow_core_dumps(next->core_dumps);
    gather_limit(&proxy->gather, next->gather_delay_us);
    log_setup((enum log_level)next->log_level, next->log_format == LOG_FORMAT_JSON);
    listener_check_descriptors(proxy);
    proxy_run_pools(proxy);
    return true;
}

static bool read_anew(struct proxy *proxy, char *error, size_t error_bytes)
{
    struct config_errors errors = {0};
    bool is_built_in = strcmp(proxy->config->path, "built-in configuration") == 0;
    struct config *next = config_load(is_built_in ? NULL : proxy->config->path, false, &errors);
    if (!next)
        return refuse(NULL, NULL, &errors, "cannot be read", error, error_bytes);
    config_errors_free(&errors);
    if (!proxy_adopt(proxy, next, error, error_bytes))
        return false;
    report_pools(proxy);
    log_event(LOG_LEVEL_INFO, "configuration reloaded",
              LOG_FIELD_TEXT("file", proxy->config->path));
    return true;
}

bool proxy_reload(struct proxy *proxy, char *error, size_t error_bytes)
{
    notify_reloading(&proxy->notify);
    bool is_ok = read_anew(proxy, error, error_bytes);
    notify_send(&proxy->notify, "READY=1");
    return is_ok;
}
