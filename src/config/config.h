/*
 * config.h - the configuration as the rest of the program sees it.
 *
 * One immutable `struct config` a file read.  A reload reads a new one beside the old and swaps; who
 * needs a value keeps a pointer to the config in force, never a copy of a pointer into an old one.
 * Durations are int64_t microseconds (_us) and 0 means off where the contract says so.
 */
#ifndef CONFIG_CONFIG_H
#define CONFIG_CONFIG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/socket.h>

enum pool_mode { POOL_MODE_SESSION, POOL_MODE_TRANSACTION, POOL_MODE_STATEMENT };
enum hidden_state { HIDDEN_STATE_IGNORE, HIDDEN_STATE_ASK };
enum auth_method {
    AUTH_TRUST,
    AUTH_MD5,
    AUTH_CERT,
    AUTH_SCRAM_SHA_256,
    AUTH_PASSWORD /* in clear; only a line of hba_file can say so */
};
enum tls_client_mode {
    TLS_CLIENT_DISABLE,
    TLS_CLIENT_ALLOW,
    TLS_CLIENT_PREFER,
    TLS_CLIENT_REQUIRE,
    TLS_CLIENT_VERIFY_CA,
    TLS_CLIENT_VERIFY_FULL
};
enum log_format_option { LOG_FORMAT_TEXT, LOG_FORMAT_JSON };

/* One address of a `listen` list.  Unix: `path` is the directory and `port` names the socket file
 * (`.s.PGSQL.<port>` in it; the port of the list's first TCP address, else 5432; `unix:DIR:PORT`
 * says it outright).  TCP: `host` is a name, an IPv4 or an IPv6 address without brackets, "*" for all. */
struct config_address {
    bool is_unix;
    char *host;
    char *path;
    uint16_t port;
};

struct config_address_list {
    struct config_address *items;
    size_t count;
};

/* A comma-separated list of words; `*` alone or an empty list mean anyone. */
struct config_names {
    char **items;
    size_t count;
};

/* One CIDR range; `bits` counts from the front of `address` (4 or 16 bytes by family). */
struct config_network {
    int family; /* AF_INET or AF_INET6 */
    uint8_t address[16];
    unsigned bits;
};

struct config_networks {
    struct config_network *items;
    size_t count;
};

/* One [database:NAME].  `keywords`/`values` are libpq's, NULL-terminated, holding every option that the
 * url gave except dbname, user, password, host, hostaddr and port; those stand beside, after the
 * section's own keys (and what is inherited from [database:*]) have been applied.  NULL is "not given".
 * `hosts`, `hostaddrs` and `ports` are libpq's comma-separated lists as the url gave them. */
struct config_database {
    char *name; /* "*" is any other name */
    char *dbname;
    char *user;
    char *password;
    char *hosts;
    char *hostaddrs;
    char *ports;
    char **keywords;
    char **values;
    bool
        has_upstream; /* false: no url, dbname, user or password anywhere: nothing to connect to but libpq's defaults */
    bool dbname_is_forced; /* true for a NAME section whose dbname (or url's dbname) is set */
};

struct config_pool {
    char *name;
    struct config_address_list listen;
    enum pool_mode mode;
    int size;
    int max_overflow;
    int reserved;
    int login_burst;
    bool prefill;
    bool pre_ping;
    bool borrow;
    bool i_know_this_is_open;
    int64_t timeout_us;
    int64_t recycle_us;
    int64_t pre_ping_idle_us;
    int64_t overflow_delay_us;
    int64_t overflow_idle_us;
    int64_t wait_notice_us;
    int64_t connect_timeout_us;
    int64_t query_timeout_us;
    int64_t transaction_timeout_us;
    int64_t idle_in_transaction_timeout_us;
    int64_t client_idle_timeout_us;
    int64_t login_timeout_us;
    int64_t leak_warning_us;
    int64_t pin_recheck_us;
    int max_clients;
    int max_clients_per_user;
    int max_clients_per_address;
    int max_prepared_statements; /* on one backend; 0: not shared */
    int pin_limit;               /* most clients tied to their backends; 0: none, -1: any number */
    int hidden_state;            /* enum hidden_state */
    struct config_names users;
    struct config_networks networks;
};

struct config {
    char *path; /* the file's name, or "built-in configuration" */

    /* [pgreserve] */
    int total_connections;
    int max_clients;
    int log_level;  /* enum log_level of base/log.h */
    int log_format; /* enum log_format_option */
    bool log_pool_events;
    int64_t shutdown_timeout_us;
    int64_t upgrade_timeout_us;
    int64_t gather_delay_us;
    char *user; /* to run as when started as root; NULL: nobody else */
    bool core_dumps;

    struct config_database *databases; /* in the file's order */
    size_t database_count;
    struct config_pool *pools; /* in the file's order */
    size_t pool_count;

    /* [admin] */
    struct config_address_list admin_listen;
    struct config_address_list admin_http;
    struct config_names admin_users;
    struct config_names admin_stats_users;
    bool admin_i_know_this_is_open;

    /* [auth] */
    int auth_method;  /* enum auth_method */
    char *users_file; /* NULL: the upstream's own user and password */
    char *hba_file;   /* pg_hba.conf; its lines say how, in place of auth_method; NULL: none */
    char *ident_file; /* pg_ident.conf: the maps that its lines name; NULL: none */
    char *
        auth_query; /* asks the upstream for whom users_file does not know; NULL: nobody is asked */
    char *auth_user;   /* runs it */
    char *auth_dbname; /* where; NULL: the upstream's database */
    int max_logins;    /* at one door, that have not logged in; 0: any number */
    int max_failures;  /* of an address, in a window; 0: any number */
    int64_t failure_window_us;
    struct config_networks failure_exempt;

    /* [tls], files are PEM; NULL when not given */
    int tls_client_mode; /* enum tls_client_mode */
    char *tls_client_cert_file;
    char *tls_client_key_file;
    char *tls_client_ca_file;
    char *tls_client_crl_file;
    char *tls_client_protocols; /* never NULL once read: "secure" */
    char *tls_client_ciphers;   /* up to TLS 1.2, OpenSSL's list; NULL or "default": its own */
    char *tls_client_tls13_ciphers;

    void *raw; /* what config_get_text reads: the text of every value, as in force */
};

/* One message about the file: a line that says where, what and what to do. */
struct config_errors {
    char **items; /* "FILE:LINE: ..." */
    size_t count;
};

/* Reads and checks FILE, or the built-in configuration when `path` is NULL; `${VAR}` comes from the
 * environment.  Returns a config to be freed by config_free, or NULL after filling `errors` with every
 * mistake found (to be freed by config_errors_free either way).  Unless it may wait, a pipe is such a mistake. */
struct config *config_load(const char *path, bool may_wait, struct config_errors *errors);
/* The same, but returned however wrong it is, as far as it could be made out: for asking the daemon, never for running.  NULL
 * when the file cannot be read at all. */
struct config *config_load_anyhow(const char *path, bool may_wait, struct config_errors *errors);
/* The same as config_load from text; `name` stands for the file in messages.  For the built-in file and tests. */
struct config *config_parse(const char *name, const char *text, struct config_errors *errors);
void config_free(struct config *config);
void config_errors_free(struct config_errors *errors);

/* The section that serves the database name a client asked for: its own, else "*", else NULL. */
const struct config_database *config_find_database(const struct config *config, const char *name);
/* What the section's url says for a libpq keyword; NULL: nothing, or no section. */
const char *config_url_value(const struct config_database *database, const char *keyword);
const struct config_pool *config_find_pool(const struct config *config, const char *name);
/* True when `name` is in the list, or the list is empty or "*" . */
bool config_names_allow(const struct config_names *names, const char *name);
/* True when the list names `name` outright (an empty list names nobody). */
bool config_names_contain(const struct config_names *names, const char *name);
/* True when `address` (AF_INET, AF_INET6, IPv4-mapped too) is in a range, or the list is empty; a unix
 * socket's address is in every list. */
bool config_networks_allow(const struct config_networks *networks, const struct sockaddr *address);

/* True when `address` is in one of the ranges: an empty list holds nobody, and no unix socket. */
bool config_networks_contain(const struct config_networks *networks,
                             const struct sockaddr *address);

/* Walks every option of every section in force, in the table's order, for SHOW CONFIG.  `key` is the
 * section and key joined as "section.key" for pools and databases ("pool:adhoc.size") and the bare key
 * for [pgreserve]; passwords come as "********".  Stops when the callback returns false. */
typedef bool (*config_visitor)(void *arg, const char *key, const char *value, const char *def,
                               bool is_changeable);
void config_visit(const struct config *config, config_visitor visitor, void *arg);

/* One value changed at run time: a section and key as in the file. */
struct config_change {
    const char *section;
    const char *key;
    const char *value;
};
/* A configuration like this one but for these values, checked like a file; NULL after filling `errors`. */
struct config *config_changed(const struct config *config, const struct config_change *changes,
                              size_t count, struct config_errors *errors);

/* Copies into `next` the values of `current` for options that cannot change at run time where they
 * differ; writes one line for each such option to `report` through the callback. */
typedef void (*config_reporter)(void *arg, const char *line);
void config_keep_unchangeable(struct config *next, const struct config *current,
                              config_reporter reporter, void *arg);

#endif
