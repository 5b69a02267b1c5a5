/*
 * test_reset.c - which start-up settings a text may have reset, and how they are put in force again.
 */
#include <stdarg.h>
#include <setjmp.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "policy/reset.h"

static struct settings_table table;

static struct settings *base_of(const char *const names[])
{
    struct settings_draft draft = {0};
    for (size_t i = 0; names[i]; i++)
        settings_draft_add(&draft, names[i], "it's");
    return settings_intern(&table, &draft);
}

static const char *const usual[] = {"application_name", NULL};
static const char *const many[] = {"application_name", "client_encoding", "my.own",
                                   "search_path",      "TimeZone",        NULL};

static uint8_t of(const char *const names[], const char *text)
{
    struct settings *base = base_of(names);
    uint8_t reset = reset_of(base, text, strlen(text));
    settings_drop(&table, base);
    return reset;
}

static void test_what_is_not_of_the_base_needs_nothing(void **state)
{
    static const char *const texts[] = {"RESET work_mem",
                                        "SET work_mem TO DEFAULT",
                                        "BEGIN; RESET work_mem",
                                        "/* x */ RESET work_mem",
                                        "RESET \"work_mem\"",
                                        "DISCARD PLANS",
                                        "SET small TO DEFAULT; SELECT wall",
                                        "RESET TIME ZONE",
                                        "RESET ROLE"};
    (void)state;
    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++)
        assert_int_equal(of(usual, texts[i]), RESET_NOTHING);
    assert_int_equal(of((const char *const[]){NULL}, "RESET ALL"), RESET_NOTHING);
}

static void test_one_statement_alone_is_known(void **state)
{
    static const struct {
        const char *text;
        uint8_t reset;
    } texts[] = {
        {"RESET TimeZone", 4},
        {" reset  TIMEZONE ; \n", 4},
        {"RESET TIME ZONE", 4},
        {"SET TIME ZONE LOCAL", 4},
        {"SET LOCAL TIME ZONE DEFAULT", 4},
        {"SET timezone=default;", 4},
        {"SET SESSION TimeZone TO DEFAULT", 4},
        {"SET LOCAL my.own = DEFAULT", 2},
        {"RESET my.own", 2},
        {"RESET client_encoding", 1},
        {"RESET ALL", RESET_ALL},
        {"DISCARD ALL;", RESET_ALL},
    };
    (void)state;
    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++)
        assert_int_equal(of(many, texts[i].text), texts[i].reset);
}

static void test_in_anything_else_the_server_must_look(void **state)
{
    static const char *const texts[] = {"RESET TimeZone; SET TimeZone = 'UTC'",
                                        "RESET \"TimeZone\"",
                                        "RESET U&\"T\\0069meZone\"",
                                        "BEGIN; RESET my . own",
                                        "/* x */ RESET ALL",
                                        "SET NAMES DEFAULT",
                                        "SELECT 1; SET TIME ZONE DEFAULT",
                                        "SET TimeZone TO DEFAULT; SELECT 1",
                                        "SET work_mem = 1; RESET search_path"};
    (void)state;
    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++)
        assert_int_equal(of(many, texts[i]), RESET_SOME);
}

static void test_a_setting_is_restored_by_set_unless_it_is_a_list_of_names(void **state)
{
    (void)state;
    struct settings *base = base_of(many);
    struct buffer sql = {0};
    assert_true(session_restore_one(&sql, base, 2, true));
    assert_string_equal((const char *)buffer_bytes(&sql), "SET LOCAL \"my\".\"own\" TO  E'it''s'");
    size_t length = buffer_length(&sql);
    assert_true(session_restore_one(&sql, base, 4, false));
    assert_string_equal((const char *)buffer_bytes(&sql) + length, "SET \"TimeZone\" TO  E'it''s'");
    length = buffer_length(&sql);
    assert_false(session_restore_one(&sql, base, 3, false));
    assert_false(session_restore_one(&sql, base, 5, false));
    assert_int_equal(buffer_length(&sql), length);
    buffer_free(&sql);
    settings_drop(&table, base);
}

static void test_words_are_found_as_words(void **state)
{
    (void)state;
    assert_true(reset_mentions("x;COPY t", 8, "copy"));
    assert_false(reset_mentions("copying", 7, "copy"));
    assert_false(reset_mentions("a_copy", 6, "copy"));
    assert_true(reset_mentions("copy", 4, "copy"));
    assert_false(reset_mentions("cop", 3, "copy"));
    assert_null(table.by_text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_what_is_not_of_the_base_needs_nothing),
        cmocka_unit_test(test_one_statement_alone_is_known),
        cmocka_unit_test(test_in_anything_else_the_server_must_look),
        cmocka_unit_test(test_a_setting_is_restored_by_set_unless_it_is_a_list_of_names),
        cmocka_unit_test(test_words_are_found_as_words),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
