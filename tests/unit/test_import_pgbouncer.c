/*
 * test_import_pgbouncer.c - a pgbouncer.ini becomes a pgreserve.ini: nothing is lost in silence, what passwords hold arrives, and what
 * comes out is read by our own parser.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/memory.h"
#include "cli/import_pgbouncer.h"
#include "cli/pgbouncer_ini.h"
#include "cli/pgbouncer_keys.h"
#include "config/config.h"

static char folder[] = "/tmp/pgreserve-import-XXXXXX";
static char *text;   /* what came out */
static char *spoken; /* what was said */
static struct config *config;
static struct config_errors errors;

static char *in_folder(const char *name)
{
    return memory_printf("%s/%s", folder, name);
}

static void write_file(const char *name, const char *content)
{
    char *path = in_folder(name);
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    fputs(content, file);
    fclose(file);
    free(path);
}

static int forget(void **state)
{
    (void)state;
    free(text);
    free(spoken);
    config_free(config);
    config_errors_free(&errors);
    text = spoken = NULL;
    config = NULL;
    return 0;
}

static int make_folder(void **state)
{
    (void)state;
    return mkdtemp(folder) ? 0 : -1;
}

static int remove_folder(void **state)
{
    static const char *const names[] = {"pgbouncer.ini", "more.ini", "loop.ini"};
    (void)state;
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        char *path = in_folder(names[i]);
        unlink(path);
        free(path);
    }
    return rmdir(folder);
}

/* Imports a file of this content; the status. */
static int import(const char *content)
{
    size_t bytes = 0;
    size_t spoken_bytes = 0;
    forget(NULL);
    write_file("pgbouncer.ini", content);
    FILE *out = open_memstream(&text, &bytes);
    FILE *err = open_memstream(&spoken, &spoken_bytes);
    char *path = in_folder("pgbouncer.ini");
    int status = import_pgbouncer(path, out, err);
    free(path);
    fclose(out);
    fclose(err);
    if (status == IMPORT_OK)
        config = config_parse("imported", text, &errors);
    return status;
}

static void import_well(const char *content)
{
    int status = import(content);
    if (status != IMPORT_OK || !config)
        fail_msg("status %d: %s\n%s", status, spoken, text);
}

static void has(const char *part)
{
    if (!strstr(text, part))
        fail_msg("not there: %s\nin:\n%s", part, text);
}

#define USERS "auth_file = users.txt\n"

static void a_small_file_goes_on_as_it_was(void **state)
{
    (void)state;
    import_well("[databases]\n"
                "shop = host=10.0.0.5 port=5433 dbname=shop_live\n"
                "[pgbouncer]\n"
                "listen_addr = 127.0.0.1\n"
                "listen_port = 7000\n"
                "unix_socket_dir =\n"
                "pool_mode = transaction\n"
                "default_pool_size = 12\n"
                "reserve_pool_size = 3\n"
                "admin_users = ann, bob\n" USERS);
    assert_int_equal(config->total_connections, 15);
    assert_int_equal(config->max_clients, 100);
    assert_int_equal(config->pool_count, 1);
    const struct config_pool *pool = &config->pools[0];
    assert_int_equal(pool->listen.count, 1);
    assert_string_equal(pool->listen.items[0].host, "127.0.0.1");
    assert_int_equal(pool->listen.items[0].port, 7000);
    assert_int_equal(pool->mode, POOL_MODE_TRANSACTION);
    assert_int_equal(pool->size, 12);
    assert_int_equal(pool->max_overflow, 3);
    assert_int_equal(pool->overflow_delay_us, 5000000);
    assert_int_equal(pool->timeout_us, 120000000);
    assert_int_equal(pool->recycle_us, 3600000000);
    assert_false(pool->prefill);
    const struct config_database *database = config_find_database(config, "shop");
    assert_string_equal(database->hosts, "10.0.0.5");
    assert_string_equal(database->ports, "5433");
    assert_string_equal(database->dbname, "shop_live");
    assert_null(config_find_database(config, "other"));
    assert_int_equal(config->auth_method, AUTH_MD5);
    assert_string_equal(config->users_file, "users.txt");
    assert_true(config_names_contain(&config->admin_users, "bob"));
}

static void what_passwords_hold_arrives(void **state)
{
    (void)state;
    import_well("[databases]\n"
                "\"a \"\"b\" = host=h user='o''hara' password='p ;${HOME} %41\\'\n"
                "c=host=h user = u password = x;y#z\n"
                "[pgbouncer]\n" USERS);
    const struct config_database *first = config_find_database(config, "a \"b");
    assert_non_null(first);
    assert_string_equal(first->user, "o'hara");
    assert_string_equal(first->password, "p ;${HOME} %41\\");
    assert_string_equal(config_find_database(config, "c")->password, "x;y#z");
}

static void what_is_long_stands_in_the_file_as_well(void **state)
{
    char password[260];
    (void)state;
    memset(password, 'x', sizeof(password));
    password[sizeof(password) - 1] = '\0';
    char *content = memory_printf("[databases]\n"
                                  "%s = host=h user=u password=%s\n"
                                  "[pgbouncer]\n" USERS,
                                  password + 100, password);
    import_well(content);
    assert_string_equal(config_find_database(config, password + 100)->password, password);
    assert_null(strstr(spoken, password));
    free(content);
}

static void settings_of_a_login_go_into_the_url(void **state)
{
    (void)state;
    import_well(
        "[databases]\n"
        "* = host=a,b timezone='Europe/Vienna' datestyle='ISO, DMY' client_encoding=LATIN1\n"
        "[pgbouncer]\n"
        "server_tls_sslmode = verify-full\n"
        "server_tls_ca_file = /etc/ca.pem\n"
        "tcp_keepidle = 77\n" USERS);
    const struct config_database *database = config_find_database(config, "any");
    assert_string_equal(database->hosts, "a,b");
    static const char *const expected[][2] = {
        {"options", "-c timezone=Europe/Vienna -c datestyle=ISO,\\ DMY"},
        {"client_encoding", "LATIN1"},
        {"sslmode", "verify-full"},
        {"sslrootcert", "/etc/ca.pem"},
        {"keepalives_idle", "77"}};
    for (size_t i = 0; i < sizeof(expected) / sizeof(expected[0]); i++) {
        const char *found = NULL;
        for (size_t k = 0; database->keywords[k]; k++) {
            if (strcmp(database->keywords[k], expected[i][0]) == 0)
                found = database->values[k];
        }
        assert_non_null(found);
        assert_string_equal(found, expected[i][1]);
    }
}

static void limits_of_databases_make_the_cap(void **state)
{
    (void)state;
    import_well("[databases]\n"
                "a = host=h pool_size=7\n"
                "b = host=h max_db_connections=30 reserve_pool=4\n"
                "c = host=h\n"
                "[pgbouncer]\n"
                "default_pool_size = 5\n" USERS);
    assert_int_equal(config->pools[0].size, 7 + 26 + 5);
    assert_int_equal(config->pools[0].max_overflow, 4);
    assert_int_equal(config->total_connections, 42);
}

static void modes_that_differ_become_transaction_mode(void **state)
{
    (void)state;
    import_well("[databases]\na = host=h\nb = host=h pool_mode=transaction\n[pgbouncer]\n" USERS);
    assert_int_equal(config->pools[0].mode, POOL_MODE_TRANSACTION);
    import_well("[databases]\na = host=h pool_mode=session\n[pgbouncer]\n" USERS);
    assert_int_equal(config->pools[0].mode, POOL_MODE_SESSION);
    import_well(
        "[databases]\na = host=h\n[users]\nann = pool_mode=transaction\n[pgbouncer]\n" USERS);
    assert_int_equal(config->pools[0].mode, POOL_MODE_TRANSACTION);
    has("[users] ann = pool_mode=transaction");
}

static void every_address_is_listened_on(void **state)
{
    (void)state;
    import_well("[databases]\na = host=h\n[pgbouncer]\n"
                "listen_addr = localhost , ::1,*\nunix_socket_dir = /run/x\n" USERS);
    const struct config_address_list *listen = &config->pools[0].listen;
    assert_int_equal(listen->count, 4);
    assert_string_equal(listen->items[1].host, "::1");
    assert_string_equal(listen->items[2].host, "*");
    assert_true(listen->items[3].is_unix);
    assert_string_equal(listen->items[3].path, "/run/x");
    assert_int_equal(listen->items[3].port, 6432);
}

static void trust_is_carried_over_with_open_eyes(void **state)
{
    (void)state;
    import_well("[databases]\na = host=h\n[pgbouncer]\nlisten_addr = *\nauth_type = trust\n");
    assert_int_equal(config->auth_method, AUTH_TRUST);
    assert_true(config->pools[0].i_know_this_is_open);
    import_well("[databases]\na = host=h\n[pgbouncer]\nlisten_addr = ::1\nauth_type = trust\n");
    assert_false(config->pools[0].i_know_this_is_open);
}

static void without_any_proof_the_file_says_where_to_put_it(void **state)
{
    (void)state;
    import_well("[databases]\na = host=h\n[pgbouncer]\nauth_type = ldap\nauth_ldap_options = x\n");
    has("users_file = /etc/pgreserve/userlist.txt");
    has("auth_ldap_options = x: there is no LDAP");
    assert_int_equal(config->auth_method, AUTH_SCRAM_SHA_256);
}

static void rules_are_carried_over_where_pgbouncer_reads_them(void **state)
{
    (void)state;
    import_well("[databases]\na = host=h\n[pgbouncer]\nauth_type = hba\nauth_hba_file = /etc/hba\n"
                "auth_ident_file = /etc/ident\n" USERS);
    assert_string_equal(config->hba_file, "/etc/hba");
    assert_string_equal(config->ident_file, "/etc/ident");
    import_well(
        "[databases]\na = host=h\n[pgbouncer]\nauth_type = md5\nauth_hba_file = /etc/hba\n" USERS);
    assert_null(config->hba_file);
    has("auth_hba_file = /etc/hba: PgBouncer reads it only with auth_type = hba.");
    import_well("[databases]\na = host=h\n[pgbouncer]\nauth_type = hba\n" USERS);
    assert_null(config->hba_file);
    assert_int_equal(config->auth_method, AUTH_MD5);
    has("auth_type = hba: without hba_file one method holds for all");
}

static void the_upstream_is_asked_where_pgbouncer_asked_it(void **state)
{
    (void)state;
    import_well("[databases]\na = host=h\n[pgbouncer]\nauth_user = asker\nauth_dbname = app\n"
                "auth_query = SELECT * FROM lookup.secret($1)\n");
    assert_string_equal(config->auth_user, "asker");
    assert_string_equal(config->auth_dbname, "app");
    assert_string_equal(config->auth_query, "SELECT * FROM lookup.secret($1)");
    assert_null(config->users_file);
    import_well("[databases]\na = host=h\n[pgbouncer]\nauth_user = asker\n" USERS);
    assert_string_equal(config->auth_query, PGBOUNCER_AUTH_QUERY);
    has("auth_dbname = : PgBouncer asks in the database that the client names");
    import_well("[databases]\na = host=h\n[pgbouncer]\nauth_query = SELECT 1, $1\n" USERS);
    assert_null(config->auth_query);
    has("auth_query = SELECT 1, $1: PgBouncer uses it only with auth_user.");
}

static void files_are_included(void **state)
{
    (void)state;
    /* an included file has sections of its own, as PgBouncer's reader has it */
    write_file("more.ini", "[pgbouncer]\ndefault_pool_size = 9\n" USERS);
    import_well("[databases]\na = host=h\n%include more.ini\n[pgbouncer]\nquery_timeout = 1.5\n");
    assert_int_equal(config->pools[0].size, 9);
    assert_int_equal(config->pools[0].query_timeout_us, 1500000);
    write_file("loop.ini", "%include loop.ini\n");
    assert_int_equal(import("%include loop.ini\n"), IMPORT_UNREADABLE);
    assert_non_null(strstr(spoken, "too deeply"));
    assert_int_equal(import("\n\n%include missing.ini\n"), IMPORT_UNREADABLE);
    assert_non_null(strstr(spoken, "pgbouncer.ini:3: missing.ini: No such file"));
}

static void what_cannot_be_read_is_said_with_its_line(void **state)
{
    static const char *const broken[] = {"x = 1\n",
                                         "[databases\n",
                                         "[databases]\nname\n",
                                         "[databases]\n\"name = host=h\n",
                                         "[databases]\na = host='h\n",
                                         "[databases]\na = host\n",
                                         "[databases]\n = 1\n"};
    (void)state;
    for (size_t i = 0; i < sizeof(broken) / sizeof(broken[0]); i++) {
        assert_int_equal(import(broken[i]), IMPORT_UNREADABLE);
        assert_non_null(strstr(spoken, "pgbouncer.ini:"));
        assert_string_equal(text, "");
    }
}

static void values_that_ours_cannot_be_are_comments(void **state)
{
    (void)state;
    import_well("[databases]\na = host=h\n[pgbouncer]\n"
                "query_timeout = -1\nmax_client_conn = 99999999\nno_such_key = 5\n"
                "pool_mode = quantum\n" USERS);
    has("; query_timeout = -1: as query_timeout it is not a duration");
    has("; max_client_conn = 99999999: as max_clients it is not a number");
    has("no_such_key = 5: PgBouncer 1.25 has no such key");
    assert_int_equal(config->pools[0].query_timeout_us, 0);
}

/* A value for each key that makes a difference wherever the key is known. */
static const char *value_for(const char *key)
{
    static const char *const special[][2] = {{"listen_addr", "127.0.0.9"},
                                             {"pool_mode", "transaction"},
                                             {"auth_type", "scram-sha-256"},
                                             {"client_tls_sslmode", "disable"},
                                             {"server_tls_sslmode", "require"},
                                             {"server_tls_protocols", "tlsv1.3"},
                                             {"server_check_query", "select 7"},
                                             {"unix_socket_dir", "/run/y"},
                                             {"tcp_keepalive", "0"}};
    for (size_t i = 0; i < sizeof(special) / sizeof(special[0]); i++) {
        if (strcmp(special[i][0], key) == 0)
            return special[i][1];
    }
    return "7";
}

static void no_key_is_lost_in_silence(void **state)
{
    (void)state;
    assert_true(pgbouncer_key_count >= 98);
    import_well("[databases]\na = host=h\n[pgbouncer]\n" USERS);
    char *without = memory_strdup(text);
    for (size_t i = 0; i < pgbouncer_key_count; i++) {
        const struct pgbouncer_key *key = &pgbouncer_keys[i];
        char *content = memory_printf("[databases]\na = host=h\n[pgbouncer]\n%s%s = %s\n",
                                      strcmp(key->key, "auth_file") == 0 ? "" : USERS, key->key,
                                      value_for(key->key));
        import_well(content);
        if (strcmp(text, without) == 0)
            fail_msg("%s makes no difference", key->key);
        assert_true(key->meaning != PGBOUNCER_COPIED || key->ours);
        assert_true(key->meaning != PGBOUNCER_NONE || key->why);
        free(content);
    }
    free(without);
}

static void a_key_that_is_named_here_exists_once(void **state)
{
    (void)state;
    for (size_t i = 0; i < pgbouncer_key_count; i++)
        assert_ptr_equal(pgbouncer_key_find(pgbouncer_keys[i].key), &pgbouncer_keys[i]);
    assert_null(pgbouncer_key_find("no_such_key"));
}

static void what_a_database_cannot_have_is_said_beside_it(void **state)
{
    (void)state;
    import_well("[databases]\n"
                "a = host=h connect_query='set x = 1' auth_user=u whatever=1\n"
                "a_name] = host=h\n"
                "[peers]\n1 = host=h\n[pgbouncer]\n" USERS);
    has("; connect_query = set x = 1: nothing is run at a login");
    has("; auth_user = u: ");
    has("; whatever = 1: PgBouncer 1.25 has no such parameter");
    has("\"a_name]\" is left out");
    has("[peers] 1 = host=h");
}

#define TEST(name) cmocka_unit_test_teardown(name, forget)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_small_file_goes_on_as_it_was),
        TEST(what_passwords_hold_arrives),
        TEST(what_is_long_stands_in_the_file_as_well),
        TEST(settings_of_a_login_go_into_the_url),
        TEST(limits_of_databases_make_the_cap),
        TEST(modes_that_differ_become_transaction_mode),
        TEST(every_address_is_listened_on),
        TEST(trust_is_carried_over_with_open_eyes),
        TEST(without_any_proof_the_file_says_where_to_put_it),
        TEST(rules_are_carried_over_where_pgbouncer_reads_them),
        TEST(the_upstream_is_asked_where_pgbouncer_asked_it),
        TEST(files_are_included),
        TEST(what_cannot_be_read_is_said_with_its_line),
        TEST(values_that_ours_cannot_be_are_comments),
        TEST(no_key_is_lost_in_silence),
        TEST(a_key_that_is_named_here_exists_once),
        TEST(what_a_database_cannot_have_is_said_beside_it),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
