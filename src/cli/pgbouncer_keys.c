/*
 * pgbouncer_keys.c - the table: every key of PgBouncer 1.25's [pgbouncer] section and what it becomes.
 *
 * An option that is named here but not in config/options.c is a setting that this version does not have: the importer asks
 * option_find() and says so.  The reasons are sentences for people; they stand in the file that the importer writes.
 */
#include "cli/pgbouncer_keys.h"

#include <string.h>

#define COPIED(key_, section_, ours_, def_)                                                        \
    {                                                                                              \
        .key = key_, .meaning = PGBOUNCER_COPIED, .section = section_, .ours = ours_, .def = def_  \
    }
#define CONVERTED(key_)                                                                            \
    {                                                                                              \
        .key = key_, .meaning = PGBOUNCER_CONVERTED                                                \
    }
#define NONE(key_, why_)                                                                           \
    {                                                                                              \
        .key = key_, .meaning = PGBOUNCER_NONE, .why = why_                                        \
    }

#define LOGS_ITSELF "the log goes to standard error, where systemd, Docker or a shell takes it"
#define TLS_OURS    "the protocols and ciphers are those of OpenSSL's own policy, TLS 1.2 at least"
#define CLEANED                                                                                    \
    "a connection is cleaned (DISCARD ALL) by itself, and only when a client may have left "       \
    "something on it"
#define KERNELS "the kernel's own setting holds"

const struct pgbouncer_key pgbouncer_keys[] = {
    COPIED("admin_users", OPTION_ADMIN, "users", NULL),
    NONE("application_name_add_host",
         "SHOW HOLDERS and SHOW CLIENTS have the address beside each application_name, and the "
         "server sees the client's own name unchanged"),
    CONVERTED("auth_dbname"),
    COPIED("auth_file", OPTION_AUTH, "users_file", NULL),
    CONVERTED("auth_hba_file"),
    CONVERTED("auth_ident_file"),
    NONE("auth_ldap_options", "there is no LDAP: clients prove themselves by password or by "
                              "certificate"),
    CONVERTED("auth_query"),
    CONVERTED("auth_type"),
    CONVERTED("auth_user"),
    NONE("autodb_idle_timeout", "a database that [database:*] serves costs nothing while nobody "
                                "uses it"),
    NONE("cancel_wait_timeout", "a cancel request needs no free connection and is sent at once"),
    COPIED("client_idle_timeout", OPTION_POOL, "client_idle_timeout", NULL),
    COPIED("client_login_timeout", OPTION_POOL, "login_timeout", "60"),
    COPIED("client_tls13_ciphers", OPTION_TLS, "client_tls13_ciphers", NULL),
    COPIED("client_tls_ca_file", OPTION_TLS, "client_ca_file", NULL),
    COPIED("client_tls_cert_file", OPTION_TLS, "client_cert_file", NULL),
    COPIED("client_tls_ciphers", OPTION_TLS, "client_ciphers", NULL),
    NONE("client_tls_dheparams", TLS_OURS),
    NONE("client_tls_ecdhcurve", TLS_OURS),
    COPIED("client_tls_key_file", OPTION_TLS, "client_key_file", NULL),
    COPIED("client_tls_protocols", OPTION_TLS, "client_protocols", NULL),
    COPIED("client_tls_sslmode", OPTION_TLS, "client_mode", NULL),
    NONE("conffile", "the file is named on the command line: pgreserve run -c FILE"),
    CONVERTED("default_pool_size"),
    NONE("disable_pqexec", "statements are looked at, not refused; users without it are better "
                           "held back by their rights"),
    NONE("dns_max_ttl", "a name is resolved anew, by the system, for every login"),
    NONE("dns_nxdomain_ttl", "a name is resolved anew, by the system, for every login"),
    NONE("dns_zone_check_period", "a name is resolved anew, by the system, for every login; "
                                  "RECONNECT on the console moves what is connected already"),
    COPIED("idle_transaction_timeout", OPTION_POOL, "idle_in_transaction_timeout", NULL),
    NONE("ignore_startup_parameters", "every start-up parameter is honoured, so none needs to be "
                                      "ignored"),
    NONE("job_name", "there is no log file or syslog name to tell instances apart"),
    CONVERTED("listen_addr"),
    NONE("listen_backlog", "it is 1024, or what the kernel allows"),
    CONVERTED("listen_port"),
    NONE("log_connections", "clients' logins are in the log with log_level = debug"),
    NONE("log_disconnections", "clients' logins are in the log with log_level = debug"),
    NONE("log_pooler_errors", "they are always logged, repeated ones as one line with a count"),
    NONE("log_stats", "the figures are at /metrics, and in SHOW STATS, not in the log"),
    NONE("logfile", LOGS_ITSELF),
    COPIED("max_client_conn", OPTION_PGRESERVE, "max_clients", "100"),
    CONVERTED("max_db_client_connections"),
    CONVERTED("max_db_connections"),
    NONE("max_packet_size", "a message passes through in pieces, whatever its length"),
    COPIED("max_prepared_statements", OPTION_POOL, "max_prepared_statements", NULL),
    COPIED("max_user_client_connections", OPTION_POOL, "max_clients_per_user", NULL),
    NONE("max_user_connections", "the limit is that of the pool, for all users together; a user "
                                 "who needs a share of its own gets a [pool:NAME] with users ="),
    CONVERTED("min_pool_size"),
    NONE("peer_id", "there are no peers: a cancel request must reach the process that gave the "
                    "key"),
    NONE("pidfile", "it runs in the foreground, under systemd or in a container"),
    NONE("pkt_buf", "buffers grow and shrink by themselves"),
    CONVERTED("pool_mode"),
    COPIED("query_timeout", OPTION_POOL, "query_timeout", NULL),
    COPIED("query_wait_notify", OPTION_POOL, "wait_notice", NULL),
    COPIED("query_wait_timeout", OPTION_POOL, "timeout", "120"),
    CONVERTED("reserve_pool_size"),
    CONVERTED("reserve_pool_timeout"),
    NONE("resolv_conf", "names are resolved by the system"),
    NONE("sbuf_loopcnt", "turns between busy clients are taken by themselves"),
    NONE("scram_iterations", "pgreserve hash-password makes verifiers with 4096, PostgreSQL's own "
                             "number; those that are in the users file keep theirs"),
    COPIED("server_check_delay", OPTION_POOL, "pre_ping_idle", "30"),
    CONVERTED("server_check_query"),
    COPIED("server_connect_timeout", OPTION_POOL, "connect_timeout", NULL),
    NONE("server_fast_close", "RECONNECT and RELOAD let transactions finish"),
    CONVERTED("server_idle_timeout"),
    CONVERTED("server_lifetime"),
    NONE("server_login_retry", "a login that failed is tried again with a growing pause, and "
                               "clients whose pool has no connection left are told at once"),
    NONE("server_reset_query", CLEANED),
    NONE("server_reset_query_always", CLEANED),
    NONE("server_round_robin", "the connection used last is given out first, and all of them are "
                               "kept alive by pings"),
    NONE("server_tls13_ciphers", "libpq decides"),
    CONVERTED("server_tls_ca_file"),
    CONVERTED("server_tls_cert_file"),
    NONE("server_tls_ciphers", "libpq decides; only the least protocol can be said, in the url"),
    CONVERTED("server_tls_key_file"),
    CONVERTED("server_tls_protocols"),
    CONVERTED("server_tls_sslmode"),
    NONE("so_reuseport", "one process holds the cap; it is replaced without losing clients by "
                         "SIGUSR2 or systemd's socket"),
    NONE("stats_period", "averages are over the last minute"),
    COPIED("stats_users", OPTION_ADMIN, "stats_users", NULL),
    NONE("suspend_timeout", "SUSPEND waits until everything that was read has been passed on"),
    NONE("syslog", LOGS_ITSELF),
    NONE("syslog_facility", LOGS_ITSELF),
    NONE("syslog_ident", LOGS_ITSELF),
    NONE("tcp_defer_accept", KERNELS),
    CONVERTED("tcp_keepalive"),
    CONVERTED("tcp_keepcnt"),
    CONVERTED("tcp_keepidle"),
    CONVERTED("tcp_keepintvl"),
    NONE("tcp_socket_buffer", KERNELS),
    CONVERTED("tcp_user_timeout"),
    NONE("track_extra_parameters", "every setting follows its client, whether the server reports "
                                   "it or not"),
    COPIED("transaction_timeout", OPTION_POOL, "transaction_timeout", NULL),
    CONVERTED("unix_socket_dir"),
    NONE("unix_socket_group", "a unix socket's file is open to everyone, as PgBouncer's is by "
                              "default: use the rights of its directory"),
    NONE("unix_socket_mode", "a unix socket's file is open to everyone, as PgBouncer's is by "
                             "default: use the rights of its directory"),
    COPIED("user", OPTION_PGRESERVE, "user", NULL),
    CONVERTED("verbose"),
};
const size_t pgbouncer_key_count = sizeof(pgbouncer_keys) / sizeof(pgbouncer_keys[0]);

const struct pgbouncer_key *pgbouncer_key_find(const char *key)
{
    for (size_t i = 0; i < pgbouncer_key_count; i++) {
        if (strcmp(pgbouncer_keys[i].key, key) == 0)
            return &pgbouncer_keys[i];
    }
    return NULL;
}
