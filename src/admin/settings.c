/*
 * settings.c - SET and SHOW of settings: see settings.h.
 *
 * PgBouncer's keys are a table that says which option of ours means the same; reading and setting both walk it.  A key of
 * pools stands for all of them when it is set, and for the first one when it is read.
 */
#include "admin/settings.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/memory.h"
#include "config/options.h"

/* PgBouncer's name, its default, and ours; without one of ours the default is what holds. */
static const struct alias {
    const char *key;
    const char *def;
    enum option_section section;
    const char *ours;
} aliases[] = {
    {"admin_users", "", OPTION_ADMIN, "users"},
    {"auth_dbname", "", OPTION_AUTH, "auth_dbname"},
    {"auth_file", "", OPTION_AUTH, "users_file"},
    {"auth_hba_file", "", OPTION_AUTH, "hba_file"},
    {"auth_ident_file", "", OPTION_AUTH, "ident_file"},
    {"auth_query", PGBOUNCER_AUTH_QUERY, OPTION_AUTH, "auth_query"},
    {"auth_type", "md5", OPTION_AUTH, "method"},
    {"auth_user", "", OPTION_AUTH, "auth_user"},
    {"client_idle_timeout", "0", OPTION_POOL, "client_idle_timeout"},
    {"client_login_timeout", "60", OPTION_POOL, "login_timeout"},
    {"client_tls13_ciphers", "", OPTION_TLS, "client_tls13_ciphers"},
    {"client_tls_ca_file", "", OPTION_TLS, "client_ca_file"},
    {"client_tls_cert_file", "", OPTION_TLS, "client_cert_file"},
    {"client_tls_ciphers", "default", OPTION_TLS, "client_ciphers"},
    {"client_tls_key_file", "", OPTION_TLS, "client_key_file"},
    {"client_tls_protocols", "secure", OPTION_TLS, "client_protocols"},
    {"client_tls_sslmode", "disable", OPTION_TLS, "client_mode"},
    {"default_pool_size", "20", OPTION_POOL, "size"},
    {"idle_transaction_timeout", "0", OPTION_POOL, "idle_in_transaction_timeout"},
    {"job_name", "pgreserve", OPTION_PGRESERVE, NULL},
    {"log_pooler_errors", "1", OPTION_PGRESERVE, NULL},
    {"max_client_conn", "100", OPTION_PGRESERVE, "max_clients"},
    {"max_db_client_connections", "0", OPTION_POOL, "max_clients"},
    {"max_db_connections", "0", OPTION_PGRESERVE, "total_connections"},
    {"max_user_client_connections", "0", OPTION_POOL, "max_clients_per_user"},
    {"max_user_connections", "0", OPTION_PGRESERVE, NULL},
    {"pool_mode", "session", OPTION_POOL, "mode"},
    {"query_timeout", "0", OPTION_POOL, "query_timeout"},
    {"query_wait_notify", "5", OPTION_POOL, "wait_notice"},
    {"query_wait_timeout", "120", OPTION_POOL, "timeout"},
    {"reserve_pool_size", "0", OPTION_POOL, "max_overflow"},
    {"reserve_pool_timeout", "5", OPTION_POOL, "overflow_delay"},
    {"server_check_delay", "30", OPTION_POOL, "pre_ping_idle"},
    {"server_connect_timeout", "15", OPTION_POOL, "connect_timeout"},
    {"server_idle_timeout", "600", OPTION_POOL, "overflow_idle"},
    {"server_lifetime", "3600", OPTION_POOL, "recycle"},
    {"server_reset_query", "DISCARD ALL", OPTION_PGRESERVE, NULL},
    {"stats_period", "60", OPTION_PGRESERVE, NULL},
    {"stats_users", "", OPTION_ADMIN, "stats_users"},
    {"transaction_timeout", "0", OPTION_POOL, "transaction_timeout"},
};

static const struct alias *find_alias(const char *key)
{
    for (size_t i = 0; i < sizeof(aliases) / sizeof(aliases[0]); i++) {
        if (strcasecmp(aliases[i].key, key) == 0)
            return &aliases[i];
    }
    return NULL;
}

/* ---- reading ---- */

static char *join_names(const struct config_names *names)
{
    char *text = memory_strdup("");
    for (size_t i = 0; i < names->count; i++) {
        char *longer = memory_printf("%s%s%s", text, i ? ", " : "", names->items[i]);
        free(text);
        text = longer;
    }
    return text;
}

/* A value as PgBouncer writes it; free() it. */
static char *value_text(const struct option *option, const void *base)
{
    const void *field = (const char *)base + option->offset;
    switch (option->type) {
    case OPTION_INT:
        return memory_printf("%d", *(const int *)field);
    case OPTION_BOOL:
        return memory_printf("%d", *(const bool *)field);
    case OPTION_DURATION:
        return memory_printf("%.15g", (double)*(const int64_t *)field / (double)CLOCK_S);
    case OPTION_CHOICE:
        return memory_strdup(option->choices[*(const int *)field]);
    case OPTION_NAMES:
        return join_names(field);
    case OPTION_TEXT:
        return memory_strdup(*(char *const *)field ? *(char *const *)field : "");
    default:
        return memory_strdup("");
    }
}

static char *alias_value(const struct config *config, const struct alias *alias)
{
    const struct option *option = alias->ours ? option_find(alias->section, alias->ours) : NULL;
    if (config->hba_file && strcmp(alias->key, "auth_type") == 0)
        return memory_strdup("hba"); /* method is not asked then */
    const void *base = config;
    if (option && alias->section == OPTION_POOL)
        base = config->pool_count > 0 ? &config->pools[0] : NULL;
    return option && base ? value_text(option, base) : memory_strdup(alias->def);
}

void settings_visit_pgbouncer(const struct config *config, config_visitor visitor, void *arg)
{
    for (size_t i = 0; i < sizeof(aliases) / sizeof(aliases[0]); i++) {
        const struct alias *alias = &aliases[i];
        const struct option *option = alias->ours ? option_find(alias->section, alias->ours) : NULL;
        char *value = alias_value(config, alias);
        bool go_on = visitor(arg, alias->key, value, alias->def, option && option->is_changeable);
        free(value);
        if (!go_on)
            return;
    }
}

/* ---- setting ---- */

static const char *const section_titles[] = {[OPTION_PGRESERVE] = "pgreserve",
                                             [OPTION_ADMIN] = "admin",
                                             [OPTION_AUTH] = "auth",
                                             [OPTION_TLS] = "tls"};

/* What a key means: an option of one section, or of every pool. */
struct key_meaning {
    const struct option *option;
    char *section; /* as in the file; NULL: every pool */
};

/* `section.key`, the section as in the file or a pool's bare name. */
static bool read_dotted_key(const struct config *config, const char *key,
                            struct key_meaning *meaning)
{
    const char *dot = strrchr(key, '.');
    char *section = memory_strndup(key, (size_t)(dot - key));
    const char *pool = strncmp(section, "pool:", 5) == 0 ? section + 5 : section;
    for (int kind = OPTION_ADMIN; kind <= OPTION_TLS; kind++) {
        if (strcasecmp(section, section_titles[kind]) == 0) {
            meaning->option = option_find((enum option_section)kind, dot + 1);
            meaning->section = memory_strdup(section_titles[kind]);
            free(section);
            return meaning->option != NULL;
        }
    }
    if (config_find_pool(config, pool)) {
        meaning->option = option_find(OPTION_POOL, dot + 1);
        meaning->section = memory_printf("pool:%s", pool);
    }
    free(section);
    return meaning->option != NULL;
}

static bool read_key(const struct config *config, const char *key, struct key_meaning *meaning)
{
    *meaning = (struct key_meaning){0};
    if (strchr(key, '.'))
        return read_dotted_key(config, key, meaning);
    enum option_section section = OPTION_PGRESERVE;
    meaning->option = option_find(section, key);
    const struct alias *alias = meaning->option ? NULL : find_alias(key);
    if (alias && alias->ours) {
        section = alias->section;
        meaning->option = option_find(section, alias->ours);
    } else if (!meaning->option) {
        section = OPTION_POOL;
        meaning->option = option_find(section, key);
    }
    if (meaning->option && section != OPTION_POOL)
        meaning->section = memory_strdup(section_titles[section]);
    return meaning->option != NULL;
}

static bool change(struct proxy *proxy, const struct key_meaning *meaning, const char *value,
                   char *error, size_t error_bytes)
{
    const struct config *config = proxy->config;
    struct config_change changes[BUDGET_POOLS_MAX] = {{NULL, NULL, NULL}};
    struct config_errors errors = {0};
    size_t count = 0;
    if (meaning->section) {
        changes[count++] = (struct config_change){meaning->section, meaning->option->key, value};
    } else {
        for (size_t i = 0; i < config->pool_count && count < BUDGET_POOLS_MAX; i++)
            changes[count++] = (struct config_change){
                memory_printf("pool:%s", config->pools[i].name), meaning->option->key, value};
    }
    struct config *next = config_changed(config, changes, count, &errors);
    for (size_t i = 0; !meaning->section && i < count; i++)
        free((char *)changes[i].section);
    if (!next && errors.count > 0)
        snprintf(error, error_bytes, "%s", errors.items[0]);
    config_errors_free(&errors);
    return next && proxy_adopt(proxy, next, error, error_bytes);
}

enum settings_result settings_set(struct proxy *proxy, const char *key, const char *value,
                                  char *error, size_t error_bytes)
{
    struct key_meaning meaning;
    enum settings_result result;
    if (!read_key(proxy->config, key, &meaning))
        result = find_alias(key) ? SETTINGS_FIXED : SETTINGS_UNKNOWN;
    else if (!meaning.option->is_changeable)
        result = SETTINGS_FIXED;
    else
        result =
            change(proxy, &meaning, value, error, error_bytes) ? SETTINGS_OK : SETTINGS_REFUSED;
    free(meaning.section);
    return result;
}

/* ---- what drivers ask every server ---- */

const char *settings_session(const struct client *client, const char *name, const char **spelling)
{
    static const struct {
        const char *name;
        const char *value; /* NULL: the client's own */
    } known[] = {
        {"application_name", NULL},
        {"client_encoding", "UTF8"},
        {"client_min_messages", "notice"},
        {"datestyle", "ISO, MDY"},
        {"default_transaction_isolation", "read committed"},
        {"default_transaction_read_only", "off"},
        {"extra_float_digits", "1"},
        {"in_hot_standby", "off"},
        {"integer_datetimes", "on"},
        {"intervalstyle", "postgres"},
        {"is_superuser", "on"},
        {"lock_timeout", "0"},
        {"max_identifier_length", "63"},
        {"search_path", "public"},
        {"server_encoding", "UTF8"},
        {"server_version", "15.0"},
        {"server_version_num", "150000"},
        {"session_authorization", NULL},
        {"standard_conforming_strings", "on"},
        {"statement_timeout", "0"},
        {"timezone", "UTC"},
        {"transaction_isolation", "read committed"},
        {"transaction_read_only", "off"},
    };
    for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++) {
        if (strcasecmp(known[i].name, name) != 0)
            continue;
        *spelling = known[i].name;
        if (known[i].value)
            return known[i].value;
        return i == 0 ? client->application_name : client->user;
    }
    return NULL;
}
