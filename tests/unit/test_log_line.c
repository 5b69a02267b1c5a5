/*
 * test_log_line.c - a line of the log stays one line, whatever its values hold.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <jansson.h>

#include "base/log_line.h"

static struct log_line line;

static const char *logfmt(struct log_field field)
{
    log_line_begin(&line, false);
    log_line_add(&line, &field);
    return line.bytes;
}

static const char *json(struct log_field field)
{
    log_line_begin(&line, true);
    log_line_add(&line, &field);
    return line.bytes;
}

static void a_plain_word_needs_no_quotes(void **state)
{
    (void)state;
    assert_string_equal(logfmt(LOG_FIELD_TEXT("user", "alice")), "user=alice");
    assert_string_equal(logfmt(LOG_FIELD_TEXT("address", "127.0.0.1:5432")),
                        "address=127.0.0.1:5432");
    assert_string_equal(json(LOG_FIELD_TEXT("user", "alice")), "\"user\":\"alice\"");
}

static void what_would_end_a_value_early_is_quoted(void **state)
{
    (void)state;
    assert_string_equal(logfmt(LOG_FIELD_TEXT("user", "a b")), "user=\"a b\"");
    assert_string_equal(logfmt(LOG_FIELD_TEXT("user", "a=b")), "user=\"a=b\"");
    assert_string_equal(logfmt(LOG_FIELD_TEXT("user", "a\"b\\c")), "user=\"a\\\"b\\\\c\"");
    assert_string_equal(json(LOG_FIELD_TEXT("user", "a\"b\\c")), "\"user\":\"a\\\"b\\\\c\"");
}

static void newlines_and_terminal_escapes_stay_visible(void **state)
{
    (void)state;
    const char *hostile = "x\n2026 ERROR forged\r\t\x1b[31m\x7f";
    const char *shown = "\"x\\n2026 ERROR forged\\r\\t\\u001b[31m\\u007f\"";
    assert_string_equal(logfmt(LOG_FIELD_TEXT("user", hostile)) + 5, shown);
    assert_string_equal(json(LOG_FIELD_TEXT("user", hostile)) + 7, shown);
}

static void letters_of_all_scripts_stay_as_they_are(void **state)
{
    (void)state;
    assert_string_equal(logfmt(LOG_FIELD_TEXT("user", "Zoë 日本 🐘")), "user=\"Zoë 日本 🐘\"");
}

static void c1_controls_and_overrides_of_direction_are_escaped(void **state)
{
    (void)state;
    assert_string_equal(logfmt(LOG_FIELD_TEXT("user", "a\xc2\x9b"
                                                      "31m")),
                        "user=\"a\\u009b31m\"");
    assert_string_equal(logfmt(LOG_FIELD_TEXT("user", "a\xe2\x80\xaetxt")), "user=\"a\\u202etxt\"");
    assert_string_equal(logfmt(LOG_FIELD_TEXT("user", "a\xe2\x80\xa8z")), "user=\"a\\u2028z\"");
}

static void what_is_not_utf8_is_shown_as_bytes(void **state)
{
    (void)state;
    assert_string_equal(logfmt(LOG_FIELD_TEXT("user", "a\xff\xc3")), "user=\"a\\xff\\xc3\"");
    assert_string_equal(logfmt(LOG_FIELD_TEXT("user", "\xc0\xaf")), "user=\"\\xc0\\xaf\"");
    assert_string_equal(logfmt(LOG_FIELD_TEXT("user", "\xed\xa0\x80")), "user=\"\\xed\\xa0\\x80\"");
    assert_string_equal(json(LOG_FIELD_TEXT("user", "a\xff")), "\"user\":\"a\\ufffd\"");
}

static void numbers_and_times_are_bare(void **state)
{
    (void)state;
    assert_string_equal(logfmt(LOG_FIELD_NUMBER("pid", -7)), "pid=-7");
    assert_string_equal(json(LOG_FIELD_NUMBER("pid", INT64_MIN)), "\"pid\":-9223372036854775808");
    assert_string_equal(json(LOG_FIELD_SECONDS("held", 1.5)), "\"held\":1.500");
    assert_string_equal(json(LOG_FIELD_SECONDS("held", 0.0 / 0.0)), "\"held\":0.000");
}

static void an_absent_value_leaves_no_field(void **state)
{
    (void)state;
    assert_string_equal(logfmt(LOG_FIELD_TEXT("user", NULL)), "");
    assert_string_equal(logfmt(LOG_FIELD_TEXT("user", "")), "");
}

static void fields_are_told_apart(void **state)
{
    (void)state;
    for (int i = 0; i < 2; i++) {
        log_line_begin(&line, i == 1);
        log_line_add(&line, &LOG_FIELD_TEXT("event", "checkout"));
        log_line_add(&line, &LOG_FIELD_TEXT("user", ""));
        log_line_add(&line, &LOG_FIELD_NUMBER("pid", 5));
        assert_string_equal(line.bytes,
                            i == 0 ? "event=checkout pid=5" : "\"event\":\"checkout\",\"pid\":5");
    }
}

static void a_long_value_is_cut_between_characters(void **state)
{
    (void)state;
    char text[4 * LOG_VALUE_BYTES];
    for (size_t i = 0; i + 2 < sizeof(text); i += 2)
        memcpy(text + i, "é", 3);
    json_t *value;
    const char *shown = json(LOG_FIELD_TEXT("q", text));
    char object[LOG_LINE_BYTES + 3];
    snprintf(object, sizeof(object), "{%s}", shown);
    value = json_loads(object, 0, NULL);
    assert_non_null(value);
    assert_int_equal(strlen(json_string_value(json_object_get(value, "q"))), LOG_VALUE_BYTES);
    json_decref(value);
}

/* Whatever bytes come: the line never overflows, stays one line of UTF-8, and JSON stays JSON. */
static void random_bytes_never_break_a_line(void **state)
{
    (void)state;
    unsigned seed = 20260131;
    for (int round = 0; round < 3000; round++) {
        char text[3000];
        char object[LOG_LINE_BYTES + 3];
        log_line_begin(&line, round % 2);
        for (int field = 0; field < 14; field++) {
            size_t length = (size_t)rand_r(&seed) % (round % 7 ? 40 : sizeof(text) - 1);
            for (size_t i = 0; i < length; i++)
                text[i] = (char)(rand_r(&seed) % 255 + 1);
            if (round % 5 == 0) /* the longest form of all */
                memset(text, 1, length);
            text[length] = '\0';
            log_line_add(&line, &LOG_FIELD_TEXT("key", text));
        }
        assert_true(line.used < sizeof(line.bytes));
        assert_int_equal(strlen(line.bytes), line.used);
        for (size_t i = 0; i < line.used; i++)
            assert_true((unsigned char)line.bytes[i] >= 0x20 && line.bytes[i] != 0x7f);
        if (round % 2) {
            snprintf(object, sizeof(object), "{%s}", line.bytes);
            json_t *value = json_loads(object, 0, NULL);
            assert_non_null(value);
            json_decref(value);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_plain_word_needs_no_quotes),
        cmocka_unit_test(what_would_end_a_value_early_is_quoted),
        cmocka_unit_test(newlines_and_terminal_escapes_stay_visible),
        cmocka_unit_test(letters_of_all_scripts_stay_as_they_are),
        cmocka_unit_test(c1_controls_and_overrides_of_direction_are_escaped),
        cmocka_unit_test(what_is_not_utf8_is_shown_as_bytes),
        cmocka_unit_test(numbers_and_times_are_bare),
        cmocka_unit_test(an_absent_value_leaves_no_field),
        cmocka_unit_test(fields_are_told_apart),
        cmocka_unit_test(a_long_value_is_cut_between_characters),
        cmocka_unit_test(random_bytes_never_break_a_line),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
