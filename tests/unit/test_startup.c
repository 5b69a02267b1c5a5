/*
 * test_startup.c - a client gets in with the parameters that it sent, and a malformed packet does no harm.
 *
 * Packets are written as C strings: their parts end in zero bytes, and the string's own is the last one.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include <stdlib.h>

#include "proto/startup.h"

static struct startup startup;
static char error[200];

/* Parses from a heap copy of the exact size, so that the sanitizer sees a read beyond it. */
static bool parse_bytes(const void *bytes, size_t length)
{
    uint8_t *copy = malloc(length ? length : 1);
    memcpy(copy, bytes, length);
    error[0] = '\0';
    bool ok = startup_parse(&startup, copy, length, error, sizeof(error));
    free(copy);
    return ok;
}

#define VERSION        "\0\3\0\0"
#define PARSE(literal) parse_bytes(VERSION literal, sizeof(VERSION literal))

static int free_startup(void **state)
{
    (void)state;
    startup_free(&startup);
    return 0;
}

static void assert_setting(size_t index, const char *name, const char *value)
{
    assert_true(index < startup.setting_count);
    assert_string_equal(startup.settings[index].name, name);
    assert_string_equal(startup.settings[index].value, value);
}

static void a_plain_login_is_read(void **state)
{
    (void)state;
    assert_true(PARSE("user\0ann\0database\0shop\0application_name\0psql\0"));
    assert_string_equal(startup.user, "ann");
    assert_string_equal(startup.database, "shop");
    assert_string_equal(startup.application_name, "psql");
    assert_null(startup.replication);
    assert_int_equal(startup.setting_count, 0);
    assert_int_equal(startup.minor, 0);
}

static void the_database_is_named_like_the_user_by_default(void **state)
{
    (void)state;
    assert_true(PARSE("user\0ann\0database\0\0"));
    assert_string_equal(startup.database, "ann");
}

static void any_setting_is_honoured(void **state)
{
    (void)state;
    assert_true(PARSE("user\0ann\0TimeZone\0UTC\0search_path\0a,b\0"));
    assert_int_equal(startup.setting_count, 2);
    assert_setting(0, "TimeZone", "UTC");
    assert_setting(1, "search_path", "a,b");
}

static void options_are_split_as_the_server_splits_them(void **state)
{
    (void)state;
    assert_true(
        PARSE("user\0ann\0options\0  -c work_mem=1MB -csearch_path=a\\ b\t--enable-sort=off "
              "-c\n application_name=job -c a.b=x\\\\y=z\\\0"));
    assert_int_equal(startup.setting_count, 4);
    assert_setting(0, "work_mem", "1MB");
    assert_setting(1, "search_path", "a b");
    assert_setting(2, "enable_sort", "off");
    assert_setting(3, "a.b", "x\\y=z");
    assert_string_equal(startup.application_name, "job");
}

static void options_come_before_the_other_parameters(void **state)
{
    (void)state;
    assert_true(PARSE("user\0ann\0TimeZone\0UTC\0Application_Name\0p\0options\0-c a=1\0options\0"
                      "-c timezone=Asia/Tokyo -c application_name=o -c work_mem=1MB\0"));
    assert_int_equal(startup.setting_count, 2);
    assert_setting(0, "timezone", "UTC");
    assert_setting(1, "work_mem", "1MB");
    assert_string_equal(startup.application_name, "p");
}

static void two_switches_of_the_server_program_are_settings(void **state)
{
    (void)state;
    assert_true(PARSE("user\0ann\0options\0-e -S 5000\0"));
    assert_int_equal(startup.setting_count, 2);
    assert_setting(0, "datestyle", "euro");
    assert_setting(1, "work_mem", "5000");
    startup_free(&startup);
    assert_true(PARSE("user\0ann\0options\0-S5000\0"));
    assert_setting(0, "work_mem", "5000");
    startup_free(&startup);
    assert_false(PARSE("user\0ann\0options\0-S\0"));
    assert_true(startup.has_unknown_argument);
}

static void switches_of_the_server_program_are_refused_by_name(void **state)
{
    (void)state;
    assert_false(PARSE("user\0ann\0options\0-c work_mem=1MB -E\0"));
    assert_string_equal(error, "invalid command-line argument for server process: -E");
}

static void an_option_without_a_value_is_refused(void **state)
{
    (void)state;
    static const char *const packets[] = {"-c", "-c work_mem", "--work_mem", "-c =1", "--"};
    for (size_t i = 0; i < sizeof(packets) / sizeof(packets[0]); i++) {
        char packet[64] = VERSION "user\0ann\0options";
        size_t length = sizeof(VERSION "user\0ann\0options");
        strcpy(packet + length, packets[i]);
        length += strlen(packets[i]) + 2;
        assert_false(parse_bytes(packet, length));
        assert_true(startup.has_bad_options);
        if (strstr(packets[i], "work_mem"))
            assert_string_equal(error, i == 1 ? "-c work_mem requires a value"
                                              : "--work_mem requires a value");
        else
            assert_non_null(strstr(error, "invalid command-line argument"));
        startup_free(&startup);
    }
}

static void unknown_protocol_options_are_listed(void **state)
{
    (void)state;
    static const char newer[] = "\0\3\0\2user\0ann\0_pq_.fancy\0on\0";
    assert_true(parse_bytes(newer, sizeof(newer)));
    assert_int_equal(startup.minor, 2);
    assert_int_equal(startup.unknown_option_count, 1);
    assert_string_equal(startup.unknown_options[0], "_pq_.fancy");
    assert_int_equal(startup.setting_count, 0);
}

static void the_last_of_two_values_counts(void **state)
{
    (void)state;
    assert_true(PARSE("user\0ann\0user\0bob\0replication\0true\0"));
    assert_string_equal(startup.user, "bob");
    assert_string_equal(startup.replication, "true");
}

static void nobody_gets_in_without_a_name(void **state)
{
    (void)state;
    assert_false(PARSE("database\0shop\0"));
    assert_string_equal(error, "no PostgreSQL user name specified in startup packet");
    assert_true(startup.has_no_user);
    startup_free(&startup);
    assert_false(PARSE("user\0\0"));
}

/* Every prefix of a good packet, and the packet with bytes behind it. */
static void a_cut_off_packet_is_refused(void **state)
{
    (void)state;
    static const char packet[] = VERSION "user\0ann\0TimeZone\0UTC\0xyz";
    size_t good = sizeof(VERSION "user\0ann\0TimeZone\0UTC\0");
    for (size_t length = 0; length < good; length++) {
        bool is_whole = length == sizeof(VERSION "user\0ann\0");
        assert_true(parse_bytes(packet, length) == (is_whole && packet[length - 1] == 0));
        assert_true(startup.user || error[0]);
        startup_free(&startup);
    }
    assert_false(parse_bytes(packet, sizeof(packet)));
    startup_free(&startup);
    assert_false(parse_bytes(packet, sizeof(packet) - 1));
    startup_free(&startup);
    assert_false(parse_bytes(VERSION "user\0ann\0x", sizeof(VERSION "user\0ann\0")));
    startup_free(&startup);
    assert_false(parse_bytes(VERSION "user\0ann\0x\0y", sizeof(VERSION "user\0ann\0x\0y") - 1));
}

static void a_packet_full_of_settings_is_read(void **state)
{
    (void)state;
    static char packet[STARTUP_PACKET_MAX] = VERSION "user\0ann";
    size_t length = sizeof(VERSION "user\0ann");
    size_t settings = 0;
    while (length + 8 < sizeof(packet)) {
        snprintf(packet + length, 4, "%03zx", settings++);
        packet[length + 4] = 'b';
        length += 6;
    }
    assert_true(parse_bytes(packet, length + 1));
    assert_int_equal(startup.setting_count, settings);
}

#define SIXTY "123456789012345678901234567890123456789012345678901234567890"

static void names_are_cut_as_postgresql_cuts_them(void **state)
{
    (void)state;
    assert_true(PARSE("user\0" SIXTY "abcdef\0database\0" SIXTY "xyz\0"));
    assert_string_equal(startup.user, SIXTY "abc");
    assert_string_equal(startup.database, SIXTY "xyz");
    startup_free(&startup);
    assert_true(PARSE("user\0" SIXTY "abcd\0"));
    assert_string_equal(startup.user, SIXTY "abc");
    assert_string_equal(startup.database, SIXTY "abc");
}

static void replication_is_read_as_postgresql_reads_it(void **state)
{
    (void)state;
    static const char *const truths[] = {"t", "TRUE", "tr", "y", "Yes", "on", "ON", "1"};
    static const char *const lies[] = {"f", "FALSE", "fa", "n", "No", "of", "OFF", "0"};
    static const char *const neither[] = {"",    "o",  "truer",    "offf", "2",
                                          " on", "01", "Database", "yes "};
    for (size_t i = 0; i < 8; i++) {
        assert_int_equal(startup_replication(truths[i]), STARTUP_REPLICATION_PHYSICAL);
        assert_int_equal(startup_replication(lies[i]), STARTUP_REPLICATION_NONE);
    }
    for (size_t i = 0; i < sizeof(neither) / sizeof(neither[0]); i++)
        assert_int_equal(startup_replication(neither[i]), STARTUP_REPLICATION_INVALID);
    assert_int_equal(startup_replication("database"), STARTUP_REPLICATION_DATABASE);
    assert_int_equal(startup_replication(NULL), STARTUP_REPLICATION_NONE);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_teardown(name, free_startup)
    const struct CMUnitTest tests[] = {
        TEST(a_plain_login_is_read),
        TEST(the_database_is_named_like_the_user_by_default),
        TEST(any_setting_is_honoured),
        TEST(options_are_split_as_the_server_splits_them),
        TEST(options_come_before_the_other_parameters),
        TEST(two_switches_of_the_server_program_are_settings),
        TEST(switches_of_the_server_program_are_refused_by_name),
        TEST(an_option_without_a_value_is_refused),
        TEST(unknown_protocol_options_are_listed),
        TEST(the_last_of_two_values_counts),
        TEST(nobody_gets_in_without_a_name),
        TEST(a_cut_off_packet_is_refused),
        TEST(a_packet_full_of_settings_is_read),
        TEST(names_are_cut_as_postgresql_cuts_them),
        TEST(replication_is_read_as_postgresql_reads_it),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
