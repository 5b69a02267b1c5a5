/*
 * test_ident.c - pg_ident.conf: which system user may be which user, and the expressions in it.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/memory.h"
#include "config/ident.h"
#include "config/name_pattern.h"

static struct ident *ident;
static struct config_errors errors;

static char *give_text(void *arg, const char *path)
{
    (void)path;
    return memory_strdup(arg);
}

static int tear_down(void **state)
{
    (void)state;
    ident_free(ident);
    ident = NULL;
    config_errors_free(&errors);
    return 0;
}

static void read_maps(char *text)
{
    struct rule_source source = {give_text, NULL, text};
    tear_down(NULL);
    ident = ident_read("ident", &source, &errors);
}

static void assert_refused(char *text, const char *expected)
{
    read_maps(text);
    assert_null(ident);
    assert_int_equal(errors.count, 1);
    if (strncmp(errors.items[0], expected, strlen(expected)) != 0)
        print_error("%s\n", errors.items[0]);
    assert_int_equal(strncmp(errors.items[0], expected, strlen(expected)), 0);
}

static void without_a_map_names_must_be_the_same(void **state)
{
    (void)state;
    assert_true(ident_allows(NULL, NULL, "ann", "ann"));
    assert_false(ident_allows(NULL, NULL, "Ann", "ann"));
    assert_false(ident_allows(NULL, "m", "ann", "ann"));
}

static void any_line_of_the_map_may_say_yes(void **state)
{
    (void)state;
    read_maps("m root ann # us\nm root bob\n\"o t\" \"a b\" carol\nn dave dave more is not read\n");
    assert_non_null(ident);
    assert_true(ident_allows(ident, "m", "root", "ann"));
    assert_true(ident_allows(ident, "m", "root", "bob"));
    assert_false(ident_allows(ident, "m", "root", "carol"));
    assert_false(ident_allows(ident, "m", "ann", "ann"));
    assert_true(ident_allows(ident, "o t", "a b", "carol"));
    assert_true(ident_allows(ident, "n", "dave", "dave"));
    assert_false(ident_allows(ident, "none", "dave", "dave"));
}

static void expressions_and_what_they_take(void **state)
{
    (void)state;
    read_maps("m /^(.*)@example\\.org$ \\1\n"
              "m /^([^@]*)@dev$ dev_\\1_\\1\n"
              "m /guest guest\n"
              "m /^x\\d{2}$ \"/^y\\d\"\n"
              "m /^admin$ all\n"
              "m /^quoted$ \"all\"\n"
              "m /^(opt)?end$ a\\1b\n");
    assert_non_null(ident);
    assert_true(ident_allows(ident, "m", "ann@example.org", "ann"));
    assert_false(ident_allows(ident, "m", "ann@exampleXorg", "ann"));
    assert_false(ident_allows(ident, "m", "ann@example.org", "bob"));
    assert_false(ident_allows(ident, "m", "ann@example.org.evil", "ann"));
    assert_true(ident_allows(ident, "m", "ann@dev", "dev_ann_\\1")); /* the first \1 alone */
    assert_false(ident_allows(ident, "m", "ann@dev", "dev_ann_ann"));
    assert_true(ident_allows(ident, "m", "the guest here", "guest"));
    assert_true(ident_allows(ident, "m", "x12", "y3"));
    assert_false(ident_allows(ident, "m", "x123", "y3"));
    assert_true(ident_allows(ident, "m", "admin", "whoever"));
    assert_true(ident_allows(ident, "m", "quoted", "all"));
    assert_false(ident_allows(ident, "m", "quoted", "ann"));
    assert_true(ident_allows(ident, "m", "optend", "aoptb"));
    assert_false(ident_allows(ident, "m", "end", "ab"));
    read_maps("m /^(.*)$ \\1\n"); /* what \1 becomes is a name, not the keyword */
    assert_true(ident_allows(ident, "m", "all", "all"));
    assert_false(ident_allows(ident, "m", "all", "ann"));
}

static void what_is_wrong_is_refused_with_its_line(void **state)
{
    (void)state;
    assert_refused("m\n", "ident:1: a line is MAP SYSTEM-USER DATABASE-USER: the system user is");
    assert_refused("\nm root\n", "ident:2: a line is MAP SYSTEM-USER DATABASE-USER: the database");
    assert_refused("m root ann,bob\n", "ident:1: each of the three takes one word: there are 2");
    assert_refused("m root +staff\n", "ident:1: +staff: pgreserve does not know");
    assert_refused("m /( ann\n", "ident:1: the expression /(: ");
    read_maps("m root \"+staff\"\n");
    assert_true(ident_allows(ident, "m", "root", "+staff"));
    read_maps("");
    assert_non_null(ident); /* nobody, as PostgreSQL's own is at first */
}

/* ---- expressions ---- */

static bool matches(const char *expression, const char *name)
{
    char why[256];
    struct name_pattern *pattern = name_pattern_new(expression, why, sizeof(why));
    if (!pattern)
        print_error("%s: %s\n", expression, why);
    assert_non_null(pattern);
    bool found = name_pattern_matches(pattern, name, NULL);
    name_pattern_free(pattern);
    return found;
}

static void refused(const char *expression, const char *expected)
{
    char why[256];
    assert_null(name_pattern_new(expression, why, sizeof(why)));
    if (strcmp(why, expected) != 0)
        print_error("%s: %s\n", expression, why);
    assert_string_equal(why, expected);
}

static void expressions_are_found_anywhere(void **state)
{
    (void)state;
    assert_true(matches("nn", "ann"));
    assert_false(matches("^nn", "ann"));
    assert_true(matches("^(ann|bob)$", "bob"));
    assert_true(matches("^a.n{2,3}$", "abnn"));
    assert_true(matches("^[]x^-]+$", "]x^-"));
    assert_true(matches("^[[:alpha:]]+$", "ann"));
    assert_true(matches("a\\.b", "a.b"));
    assert_false(matches("a\\.b", "axb"));
    assert_true(matches("^\\D\\d$", "x1"));
    assert_false(matches("^\\d$", "d"));
    assert_true(matches("", "anything"));
}

static void what_postgresql_reads_otherwise_is_refused(void **state)
{
    (void)state;
    const char letters[] = "of the escapes with a letter only \\d and \\D are supported";
    refused("\\mann", letters);
    refused("\\x41", letters);
    refused("\\w", letters);
    refused("(a)\\1", "back references are not supported");
    refused("a\\", "it ends in a backslash");
    refused("(?i)ann", "(? is not supported");
    refused("a*?", "two quantifiers in a row are not supported");
    refused("a+*", "two quantifiers in a row are not supported");
    refused("***:x", "a quantifier has nothing to repeat");
    refused("a|*", "a quantifier has nothing to repeat");
    refused("[\\d]", "a backslash within brackets is not supported");
    refused("[[.a.]]", "collating elements are not supported");
    refused("[ab", "brackets are not closed");
    refused("[[:alpha", "brackets are not closed");
    refused("a{", "a brace begins no repetition {m}, {m,} or {m,n}");
    refused("a{x}", "a brace begins no repetition {m}, {m,} or {m,n}");
    refused("a{,2}", "a brace begins no repetition {m}, {m,} or {m,n}");
}

static void signs_behind_a_backslash_are_signs(void **state)
{
    (void)state;
    assert_true(matches("^o\\'brien$", "o'brien"));
    assert_false(matches("^ann\\>", "ann"));
    assert_true(matches("^ann\\>", "ann>x"));
    assert_false(matches("^\\<ann", "ann"));
    assert_false(matches("^\\`ann\\'", "ann"));
    assert_true(matches("^\\.\\-\\@\\*\\{\\/\\_$", ".-@*{/_"));
}

static void a_part_that_is_wanted_must_be_there(void **state)
{
    (void)state;
    assert_refused("m /^ann \\1\n", "ident:1: \\1 wants a part in parentheses, and /^ann has none");
    read_maps("m /^(a)?nn$ x\\1\nm nn nn\nm nn xa\n");
    assert_true(ident_allows(ident, "m", "ann", "xa"));
    assert_false(ident_allows(ident, "m", "nn", "x"));
    assert_false(ident_allows(ident, "m", "nn", "nn")); /* PostgreSQL gives up at the first line */
    assert_false(ident_allows(ident, "m", "nn", "xa"));
}

static void what_would_take_long_or_much_is_refused(void **state)
{
    (void)state;
    char *text = memory_alloc(NAME_PATTERN_NAME + 2);
    assert_true(matches("^(a{1,30}){1,30}$", "aaaa"));
    refused("a{256}", "more than 255 repetitions");
    refused("((a{1,100}){1,100}){1,100}", "its repetitions multiply to more than 1000");
    memset(text, 'a', NAME_PATTERN_NAME + 1);
    assert_false(matches("a", text));
    text[NAME_PATTERN_NAME] = '\0';
    assert_true(matches("^((a*)*)*$", text));
    assert_false(matches("^(a|aa|a*)*b$", text));
    text[NAME_PATTERN_MAX + 1] = '\0';
    refused(text, "it is longer than 512 bytes");
    free(text);
}

#define TEST(name) cmocka_unit_test_teardown(name, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(without_a_map_names_must_be_the_same),
        TEST(any_line_of_the_map_may_say_yes),
        TEST(expressions_and_what_they_take),
        TEST(what_is_wrong_is_refused_with_its_line),
        TEST(expressions_are_found_anywhere),
        TEST(what_postgresql_reads_otherwise_is_refused),
        TEST(what_would_take_long_or_much_is_refused),
        TEST(signs_behind_a_backslash_are_signs),
        TEST(a_part_that_is_wanted_must_be_there),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
