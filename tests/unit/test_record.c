/*
 * test_record.c - what one version tells another in an upgrade arrives as it was, and what is cut off or lies does no harm.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "proto/record.h"

enum { TAG_TEXT = 1, TAG_NUMBER, TAG_BYTES, TAG_INNER };

static struct buffer sample(void)
{
    struct buffer record = {0};
    struct buffer inner = {0};
    record_put_text(&record, TAG_TEXT, "who");
    record_put_text(&record, TAG_TEXT, NULL);
    record_put_number(&record, TAG_NUMBER, -5);
    record_put_bytes(&record, TAG_BYTES, "a\0b", 3);
    record_put_text(&inner, TAG_TEXT, "");
    record_put_record(&record, TAG_INNER, &inner);
    return record;
}

/* From a heap copy of the exact size, so that the sanitizer sees a read beyond it. */
static int count_fields(const struct buffer *record, size_t length, bool *is_malformed)
{
    uint8_t *copy = malloc(length ? length : 1);
    struct record_reader reader;
    struct record_field field;
    int count = 0;
    memcpy(copy, buffer_bytes(record), length);
    record_read(&reader, copy, length);
    for (; record_next(&reader, &field); count++) {
        for (size_t i = 0; i < field.length; i++)
            assert_true(field.bytes[i] == copy[field.bytes + i - copy]);
    }
    *is_malformed = reader.is_malformed;
    free(copy);
    return count;
}

static void fields_come_out_as_they_went_in(void **state)
{
    (void)state;
    struct buffer record = sample();
    struct record_reader reader;
    struct record_field field;
    record_read(&reader, buffer_bytes(&record), buffer_length(&record));
    assert_true(record_next(&reader, &field) && field.tag == TAG_TEXT);
    char *text = record_text(&reader, &field);
    assert_string_equal(text, "who");
    free(text);
    assert_true(record_next(&reader, &field) && field.tag == TAG_NUMBER);
    assert_true(record_number(&reader, &field) == -5);
    assert_true(record_next(&reader, &field) && field.tag == TAG_BYTES && field.length == 3);
    assert_memory_equal(field.bytes, "a\0b", 3);
    assert_true(record_next(&reader, &field) && field.tag == TAG_INNER && field.length == 6);
    assert_false(record_next(&reader, &field));
    assert_false(reader.is_malformed);
    buffer_free(&record);
}

static void a_record_that_is_cut_off_is_malformed_wherever_it_is_cut(void **state)
{
    (void)state;
    struct buffer record = sample();
    bool is_malformed;
    int whole = 0;
    assert_int_equal(count_fields(&record, buffer_length(&record), &is_malformed), 4);
    assert_false(is_malformed);
    for (size_t length = 0; length < buffer_length(&record); length++) {
        count_fields(&record, length, &is_malformed);
        whole += !is_malformed;
    }
    assert_int_equal(whole, 4); /* nothing, and behind each field but the last */
    buffer_free(&record);
}

static void a_length_beyond_the_end_is_malformed(void **state)
{
    (void)state;
    static const uint8_t lies[][7] = {
        {0, 1, 0, 0, 0, 2, 'x'}, {0, 1, 0xff, 0xff, 0xff, 0xff, 'x'}, {0, 1, 0x80, 0, 0, 0, 'x'}};
    for (size_t i = 0; i < sizeof(lies) / sizeof(lies[0]); i++) {
        struct record_reader reader;
        struct record_field field;
        record_read(&reader, lies[i], sizeof(lies[i]));
        assert_false(record_next(&reader, &field));
        assert_true(reader.is_malformed);
    }
}

static void what_has_not_the_form_that_is_asked_for_is_malformed(void **state)
{
    (void)state;
    struct buffer record = sample();
    struct record_reader reader;
    struct record_field field;
    record_read(&reader, buffer_bytes(&record), buffer_length(&record));
    record_next(&reader, &field);
    assert_true(record_number(&reader, &field) == 0 && reader.is_malformed);
    reader.is_malformed = false;
    record_next(&reader, &field);
    assert_true(record_number_within(&reader, &field, 0, 9) == 0 && reader.is_malformed);
    reader.is_malformed = false;
    record_next(&reader, &field);
    assert_null(record_text(&reader, &field));
    assert_true(reader.is_malformed);
    assert_false(record_next(&reader, &field));
    buffer_free(&record);
}

static bool read_pair(struct buffer *record, char **name, char **value)
{
    struct record_reader reader;
    struct record_field field;
    record_read(&reader, buffer_bytes(record), buffer_length(record));
    assert_true(record_next(&reader, &field));
    assert_int_equal(field.tag, 7);
    bool is_ok = record_pair(&field, 1, name, value);
    buffer_free(record);
    return is_ok;
}

static void a_pair_is_read_as_it_was_put_or_not_at_all(void **state)
{
    (void)state;
    struct buffer record = {0};
    char *name;
    char *value;
    record_put_pair(&record, 7, 1, "search_path", 2, "");
    assert_true(read_pair(&record, &name, &value));
    assert_string_equal(name, "search_path");
    assert_string_equal(value, "");
    free(name);
    free(value);
    record_put_pair(&record, 7, 1, "lacks", 2, NULL);
    assert_false(read_pair(&record, &name, &value));
    assert_true(!name && !value);
    struct buffer inner = {0};
    record_put_text(&inner, 1, "name");
    record_put_bytes(&inner, 2, "zero\0byte", 9);
    record_put_record(&record, 7, &inner);
    assert_false(read_pair(&record, &name, &value));
    assert_true(!name && !value);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(fields_come_out_as_they_went_in),
        cmocka_unit_test(a_record_that_is_cut_off_is_malformed_wherever_it_is_cut),
        cmocka_unit_test(a_length_beyond_the_end_is_malformed),
        cmocka_unit_test(what_has_not_the_form_that_is_asked_for_is_malformed),
        cmocka_unit_test(a_pair_is_read_as_it_was_put_or_not_at_all),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
