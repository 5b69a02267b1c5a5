/*
 * options.c - the one table of settings.
 *
 * Section, key, type, default, range, whether a reload can change it, and a line of help: the parser, SHOW CONFIG, the help
 * and the checks all walk this table, so that a setting exists in one place only (contract 4).
 */
#include "config/options.h"

#include <string.h>

#include "config/config.h"

#define MS  1000LL
#define S   1000000LL
#define DAY (86400 * S)

static const char *const modes[] = {"session", "transaction", "statement", NULL};
static const char *const methods[] = {"trust", "md5", "cert", "scram-sha-256", NULL};
static const char *const hidden_states[] = {"ignore", "ask", NULL};
static const char *const levels[] = {"debug", "info", "warning", "error", NULL};
static const char *const formats[] = {"text", "json", NULL};
static const char *const tls_modes[] = {"disable",   "allow",       "prefer", "require",
                                        "verify-ca", "verify-full", NULL};

#define ROOT(key_, type_, field, def_, min_, max_, choices_, live, help_)                          \
    {                                                                                              \
        OPTION_PGRESERVE, key_, type_, offsetof(struct config, field), def_, min_, max_, choices_, \
            live, help_                                                                            \
    }
#define DATABASE(key_, type_, def_, help_)                                                         \
    {                                                                                              \
        OPTION_DATABASE, key_, type_, 0, def_, 0, 0, NULL, true, help_                             \
    }
#define POOL(key_, type_, field, def_, min_, max_, live, help_)                                    \
    {                                                                                              \
        OPTION_POOL, key_, type_, offsetof(struct config_pool, field), def_, min_, max_, NULL,     \
            live, help_                                                                            \
    }
#define ADMIN(key_, type_, field, live, help_)                                                     \
    {                                                                                              \
        OPTION_ADMIN, key_, type_, offsetof(struct config, field), "", 0, 0, NULL, live, help_     \
    }

const struct option options[] = {
    ROOT("total_connections", OPTION_INT, total_connections, "60", 1, 100000, NULL, true,
         "hard cap over all pools"),
    ROOT("max_clients", OPTION_INT, max_clients, "10000", 1, 1000000, NULL, true,
         "most clients at once"),
    ROOT("log_level", OPTION_CHOICE, log_level, "info", 0, 0, levels, true,
         "least level that is logged"),
    ROOT("log_format", OPTION_CHOICE, log_format, "text", 0, 0, formats, true, "text or json"),
    ROOT("log_pool_events", OPTION_BOOL, log_pool_events, "off", 0, 0, NULL, true,
         "log connect, recycle, ping_failed, close"),
    ROOT("shutdown_timeout", OPTION_DURATION, shutdown_timeout_us, "30", 0, 7 * DAY, NULL, true,
         "longest graceful stop"),
    ROOT("upgrade_timeout", OPTION_DURATION, upgrade_timeout_us, "15", 100 * MS, DAY, NULL, true,
         "longest wait for the new process of an upgrade"),
    ROOT("gather_delay", OPTION_DURATION, gather_delay_us, "400us", 0, 3 * MS, NULL, true,
         "under load, longest time that messages are gathered"),
    ROOT("user", OPTION_TEXT, user, "", 0, 0, NULL, false,
         "when started as root, run as this user"),
    ROOT("core_dumps", OPTION_BOOL, core_dumps, "off", 0, 0, NULL, true,
         "leave a core behind, passwords in it"),
    DATABASE("url", OPTION_SECRET, "", "libpq connection string of the upstream"),
    DATABASE("dbname", OPTION_TEXT, "", "overrides the url's database"),
    DATABASE("user", OPTION_TEXT, "", "overrides the url's user"),
    DATABASE("password", OPTION_SECRET, "", "overrides the url's password"),
    POOL("listen", OPTION_ADDRESSES, listen, "", 0, 0, false, "addresses to listen on"),
    {OPTION_POOL, "mode", OPTION_CHOICE, offsetof(struct config_pool, mode), "transaction", 0, 0,
     modes, true, "session, transaction or statement"},
    POOL("size", OPTION_INT, size, "50", 0, 100000, true, "connections kept open"),
    POOL("max_overflow", OPTION_INT, max_overflow, "5", 0, 100000, true,
         "opened beyond size under load"),
    POOL("reserved", OPTION_INT, reserved, "0", 0, 100000, true,
         "connections that no other pool may use"),
    POOL("timeout", OPTION_DURATION, timeout_us, "60", 0, 7 * DAY, true,
         "longest wait for a connection"),
    POOL("recycle", OPTION_DURATION, recycle_us, "1800", 0, 365 * DAY, true,
         "age at which a connection is replaced"),
    POOL("pre_ping", OPTION_BOOL, pre_ping, "on", 0, 0, true, "ping idle connections"),
    POOL("pre_ping_idle", OPTION_DURATION, pre_ping_idle_us, "5", 0, 7 * DAY, true,
         "oldest sign of life that is believed"),
    POOL("overflow_delay", OPTION_DURATION, overflow_delay_us, "100ms", 0, DAY, true,
         "wait before overflow is opened"),
    POOL("overflow_idle", OPTION_DURATION, overflow_idle_us, "30", 0, 7 * DAY, true,
         "unused overflow is closed after this"),
    POOL("wait_notice", OPTION_DURATION, wait_notice_us, "5", 0, DAY, true,
         "a waiting client is told after this"),
    POOL("login_burst", OPTION_INT, login_burst, "4", 1, 1000, true, "upstream logins at once"),
    POOL("prefill", OPTION_BOOL, prefill, "on", 0, 0, true, "open size connections at start-up"),
    POOL("borrow", OPTION_BOOL, borrow, "off", 0, 0, true,
         "a reserved pool may take idle places of others"),
    POOL("connect_timeout", OPTION_DURATION, connect_timeout_us, "15", 0, DAY, true,
         "longest upstream login"),
    POOL("query_timeout", OPTION_DURATION, query_timeout_us, "0", 0, 365 * DAY, true,
         "longest query"),
    POOL("transaction_timeout", OPTION_DURATION, transaction_timeout_us, "0", 0, 365 * DAY, true,
         "longest transaction"),
    POOL("idle_in_transaction_timeout", OPTION_DURATION, idle_in_transaction_timeout_us, "0", 0,
         365 * DAY, true, "longest idling in a transaction"),
    POOL("client_idle_timeout", OPTION_DURATION, client_idle_timeout_us, "0", 0, 365 * DAY, true,
         "longest idling of a client"),
    POOL("login_timeout", OPTION_DURATION, login_timeout_us, "15", 0, DAY, true,
         "longest login of a client"),
    POOL("leak_warning", OPTION_DURATION, leak_warning_us, "300", 0, 365 * DAY, true,
         "a connection held longer is logged"),
    POOL("pin_recheck", OPTION_DURATION, pin_recheck_us, "5", 0, DAY, true,
         "idle time after which a pin is looked at again"),
    POOL("pin", OPTION_PIN, pin_limit, "allow", 1, 1000000, true,
         "allow, deny, or how many clients may be tied to their connections"),
    {OPTION_POOL, "hidden_state", OPTION_CHOICE, offsetof(struct config_pool, hidden_state), "ask",
     0, 0, hidden_states, true, "ask what a session holds after calls of unknown functions"},
    POOL("max_clients", OPTION_INT, max_clients, "0", 0, 1000000, true,
         "most clients of this pool"),
    POOL("max_clients_per_user", OPTION_INT, max_clients_per_user, "0", 0, 1000000, true,
         "most clients of a user"),
    POOL("max_clients_per_address", OPTION_INT, max_clients_per_address, "0", 0, 1000000, true,
         "most clients of an address"),
    POOL("max_prepared_statements", OPTION_INT, max_prepared_statements, "200", 0, 100000, true,
         "shared prepared statements on one connection"),
    POOL("users", OPTION_NAMES, users, "", 0, 0, true, "who may use this pool"),
    POOL("networks", OPTION_NETWORKS, networks, "", 0, 0, true, "from where it may be used"),
    POOL("i_know_this_is_open", OPTION_BOOL, i_know_this_is_open, "off", 0, 0, true,
         "allow trust beyond loopback"),
    ADMIN("listen", OPTION_ADDRESSES, admin_listen, false, "addresses of the console"),
    ADMIN("http", OPTION_ADDRESSES, admin_http, false, "addresses of the HTTP listener"),
    ADMIN("users", OPTION_NAMES, admin_users, true, "who may do everything"),
    ADMIN("stats_users", OPTION_NAMES, admin_stats_users, true, "who may only SHOW"),
    {OPTION_ADMIN, "i_know_this_is_open", OPTION_BOOL,
     offsetof(struct config, admin_i_know_this_is_open), "off", 0, 0, NULL, true,
     "allow trust beyond loopback"},
    {OPTION_AUTH, "method", OPTION_CHOICE, offsetof(struct config, auth_method), "scram-sha-256", 0,
     0, methods, true, "what a client must prove"},
    {OPTION_AUTH, "users_file", OPTION_TEXT, offsetof(struct config, users_file), "", 0, 0, NULL,
     true, "PgBouncer's userlist.txt"},
    {OPTION_AUTH, "hba_file", OPTION_TEXT, offsetof(struct config, hba_file), "", 0, 0, NULL, true,
     "pg_hba.conf, in place of method"},
    {OPTION_AUTH, "ident_file", OPTION_TEXT, offsetof(struct config, ident_file), "", 0, 0, NULL,
     true, "pg_ident.conf, for hba_file"},
    {OPTION_AUTH, "auth_query", OPTION_TEXT, offsetof(struct config, auth_query), "", 0, 0, NULL,
     true, "asks the upstream for whom users_file does not know"},
    {OPTION_AUTH, "auth_user", OPTION_TEXT, offsetof(struct config, auth_user), "", 0, 0, NULL,
     true, "who runs auth_query"},
    {OPTION_AUTH, "auth_dbname", OPTION_TEXT, offsetof(struct config, auth_dbname), "", 0, 0, NULL,
     true, "where auth_query runs"},
    {OPTION_AUTH, "max_logins", OPTION_INT, offsetof(struct config, max_logins), "1000", 0, 1000000,
     NULL, true, "most logins in progress at one door"},
    {OPTION_AUTH, "max_failures", OPTION_INT, offsetof(struct config, max_failures), "100", 0,
     1000000, NULL, true, "failed logins of an address within failure_window"},
    {OPTION_AUTH, "failure_window", OPTION_DURATION, offsetof(struct config, failure_window_us),
     "1min", 0, 7 * DAY, NULL, true, "time after which they are forgiven"},
    {OPTION_AUTH, "failure_exempt", OPTION_NETWORKS, offsetof(struct config, failure_exempt),
     "127.0.0.0/8, ::1", 0, 0, NULL, true, "addresses whose failures are not counted"},
    {OPTION_TLS, "client_mode", OPTION_CHOICE, offsetof(struct config, tls_client_mode), "disable",
     0, 0, tls_modes, true, "TLS towards clients"},
    {OPTION_TLS, "client_cert_file", OPTION_TEXT, offsetof(struct config, tls_client_cert_file), "",
     0, 0, NULL, true, "our certificate"},
    {OPTION_TLS, "client_key_file", OPTION_TEXT, offsetof(struct config, tls_client_key_file), "",
     0, 0, NULL, true, "its key"},
    {OPTION_TLS, "client_ca_file", OPTION_TEXT, offsetof(struct config, tls_client_ca_file), "", 0,
     0, NULL, true, "who signs clients' certificates"},
    {OPTION_TLS, "client_crl_file", OPTION_TEXT, offsetof(struct config, tls_client_crl_file), "",
     0, 0, NULL, true, "clients' certificates that have been revoked"},
    {OPTION_TLS, "client_protocols", OPTION_TEXT, offsetof(struct config, tls_client_protocols),
     "secure", 0, 0, NULL, true, "tlsv1.2, tlsv1.3, or secure for both"},
    {OPTION_TLS, "client_ciphers", OPTION_TEXT, offsetof(struct config, tls_client_ciphers),
     "default", 0, 0, NULL, true, "OpenSSL's list of ciphers for TLS 1.2"},
    {OPTION_TLS, "client_tls13_ciphers", OPTION_TEXT,
     offsetof(struct config, tls_client_tls13_ciphers), "", 0, 0, NULL, true, "and for TLS 1.3"},
};
const size_t option_count = sizeof(options) / sizeof(options[0]);

const struct option *option_find(enum option_section section, const char *key)
{
    for (size_t i = 0; i < option_count; i++) {
        if (options[i].section == section && strcmp(options[i].key, key) == 0)
            return &options[i];
    }
    return NULL;
}

void options_print_help(FILE *out)
{
    static const char *const titles[] = {"[pgreserve]", "[database:NAME]", "[pool:NAME]",
                                         "[admin]",     "[auth]",          "[tls]"};
    int section = -1;
    for (size_t i = 0; i < option_count; i++) {
        if ((int)options[i].section != section) {
            section = (int)options[i].section;
            fprintf(out, "%s%s\n", i ? "\n" : "", titles[section]);
        }
        fprintf(out, "  %-28s %-14s %s\n", options[i].key, options[i].def, options[i].help);
    }
}
