/*
 * test_session.c - settings travel: what one client set is put in force for it, and nothing of it for the next.
 *
 * Settings are compared by address, so equal lists must be one; and the statements that turn one session into
 * another must name exactly what differs.
 */
#include "policy/session.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static struct settings_table table;

/* A list from pairs, ended by NULL. */
static struct settings *list_of(const char *first, ...)
{
    struct settings_draft draft = {0};
    va_list args;
    va_start(args, first);
    for (const char *name = first; name; name = va_arg(args, const char *))
        settings_draft_add(&draft, name, va_arg(args, const char *));
    va_end(args);
    return settings_intern(&table, &draft);
}

static void assert_difference(const struct settings *from, const struct settings *to,
                              bool is_unknown, const char *expected)
{
    struct buffer sql = {0};
    session_difference(&sql, from, to, is_unknown);
    buffer_append(&sql, "", 1);
    assert_string_equal((const char *)buffer_bytes(&sql), expected);
    buffer_free(&sql);
}

static int all_gone(void **state)
{
    (void)state;
    assert_null(table.by_text); /* every reference was given back */
    buffer_free_list_empty();
    return 0;
}

static void test_equal_lists_are_one_list(void **state)
{
    (void)state;
    struct settings *one = list_of("b", "2", "a", "1", NULL);
    struct settings *two = list_of("a", "1", "b", "2", NULL);
    struct settings *other = list_of("a", "1", "b", "3", NULL);
    assert_ptr_equal(one, two);
    assert_ptr_not_equal(one, other);
    assert_int_equal(one->count, 2);
    settings_drop(&table, one);
    settings_drop(&table, two);
    settings_drop(&table, other);
}

/* The server's number is text like any other. */
static void test_an_idle_timeout_is_a_number_of_ms_or_none(void **state)
{
    static const struct {
        const char *value;
        int64_t us;
    } cases[] = {
        {"200", 200000},         {"2147483647", 2147483647000}, {"0", 0},  {"2147483648", 0},
        {"9223372036854775", 0}, {"9999999999999999999999", 0}, {"-1", 0}, {"", 0}};
    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct settings *one = list_of("Idle_Session_Timeout", cases[i].value, NULL);
        assert_int_equal(one->idle_session_us, cases[i].us);
        settings_drop(&table, one);
    }
}

static void test_the_last_value_of_a_name_counts_in_any_case(void **state)
{
    (void)state;
    struct settings *list = list_of("TimeZone", "UTC", "timezone", "Asia/Tokyo", NULL);
    assert_int_equal(list->count, 1);
    assert_string_equal(settings_get(list, "TIMEZONE"), "Asia/Tokyo");
    assert_null(settings_get(list, "work_mem"));
    struct settings *changed = settings_with(&table, list, "TimeZone", "UTC");
    assert_string_equal(settings_get(changed, "timezone"), "UTC");
    assert_string_equal(settings_get(list, "timezone"), "Asia/Tokyo");
    settings_drop(&table, list);
    settings_drop(&table, changed);
}

static void test_equal_sessions_need_nothing(void **state)
{
    (void)state;
    struct settings *list = list_of("work_mem", "5MB", NULL);
    assert_difference(list, list, false, "");
    settings_drop(&table, list);
}

static void test_what_the_next_lacks_is_reset_and_what_differs_is_set(void **state)
{
    (void)state;
    struct settings *from = list_of("work_mem", "5", "search_path", "a", "my.tenant", "x", NULL);
    struct settings *to = list_of("search_path", "\"$user\", b", "DateStyle", "it's", NULL);
    assert_difference(from, to, false,
                      "RESET \"my\".\"tenant\";RESET \"work_mem\";"
                      "SELECT pg_catalog.set_config( E'DateStyle', E'it''s',false)"
                      ",pg_catalog.set_config( E'search_path', E'\"$user\", b',false)");
    assert_difference(to, from, true,
                      "RESET ALL;SELECT pg_catalog.set_config( E'my.tenant', E'x',false)"
                      ",pg_catalog.set_config( E'search_path', E'a',false)"
                      ",pg_catalog.set_config( E'work_mem', E'5',false)");
    settings_drop(&table, from);
    settings_drop(&table, to);
}

static void test_names_cannot_break_out_of_their_quotes(void **state)
{
    (void)state;
    struct settings *from = list_of("a\"; DROP TABLE t; --", "1", NULL);
    struct settings *to = list_of(NULL, NULL);
    assert_difference(from, to, false, "RESET \"a\"\"; DROP TABLE t; --\";");
    settings_drop(&table, from);
    settings_drop(&table, to);
}

static void test_a_restore_asks_the_server_what_was_reset(void **state)
{
    (void)state;
    struct settings *base = list_of("TimeZone", "UTC", "my.x", "1", NULL);
    struct buffer sql = {0};
    session_restore(&sql, base, false);
    buffer_append(&sql, "", 1);
    assert_non_null(strstr((const char *)buffer_bytes(&sql),
                           "( E'my.x', E'1',true),( E'TimeZone', E'UTC',false)"));
    buffer_free(&sql);
    settings_drop(&table, base);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_an_idle_timeout_is_a_number_of_ms_or_none),
        cmocka_unit_test(test_equal_lists_are_one_list),
        cmocka_unit_test(test_the_last_value_of_a_name_counts_in_any_case),
        cmocka_unit_test(test_equal_sessions_need_nothing),
        cmocka_unit_test(test_what_the_next_lacks_is_reset_and_what_differs_is_set),
        cmocka_unit_test(test_names_cannot_break_out_of_their_quotes),
        cmocka_unit_test(test_a_restore_asks_the_server_what_was_reset),
    };
    return cmocka_run_group_tests(tests, NULL, all_gone);
}
