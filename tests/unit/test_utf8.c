/*
 * test_utf8.c - text that a client chose must not break a document that others read.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/utf8.h"

static void assert_clean(const char *text, size_t bytes, const char *expected)
{
    char *clean = utf8_clean(text, bytes);
    assert_string_equal(clean, expected);
    free(clean);
}

static void characters_are_told_from_stray_bytes(void **state)
{
    (void)state;
    assert_int_equal(utf8_character_bytes("a"), 1);
    assert_int_equal(utf8_character_bytes("\xc3\xbc"), 2);
    assert_int_equal(utf8_character_bytes("\xe2\x82\xac"), 3);
    assert_int_equal(utf8_character_bytes("\xf0\x9f\x90\x98"), 4);
    assert_int_equal(utf8_character_bytes(""), 0);
    assert_int_equal(utf8_character_bytes("\xbf"), 0);
    assert_int_equal(utf8_character_bytes("\xc0\xaf"), 0);         /* an overlong slash */
    assert_int_equal(utf8_character_bytes("\xe0\x9f\xbf"), 0);     /* overlong in three bytes */
    assert_int_equal(utf8_character_bytes("\xed\xa0\x80"), 0);     /* half a surrogate pair */
    assert_int_equal(utf8_character_bytes("\xf4\x90\x80\x80"), 0); /* beyond the last character */
    assert_int_equal(utf8_character_bytes("\xf0\x9f\x90"), 0);     /* cut */
}

static void good_text_stays_as_it_is(void **state)
{
    (void)state;
    assert_clean("SELECT 'J\xc3\xbcrgen \xf0\x9f\x90\x98'\n\t-- ok", 1000,
                 "SELECT 'J\xc3\xbcrgen \xf0\x9f\x90\x98'\n\t-- ok");
    assert_clean("", 1000, "");
}

static void stray_bytes_become_question_marks(void **state)
{
    (void)state;
    assert_clean("J\xfcrgen", 1000, "J?rgen");
    assert_clean("\xff\xfe", 1000, "??");
    assert_clean("end \xe2\x82", 1000, "end ??");
}

static void long_text_is_cut_between_characters(void **state)
{
    (void)state;
    assert_clean("abcdef", 3, "abc");
    assert_clean("ab\xe2\x82\xac", 4, "ab");
    assert_clean("ab\xe2\x82\xac", 5, "ab\xe2\x82\xac");
    assert_clean("ab", 0, "");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(characters_are_told_from_stray_bytes),
        cmocka_unit_test(good_text_stays_as_it_is),
        cmocka_unit_test(stray_bytes_become_question_marks),
        cmocka_unit_test(long_text_is_cut_between_characters),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
