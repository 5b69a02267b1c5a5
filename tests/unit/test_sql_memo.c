/* Texts that are known again must mean what they mean when they are read, and no other text may pass for one. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "proto/sql.h"
#include "proto/sql_memo.h"

static struct sql_memo memo;

static void check(const char *text)
{
    for (int i = 0; i < 4; i++)
        assert_int_equal(sql_memo_signs(&memo, text, strlen(text)), sql_signs(text, strlen(text)));
}

static void a_text_means_the_same_each_time(void **state)
{
    (void)state;
    check("SET search_path = elsewhere");
    check("SELECT abalance FROM pgbench_accounts WHERE aid = $1");
    check("LISTEN a_channel");
    check("");
    check("SET a=1");
    check("SET a=12");
}

/* Alike in all that the key is made of: length, beginning, middle, end. */
static void texts_with_one_key_are_told_apart(void **state)
{
    static const char *const texts[] = {
        "SELECT 1; LISTEN a; SELECT 1 FROM a WHERE 1 = 1",
        "SELECT 1; select a; SELECT 1 FROM a WHERE 1 = 1",
    };
    (void)state;
    assert_int_equal(strlen(texts[0]), strlen(texts[1]));
    assert_int_not_equal(sql_signs(texts[0], strlen(texts[0])),
                         sql_signs(texts[1], strlen(texts[1])));
    for (int i = 0; i < 8; i++)
        check(texts[i % 2]);
}

/* Numbers may be others; digits in words, in tags of dollar quotes and in halves of characters may not. */
static void digits_count_where_they_are_no_number(void **state)
{
    static const char *const pairs[][2] = {
        {"SELECT int4(1); SELECT 12345678", "SELECT int5(1); SELECT 12345678"},
        {"SELECT $a1$ LISTEN a $a1$; SELECT 1", "SELECT $a1$ LISTEN a $a2$; SELECT 1"},
        {"SELECT $a1$x$a1$; LISTEN a; SELECT $a2$", "SELECT $a1$x$a2$; LISTEN a; SELECT $a1$"},
        {"SELECT float4(1), float8(2), 12345678", "SELECT float5(1), float6(2), 12345678"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof(pairs) / sizeof(pairs[0]); i++) {
        check(pairs[i][0]);
        check(pairs[i][1]);
    }
    check("SELECT abalance FROM pgbench_accounts WHERE aid = 12345");
    check("SELECT abalance FROM pgbench_accounts WHERE aid = 98760");
    check("SELECT abalance FROM pgbench_accounts WHERE aid = 9876a");
}

static void many_texts_push_each_other_out(void **state)
{
    char text[SQL_MEMO_BYTES + 100];
    (void)state;
    for (int round = 0; round < 3; round++) {
        for (int i = 0; i < 2000; i++) {
            snprintf(text, sizeof(text), "%s a%d = %d", i % 3 ? "SET" : "SELECT", i, i);
            check(text);
        }
    }
}

static void a_text_may_have_any_length(void **state)
{
    char *text = calloc(1, SQL_MEMO_BYTES + 20);
    (void)state;
    memcpy(text, "SET x = ", 8);
    for (size_t length = 1; length < SQL_MEMO_BYTES + 16; length++) {
        char *exact = malloc(length); /* so that a sanitizer sees a look beyond it */
        if (length > 8)
            text[length - 1] = 'a';
        memcpy(exact, text, length);
        for (int i = 0; i < 3; i++)
            assert_int_equal(sql_memo_signs(&memo, exact, length), sql_signs(exact, length));
        free(exact);
    }
    free(text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_text_means_the_same_each_time),
        cmocka_unit_test(texts_with_one_key_are_told_apart),
        cmocka_unit_test(digits_count_where_they_are_no_number),
        cmocka_unit_test(many_texts_push_each_other_out),
        cmocka_unit_test(a_text_may_have_any_length),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
