/*
 * test_show_wire.c - rows as drivers read them: text, and binary as PostgreSQL's own send functions write it.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "admin/show_wire.h"
#include "proto/build.h"

static const struct show_column columns[] = {
    {"text", SHOW_TEXT, SHOW_PUBLIC},     {"int4", SHOW_INT4, SHOW_PUBLIC},
    {"int8", SHOW_INT8, SHOW_PUBLIC},     {"numeric", SHOW_NUMERIC, SHOW_PUBLIC},
    {"float8", SHOW_FLOAT8, SHOW_PUBLIC}, {"bool", SHOW_BOOL, SHOW_PUBLIC},
    {NULL, SHOW_TEXT, SHOW_PUBLIC},
};
static const struct wire_formats binary = {.all_binary = true};

/* The cells of a DataRow of one cell: its length and its bytes. */
static void check_cell(enum show_type type, const char *text, const void *bytes, size_t length)
{
    const struct show_column column[] = {{"x", type, SHOW_PUBLIC}, {NULL, SHOW_TEXT, SHOW_PUBLIC}};
    struct buffer out = {0};
    wire_row(column, &text, 1, &binary, &out);
    const uint8_t *at = buffer_bytes(&out);
    assert_int_equal(at[0], 'D');
    assert_int_equal(read_u32(at + 1), 4 + 2 + 4 + length);
    assert_int_equal(read_u16(at + 5), 1);
    assert_int_equal(read_u32(at + 7), length);
    assert_memory_equal(at + 11, bytes, length);
    buffer_free(&out);
}

static void numbers_are_big_endian(void **state)
{
    (void)state;
    check_cell(SHOW_INT4, "-2", "\xff\xff\xff\xfe", 4);
    check_cell(SHOW_INT4, "2147483647", "\x7f\xff\xff\xff", 4);
    check_cell(SHOW_INT8, "4294967296", "\0\0\0\x01\0\0\0\0", 8);
    check_cell(SHOW_FLOAT8, "1.5", "\x3f\xf8\0\0\0\0\0\0", 8);
    check_cell(SHOW_BOOL, "t", "\x01", 1);
    check_cell(SHOW_BOOL, "f", "\0", 1);
    check_cell(SHOW_TEXT, "app@adhoc", "app@adhoc", 9);
}

/* As SELECT numeric_send(n::numeric) shows it. */
static void numerics_are_digits_of_base_10000(void **state)
{
    (void)state;
    check_cell(SHOW_NUMERIC, "0", "\0\0\0\0\0\0\0\0", 8);
    check_cell(SHOW_NUMERIC, "7", "\0\1\0\0\0\0\0\0\0\7", 10);
    check_cell(SHOW_NUMERIC, "9999", "\0\1\0\0\0\0\0\0\x27\x0f", 10);
    check_cell(SHOW_NUMERIC, "10000", "\0\1\0\1\0\0\0\0\0\1", 10);
    check_cell(SHOW_NUMERIC, "10001", "\0\2\0\1\0\0\0\0\0\1\0\1", 12);
    check_cell(SHOW_NUMERIC, "1234567890123", "\0\4\0\3\0\0\0\0\0\1\x09\x29\x1a\x85\0\x7b", 16);
    check_cell(SHOW_NUMERIC, "18446744073709551615",
               "\0\5\0\4\0\0\0\0\x07\x34\x1a\x58\x02\xe1\x03\xbb\x06\x4f", 18);
}

static void null_has_no_bytes_and_text_is_the_default(void **state)
{
    const char *cells[] = {NULL, "-2", "1", "2", "1.5", "t"};
    struct buffer out = {0};
    (void)state;
    wire_row(columns, cells, 6, NULL, &out);
    const uint8_t *at = buffer_bytes(&out) + 7;
    assert_int_equal(read_u32(at), UINT32_MAX);
    assert_int_equal(read_u32(at + 4), 2);
    assert_memory_equal(at + 8, "-2", 2);
    buffer_free(&out);
}

static void one_column_may_be_binary_alone(void **state)
{
    const char *cells[] = {"a", "1", "1", "2", "1.5", "t"};
    struct wire_formats mixed = {0};
    struct buffer out = {0};
    (void)state;
    mixed.is_binary[1] = true;
    wire_row(columns, cells, 6, &mixed, &out);
    const uint8_t *at = buffer_bytes(&out) + 7;
    assert_int_equal(read_u32(at), 1);
    assert_int_equal(read_u32(at + 5), 4); /* the int4 */
    assert_int_equal(read_u32(at + 9), 1);
    assert_int_equal(read_u32(at + 13), 1); /* the int8 as text */
    buffer_free(&out);
}

static void columns_are_described_with_types_and_formats(void **state)
{
    static const uint32_t oids[] = {25, 23, 20, 1700, 701, 16};
    static const uint16_t sizes[] = {UINT16_MAX, 4, 8, UINT16_MAX, 8, 1};
    struct buffer out = {0};
    (void)state;
    wire_describe(columns, &binary, &out);
    const uint8_t *at = buffer_bytes(&out);
    assert_int_equal(at[0], 'T');
    assert_int_equal(read_u16(at + 5), 6);
    at += 7;
    for (int i = 0; i < 6; i++) {
        assert_string_equal((const char *)at, columns[i].name);
        at += strlen(columns[i].name) + 1;
        assert_int_equal(read_u32(at + 6), oids[i]);
        assert_int_equal(read_u16(at + 10), sizes[i]);
        assert_int_equal(read_u16(at + 16), 1);
        at += 18;
    }
    buffer_free(&out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(numbers_are_big_endian),
        cmocka_unit_test(numerics_are_digits_of_base_10000),
        cmocka_unit_test(null_has_no_bytes_and_text_is_the_default),
        cmocka_unit_test(one_column_may_be_binary_alone),
        cmocka_unit_test(columns_are_described_with_types_and_formats),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
