/*
 * test_failures.c - who has failed too often has to wait, for his own door and address, and not for ever.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "policy/failures.h"

#define S 1000000LL

static const struct failures_limit three_a_minute = {.most = 3, .window_us = 60 * S};

static const struct failures_key *key(unsigned door, const char *address)
{
    static struct failures_key key;
    memset(&key, 0, sizeof(key));
    key.door = door;
    for (size_t i = 0; address[i] && i < sizeof(key.address); i++)
        key.address[i] = (uint8_t)address[i];
    return &key;
}

static void failed(struct failures *failures, unsigned door, const char *who, int64_t now_us)
{
    failures_note(failures, key(door, who), &three_a_minute, now_us);
}

static int64_t wait_of(struct failures *failures, unsigned door, const char *who, int64_t now_us)
{
    return failures_wait(failures, key(door, who), &three_a_minute, now_us);
}

static void as_many_as_allowed_are_free(void **state)
{
    struct failures *failures = failures_new();
    (void)state;
    failed(failures, 0, "10.0.0.1", 0);
    failed(failures, 0, "10.0.0.1", 0);
    assert_int_equal(wait_of(failures, 0, "10.0.0.1", 0), 0);
    failed(failures, 0, "10.0.0.1", 0);
    assert_int_equal(wait_of(failures, 0, "10.0.0.1", 0), 20 * S);
    assert_int_equal(wait_of(failures, 0, "10.0.0.1", 15 * S), 5 * S);
    assert_int_equal(wait_of(failures, 0, "10.0.0.1", 20 * S), 0);
    failed(failures, 0, "10.0.0.1", 20 * S);
    assert_true(wait_of(failures, 0, "10.0.0.1", 20 * S) > 0);
    assert_int_equal(wait_of(failures, 0, "10.0.0.1", 80 * S), 0);
    failures_free(failures);
}

static void a_door_and_an_address_are_one_s_own(void **state)
{
    struct failures *failures = failures_new();
    (void)state;
    for (int i = 0; i < 3; i++)
        failed(failures, 0, "10.0.0.1", 0);
    assert_true(wait_of(failures, 0, "10.0.0.1", 0) > 0);
    assert_int_equal(wait_of(failures, 1, "10.0.0.1", 0), 0);
    assert_int_equal(wait_of(failures, 0, "10.0.0.2", 0), 0);
    failures_free(failures);
}

static void what_was_on_its_way_does_not_lock_out_for_long(void **state)
{
    struct failures *failures = failures_new();
    (void)state;
    for (int i = 0; i < 100000; i++)
        failed(failures, 0, "10.0.0.1", 0);
    assert_true(wait_of(failures, 0, "10.0.0.1", 0) <= 2 * 60 * S);
    failures_free(failures);
}

static void no_limit_is_none(void **state)
{
    struct failures *failures = failures_new();
    static const struct failures_limit none = {.most = 0, .window_us = 60 * S};
    (void)state;
    for (int i = 0; i < 10; i++)
        failures_note(failures, key(0, "10.0.0.1"), &none, 0);
    assert_int_equal(failures_wait(failures, key(0, "10.0.0.1"), &none, 0), 0);
    failures_free(failures);
}

/* A whole network of liars makes the table no larger, and does not wash away who has failed most. */
static void many_addresses_are_bounded(void **state)
{
    struct failures *failures = failures_new();
    char text[32];
    (void)state;
    for (int i = 0; i < 20; i++)
        failed(failures, 0, "10.0.0.1", 0);
    for (int i = 0; i < 4 * FAILURES_MOST; i++) {
        snprintf(text, sizeof(text), "10.1.%d.%d", i / 256, i % 256);
        failed(failures, 0, text, 1);
    }
    assert_true(wait_of(failures, 0, "10.0.0.1", 2) > 0);
    failures_free(failures);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(as_many_as_allowed_are_free),
        cmocka_unit_test(a_door_and_an_address_are_one_s_own),
        cmocka_unit_test(what_was_on_its_way_does_not_lock_out_for_long),
        cmocka_unit_test(no_limit_is_none),
        cmocka_unit_test(many_addresses_are_bounded),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
