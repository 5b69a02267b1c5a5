/*
 * test_auth_row.c - the answer to auth_query: what is not two columns of text and one row of the name asked for lets nobody in.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "proto/auth_row.h"
#include "proto/build.h"

static struct buffer buffer;
static char secret[AUTH_ROW_SECRET_MAX + 1];

static int forget(void **state)
{
    (void)state;
    buffer_free(&buffer);
    return 0;
}

static void begin(uint16_t columns)
{
    buffer_free(&buffer);
    build_u16(&buffer, columns);
}

static void column(const char *name, uint32_t type, uint16_t format)
{
    build_text(&buffer, name);
    build_u32(&buffer, 1260);
    build_u16(&buffer, 2);
    build_u32(&buffer, type);
    build_u16(&buffer, 64);
    build_u32(&buffer, 0xffffffffu);
    build_u16(&buffer, format);
}

static void value(const char *text)
{
    build_u32(&buffer, text ? (uint32_t)strlen(text) : 0xffffffffu);
    if (text)
        buffer_append(&buffer, text, strlen(text));
}

static const char *columns(void)
{
    return auth_row_columns(buffer_bytes(&buffer), buffer_length(&buffer));
}

static enum auth_row_kind row(const char *name)
{
    memset(secret, 'x', sizeof(secret));
    return auth_row_take(buffer_bytes(&buffer), buffer_length(&buffer), name, secret);
}

static void two_columns_of_text(void **state)
{
    static const uint32_t good[] = {19, 25, 705, 1042, 1043, 16384};
    static const uint32_t bad[] = {0, 16, 17, 20, 23, 114, 1005, 3802, 16383};
    (void)state;
    for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
        begin(2);
        column("rolname", 19, 0);
        column("", good[i], 0);
        assert_null(columns());
    }
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        begin(2);
        column("rolname", bad[i], 0);
        column("rolpassword", 25, 0);
        assert_non_null(columns());
    }
    begin(2);
    column("rolname", 19, 0);
    column("rolpassword", 25, 1); /* binary */
    assert_non_null(columns());
    for (uint16_t count = 0; count < 5; count++) {
        begin(count);
        for (uint16_t i = 0; i < count; i++)
            column("c", 25, 0);
        assert_true((columns() == NULL) == (count == 2));
    }
}

static void a_row_of_the_name(void **state)
{
    (void)state;
    begin(2);
    value("ann");
    value("md5abc");
    assert_int_equal(row("ann"), AUTH_ROW_SECRET);
    assert_string_equal(secret, "md5abc");
    assert_int_equal(row("an"), AUTH_ROW_OTHER);
    assert_int_equal(row("anna"), AUTH_ROW_OTHER);
    assert_int_equal(row("Ann"), AUTH_ROW_OTHER);
    assert_int_equal(row(""), AUTH_ROW_OTHER);
    begin(2);
    value(NULL);
    value("md5abc");
    assert_int_equal(row("ann"), AUTH_ROW_OTHER);
    begin(2);
    value("ann");
    value(NULL);
    assert_int_equal(row("ann"), AUTH_ROW_NULL);
    begin(2);
    value("ann");
    value("");
    assert_int_equal(row("ann"), AUTH_ROW_NULL);
}

static void lengths_are_bounded(void **state)
{
    char text[AUTH_ROW_SECRET_MAX + 2];
    (void)state;
    memset(text, 's', sizeof(text));
    text[AUTH_ROW_SECRET_MAX] = '\0';
    begin(2);
    value("ann");
    value(text);
    assert_int_equal(row("ann"), AUTH_ROW_SECRET);
    assert_string_equal(secret, text);
    text[AUTH_ROW_SECRET_MAX] = 's';
    text[AUTH_ROW_SECRET_MAX + 1] = '\0';
    begin(2);
    value("ann");
    value(text);
    assert_int_equal(row("ann"), AUTH_ROW_BAD);
}

static void what_cannot_be_read_is_bad(void **state)
{
    (void)state;
    assert_int_equal(auth_row_take((const uint8_t *)"", 0, "ann", secret), AUTH_ROW_BAD);
    assert_non_null(auth_row_columns((const uint8_t *)"", 0));
    begin(2);
    value("ann");
    value("md5abc");
    build_u8(&buffer, 0); /* a byte too many */
    assert_int_equal(row("ann"), AUTH_ROW_BAD);
    begin(2);
    value("ann");
    build_u32(&buffer, 4);
    buffer_append(&buffer, "a\0bc", 4);
    assert_int_equal(row("ann"), AUTH_ROW_BAD);
    begin(2);
    value("ann");
    build_u32(&buffer, 0x7fffffffu);
    assert_int_equal(row("ann"), AUTH_ROW_BAD);
}

/* Good ones with bytes changed and cut off, each in a block of its own size, so that a sanitizer sees a byte too far. */
static void random_bytes(void **state)
{
    uint64_t random = 1;
    (void)state;
    for (int step = 0; step < 50000; step++) {
        begin(2);
        if (step % 2) {
            column("rolname", 19, 0);
            column("rolpassword", 25, 0);
        } else {
            value("ann");
            value("md5abc");
        }
        size_t length = buffer_length(&buffer);
        if (length == 0)
            continue;
        for (int i = 0; i < 3; i++) {
            random = random * 6364136223846793005u + 1442695040888963407u;
            if (random >> 62)
                buffer_bytes(&buffer)[(random >> 33) % length] = (uint8_t)(random >> 50);
        }
        length -= (random >> 60) ? 0 : (size_t)(random >> 40) % length;
        uint8_t *copy = malloc(length ? length : 1);
        assert_non_null(copy);
        memcpy(copy, buffer_bytes(&buffer), length);
        (void)auth_row_columns(copy, length);
        if (auth_row_take(copy, length, "ann", secret) == AUTH_ROW_SECRET)
            assert_true(strlen(secret) > 0 && strlen(secret) < length);
        free(copy);
    }
}

static void the_name_stands_in_the_question_as_it_is(void **state)
{
    const char *name = "a'; DROP TABLE x; --";
    (void)state;
    buffer_free(&buffer);
    auth_row_question(&buffer, "SELECT $1", name);
    const uint8_t *bytes = buffer_bytes(&buffer);
    size_t length = buffer_length(&buffer);
    char kinds[8] = "";
    size_t at = 0;
    for (size_t i = 0; at < length && i < 7; i++) {
        kinds[i] = (char)bytes[at];
        if (bytes[at] == 'P')
            assert_memory_equal(bytes + at + 5, "\0SELECT $1\0\0\0", 13);
        if (bytes[at] == 'B') {
            assert_int_equal(read_u32(bytes + at + 11), strlen(name));
            assert_memory_equal(bytes + at + 15, name, strlen(name));
        }
        at += read_u32(bytes + at + 1) + 1;
    }
    assert_string_equal(kinds, "PBDES");
    assert_int_equal(at, length);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(two_columns_of_text, forget),
        cmocka_unit_test_teardown(a_row_of_the_name, forget),
        cmocka_unit_test_teardown(lengths_are_bounded, forget),
        cmocka_unit_test_teardown(what_cannot_be_read_is_bad, forget),
        cmocka_unit_test_teardown(random_bytes, forget),
        cmocka_unit_test_teardown(the_name_stands_in_the_question_as_it_is, forget),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
