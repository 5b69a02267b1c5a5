/*
 * test_pin.c - what ties a client to its backend, and what is asked before it does.
 */
#include "policy/pin.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "proto/build.h"
#include "proto/sql.h"

static void assert_judged(uint32_t signs, uint32_t pins, bool asks_functions, uint32_t at_once,
                          uint32_t asked)
{
    struct pin_verdict verdict = pin_judge(signs, pins, asks_functions);
    assert_int_equal(verdict.pins, at_once);
    assert_int_equal(verdict.asks, asked);
}

static void test_signs_raise_questions_or_pin_at_once(void **state)
{
    uint32_t setting = PIN_BIT(PIN_SETTING) | PIN_BIT(PIN_REQUEST) | PIN_BIT(PIN_ROLE);
    (void)state;
    assert_judged(0, 0, true, 0, 0);
    assert_judged(SQL_SIGN_SET, 0, true, 0, setting);
    assert_judged(SQL_SIGN_SET | SQL_SIGN_ROLE, 0, true, 0, setting | PIN_BIT(PIN_ROLE));
    assert_judged(SQL_SIGN_LISTEN, 0, true, 0, PIN_BIT(PIN_LISTEN));
    assert_judged(SQL_SIGN_CREATE, 0, true, 0, PIN_BIT(PIN_TEMP));
    assert_judged(SQL_SIGN_SPOIL, 0, true, PIN_BIT(PIN_OTHER), 0);
    assert_judged(SQL_SIGN_LOAD, 0, true, PIN_BIT(PIN_LOAD), 0);
    assert_judged(SQL_SIGN_SEQUENCE, 0, true, PIN_BIT(PIN_SEQUENCE), 0);
    assert_judged(SQL_SIGN_CODE, 0, false, 0, PINS_ASKABLE);
    assert_judged(SQL_SIGN_DISCARD | SQL_SIGN_RESET, 0, false, 0, PINS_ASKABLE);
    assert_judged(SQL_SIGN_TRANSACTION | SQL_SIGN_INSERT, 0, true, 0, 0);
}

static void test_functions_are_asked_about_where_the_pool_says_so(void **state)
{
    (void)state;
    assert_judged(SQL_SIGN_FUNCTION, 0, true, 0, PINS_ASKABLE);
    assert_judged(SQL_SIGN_FUNCTION, 0, false, 0, 0);
}

static void test_set_config_alone_is_left_to_its_names(void **state)
{
    (void)state;
    assert_judged(SQL_SIGN_CONFIG, 0, true, 0, 0);
}

static void test_set_is_asked_about_whatever_set_config_stands_beside_it(void **state)
{
    (void)state;
    assert_judged(SQL_SIGN_SET | SQL_SIGN_CONFIG, 0, true, 0,
                  PIN_BIT(PIN_SETTING) | PIN_BIT(PIN_REQUEST) | PIN_BIT(PIN_ROLE));
}

static void test_an_undoing_asks_about_what_is_held_only(void **state)
{
    (void)state;
    assert_judged(SQL_SIGN_UNDO, 0, true, 0, 0);
    assert_judged(SQL_SIGN_UNDO, PIN_BIT(PIN_TEMP) | PIN_BIT(PIN_LOAD), true, 0, PIN_BIT(PIN_TEMP));
}

static void test_names_fit_where_they_are_put(void **state)
{
    char text[32];
    char tiny[6];
    (void)state;
    pin_names(0, text, sizeof(text));
    assert_string_equal(text, "");
    pin_names(PIN_BIT(PIN_LISTEN) | PIN_BIT(PIN_TEMP), text, sizeof(text));
    assert_string_equal(text, "listen, temp table");
    pin_names(UINT32_MAX, tiny, sizeof(tiny));
    assert_int_equal(strlen(tiny), sizeof(tiny) - 1);
}

static void test_a_question_has_a_part_for_each_reason(void **state)
{
    struct buffer sql = {0};
    (void)state;
    pin_question(&sql, PINS_ASKABLE, "o'brien", "my.tenant\0");
    buffer_append(&sql, "", 1);
    const char *text = (const char *)buffer_bytes(&sql);
    const char *parts[] = {"pg_settings",
                           "pg_listening_channels",
                           "pg_prepared_statements",
                           "pg_depend",
                           "pg_locks",
                           "pg_cursors",
                           "pgreserve.pin",
                           "'o''brien'",
                           "ARRAY[ E'my.tenant']"};
    for (size_t i = 0; i < sizeof(parts) / sizeof(parts[0]); i++)
        assert_non_null(strstr(text, parts[i]));
    assert_null(strstr(text, "SELECT UNION"));
    buffer_free(&sql);
    buffer_free_list_empty();
}

/* A DataRow's body of three texts; a length of -1 is NULL. */
static size_t make_row(uint8_t *out, const char *kind, const char *name, const char *value)
{
    const char *columns[] = {kind, name, value};
    size_t used = 0;
    out[used++] = 0;
    out[used++] = 3;
    for (int i = 0; i < 3; i++) {
        uint32_t length = columns[i] ? (uint32_t)strlen(columns[i]) : UINT32_MAX;
        for (int shift = 24; shift >= 0; shift -= 8)
            out[used++] = (uint8_t)(length >> shift);
        if (columns[i]) {
            memcpy(out + used, columns[i], length);
            used += length;
        }
    }
    return used;
}

static void test_rows_say_settings_and_pins(void **state)
{
    uint8_t body[128];
    char copy[130];
    const char *name;
    const char *value;
    enum pin pin;
    (void)state;
    size_t length = make_row(body, "s", "work_mem", "77");
    assert_int_equal(pin_read_row(body, length, copy, &name, &value, &pin), PIN_ROW_SETTING);
    assert_string_equal(name, "work_mem");
    assert_string_equal(value, "77");
    length = make_row(body, "t", "", "");
    assert_int_equal(pin_read_row(body, length, copy, &name, &value, &pin), PIN_ROW_PIN);
    assert_int_equal(pin, PIN_TEMP);
    length = make_row(body, "s", "my.x", NULL);
    assert_int_equal(pin_read_row(body, length, copy, &name, &value, &pin), PIN_ROW_NONE);
    length = make_row(body, "?", "", "");
    assert_int_equal(pin_read_row(body, length, copy, &name, &value, &pin), PIN_ROW_NONE);
}

static void test_rows_cut_anywhere_are_refused(void **state)
{
    uint8_t body[128];
    (void)state;
    size_t length = make_row(body, "s", "work_mem", "77");
    for (size_t cut = 0; cut < length; cut++) {
        char copy[130];
        const char *name;
        const char *value;
        enum pin pin;
        assert_int_equal(pin_read_row(body, cut, copy, &name, &value, &pin), PIN_ROW_NONE);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_signs_raise_questions_or_pin_at_once),
        cmocka_unit_test(test_functions_are_asked_about_where_the_pool_says_so),
        cmocka_unit_test(test_set_config_alone_is_left_to_its_names),
        cmocka_unit_test(test_set_is_asked_about_whatever_set_config_stands_beside_it),
        cmocka_unit_test(test_an_undoing_asks_about_what_is_held_only),
        cmocka_unit_test(test_names_fit_where_they_are_put),
        cmocka_unit_test(test_a_question_has_a_part_for_each_reason),
        cmocka_unit_test(test_rows_say_settings_and_pins),
        cmocka_unit_test(test_rows_cut_anywhere_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
