/*
 * test_stats.c - counts by name stay bounded, averages are PgBouncer's.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "proxy/proxy.h"

static void names_are_counted(void **state)
{
    struct tally tally = {0};
    (void)state;
    tally_add(&tally, "53300");
    tally_add(&tally, "57014");
    tally_add(&tally, "53300");
    assert_int_equal(tally.count, 2);
    assert_int_equal(tally_times(&tally, "53300"), 2);
    assert_int_equal(tally_times(&tally, "57014"), 1);
    assert_int_equal(tally_times(&tally, "08006"), 0);
}

static void more_names_than_fit_count_as_other(void **state)
{
    struct tally tally = {0};
    uint64_t sum = 0;
    (void)state;
    for (int i = 0; i < 1000; i++) {
        char name[16];
        snprintf(name, sizeof(name), "%05d", i % 500);
        tally_add(&tally, name);
    }
    assert_int_equal(tally.count, TALLY_NAMES_MAX);
    assert_int_equal(tally_times(&tally, "00000"), 2);
    assert_int_equal(tally_times(&tally, "other"), 1000 - 2 * (TALLY_NAMES_MAX - 1));
    for (size_t i = 0; i < tally.count; i++)
        sum += tally.items[i].times;
    assert_int_equal(sum, 1000);
}

static void a_name_of_any_length_is_one_name(void **state)
{
    struct tally tally = {0};
    char name[300];
    (void)state;
    memset(name, 'x', sizeof(name));
    name[sizeof(name) - 1] = '\0';
    tally_add(&tally, name);
    tally_add(&tally, name);
    assert_int_equal(tally.count, 1);
    assert_int_equal(tally.items[0].times, 2);
    assert_int_equal(strlen(tally.items[0].name), TALLY_NAME - 1);
}

static void averages_are_per_second_and_times_per_event(void **state)
{
    struct proxy proxy = {.now_us = 90 * CLOCK_S, .stats_older_us = 0};
    struct stats stats = {0};
    (void)state;
    assert_int_equal(stats_average(&proxy, &stats, STAT_QUERY_US), 0);
    stats.older[STAT_QUERIES] = 100;
    stats.total[STAT_QUERIES] = 1000;
    stats.older[STAT_QUERY_US] = 5000;
    stats.total[STAT_QUERY_US] = 905000;
    stats.total[STAT_SENT] = 90000;
    assert_int_equal(stats_average(&proxy, &stats, STAT_QUERIES), 10);
    assert_int_equal(stats_average(&proxy, &stats, STAT_QUERY_US), 1000);
    assert_int_equal(stats_average(&proxy, &stats, STAT_SENT), 1000);
    assert_int_equal(stats_average(&proxy, &stats, STAT_WAIT_US), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(names_are_counted),
        cmocka_unit_test(more_names_than_fit_count_as_other),
        cmocka_unit_test(a_name_of_any_length_is_one_name),
        cmocka_unit_test(averages_are_per_second_and_times_per_event),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
