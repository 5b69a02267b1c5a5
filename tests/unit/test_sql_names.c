/*
 * test_sql_names.c - the settings that a statement names, which the server would not list by itself.
 *
 * A custom setting whose name is missed is lost at the next hand-over; a set_config() for the transaction alone
 * that is taken for more costs a question at each request of a whole kind of applications.
 */
#include "proto/sql_names.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

static void collect(void *arg, const char *name)
{
    char *all = arg;
    snprintf(all + strlen(all), 256 - strlen(all), "%s ", name ? name : "(not told)");
}

static void assert_names(const char *text, uint32_t config, const char *names)
{
    char all[256] = "";
    uint32_t got = sql_names(text, strlen(text), collect, all);
    assert_int_equal((got & SQL_CONFIG_SEEN) != 0, strstr(text, "set_config") != NULL);
    got &= ~(uint32_t)(SQL_CONFIG_SEEN | SQL_CONFIG_READING);
    if (got != config || strcmp(all, names) != 0)
        fail_msg("%s: config %u, names '%s'", text, got, all);
}

static void test_custom_settings_of_set_are_named(void **state)
{
    (void)state;
    assert_names("SET my.tenant = 'x'", 0, "my.tenant ");
    assert_names("set session My.Tenant to 1", 0, "my.tenant ");
    assert_names("SET \"my\".\"tenant\" = 1", 0, "my.tenant ");
    assert_names("SET local.tenant = 'x'", 0, "local.tenant ");
    assert_names("SET LOCAL my.tenant = 'x'", 0, "my.tenant ");
    assert_names("SET a.b.c = 1; SET d.e = 2", 0, "a.b.c d.e ");
    assert_names("SET work_mem = '1MB'", 0, "");
    assert_names("SET search_path = a, b.c", 0, "");
    assert_names("-- SET a.b = 1\n/* SET c.d = 1 */ SELECT 'SET e.f = 1'", 0, "");
    assert_names("/* a /* SET b.c = 1 */ SET d.e = 1 */ SET f.g = 1", 0, "f.g ");
    assert_names("/*/ SET b.c = 1 */ SET f.g = 1 /* SET h.i = 1", 0, "f.g ");
    assert_names("SELECT current_setting('my.x', true), current_setting('work_mem')", 0, "my.x ");
}

static void test_set_config_says_what_it_sets(void **state)
{
    (void)state;
    assert_names("SELECT set_config('my.x', 'y', false)", SQL_CONFIG_SETTING, "my.x ");
    assert_names("SELECT set_config('work_mem', '1MB', 'f')", SQL_CONFIG_SETTING, "");
    assert_names("SELECT set_config('my.x', 'y', true)", 0, "");
    assert_names("SELECT set_config($1, $2, true), set_config('role', $3, TRUE)", 0, "");
    assert_names("SELECT set_config($1, 'y', false)", SQL_CONFIG_UNKNOWN, "");
    assert_names("SELECT set_config('a' || 'b', 'y', false)", SQL_CONFIG_UNKNOWN, "");
    assert_names("SELECT set_config('it''s', 'y', false)", SQL_CONFIG_UNKNOWN, "");
    assert_names("SELECT set_config('role', 'bob', false)", SQL_CONFIG_ROLE, "");
    assert_names("SELECT set_config('seed', '0.5', true)", SQL_CONFIG_SEED, "");
    assert_names("SELECT set_config('a.b', f(1, (2)), false)", SQL_CONFIG_SETTING, "a.b ");
    assert_names("SELECT set_config('a.b', $1, $2)", SQL_CONFIG_SETTING, "a.b ");
    assert_names("SELECT set_config('a.b', set_config('c.d', 'x', false), true)",
                 SQL_CONFIG_SETTING, "c.d ");
    assert_names("SELECT set_config", SQL_CONFIG_UNKNOWN, "");
    assert_names("SELECT set_config('a.b', 'x'", SQL_CONFIG_UNKNOWN, "");
}

static bool changes_reading(const char *text)
{
    char all[256] = "";
    return sql_names(text, strlen(text), collect, all) & SQL_CONFIG_READING;
}

static void test_custom_settings_do_not_change_how_a_text_is_read(void **state)
{
    (void)state;
    assert_false(changes_reading("SELECT set_config('request.jwt.claims', $1, true)"));
    assert_false(changes_reading("SET LOCAL app.tenant = 7; SELECT set_config('a.b', 'c', false)"));
    assert_true(
        changes_reading("SELECT set_config('a.b', $1, true), set_config('role', $2, true)"));
    assert_true(changes_reading("SELECT set_config($1, 'c', true)"));
    assert_true(changes_reading("SET LOCAL DateStyle = 'ISO, DMY'"));
    assert_true(changes_reading("SET LOCAL \"date\"\"style\" = 'ISO'"));
    assert_true(changes_reading("SET LOCAL TIME ZONE 'UTC'"));
}

static void test_hostile_names_are_not_learned(void **state)
{
    char text[400];
    (void)state;
    assert_names("SELECT current_setting('a.\xff', true)", 0, "(not told) ");
    assert_names("SET \"my.gr\xc3\xb6\xc3\x9f\x65\" = 1; SET a.b = 1", 0, "(not told) a.b ");
    assert_names("SELECT set_config('a.b; DROP TABLE t', 'y', false)", SQL_CONFIG_SETTING, "");
    memset(text, 'x', sizeof(text) - 1);
    memcpy(text, "SET a.", 6);
    text[sizeof(text) - 1] = '\0';
    assert_names(text, 0, "a.xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx ");
}

/* As the server reads them, or one client's setting is the next one's. */
static void test_literals_of_every_kind_are_read_to_their_end(void **state)
{
    (void)state;
    assert_names("SELECT E'\\'', set_config('a.b', 'evil', false)", SQL_CONFIG_SETTING, "a.b ");
    assert_names("SELECT E'it''s\\\\', set_config('a.b', 'evil', false)", SQL_CONFIG_SETTING,
                 "a.b ");
    assert_names("SELECT $$it's$$, set_config('a.b', 'evil', false)", SQL_CONFIG_SETTING, "a.b ");
    assert_names("SELECT $x$ $$ ' $x$; SET my.tenant = 'A'", 0, "my.tenant ");
    assert_names("SELECT set_config('a.b', $1, \"true\") FROM t", SQL_CONFIG_SETTING, "a.b ");
    assert_names("SELECT \"set_config\"('a.b', $1, false)", SQL_CONFIG_SETTING, "a.b ");
    assert_names("SELECT set_config('a.b', $1, false) -- $$", SQL_CONFIG_SETTING, "a.b ");
}

static void test_many_nested_calls_cost_little(void **state)
{
    static char text[40000];
    size_t used = 0;
    (void)state;
    while (used + 40 < sizeof(text))
        used += (size_t)snprintf(text + used, sizeof(text) - used, "set_config('a',");
    assert_int_equal(sql_names(text, used, collect, (char[256]){""}),
                     SQL_CONFIG_UNKNOWN | SQL_CONFIG_SEEN | SQL_CONFIG_READING);
}

static void collect_statement(void *arg, const char *name, size_t length)
{
    char *all = arg;
    snprintf(all + strlen(all), 256 - strlen(all), "%.*s ", name ? (int)length : 1,
             name ? name : "?");
}

static void assert_statements(const char *text, const char *names)
{
    char all[256] = "";
    sql_statement_names(text, strlen(text), collect_statement, all);
    assert_string_equal(all, names);
}

static void test_prepared_statements_are_named_as_the_server_reads_them(void **state)
{
    (void)state;
    assert_statements("EXECUTE Foo(1); DEALLOCATE PREPARE \"Foo\"", "foo Foo ");
    assert_statements("/* a */ deallocate /* b */ m\xc3\xbc; prepare a$1 AS SELECT 1",
                      "m\xc3\xbc a$1 ");
    assert_statements("DEALLOCATE \"a\"\"b\"; EXECUTE U&\"\\0061\"", "? ? ");
    assert_statements("EXECUTE u", "u ");
    assert_statements("SELECT 'EXECUTE a', $$EXECUTE b$$ -- EXECUTE c", "");
    assert_statements("DEALLOCATE", "");
    assert_statements("DEALLOCATE prepare; DEALLOCATE PREPARE prepare", "prepare prepare ");
    assert_statements("DEALLOCATE PREPARE \"a\"; DEALLOCATE PREPARE", "a prepare ");
    assert_statements("EXECUTE nnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnX",
                      "nnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnn ");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_custom_settings_of_set_are_named),
        cmocka_unit_test(test_set_config_says_what_it_sets),
        cmocka_unit_test(test_custom_settings_do_not_change_how_a_text_is_read),
        cmocka_unit_test(test_hostile_names_are_not_learned),
        cmocka_unit_test(test_literals_of_every_kind_are_read_to_their_end),
        cmocka_unit_test(test_prepared_statements_are_named_as_the_server_reads_them),
        cmocka_unit_test(test_many_nested_calls_cost_little),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
