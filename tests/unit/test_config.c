/*
 * test_config.c - the file as it is written, and what is said about one that cannot hold (contract 4).
 *
 * Each test writes the lines that it is about; WORKING is the least that start-up accepts.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <arpa/inet.h>
#include <cmocka.h>
#include <ifaddrs.h>
#include <netdb.h>
#include <netinet/in.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/memory.h"
#include "config/config.h"

#define UPSTREAM "[database:*]\nurl = postgresql://ann:secret@db.example:5433/shop\n"
#define POOL     "[pool:automation]\nlisten = 127.0.0.1:6432\nsize = 5\n"
#define WORKING  UPSTREAM POOL

static struct config *config;
static struct config_errors errors;

static int set_up(void **state)
{
    (void)state;
    config = NULL;
    errors = (struct config_errors){0};
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    config_free(config);
    config_errors_free(&errors);
    return 0;
}

static void parse(const char *text)
{
    tear_down(NULL);
    config = config_parse("test.ini", text, &errors);
    for (size_t i = 0; config && i < errors.count; i++)
        fail_msg("accepted, and yet: %s", errors.items[i]);
}

/* Reads what must be right. */
static const struct config_pool *parse_well(const char *text)
{
    parse(text);
    if (!config)
        fail_msg("refused: %s", errors.count ? errors.items[0] : "without a word");
    return &config->pools[0];
}

/* Reads what must be refused with exactly this one error, which begins so. */
static void assert_refused(const char *text, const char *error)
{
    parse(text);
    assert_null(config);
    assert_int_equal(errors.count, 1);
    if (strncmp(errors.items[0], error, strlen(error)) != 0)
        fail_msg("\"%s\" does not begin with \"%s\"", errors.items[0], error);
}

/* What has just been read must have been refused with these errors, which begin so. */
static void assert_errors(const char *const *expected, size_t count)
{
    assert_null(config);
    for (size_t i = 0; i < count && i < errors.count; i++) {
        if (strncmp(errors.items[i], expected[i], strlen(expected[i])) != 0)
            fail_msg("\"%s\" does not begin with \"%s\"", errors.items[i], expected[i]);
    }
    assert_int_equal(errors.count, count);
}

/* One key of the pool; the line is the fourth of the section's. */
static const struct config_pool *parse_pool_key(const char *line)
{
    char *text = memory_printf(WORKING "%s\n", line);
    const struct config_pool *pool = parse_well(text);
    free(text);
    return pool;
}

static void refuse_pool_key(const char *line, const char *error)
{
    char *text = memory_printf(WORKING "%s\n", line);
    char *whole = memory_printf("test.ini:6: %s", error);
    assert_refused(text, whole);
    free(text);
    free(whole);
}

/* ---- what the contract's table says ---- */

static void every_key_has_the_contracts_default(void **state)
{
    (void)state;
    const struct config_pool *pool =
        parse_well(UPSTREAM "[pool:automation]\nlisten = 127.0.0.1:6432\n");
    assert_int_equal(config->total_connections, 60);
    assert_int_equal(config->max_clients, 10000);
    assert_int_equal(config->shutdown_timeout_us, 30000000);
    assert_int_equal(pool->size, 50);
    assert_int_equal(pool->max_overflow, 5);
    assert_int_equal(pool->reserved, 0);
    assert_int_equal(pool->mode, POOL_MODE_TRANSACTION);
    assert_int_equal(pool->timeout_us, 60000000);
    assert_int_equal(pool->recycle_us, 1800000000);
    assert_true(pool->pre_ping);
    assert_int_equal(pool->pre_ping_idle_us, 5000000);
    assert_int_equal(pool->overflow_delay_us, 100000);
    assert_int_equal(pool->overflow_idle_us, 30000000);
    assert_int_equal(pool->wait_notice_us, 5000000);
    assert_int_equal(pool->login_burst, 4);
    assert_false(pool->borrow);
    assert_true(pool->prefill);
    assert_int_equal(pool->connect_timeout_us, 15000000);
    assert_int_equal(pool->query_timeout_us, 0);
    assert_int_equal(pool->transaction_timeout_us, 0);
    assert_int_equal(pool->idle_in_transaction_timeout_us, 0);
    assert_int_equal(pool->client_idle_timeout_us, 0);
    assert_int_equal(pool->login_timeout_us, 15000000);
    assert_int_equal(pool->leak_warning_us, 300000000);
    assert_int_equal(pool->pin_recheck_us, 5000000);
    assert_int_equal(pool->max_clients, 0);
    assert_int_equal(config->auth_method, AUTH_SCRAM_SHA_256);
    assert_int_equal(config->tls_client_mode, TLS_CLIENT_DISABLE);
}

static void durations_take_units_and_bare_seconds(void **state)
{
    (void)state;
    assert_int_equal(parse_pool_key("timeout = 250ms")->timeout_us, 250000);
    assert_int_equal(parse_pool_key("timeout = 2")->timeout_us, 2000000);
    assert_int_equal(parse_pool_key("timeout = 2s")->timeout_us, 2000000);
    assert_int_equal(parse_pool_key("timeout = 1.5 min")->timeout_us, 90000000);
    assert_int_equal(parse_pool_key("recycle = 2h")->recycle_us, 7200000000);
    assert_int_equal(parse_pool_key("recycle = 1d")->recycle_us, 86400000000);
    refuse_pool_key("timeout = soon", "timeout = soon is not a duration");
    refuse_pool_key("timeout = -1", "timeout = -1 is not a duration");
    refuse_pool_key("timeout = 3 weeks", "timeout = 3 weeks is not a duration");
    refuse_pool_key("timeout = 8d", "timeout = 8d is not a duration from 0 to 604800 s");
    refuse_pool_key("timeout = 1e300d", "timeout = 1e300d is not a duration");
    refuse_pool_key("timeout = 0x10", "timeout = 0x10 is not a duration");
    refuse_pool_key("timeout = 0X1s", "timeout = 0X1s is not a duration");
    refuse_pool_key("timeout = inf", "timeout = inf is not a duration");
    refuse_pool_key("timeout = .", "timeout = . is not a duration");
    refuse_pool_key("timeout =", "timeout has no value");
}

static void numbers_have_a_range(void **state)
{
    (void)state;
    assert_int_equal(parse_pool_key("max_overflow = 0")->max_overflow, 0);
    refuse_pool_key("max_overflow = -1", "max_overflow = -1 is not a number from 0 to 100000");
    refuse_pool_key("max_overflow = 5x", "max_overflow = 5x is not a number");
    refuse_pool_key("max_overflow = 99999999999999999999", "max_overflow = 9999");
    refuse_pool_key("login_burst = 0", "login_burst = 0 is not a number from 1 to 1000");
}

static void switches_and_choices_know_their_words(void **state)
{
    (void)state;
    assert_false(parse_pool_key("pre_ping = off")->pre_ping);
    assert_false(parse_pool_key("pre_ping = no")->pre_ping);
    assert_true(parse_pool_key("borrow = TRUE")->borrow);
    refuse_pool_key("pre_ping = perhaps", "pre_ping = perhaps is neither on nor off");
    assert_int_equal(parse_pool_key("mode = session")->mode, POOL_MODE_SESSION);
    assert_int_equal(parse_pool_key("mode = Statement")->mode, POOL_MODE_STATEMENT);
    refuse_pool_key("mode = sesion", "mode = sesion is not one of session, transaction, statement");
}

/* ---- addresses ---- */

static const struct config_address_list *listen_on(const char *list)
{
    char *text = memory_printf(UPSTREAM "[pool:a]\nsize = 5\nlisten = %s\n", list);
    const struct config_pool *pool = parse_well(text);
    free(text);
    return &pool->listen;
}

static void listeners_take_names_both_families_and_unix_sockets(void **state)
{
    (void)state;
    const struct config_address_list *list =
        listen_on("127.0.0.1:6432, [::1]:6433, localhost:6434, *:6435, unix:/run/pg");
    assert_int_equal(list->count, 5);
    assert_string_equal(list->items[0].host, "127.0.0.1");
    assert_int_equal(list->items[0].port, 6432);
    assert_string_equal(list->items[1].host, "::1");
    assert_int_equal(list->items[1].port, 6433);
    assert_string_equal(list->items[2].host, "localhost");
    assert_string_equal(list->items[3].host, "*");
    assert_true(list->items[4].is_unix);
    assert_string_equal(list->items[4].path, "/run/pg");
    assert_int_equal(list->items[4].port, 6432); /* of the first TCP address */
}

static void a_unix_socket_alone_has_postgresqls_port_or_its_own(void **state)
{
    (void)state;
    assert_int_equal(listen_on("unix:/run/pg")->items[0].port, 5432);
    const struct config_address_list *list = listen_on("unix:/run/pg:7000");
    assert_int_equal(list->items[0].port, 7000);
    assert_string_equal(list->items[0].path, "/run/pg");
}

static void addresses_that_are_none_are_refused(void **state)
{
    (void)state;
    static const char *const wrong[] = {"127.0.0.1",  "127.0.0.1:", "127.0.0.1:0",
                                        "host:70000", "::1:6432",   "unix:relative/dir",
                                        "host:port",  "unix:",      ":-1"};
    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
        char *text = memory_printf(UPSTREAM "[pool:a]\nsize = 5\nlisten = %s\n", wrong[i]);
        char *error = memory_printf("test.ini:5: listen = %s is not a list of", wrong[i]);
        assert_refused(text, error);
        free(text);
        free(error);
    }
}

static bool is_let_in(const char *networks, const char *address)
{
    char *line = memory_printf("networks = %s", networks);
    const struct config_pool *pool = parse_pool_key(line);
    struct sockaddr_in in = {.sin_family = AF_INET};
    struct sockaddr_in6 in6 = {.sin6_family = AF_INET6};
    free(line);
    if (inet_pton(AF_INET, address, &in.sin_addr) == 1)
        return config_networks_allow(&pool->networks, (struct sockaddr *)&in);
    assert_int_equal(inet_pton(AF_INET6, address, &in6.sin6_addr), 1);
    return config_networks_allow(&pool->networks, (struct sockaddr *)&in6);
}

static void networks_are_matched_bit_by_bit(void **state)
{
    (void)state;
    struct sockaddr_un local = {.sun_family = AF_UNIX};
    assert_true(is_let_in("", "203.0.113.9"));
    assert_true(is_let_in("10.0.0.0/8", "10.255.0.1"));
    assert_false(is_let_in("10.0.0.0/8", "11.0.0.1"));
    assert_true(is_let_in("192.168.0.0/22", "192.168.3.255"));
    assert_false(is_let_in("192.168.0.0/22", "192.168.4.0"));
    assert_true(is_let_in("10.1.2.3", "10.1.2.3"));
    assert_false(is_let_in("10.1.2.3", "10.1.2.2"));
    assert_true(is_let_in("0.0.0.0/0", "203.0.113.9"));
    assert_false(is_let_in("0.0.0.0/0", "2001:db8::1"));
    assert_true(is_let_in("2001:db8::/33", "2001:db8:7fff::1"));
    assert_false(is_let_in("2001:db8::/33", "2001:db8:8000::1"));
    assert_true(is_let_in("10.0.0.0/8", "::ffff:10.1.1.1"));
    assert_true(is_let_in("172.16.0.0/12, ::1", "::1"));
    assert_true(config_networks_allow(&config->pools[0].networks, (struct sockaddr *)&local));
}

static void networks_that_are_none_are_refused(void **state)
{
    (void)state;
    refuse_pool_key("networks = 10.0.0.0/33", "networks = 10.0.0.0/33 is not a list of networks");
    refuse_pool_key("networks = 10.0.0.0/", "networks = 10.0.0.0/ is not");
    refuse_pool_key("networks = 10.0.0/8", "networks = 10.0.0/8 is not");
    refuse_pool_key("networks = office", "networks = office is not");
}

static void users_are_a_list_or_anyone(void **state)
{
    (void)state;
    const struct config_pool *pool = parse_pool_key("users = ann, bob");
    assert_true(config_names_allow(&pool->users, "bob"));
    assert_false(config_names_allow(&pool->users, "bo"));
    assert_true(config_names_contain(&pool->users, "ann"));
    pool = parse_pool_key("users =");
    assert_true(config_names_allow(&pool->users, "anyone"));
    assert_false(config_names_contain(&pool->users, "anyone"));
    assert_true(config_names_allow(&parse_pool_key("users = *")->users, "anyone"));
    assert_true(config_names_allow(&parse_pool_key("users = any")->users, "anyone"));
}

/* ---- the environment ---- */

static void the_environment_counts_only_where_the_file_says_so(void **state)
{
    (void)state;
    setenv("PGRESERVE_TEST_SIZE", "7", 1);
    setenv("PGRESERVE_TEST_EMPTY", "", 1);
    unsetenv("PGRESERVE_TEST_UNSET");
    setenv("DB_POOL_SIZE", "3", 1); /* not named below */
    const struct config_pool *pool =
        parse_pool_key("max_overflow = ${PGRESERVE_TEST_SIZE}\n"
                       "reserved = ${PGRESERVE_TEST_EMPTY:-2}\n"
                       "timeout = ${PGRESERVE_TEST_UNSET:-1}${PGRESERVE_TEST_SIZE}\n");
    assert_int_equal(pool->max_overflow, 7);
    assert_int_equal(pool->reserved, 2);
    assert_int_equal(pool->timeout_us, 17000000);
    assert_int_equal(pool->size, 5);
    unsetenv("DB_POOL_SIZE");
}

static void a_variable_without_value_or_default_is_an_error(void **state)
{
    (void)state;
    unsetenv("PGRESERVE_TEST_UNSET");
    assert_refused(WORKING "users = ${PGRESERVE_TEST_UNSET}\n",
                   "test.ini:6: the environment variable PGRESERVE_TEST_UNSET is not set: set it, "
                   "or write ${PGRESERVE_TEST_UNSET:-default}");
    assert_refused(WORKING "users = ${HOME\n", "test.ini:6: `${` without `}`");
}

static void what_a_variable_holds_is_not_read_as_ini(void **state)
{
    (void)state;
    setenv("PGRESERVE_TEST_PASSWORD", "p;w ;x${HOME}\"", 1);
    parse_well(WORKING "[database:other]\npassword = ${PGRESERVE_TEST_PASSWORD}\n");
    assert_string_equal(config_find_database(config, "other")->password, "p;w ;x${HOME}\"");
}

static void the_original_systems_variables_work_through_the_shipped_file(void **state)
{
    (void)state;
    setenv("SUPABASE_URL", "postgresql://u:p@db.example:5432/postgres?sslmode=require", 1);
    setenv("POSTGRES_DB", "shop", 1);
    setenv("POSTGRES_USER", "ann", 1);
    setenv("POSTGRES_PASSWORD", "secret", 1);
    setenv("DB_POOL_SIZE", "20", 1);
    setenv("DB_MAX_OVERFLOW", "3", 1);
    setenv("DB_POOL_TIMEOUT", "9", 1);
    setenv("DB_POOL_RECYCLE", "600", 1);
    config = config_load(NULL, true, &errors);
    static const char *const names[] = {"SUPABASE_URL",      "POSTGRES_DB",    "POSTGRES_USER",
                                        "POSTGRES_PASSWORD", "DB_POOL_SIZE",   "DB_MAX_OVERFLOW",
                                        "DB_POOL_TIMEOUT",   "DB_POOL_RECYCLE"};
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
        unsetenv(names[i]);
    assert_non_null(config);
    const struct config_pool *automation = config_find_pool(config, "automation");
    const struct config_pool *adhoc = config_find_pool(config, "adhoc");
    const struct config_database *database = config_find_database(config, "anything");
    assert_int_equal(automation->size, 20);
    assert_int_equal(automation->max_overflow, 3);
    assert_int_equal(automation->timeout_us, 9000000);
    assert_int_equal(automation->recycle_us, 600000000);
    assert_int_equal(adhoc->size, 5);
    assert_int_equal(adhoc->reserved, 5);
    assert_int_equal(adhoc->max_overflow, 0);
    assert_string_equal(database->hosts, "db.example");
    assert_string_equal(database->ports, "5432");
    assert_string_equal(database->dbname, "shop");
    assert_string_equal(database->user, "ann");
    assert_string_equal(database->password, "secret");
    assert_string_equal(database->keywords[0], "sslmode");
    assert_string_equal(database->values[0], "require");
}

static void the_shipped_file_asks_for_an_upstream(void **state)
{
    (void)state;
    unsetenv("SUPABASE_URL");
    config = config_load(NULL, true, &errors);
    assert_null(config);
    assert_int_equal(errors.count, 1);
    assert_non_null(strstr(errors.items[0], "SUPABASE_URL=postgresql://user:password@host"));
}

/* ---- databases ---- */

static void a_database_inherits_what_it_leaves_empty(void **state)
{
    (void)state;
    parse_well(WORKING "[database:reports]\nuser = bob\npassword = b\n"
                       "[database:elsewhere]\nurl = host=/run/pg port=5440 dbname=inner\n");
    const struct config_database *reports = config_find_database(config, "reports");
    assert_string_equal(reports->hosts, "db.example");
    assert_string_equal(reports->user, "bob");
    assert_string_equal(reports->password, "b");
    assert_false(reports->dbname_is_forced); /* the client's name goes through */
    const struct config_database *elsewhere = config_find_database(config, "elsewhere");
    assert_string_equal(elsewhere->hosts, "/run/pg");
    assert_string_equal(elsewhere->ports, "5440");
    assert_string_equal(elsewhere->dbname, "inner");
    assert_true(elsewhere->dbname_is_forced);
    assert_string_equal(config_find_database(config, "unheard-of")->name, "*");
}

#define STAR_WITH_KEYS                                                                             \
    "[database:*]\nurl = postgresql://db.example:5432/shop\nuser = ann\npassword = secret\n" POOL

static const struct config_database *beside_the_star(const char *keys)
{
    char *text = memory_printf(STAR_WITH_KEYS "[database:other]\n%s", keys);
    parse_well(text);
    free(text);
    return config_find_database(config, "other");
}

static void a_url_of_its_own_says_who_logs_in(void **state)
{
    (void)state;
    const struct config_database *other =
        beside_the_star("url = postgresql://bob:b@else.example/x\n");
    assert_string_equal(other->user, "bob");
    assert_string_equal(other->password, "b");
    other = beside_the_star("url = postgresql://bob@db.example/x\n");
    assert_string_equal(other->user, "bob");
    assert_null(other->password); /* it is ann's */
    other = beside_the_star("url = postgresql://bob:b@db.example/x\nuser = carl\npassword = c\n");
    assert_string_equal(other->user, "carl");
    assert_string_equal(other->password, "c");
    other = beside_the_star("url = postgresql://db.example/x?sslmode=require\n");
    assert_string_equal(other->user, "ann");
    assert_string_equal(other->password, "secret");
    other = beside_the_star("dbname = x\n");
    assert_string_equal(other->user, "ann");
    assert_string_equal(other->password, "secret");
}

static void the_stars_password_goes_to_no_other_server(void **state)
{
    (void)state;
    static const char *const elsewhere[] = {
        "postgresql://else.example/x",
        "postgresql://db.example:5433/x",
        "postgresql://db.example,else.example/x",
        "host=db.example hostaddr=192.0.2.1",
        "service=elsewhere",
        "dbname=x",
    };
    for (size_t i = 0; i < sizeof(elsewhere) / sizeof(elsewhere[0]); i++) {
        char *keys = memory_printf("url = %s\n", elsewhere[i]);
        const struct config_database *other = beside_the_star(keys);
        free(keys);
        assert_string_equal(other->user, "ann");
        assert_null(other->password);
    }
    assert_string_equal(beside_the_star("url = host=else.example\npassword = p\n")->password, "p");
    /* the order of the sections makes no difference */
    parse_well("[database:other]\nurl = host=db.example dbname=x\n" STAR_WITH_KEYS);
    assert_string_equal(config_find_database(config, "other")->password, "secret");
}

static void without_a_star_an_unknown_name_has_no_upstream(void **state)
{
    (void)state;
    parse_well("[database:shop]\nurl = postgresql://ann:secret@db.example/shop\n" POOL);
    assert_null(config_find_database(config, "other"));
    assert_non_null(config_find_database(config, "shop"));
}

static void a_url_is_never_quoted_in_an_error(void **state)
{
    (void)state;
    parse("[database:*]\nurl = postgresql://ann:hunter2@host:port:99/x?nonsense=1\n" POOL);
    assert_null(config);
    assert_true(errors.count >= 1);
    for (size_t i = 0; i < errors.count; i++)
        assert_null(strstr(errors.items[i], "hunter2"));
}

/* ---- what start-up refuses ---- */

static void every_mistake_is_listed_with_its_line(void **state)
{
    (void)state;
    parse("[pgreserve]\n"
          "total_conections = 60\n"
          "max_clients = many\n"
          "[database:*]\n"
          "url = postgresql://ann:secret@db.example/shop\n"
          "[pools]\n"
          "size = 5\n"
          "[pool:a]\n"
          "listen = nowhere\n"
          "size = 1\n"
          "size = 2\n");
    static const char *const expected[] = {
        "test.ini:11: size stands twice in [pool:a], first in line 10",
        "test.ini:6: [pools] is not a section",
        "test.ini:2: total_conections is not a key of [pgreserve]",
        "test.ini:3: max_clients = many is not a number from 1 to 1000000",
        "test.ini:9: listen = nowhere is not a list of",
    };
    assert_errors(expected, 5);
}

static void sums_are_looked_at_whatever_else_is_wrong(void **state)
{
    (void)state;
    parse("[pgreserve]\n"
          "total_connections = 4\n"
          "no_such_key = 1\n" UPSTREAM POOL "max_overflow = many\n"
          "[pool:adhoc]\n"
          "listen = 127.0.0.1:6432\n"
          "reserved = 5\n"
          "[tls]\n"
          "client_mode = require\n");
    static const char *const expected[] = {
        "test.ini:3: no_such_key is not a key",
        "test.ini:9: max_overflow = many is not a number",
        "test.ini:2: the sum of reserved is 5, but total_connections is 4",
        "test.ini:8: size of pool automation is 5, but the reservations of the others leave it 0 "
        "of "
        "total_connections 4",
        "test.ini:10: size of pool adhoc is 50, but",
        "test.ini:14: TLS for clients needs client_cert_file",
        "test.ini:11: two listeners have the same address",
    };
    assert_errors(expected, 7);
}

static void every_line_that_is_nothing_is_listed(void **state)
{
    (void)state;
    parse("stray = 1\n" WORKING "this is nothing\n"
          "users = ${PGRESERVE_TEST_UNSET}\n"
          "nor this\n"
          "[broken\n"
          "listen = 127.0.0.1:1\n"
          "[admin] listen = 127.0.0.1:2\n"
          "nor that");
    static const char *const expected[] = {
        "test.ini:7: not a [section]",     "test.ini:8: the environment variable",
        "test.ini:9: not a [section]",     "test.ini:10: not a [section]",
        "test.ini:12: not a [section]",    "test.ini:13: not a [section]",
        "test.ini:1: [] is not a section",
    };
    assert_errors(expected, 7);
}

/* What follows from a value that could not be made out is no second mistake. */
static void one_mistake_is_one_error(void **state)
{
    (void)state;
    unsetenv("PGRESERVE_TEST_UNSET");
    static const char *const wrong[] = {
        UPSTREAM POOL "reserved = ${PGRESERVE_TEST_UNSET}\n",
        UPSTREAM "[pool:a]\nlisten = ${PGRESERVE_TEST_UNSET}:6432\nsize = 5\n",
        UPSTREAM
        "[pool:a]\nlisten = ${PGRESERVE_TEST_UNSET}:6432\nsize = 5\n[auth]\nmethod = trust\n",
        UPSTREAM "[pool:a]\nlisten = 127.0.0.1:1, nonsense\nsize = 5\n",
        "[pgreserve]\ntotal_connections = ${PGRESERVE_TEST_UNSET}\n" UPSTREAM
        "[pool:a]\nlisten = 127.0.0.1:1\nsize = 70\n",
        UPSTREAM "[pool:a]\nlisten = 127.0.0.1:1\nsize = none\nmax_overflow = 0\n",
        UPSTREAM "[pool:a]\nlisten = 127.0.0.1:1\nsize = none\nreserved = 58\n",
        "[database:*]\nurl = ${PGRESERVE_TEST_UNSET}\n" POOL,
        "[database:*]\nurl = no url\n[database:a]\ndbname = b\n" POOL,
        "[database:*]\nurl = postgresql://${PGRESERVE_TEST_UNSET}@/x\n[pool:a]\n"
        "listen = unix:/var/run/postgresql:5432\nsize = 5\n",
        "[database:*]\nurl = host=db.example user=ann\npassword = ${PGRESERVE_TEST_UNSET}\n" POOL,
        "[databases:*]\nurl = postgresql://ann:secret@db.example/x\n" POOL,
        "[database:*\nurl = postgresql://ann:secret@db.example/x\n" POOL,
        UPSTREAM "[pol:a]\nlisten = 127.0.0.1:1\nsize = 5\n",
        WORKING "[tls]\nclient_mode = require\nclient_key_file = k\n"
                "client_cert_file = ${PGRESERVE_TEST_UNSET}\n",
        WORKING "[auth]\nauth_query = SELECT $1\nauth_user = ${PGRESERVE_TEST_UNSET}\n",
        WORKING "listen = 127.0.0.1:6432\n",
    };
    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
        parse(wrong[i]);
        assert_null(config);
        if (errors.count != 1)
            fail_msg("%s\nhas %zu errors, the second: %s", wrong[i], errors.count,
                     errors.count > 1 ? errors.items[1] : "");
    }
}

static void a_section_without_keys_is_one(void **state)
{
    (void)state;
    assert_refused(WORKING "[bogus]\n", "test.ini:6: [bogus] is not a section");
    assert_refused(WORKING "[pool:other]\n; nothing\n",
                   "test.ini:6: pool other has no listen address");
    parse_well(WORKING "[database:other]\n[auth] ; as it is\n[tls]# too\n");
    assert_string_equal(config_find_database(config, "other")->hosts, "db.example");
}

static void long_names_of_sections_are_told_apart(void **state)
{
    (void)state;
    char name[300];
    memset(name, 'n', sizeof(name) - 1);
    name[sizeof(name) - 1] = '\0';
    char *text = memory_printf(WORKING "[database:%s1]\ndbname = one\n"
                                       "[database:%s2]\ndbname = two\n",
                               name, name);
    parse_well(text);
    free(text);
    char *second = memory_printf("%s2", name);
    assert_string_equal(config_find_database(config, second)->dbname, "two");
    free(second);
}

/* A url with its certificates, which inih's buffer cannot hold. */
static void a_line_may_be_long(void **state)
{
    (void)state;
    char path[1000];
    memset(path, 'x', sizeof(path) - 1);
    path[sizeof(path) - 1] = '\0';
    setenv("PGRESERVE_TEST_PASSWORD", "p;w ;x", 1);
    char *text = memory_printf("[database:*]\nurl =  host=db.example user=ann application_name=a;b "
                               "sslrootcert=%s sslcert=/%s \t; of %s, = and ; all\n"
                               "password = ${PGRESERVE_TEST_PASSWORD} ;;%s\r\n"
                               "; %s\n" POOL,
                               path, path, path, path, path);
    parse_well(text);
    free(text);
    const struct config_database *database = config_find_database(config, "*");
    assert_string_equal(database->hosts, "db.example");
    assert_string_equal(database->user, "ann");
    assert_string_equal(database->password, "p;w ;x");
    size_t seen = 0;
    for (size_t i = 0; database->keywords[i]; i++) {
        if (strcmp(database->keywords[i], "application_name") == 0)
            seen += strcmp(database->values[i], "a;b") == 0;
        if (strcmp(database->keywords[i], "sslrootcert") == 0)
            seen += strcmp(database->values[i], path) == 0;
        if (strcmp(database->keywords[i], "sslcert") == 0)
            seen += strcmp(database->values[i] + 1, path) == 0;
    }
    assert_int_equal(seen, 3);
    text = memory_printf(WORKING "%s\n%s = 1\nuser;%s = 1\nsize :;%s\n", path, path, path, path);
    parse(text);
    free(text);
    static const char *const expected[] = {
        "test.ini:6: not a [section]",
        "test.ini:7: not a [section]",
        "test.ini:8: not a [section]",
        "test.ini:9: size stands twice in [pool:automation], first in line 5",
    };
    assert_errors(expected, 4);
}

/* The same line, short and made long by what its end has no part in, says the same. */
static void length_makes_no_difference(void **state)
{
    (void)state;
    static const char *const lines[] = {
        "users = ann , bob", "users:ann", "users=;",         "users = ;x",
        "users = a;b",       "users = =", "users = \"x y\"", "users =\t\vx"};
    char blanks[300];
    memset(blanks, ' ', sizeof(blanks) - 1);
    blanks[sizeof(blanks) - 1] = '\0';
    for (size_t i = 0; i < sizeof(lines) / sizeof(lines[0]); i++) {
        char *expected = memory_strdup("");
        for (int is_long = 0; is_long < 2; is_long++) {
            char *line = memory_printf("%s%s", lines[i], is_long ? blanks : "");
            const struct config_names *users = &parse_pool_key(line)->users;
            char *found = memory_strdup("");
            for (size_t j = 0; j < users->count; j++) {
                char *longer = memory_printf("%s<%s>", found, users->items[j]);
                free(found);
                found = longer;
            }
            if (is_long)
                assert_string_equal(found, expected);
            free(expected);
            expected = found;
            free(line);
        }
        free(expected);
    }
}

static void a_mark_of_byte_order_is_no_line(void **state)
{
    (void)state;
    parse_well("\xEF\xBB\xBF" WORKING);
}

static void lines_that_inih_would_misread_are_refused(void **state)
{
    (void)state;
    assert_refused(WORKING "users = ann,\n  bob\n",
                   "test.ini:7: an indented line continues the value above it");
    assert_refused(WORKING "this is no line\n", "test.ini:6: not a [section]");
}

static void sums_that_cannot_hold_are_refused(void **state)
{
    (void)state;
    assert_refused("[pgreserve]\ntotal_connections = 10\n" UPSTREAM
                   "[pool:a]\nlisten = 127.0.0.1:1\nsize = 8\n"
                   "[pool:b]\nlisten = 127.0.0.1:2\nsize = 5\nreserved = 5\n",
                   "test.ini:7: size of pool a is 8, but the reservations of the others leave it 5 "
                   "of total_connections 10");
    parse("[pgreserve]\ntotal_connections = 10\n" UPSTREAM
          "[pool:a]\nlisten = 127.0.0.1:1\nsize = 6\nreserved = 6\n"
          "[pool:b]\nlisten = 127.0.0.1:2\nsize = 5\nreserved = 5\n");
    assert_null(config);
    assert_string_equal(errors.items[0],
                        "test.ini:2: the sum of reserved is 11, but total_connections is 10: lower "
                        "one or raise the other");
    refuse_pool_key("reserved = 20\nmax_overflow = 1",
                    "pool automation reserves 20 connections but can open only size + "
                    "max_overflow = 6");
    assert_refused(UPSTREAM "[pool:a]\nlisten = 127.0.0.1:1\nsize = 0\nmax_overflow = 0\n",
                   "test.ini:5: pool a can open no connection at all");
}

static void a_proxy_to_itself_is_refused(void **state)
{
    (void)state;
    assert_refused("[database:*]\nurl = postgresql://a:b@localhost:6432/x\n" POOL,
                   "test.ini:2: the upstream of [database:*] is pgreserve's own listener");
    assert_refused("[database:*]\nurl = postgresql://a:b@db.example:5432,127.0.0.1:7000/x\n" POOL
                   "[admin]\nlisten = *:7000\n",
                   "test.ini:2: the upstream of [database:*] is pgreserve's own listener");
    assert_refused("[database:*]\nurl = host=/run/pg port=6432 user=a password=b\n"
                   "[pool:a]\nsize = 5\nlisten = unix:/run/pg:6432\n",
                   "test.ini:2: the upstream of [database:*] is pgreserve's own listener");
}

static bool leads_to_itself(const char *listen, const char *url)
{
    char *text = memory_printf("[database:*]\nurl = %s\nuser = ann\npassword = secret\n"
                               "[pool:a]\nsize = 5\nlisten = %s\n",
                               url, listen);
    parse(text);
    free(text);
    bool is_refused = config == NULL;
    if (is_refused)
        assert_non_null(strstr(errors.items[0], "is pgreserve's own listener"));
    return is_refused;
}

static void an_address_is_its_own_in_any_spelling(void **state)
{
    (void)state;
    char name[256] = "";
    assert_int_equal(gethostname(name, sizeof(name) - 1), 0);
    char *own_name = memory_printf("host=%s port=6432", name);
    const struct {
        const char *listen;
        const char *url;
        bool is_own;
    } cases[] = {
        {"127.0.0.1:6432", "host=LocalHost port=6432", true},
        {"127.0.0.1:6432", "host=db.example hostaddr=127.0.0.1 port=6432", true},
        {"127.0.0.1:6432", "host=localhost hostaddr=192.0.2.1 port=6432", false},
        {"127.0.0.1:6432", "host=db.example,db.example hostaddr=,127.0.0.1 port=5432,6432", true},
        {"127.0.0.1:6432", "host=0.0.0.0 port=6432", true},
        {"127.0.0.1:6432", "host=127.1 port=6432", true},
        {"127.0.0.1:6432", "host=::ffff:127.0.0.1 port=6432", true},
        {"127.0.0.1:6432", "host=127.0.0.2 port=6432", false},
        {"127.0.0.1:6432", "host=::1 port=6432", false},
        {"127.0.0.1:6432", "host=127.0.0.1 port=5432", false},
        {"127.0.0.1:5432", "host=127.0.0.1", true},
        {"127.0.0.1:5432", "host=db.example,127.0.0.1 port=6432,", true},
        {"127.0.0.1:5432", "host=/run/pg port=5432", false},
        {"[::1]:6432", "host=:: port=6432", true},
        {"[::1]:6432", "host=0:0:0:0:0:0:0:1 port=6432", true},
        {"[::1]:6432", "host=ip6-localhost port=6432", true},
        {"[::1]:6432", "host=127.0.0.1 port=6432", false},
        {"localhost:6432", "host=127.0.0.1 port=6432", true},
        {"localhost:6432", "host=::1 port=6432", true},
        {"*:6432", "host=127.0.0.2 port=6432", true},
        {"*:6432", "host=::1 port=6432", true},
        {"*:6432", "host=192.0.2.1 port=6432", false},
        {"*:6432", "host=2001:db8::1 port=6432", false},
        {"*:6432", own_name, true},
        {"0.0.0.0:6432", "host=localhost port=6432", true},
        {"0.0.0.0:6432", "host=::1 port=6432", false},
        {"[::]:6432", "host=127.0.0.1 port=6432", false},
        {"db.example:6432", "host=DB.example port=6432", true},
        {"192.0.2.1:6432", "host=192.0.2.1 port=6432", true},
        {"unix:/nowhere/pg:6432", "host=/nowhere/pg/ port=6432", true},
        {"unix:/nowhere/pg//:6432", "host=/nowhere/pg port=6432", true},
        {"unix:/usr/../tmp:6432", "host=/tmp port=6432", true},
        {"unix:/nowhere/pg:6432", "host=/nowhere/pgs port=6432", false},
        {"unix:/var/run/postgresql:5432", "dbname=x", true},
        {"unix:/var/run/postgresql:5432", "service=elsewhere", false},
        {"localhost:5432", "dbname=x", false}, /* libpq takes its socket */
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        if (leads_to_itself(cases[i].listen, cases[i].url) != cases[i].is_own)
            fail_msg("%s with a listener on %s is%s its own", cases[i].url, cases[i].listen,
                     cases[i].is_own ? "" : " not");
    }
    free(own_name);
}

static void every_address_of_this_machine_is_its_own_behind_a_wildcard(void **state)
{
    (void)state;
    struct ifaddrs *interfaces;
    assert_int_equal(getifaddrs(&interfaces), 0);
    for (const struct ifaddrs *at = interfaces; at; at = at->ifa_next) {
        char host[NI_MAXHOST];
        if (!at->ifa_addr || at->ifa_addr->sa_family != AF_INET ||
            getnameinfo(at->ifa_addr, sizeof(struct sockaddr_in), host, sizeof(host), NULL, 0,
                        NI_NUMERICHOST) != 0)
            continue;
        char *url = memory_printf("host=%s port=6432", host);
        assert_true(leads_to_itself("*:6432", url));
        assert_true(leads_to_itself("0.0.0.0:6432", url));
        free(url);
    }
    freeifaddrs(interfaces);
}

static void two_listeners_need_two_addresses(void **state)
{
    (void)state;
    assert_refused(
        WORKING "[admin]\nlisten = 127.0.0.1:6432\n",
        "test.ini:7: two listeners have the same address, port 6432: give this one another");
}

static void someone_must_be_able_to_tell_who_a_client_is(void **state)
{
    (void)state;
    assert_refused("[database:*]\nurl = postgresql://ann@db.example/x\n" POOL,
                   "test.ini:2: no way to tell who a client is");
    parse_well("[database:*]\nurl = postgresql://ann@db.example/x\n" POOL
               "[auth]\nusers_file = /etc/pgreserve/userlist.txt\n");
    parse_well("[database:*]\nurl = postgresql://ann@db.example/x\n" POOL
               "[auth]\nmethod = trust\n");
    parse_well("[database:*]\nurl = postgresql://ann@db.example/x\n" POOL
               "[auth]\nauth_user = asker\nauth_query = SELECT * FROM secret($1)\n");
}

static void asking_the_upstream_needs_somebody_who_asks_and_a_name(void **state)
{
    (void)state;
    assert_refused(WORKING "[auth]\nauth_query = SELECT * FROM secret($1)\n",
                   "test.ini:7: auth_query needs auth_user");
    assert_refused(WORKING "[auth]\nauth_user = asker\nauth_query = SELECT 1, 2\n",
                   "test.ini:8: auth_query has no $1");
    parse_well(WORKING "[auth]\nauth_user = asker\n");
}

static void trust_beyond_loopback_needs_a_word(void **state)
{
    (void)state;
    assert_refused(UPSTREAM "[pool:a]\nsize = 5\nlisten = 0.0.0.0:6432\n[auth]\nmethod = trust\n",
                   "test.ini:5: method = trust lets anyone in, and pool a listens beyond loopback");
    parse_well(UPSTREAM "[pool:a]\nsize = 5\nlisten = 0.0.0.0:6432\ni_know_this_is_open = yes\n"
                        "[auth]\nmethod = trust\n");
    parse_well(UPSTREAM "[pool:a]\nsize = 5\nlisten = 127.0.0.1:1, [::1]:1, unix:/run\n"
                        "[auth]\nmethod = trust\n");
    assert_refused(WORKING "[admin]\nlisten = [::]:6434\n[auth]\nmethod = trust\n",
                   "test.ini:7: method = trust lets anyone in, and [admin] listens");
}

static void tls_needs_its_files(void **state)
{
    (void)state;
    assert_refused(WORKING "[tls]\nclient_mode = prefer\n",
                   "test.ini:7: TLS for clients needs client_cert_file and client_key_file");
    assert_refused(WORKING "[tls]\nclient_mode = verify-ca\nclient_cert_file = c\n"
                           "client_key_file = k\n",
                   "test.ini:7: checking clients' certificates needs client_ca_file");
    assert_refused(WORKING "[auth]\nmethod = cert\n", "test.ini:7: method = cert needs [tls]");
}

static void a_file_without_its_main_sections_is_refused(void **state)
{
    (void)state;
    assert_refused(UPSTREAM, "test.ini: no [pool:NAME] section");
    assert_refused(POOL, "test.ini: no [database:*] section");
    assert_refused(UPSTREAM "[pool:a]\nsize = 5\n", "test.ini:3: pool a has no listen address");
    parse("");
    assert_null(config);
}

static void a_file_that_cannot_be_read_says_so(void **state)
{
    (void)state;
    config = config_load("/nonexistent/pgreserve.ini", true, &errors);
    assert_null(config);
    assert_int_equal(errors.count, 1);
    assert_string_equal(errors.items[0],
                        "/nonexistent/pgreserve.ini: cannot be read: No such file or directory");
}

/* ---- SHOW CONFIG and reload ---- */

struct seen {
    const char *key;
    char value[200];
    bool is_changeable;
};

static bool remember(void *arg, const char *key, const char *value, const char *def,
                     bool is_changeable)
{
    struct seen *seen = arg;
    (void)def;
    if (strcmp(key, seen->key) == 0) {
        snprintf(seen->value, sizeof(seen->value), "%s", value);
        seen->is_changeable = is_changeable;
        return false;
    }
    return true;
}

static struct seen shown(const char *key)
{
    struct seen seen = {.key = key};
    config_visit(config, remember, &seen);
    return seen;
}

static void show_config_tells_what_is_in_force_without_secrets(void **state)
{
    (void)state;
    parse_well(WORKING "timeout = 1min\n[database:b]\npassword = hunter2\n");
    assert_string_equal(shown("pool:automation.timeout").value, "1min");
    assert_string_equal(shown("pool:automation.recycle").value, "1800");
    assert_string_equal(shown("total_connections").value, "60");
    assert_string_equal(shown("database:b.password").value, "********");
    assert_string_equal(shown("database:*.url").value, "********");
    assert_true(shown("pool:automation.timeout").is_changeable);
    assert_false(shown("pool:automation.listen").is_changeable);
}

static void count_line(void *arg, const char *line)
{
    (void)line;
    ++*(int *)arg;
}

static void a_reload_keeps_what_needs_a_restart(void **state)
{
    (void)state;
    int lines = 0;
    struct config *current =
        config_parse("test.ini", WORKING "[admin]\nlisten = 127.0.0.1:1\n", &errors);
    parse_well(UPSTREAM "[pool:automation]\nlisten = 127.0.0.1:9999\nsize = 9\n"
                        "[admin]\nlisten = 127.0.0.1:2\n");
    config_keep_unchangeable(config, current, count_line, &lines);
    config_free(current);
    assert_int_equal(lines, 2);
    assert_int_equal(config->pools[0].listen.count, 1);
    assert_int_equal(config->pools[0].listen.items[0].port, 6432);
    assert_int_equal(config->pools[0].size, 9);
    assert_int_equal(config->admin_listen.items[0].port, 1);
    assert_string_equal(shown("pool:automation.listen").value, "127.0.0.1:6432");
}

static void a_changed_value_is_checked_like_a_files(void **state)
{
    (void)state;
    parse_well(WORKING "[admin]\nlisten = 127.0.0.1:1\n");
    const struct config_change changes[] = {{"pool:automation", "timeout", "250ms"},
                                            {"pgreserve", "log_level", "debug"}};
    struct config *next = config_changed(config, changes, 2, &errors);
    assert_non_null(next);
    assert_int_equal(next->pools[0].timeout_us, 250000);
    assert_int_equal(next->log_level, 0);
    assert_int_equal(config->pools[0].timeout_us, 60000000);
    assert_string_equal(next->databases[0].password, config->databases[0].password);
    assert_int_equal(next->admin_listen.items[0].port, 1);
    const struct config_change again = {"pgreserve", "log_level", "error"};
    struct config *third = config_changed(next, &again, 1, &errors);
    assert_non_null(third);
    assert_int_equal(third->log_level, 3);
    assert_int_equal(third->pools[0].timeout_us, 250000);
    config_free(next);
    config_free(third);
    const struct config_change impossible = {"pgreserve", "total_connections", "1"};
    assert_null(config_changed(config, &impossible, 1, &errors));
    assert_true(errors.count > 0);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(every_key_has_the_contracts_default),
        TEST(durations_take_units_and_bare_seconds),
        TEST(numbers_have_a_range),
        TEST(switches_and_choices_know_their_words),
        TEST(listeners_take_names_both_families_and_unix_sockets),
        TEST(a_unix_socket_alone_has_postgresqls_port_or_its_own),
        TEST(addresses_that_are_none_are_refused),
        TEST(networks_are_matched_bit_by_bit),
        TEST(networks_that_are_none_are_refused),
        TEST(users_are_a_list_or_anyone),
        TEST(the_environment_counts_only_where_the_file_says_so),
        TEST(a_variable_without_value_or_default_is_an_error),
        TEST(what_a_variable_holds_is_not_read_as_ini),
        TEST(the_original_systems_variables_work_through_the_shipped_file),
        TEST(the_shipped_file_asks_for_an_upstream),
        TEST(a_database_inherits_what_it_leaves_empty),
        TEST(a_url_of_its_own_says_who_logs_in),
        TEST(the_stars_password_goes_to_no_other_server),
        TEST(without_a_star_an_unknown_name_has_no_upstream),
        TEST(a_url_is_never_quoted_in_an_error),
        TEST(every_mistake_is_listed_with_its_line),
        TEST(sums_are_looked_at_whatever_else_is_wrong),
        TEST(every_line_that_is_nothing_is_listed),
        TEST(one_mistake_is_one_error),
        TEST(a_section_without_keys_is_one),
        TEST(long_names_of_sections_are_told_apart),
        TEST(a_line_may_be_long),
        TEST(length_makes_no_difference),
        TEST(a_mark_of_byte_order_is_no_line),
        TEST(lines_that_inih_would_misread_are_refused),
        TEST(sums_that_cannot_hold_are_refused),
        TEST(a_proxy_to_itself_is_refused),
        TEST(an_address_is_its_own_in_any_spelling),
        TEST(every_address_of_this_machine_is_its_own_behind_a_wildcard),
        TEST(two_listeners_need_two_addresses),
        TEST(someone_must_be_able_to_tell_who_a_client_is),
        TEST(asking_the_upstream_needs_somebody_who_asks_and_a_name),
        TEST(trust_beyond_loopback_needs_a_word),
        TEST(tls_needs_its_files),
        TEST(a_file_without_its_main_sections_is_refused),
        TEST(a_file_that_cannot_be_read_says_so),
        TEST(show_config_tells_what_is_in_force_without_secrets),
        TEST(a_reload_keeps_what_needs_a_restart),
        TEST(a_changed_value_is_checked_like_a_files),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
