/*
 * import_pgbouncer.c - `pgreserve import-pgbouncer FILE`: see import_pgbouncer.h.
 *
 * Where a setting is not given and PgBouncer's default differs from ours, PgBouncer's is written, so that everything goes on as
 * before whoever chose it.  What has no counterpart ends as a comment that says why.  In the end the result goes through
 * the same checks as `pgreserve check -t`.  The pool is made in import_pool.c.
 */
#include "cli/import_pgbouncer.h"

#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "cli/import_inside.h"
#include "config/config.h"
/* ---- the upstream's parameters ---- */

static void add_given(const struct import *import, char **parameters, const char *name,
                      const char *key)
{
    const char *value = import_given(import, key);
    if (value && *value && strcmp(value, "0") != 0)
        pgbouncer_add_parameter(parameters, name, value);
}

/* Only a TLS 1.3 alone or an allowed TLS 1.0 is no default of libpq's. */
static void add_protocols(const struct import *import, char **parameters)
{
    const char *protocols = import_given_or(import, "server_tls_protocols", "secure");
    bool has_12 = strstr(protocols, "tlsv1.2") || strcmp(protocols, "secure") == 0;
    if (strstr(protocols, "tlsv1.0") || strcmp(protocols, "all") == 0 ||
        strcmp(protocols, "legacy") == 0)
        pgbouncer_add_parameter(parameters, "ssl_min_protocol_version", "TLSv1");
    else if (strstr(protocols, "tlsv1.1"))
        pgbouncer_add_parameter(parameters, "ssl_min_protocol_version", "TLSv1.1");
    else if (strstr(protocols, "tlsv1.3") && !has_12)
        pgbouncer_add_parameter(parameters, "ssl_min_protocol_version", "TLSv1.3");
}

/* What is said once in [pgbouncer] and belongs into every url; free() it. */
static char *common_parameters(const struct import *import)
{
    char *parameters = memory_strdup("");
    const char *mode = import_given(import, "server_tls_sslmode");
    if (mode && *mode && strcmp(mode, "prefer") != 0)
        pgbouncer_add_parameter(&parameters, "sslmode", mode);
    add_given(import, &parameters, "sslrootcert", "server_tls_ca_file");
    add_given(import, &parameters, "sslcert", "server_tls_cert_file");
    add_given(import, &parameters, "sslkey", "server_tls_key_file");
    add_protocols(import, &parameters);
    if (import_number(import, "tcp_keepalive", 1) == 0)
        pgbouncer_add_parameter(&parameters, "keepalives", "0");
    add_given(import, &parameters, "keepalives_idle", "tcp_keepidle");
    add_given(import, &parameters, "keepalives_interval", "tcp_keepintvl");
    add_given(import, &parameters, "keepalives_count", "tcp_keepcnt");
    add_given(import, &parameters, "tcp_user_timeout", "tcp_user_timeout");
    return parameters;
}

static void write_databases(struct import *import)
{
    const char *directory = import_given(import, "unix_socket_dir");
    char *parameters = common_parameters(import);
    if (import->database_count == 0)
        fputs("; There was no [databases].\n[database:*]\nurl = ${SUPABASE_URL:-}\n\n",
              import->out);
    for (size_t i = 0; i < import->database_count; i++)
        pgbouncer_database_write(&import->databases[i], import->out, import->err,
                                 directory && !*directory ? NULL
                                 : directory              ? directory
                                                          : "/tmp",
                                 parameters);
    free(parameters);
}

/* ---- who may come in ---- */

static bool has_own_password(const struct import *import)
{
    for (size_t i = 0; i < import->database_count; i++) {
        if (import->databases[i].user && import->databases[i].password)
            return true;
    }
    return false;
}

static const char *method_of(struct import *import)
{
    static const struct {
        const char *theirs;
        const char *ours;
        const char *why;
    } methods[] = {
        {"md5", "md5", NULL}, /* SCRAM for whom the users file has a SCRAM verifier, as there */
        {"scram-sha-256", "scram-sha-256", NULL},
        {"cert", "cert", NULL},
        {"trust", "trust", NULL},
        {"any", "trust",
         "a user without a password keeps the name that it gives, where the url "
         "names no user"},
        {"plain", "md5",
         "no password crosses the network in clear: clients are asked for md5 or "
         "SCRAM, which every driver speaks"},
        {"hba", "md5",
         "without hba_file one method holds for all; a pool's users and networks say "
         "who may use it from where"},
        {"pam", "scram-sha-256",
         "there is no PAM: put the users into users_file, pgreserve "
         "hash-password makes their secrets"},
        {"ldap", "scram-sha-256",
         "there is no LDAP: put the users into users_file, pgreserve "
         "hash-password makes their secrets"},
    };
    const char *type = import_given_or(import, "auth_type", "md5");
    bool has_hba = import_given(import, "auth_hba_file") != NULL;
    for (size_t i = 0; i < sizeof(methods) / sizeof(methods[0]); i++) {
        if (strcmp(methods[i].theirs, type) != 0)
            continue;
        if (methods[i].why && !(has_hba && strcmp(type, "hba") == 0))
            import_note(import, "auth_type", methods[i].why);
        return methods[i].ours;
    }
    import_note(import, "auth_type", "PgBouncer 1.25 has no such method");
    return "md5";
}

/* PgBouncer reads these two only with auth_type = hba. */
static void write_hba(struct import *import)
{
    static const struct pgbouncer_key files[] = {
        {"auth_hba_file", PGBOUNCER_COPIED, OPTION_AUTH, "hba_file", NULL, NULL},
        {"auth_ident_file", PGBOUNCER_COPIED, OPTION_AUTH, "ident_file", NULL, NULL}};
    bool is_used = strcmp(import_given_or(import, "auth_type", "md5"), "hba") == 0;
    for (size_t i = 0; i < sizeof(files) / sizeof(files[0]); i++) {
        if (is_used)
            import_copied(import, &files[i]);
        else if (import_given(import, files[i].key))
            import_note(import, files[i].key, "PgBouncer reads it only with auth_type = hba");
    }
}

/* PgBouncer asks as soon as there is an auth_user, with a query of its own where none is given. */
static bool write_query(struct import *import)
{
    static const struct pgbouncer_key keys[] = {
        {"auth_user", PGBOUNCER_COPIED, OPTION_AUTH, "auth_user", NULL, NULL},
        {"auth_query", PGBOUNCER_COPIED, OPTION_AUTH, "auth_query", PGBOUNCER_AUTH_QUERY, NULL},
        {"auth_dbname", PGBOUNCER_COPIED, OPTION_AUTH, "auth_dbname", NULL, NULL}};
    bool is_used = *import_given_or(import, "auth_user", "") != '\0';
    for (size_t i = 0; i < sizeof(keys) / sizeof(keys[0]); i++) {
        if (is_used)
            import_copied(import, &keys[i]);
        else if (import_given(import, keys[i].key) && i > 0)
            import_note(import, keys[i].key, "PgBouncer uses it only with auth_user");
    }
    if (is_used && !*import_given_or(import, "auth_dbname", ""))
        import_note(import, "auth_dbname",
                    "PgBouncer asks in the database that the client names, pgreserve in that of "
                    "the url, or in postgres where that names none");
    return is_used;
}

static void write_auth(struct import *import)
{
    const char *type = import_given_or(import, "auth_type", "md5");
    const char *method = method_of(import);
    fprintf(import->out, "[auth]\nmethod = %s\n", method);
    write_hba(import);
    import_section(import, OPTION_AUTH);
    bool has_query = write_query(import);
    if (!import_given(import, "auth_file") && !has_query && !has_own_password(import) &&
        strcmp(method, "trust") != 0 && strcmp(method, "cert") != 0) {
        pgbouncer_write_comment(import->out,
                                "There was no auth_file: put the users here, as \"name\" "
                                "\"password\", or \"name\" and what pgreserve hash-password "
                                "prints (auth_type was %s).",
                                type);
        fputs("users_file = /etc/pgreserve/userlist.txt\n", import->out);
    }
    fputc('\n', import->out);
}

static void write_suggestion(struct import *import)
{
    pgbouncer_write_comment(
        import->out,
        "What PgBouncer does not have: connections that are kept for people, whatever the others "
        "do.  Take the signs of comment away and make total_connections larger by 5, or size "
        "smaller.");
    fputs("; [pool:adhoc]\n; listen = 127.0.0.1:6433\n; size = 5\n; max_overflow = 0\n"
          "; reserved = 5\n\n",
          import->out);
}

static void write_admin(struct import *import)
{
    int port = import_number(import, "listen_port", 6432);
    int console = port == 6434 || port == 6435 ? 6444 : 6434;
    pgbouncer_write_comment(import->out,
                            "PgBouncer's console is a database of its one port; here "
                            "it is a listener: psql -p %d pgbouncer.",
                            console);
    fprintf(import->out, "[admin]\nlisten = 127.0.0.1:%d\nhttp = 127.0.0.1:%d\n", console,
            console + 1);
    if (!import_given(import, "admin_users"))
        pgbouncer_write_comment(import->out, "There were no admin_users: who the upstream's url "
                                             "names may do everything.");
    import_section(import, OPTION_ADMIN);
    fputc('\n', import->out);
}

/* ---- what is left ---- */

static void note_setting(struct import *import, const struct pgbouncer_setting *setting)
{
    const char *section = setting->section;
    if (strcmp(section, "databases") == 0)
        return;
    if (strcmp(section, "users") == 0) {
        pgbouncer_write_comment(import->notes_out,
                                "[users] %s = %s: limits are a pool's, not a user's; who needs "
                                "others gets a [pool:NAME] with users = %s.",
                                setting->key, setting->value, setting->key);
        return;
    }
    if (strcmp(section, "peers") == 0) {
        pgbouncer_write_comment(import->notes_out,
                                "[peers] %s = %s: there are no peers; a cancel request must reach "
                                "the process that gave the key.",
                                setting->key, setting->value);
        return;
    }
    const struct pgbouncer_key *key =
        strcmp(section, "pgbouncer") == 0 ? pgbouncer_key_find(setting->key) : NULL;
    if (!key)
        pgbouncer_write_comment(import->notes_out, "[%s] %s = %s: PgBouncer 1.25 has no such key.",
                                section, setting->key, setting->value);
    else if (key->meaning == PGBOUNCER_NONE && import_given(import, setting->key) == setting->value)
        import_note(import, setting->key, key->why);
}

static void write_notes(struct import *import)
{
    for (size_t i = 0; i < import->file.count; i++)
        note_setting(import, &import->file.settings[i]);
    fflush(import->notes_out);
    if (import->notes_bytes > 0)
        fprintf(import->out, "; ---- What has no counterpart here, and why ----\n;\n%s",
                import->notes);
}

/* ---- the whole ---- */

static bool read_databases(struct import *import)
{
    for (size_t i = 0; i < import->file.count; i++) {
        const struct pgbouncer_setting *setting = &import->file.settings[i];
        if (strcmp(setting->section, "databases") != 0 ||
            pgbouncer_file_find(&import->file, "databases", setting->key) != setting->value)
            continue;
        import->databases = memory_resize(import->databases, (import->database_count + 1) *
                                                                 sizeof(*import->databases));
        if (!pgbouncer_database_read(&import->databases[import->database_count++], setting)) {
            fprintf(import->err, "%s:%d: %s is not a list of key=value\n", setting->file,
                    setting->line, setting->key);
            return false;
        }
    }
    return true;
}

static void write_all(struct import *import)
{
    const char *type = import_given_or(import, "auth_type", "md5");
    import->has_trust = strcmp(type, "trust") == 0 || strcmp(type, "any") == 0;
    import->notes_out = open_memstream(&import->notes, &import->notes_bytes);
    pgbouncer_write_comment(import->out,
                            "pgreserve.ini, made from %s by \"pgreserve "
                            "import-pgbouncer\".",
                            import->path);
    pgbouncer_write_comment(import->out, "What is not said here has the default that "
                                         "pgreserve.ini(5) tells; passwords stand here as they did "
                                         "there.");
    fputc('\n', import->out);
    import_cap(import);
    write_databases(import);
    import_pool(import);
    write_suggestion(import);
    write_admin(import);
    write_auth(import);
    fputs("[tls]\n", import->out);
    import_section(import, OPTION_TLS);
    fputc('\n', import->out);
    write_notes(import);
    fclose(import->notes_out);
    free(import->notes);
}

/* The same checks as `check -t`; what they say goes to `err`. */
static int check_result(struct import *import, const char *text)
{
    struct config_errors errors = {0};
    struct config *config = config_parse("pgreserve.ini", text, &errors);
    int status = config ? IMPORT_OK : IMPORT_UNUSABLE;
    for (size_t i = 0; i < errors.count; i++)
        fprintf(import->err, "%s\n", errors.items[i]);
    config_errors_free(&errors);
    config_free(config);
    return status;
}

int import_pgbouncer(const char *path, FILE *out, FILE *err)
{
    struct import import = {.path = path, .err = err};
    char *text = NULL;
    size_t bytes = 0;
    int status = IMPORT_UNREADABLE;
    if (!pgbouncer_file_read(&import.file, path)) {
        fprintf(err, "%s\n", import.file.error);
    } else if (read_databases(&import)) {
        import.out = open_memstream(&text, &bytes);
        write_all(&import);
        fclose(import.out);
        fputs(text, out);
        status = check_result(&import, text);
        memory_free_secret(text);
    }
    for (size_t i = 0; i < import.database_count; i++)
        pgbouncer_database_free(&import.databases[i]);
    free(import.databases);
    pgbouncer_file_free(&import.file);
    return status;
}
