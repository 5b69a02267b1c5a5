/*
 * test_show_row.c - whatever bytes a cell is made of, a row is readable, bounded and has a cell a column.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "admin/show_row.h"

static const char *given; /* the text of every cell of the row under test */
static char *seen[SHOW_COLUMNS_MAX];
static size_t seen_count;

static void rows(const struct proxy *proxy, struct show_row *row)
{
    (void)proxy;
    row_text(row, given);
    row_format(row, "%s", given);
    row_text(row, given);
    row_text(row, NULL);
    row_number(row, -7);
    row_end(row);
}

static const struct show_column columns[] = {
    {"text", SHOW_TEXT, SHOW_PUBLIC},   {"made", SHOW_TEXT, SHOW_PUBLIC},
    {"query", SHOW_TEXT, SHOW_QUERIES}, {"null", SHOW_TEXT, SHOW_PUBLIC},
    {"number", SHOW_INT4, SHOW_PUBLIC}, {NULL, SHOW_TEXT, SHOW_PUBLIC},
};
static const struct show_table table = {"TEST", columns, rows, NULL};

static bool keep(void *arg, const char *const *cells, size_t count)
{
    (void)arg;
    seen_count = count;
    for (size_t i = 0; i < count; i++) {
        free(seen[i]);
        seen[i] = cells[i] ? strdup(cells[i]) : NULL;
    }
    return true;
}

static void show(const char *text, enum show_privacy allowed)
{
    given = text;
    show_walk(&table, NULL, allowed, keep, NULL);
    assert_int_equal(seen_count, 5);
    assert_null(seen[3]);
}

static void what_is_utf8_stays(void **state)
{
    (void)state;
    show("caf\xc3\xa9 \xe2\x82\xac \xf0\x9f\x90\x98 \xed\x9f\xbf \xf4\x8f\xbf\xbf", SHOW_QUERIES);
    assert_string_equal(seen[0], given);
    assert_string_equal(seen[1], given);
    assert_string_equal(seen[2], given);
    assert_string_equal(seen[4], "-7");
}

static void what_is_none_becomes_question_marks(void **state)
{
    static const char *const cases[][2] = {
        {"\xe4", "?"},
        {"a\xc3", "a?"},
        {"\xe2\x82", "??"},
        {"\xc0\xaf", "??"},
        {"\xe0\x9f\xbf", "???"},
        {"\xed\xa0\x80", "???"},
        {"\xf0\x8f\xbf\xbf", "????"},
        {"\xf4\x90\x80\x80", "????"},
        {"\xff\xfe x \xc3\xa9", "?? x \xc3\xa9"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        show(cases[i][0], SHOW_QUERIES);
        for (int cell = 0; cell < 3; cell++)
            assert_string_equal(seen[cell], cases[i][1]);
    }
}

static void a_private_column_is_null_to_who_may_not_see_it(void **state)
{
    (void)state;
    show("secret", SHOW_ADDRESSES);
    assert_string_equal(seen[0], "secret");
    assert_null(seen[2]);
}

static void what_does_not_fit_is_cut(void **state)
{
    char *text = malloc(3 * SHOW_ROW_BYTES);
    (void)state;
    memset(text, 0xe4, 3 * SHOW_ROW_BYTES - 1); /* none of it is UTF-8, so all of it is copied */
    text[3 * SHOW_ROW_BYTES - 1] = '\0';
    show(text, SHOW_QUERIES);
    size_t sum = 0;
    for (int cell = 0; cell < 3; cell++)
        sum += strlen(seen[cell]);
    assert_true(sum > 0 && sum <= 2 * SHOW_ROW_BYTES);
    free(text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_utf8_stays),
        cmocka_unit_test(what_is_none_becomes_question_marks),
        cmocka_unit_test(a_private_column_is_null_to_who_may_not_see_it),
        cmocka_unit_test(what_does_not_fit_is_cut),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    for (size_t i = 0; i < SHOW_COLUMNS_MAX; i++)
        free(seen[i]);
    return failed;
}
