/*
 * test_users.c - the users file: PgBouncer's userlist.txt, and what is said about a line that is none.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "config/users.h"

static struct users *users;
static struct config_errors errors;

static int tear_down(void **state)
{
    (void)state;
    users_free(users);
    users = NULL;
    config_errors_free(&errors);
    return 0;
}

static void parse(const char *text)
{
    tear_down(NULL);
    users = users_parse("userlist.txt", text, &errors);
}

static void a_line_is_a_name_and_a_secret(void **state)
{
    (void)state;
    parse("\"ann\" \"secret\"\n"
          "; a comment\n"
          "# another\n"
          "\n"
          "  \"bob\"\t\"md5d51c9a7e9353746a6020f9602d452929\"  \n"
          "\"carol\" \"SCRAM-SHA-256$4096:c2FsdA==$AAAA:BBBB\"");
    assert_non_null(users);
    assert_int_equal(users_count(users), 3);
    assert_string_equal(users_find(users, "ann"), "secret");
    assert_string_equal(users_find(users, "bob"), "md5d51c9a7e9353746a6020f9602d452929");
    assert_string_equal(users_find(users, "carol"), "SCRAM-SHA-256$4096:c2FsdA==$AAAA:BBBB");
    assert_null(users_find(users, "dave"));
    assert_null(users_find(users, ""));
}

static void two_quotes_are_one_and_the_rest_is_as_it_is(void **state)
{
    (void)state;
    parse("\"a\"\"b\" \"x\"\"\"\"; # \\n y\"\r\n\"empty\" \"\"\n");
    assert_non_null(users);
    assert_string_equal(users_find(users, "a\"b"), "x\"\"; # \\n y");
    assert_null(users_find(users, "empty")); /* known, but no password lets anybody in as that */
    assert_int_equal(users_count(users), 2);
}

static void an_empty_file_is_an_empty_list(void **state)
{
    (void)state;
    parse("");
    assert_non_null(users);
    assert_int_equal(users_count(users), 0);
}

static void every_wrong_line_is_named(void **state)
{
    (void)state;
    parse("ann secret\n"
          "\"ann\"\n"
          "\"ann\" \"unfinished\n"
          "\"\" \"nobody\"\n"
          "\"bob\" \"1\"\n"
          "\"bob\" \"2\"\n");
    assert_null(users);
    assert_int_equal(errors.count, 5);
    for (size_t i = 0; i < 4; i++) {
        char expected[80];
        snprintf(expected, sizeof(expected), "userlist.txt:%zu: a line is \"user\" \"password\"",
                 i + 1);
        assert_string_equal(errors.items[i], expected);
    }
    assert_string_equal(errors.items[4], "userlist.txt:6: user \"bob\" stands twice");
}

static void a_secret_never_stands_in_an_error(void **state)
{
    (void)state;
    parse("\"ann\" \"hunter2\n\"ann\" hunter2\n\"b\" \"hunter2\"\n\"b\" \"hunter2\"\n");
    assert_null(users);
    for (size_t i = 0; i < errors.count; i++)
        assert_null(strstr(errors.items[i], "hunter2"));
}

static void a_list_of_one_is_the_upstreams_own_user(void **state)
{
    (void)state;
    users = users_new();
    users_add(users, "ann", "old");
    users_add(users, "ann", "new");
    assert_int_equal(users_count(users), 1);
    assert_string_equal(users_find(users, "ann"), "new");
}

static void a_file_that_cannot_be_read_says_so(void **state)
{
    (void)state;
    users = users_load("/nonexistent/userlist.txt", true, &errors);
    assert_null(users);
    assert_int_equal(errors.count, 1);
    assert_string_equal(errors.items[0],
                        "/nonexistent/userlist.txt: cannot be read: No such file or directory");
}

#define TEST(name) cmocka_unit_test_teardown(name, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_line_is_a_name_and_a_secret),      TEST(two_quotes_are_one_and_the_rest_is_as_it_is),
        TEST(an_empty_file_is_an_empty_list),     TEST(every_wrong_line_is_named),
        TEST(a_secret_never_stands_in_an_error),  TEST(a_list_of_one_is_the_upstreams_own_user),
        TEST(a_file_that_cannot_be_read_says_so),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
