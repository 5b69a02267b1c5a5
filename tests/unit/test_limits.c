/*
 * test_limits.c - the doctor's arithmetic (contract 3): what an upstream leaves, and pools that fit into it.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "policy/limits.h"

static const struct limits_server unlimited = {.max_connections = 100,
                                               .role_limit = LIMITS_NONE,
                                               .database_limit = LIMITS_NONE,
                                               .pooler_limit = LIMITS_NONE};

static struct limits_server story(void)
{
    struct limits_server server = unlimited;
    server.max_connections = 60;
    server.kept_for_superusers = 3;
    server.kept_for_members = 2;
    server.others = 7;
    return server;
}

static void sixty_less_three_two_and_seven_is_forty_eight(void **state)
{
    (void)state;
    struct limits_server server = story();
    struct limits_verdict verdict = limits_judge(&server);
    assert_int_equal(verdict.largest, 48);
    assert_int_equal(verdict.bound, LIMITS_BY_SERVER);
    assert_int_equal(verdict.kept, 5);
}

static void members_and_superusers_may_use_what_is_kept(void **state)
{
    (void)state;
    struct limits_server server = story();
    server.is_member = true;
    assert_int_equal(limits_judge(&server).largest, 50);
    server.is_superuser = true;
    assert_int_equal(limits_judge(&server).largest, 53);
}

static void the_tightest_limit_counts(void **state)
{
    (void)state;
    struct limits_server server = story();
    server.role_limit = 40;
    server.others_of_role = 2;
    assert_int_equal(limits_judge(&server).largest, 38);
    assert_int_equal(limits_judge(&server).bound, LIMITS_BY_ROLE);
    server.database_limit = 30;
    server.others_of_database = 4;
    assert_int_equal(limits_judge(&server).largest, 26);
    assert_int_equal(limits_judge(&server).bound, LIMITS_BY_DATABASE);
    server.pooler_limit = 15;
    assert_int_equal(limits_judge(&server).largest, 15);
    assert_int_equal(limits_judge(&server).bound, LIMITS_BY_POOLER);
    server.is_superuser = true; /* exempt from the server's limits, not from a pooler's */
    assert_int_equal(limits_judge(&server).largest, 15);
    server.pooler_limit = LIMITS_NONE;
    assert_int_equal(limits_judge(&server).largest, 53);
}

static void nothing_left_is_zero(void **state)
{
    (void)state;
    struct limits_server server = story();
    server.others = 70;
    assert_int_equal(limits_judge(&server).largest, 0);
    server.others = 0;
    server.role_limit = 0;
    assert_int_equal(limits_judge(&server).largest, 0);
    assert_int_equal(limits_judge(&server).bound, LIMITS_BY_ROLE);
}

static void the_shipped_pools_fit_into_forty_eight(void **state)
{
    (void)state;
    struct limits_pool pools[] = {{50, 5, 0}, {5, 0, 5}};
    assert_true(limits_fit(pools, 2, 60, 48));
    assert_int_equal(pools[0].size, 38);
    assert_int_equal(pools[0].max_overflow, 5);
    assert_int_equal(pools[1].size, 5);
    assert_int_equal(pools[1].reserved, 5);
}

static void what_fits_already_is_left_alone(void **state)
{
    (void)state;
    struct limits_pool pools[] = {{20, 5, 0}, {5, 0, 5}};
    assert_true(limits_fit(pools, 2, 60, 48));
    assert_int_equal(pools[0].size, 20);
    assert_int_equal(pools[0].max_overflow, 5);
}

static void a_reservation_gives_way_last(void **state)
{
    (void)state;
    struct limits_pool pools[] = {{50, 5, 0}, {5, 0, 5}};
    assert_true(limits_fit(pools, 2, 60, 6));
    assert_int_equal(pools[1].reserved, 5);
    assert_int_equal(pools[0].size + pools[0].max_overflow, 1);
    struct limits_pool tight[] = {{50, 5, 0}, {5, 0, 5}};
    assert_true(limits_fit(tight, 2, 60, 3));
    assert_int_equal(tight[1].reserved, 2);
    assert_int_equal(tight[1].size, 2);
    assert_int_equal(tight[0].size + tight[0].max_overflow, 1);
    struct limits_pool none[] = {{50, 5, 0}, {5, 0, 5}};
    assert_false(limits_fit(none, 2, 60, 1));
}

/* Whatever the numbers, what is proposed passes the checks of start-up and is nowhere more than there was. */
static void proposals_pass_the_checks_of_start_up(void **state)
{
    (void)state;
    unsigned seed = 7;
    for (int round = 0; round < 200000; round++) {
        struct limits_pool pools[6];
        struct limits_pool before[6];
        size_t count = 1 + (size_t)rand_r(&seed) % 6;
        int reserved = 0;
        for (size_t i = 0; i < count; i++) {
            pools[i].reserved = rand_r(&seed) % 3 ? 0 : rand_r(&seed) % 12;
            pools[i].size = pools[i].reserved + rand_r(&seed) % 60;
            pools[i].max_overflow = rand_r(&seed) % 12;
            if (pools[i].size + pools[i].max_overflow == 0)
                pools[i].size = 1;
            reserved += pools[i].reserved;
            before[i] = pools[i];
        }
        int total = reserved + 1 + rand_r(&seed) % 80;
        int largest = rand_r(&seed) % (total + 1);
        if (!limits_fit(pools, count, total, largest)) {
            assert_true(largest < (int)count + 1);
            continue;
        }
        int sum = 0;
        for (size_t i = 0; i < count; i++)
            sum += pools[i].reserved;
        assert_true(sum <= largest);
        for (size_t i = 0; i < count; i++) {
            int left = largest - (sum - pools[i].reserved);
            assert_true(pools[i].size <= left);
            assert_true(pools[i].size >= 0 && pools[i].max_overflow >= 0);
            assert_true(pools[i].size + pools[i].max_overflow > 0);
            assert_true(pools[i].reserved <= pools[i].size + pools[i].max_overflow);
            assert_true(pools[i].reserved <= before[i].reserved);
            assert_true(pools[i].size + pools[i].max_overflow <=
                        before[i].size + before[i].max_overflow);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sixty_less_three_two_and_seven_is_forty_eight),
        cmocka_unit_test(members_and_superusers_may_use_what_is_kept),
        cmocka_unit_test(the_tightest_limit_counts),
        cmocka_unit_test(nothing_left_is_zero),
        cmocka_unit_test(the_shipped_pools_fit_into_forty_eight),
        cmocka_unit_test(what_fits_already_is_left_alone),
        cmocka_unit_test(a_reservation_gives_way_last),
        cmocka_unit_test(proposals_pass_the_checks_of_start_up),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
