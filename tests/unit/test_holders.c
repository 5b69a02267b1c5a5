/*
 * test_holders.c - the longest holders of an hour, in a table that cannot grow.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "admin/holders.h"

#define S      1000000LL
#define MINUTE (60 * S)
#define START  (1000 * MINUTE)

static struct holder_key key_of(int number)
{
    struct holder_key key = {.pool = "automation", .user = "scraper", .address = "10.0.0.1"};
    snprintf(key.application_name, sizeof(key.application_name), "job-%d", number);
    return key;
}

static int64_t longest(const struct holders *holders, int number, int64_t now_us, int64_t *idle_us)
{
    struct holder_key key = key_of(number);
    const struct holder *holder = holders_find(holders, &key);
    *idle_us = 0;
    return holder ? holder_longest_us(holder, now_us, idle_us) : -1;
}

static int setup(void **state)
{
    *state = calloc(1, sizeof(struct holders));
    return *state ? 0 : -1;
}

static int teardown(void **state)
{
    free(*state);
    return 0;
}

static void the_longest_hold_of_the_hour_is_kept(void **state)
{
    struct holders *holders = *state;
    struct holder_key key = key_of(1);
    int64_t idle_us;
    holders_note(holders, &key, START, 5 * S, 2 * S, 1);
    holders_note(holders, &key, START + S, 6 * S, 3 * S, 0);
    holders_note(holders, &key, START + 15 * MINUTE, 2 * S, 0, 1);
    assert_int_equal(longest(holders, 1, START + 20 * MINUTE, &idle_us), 6 * S);
    assert_int_equal(idle_us, 3 * S);
    assert_int_equal(holders->items[0].holds, 2);
    assert_int_equal(longest(holders, 1, START + 61 * MINUTE, &idle_us), 2 * S);
    assert_int_equal(idle_us, 0);
    assert_int_equal(longest(holders, 1, START + 90 * MINUTE, &idle_us), 0);
}

static void they_are_told_apart(void **state)
{
    struct holders *holders = *state;
    struct holder_key key = key_of(1);
    struct holder_key other = key;
    snprintf(other.address, sizeof(other.address), "10.0.0.2");
    holders_note(holders, &key, START, 5 * S, 0, 1);
    holders_note(holders, &other, START, 9 * S, 0, 1);
    assert_int_equal(holders->count, 2);
    assert_ptr_not_equal(holders_find(holders, &key), holders_find(holders, &other));
}

static void who_was_not_seen_for_an_hour_is_forgotten(void **state)
{
    struct holders *holders = *state;
    struct holder_key old = key_of(1);
    struct holder_key recent = key_of(2);
    holders_note(holders, &old, START, 5 * S, 0, 1);
    holders_note(holders, &recent, START + 30 * MINUTE, 5 * S, 0, 1);
    holders_expire(holders, START + 61 * MINUTE);
    assert_int_equal(holders->count, 1);
    assert_null(holders_find(holders, &old));
    assert_non_null(holders_find(holders, &recent));
}

static void a_full_table_keeps_the_longest(void **state)
{
    struct holders *holders = *state;
    int64_t idle_us;
    for (int i = 0; i < HOLDERS_MAX + 50; i++) {
        struct holder_key key = key_of(i);
        holders_note(holders, &key, START + i, (i + 2) * S, 0, 1);
    }
    assert_int_equal(holders->count, HOLDERS_MAX);
    assert_int_equal(longest(holders, 0, START, &idle_us), -1);
    assert_int_equal(longest(holders, HOLDERS_MAX + 49, START, &idle_us), (HOLDERS_MAX + 51) * S);
    struct holder_key shorter = key_of(100000);
    holders_note(holders, &shorter, START + 1000, 1 * S, 0, 1);
    assert_null(holders_find(holders, &shorter));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(the_longest_hold_of_the_hour_is_kept, setup, teardown),
        cmocka_unit_test_setup_teardown(they_are_told_apart, setup, teardown),
        cmocka_unit_test_setup_teardown(who_was_not_seen_for_an_hour_is_forgotten, setup, teardown),
        cmocka_unit_test_setup_teardown(a_full_table_keeps_the_longest, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
