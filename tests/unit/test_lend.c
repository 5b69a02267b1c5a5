/*
 * test_lend.c - one-way lending (contract 4, `borrow`), one promise a test.
 *
 * Six connections in all: adhoc has its two, which are reserved, in use, and may have two more; automation has four, all idle.
 * tests/property/property_pool.c lends at random.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "policy/pool.h"

#define MS     1000LL
#define SECOND 1000000LL

enum { AUTOMATION, ADHOC, POOLS };

static struct budget budget;
static struct pool pools[POOLS];
static struct pool_lane lanes[POOLS];
static struct pool_backend theirs[4]; /* automation's */
static struct pool_backend own[4];    /* adhoc's */
static struct pool_waiter waiters[4];
static int64_t now;

static struct pool_settings settings(int size, int max_overflow, bool borrow)
{
    return (struct pool_settings){.size = size,
                                  .max_overflow = max_overflow,
                                  .login_burst = 4,
                                  .prefill = true,
                                  .borrow = borrow,
                                  .timeout_us = 60 * SECOND,
                                  .overflow_delay_us = 100 * MS,
                                  .overflow_idle_us = 30 * SECOND};
}

static void add_pool(int index, int reserved, const struct pool_settings *numbers)
{
    pool_init(&pools[index], &budget, (size_t)index, numbers, 42);
    pool_configure(&pools[index], numbers, reserved);
    pool_lane_init(&lanes[index], &pools[index], NULL);
    pools[index].primary = &lanes[index];
}

static void open_idle(struct pool_backend *backend, int pool)
{
    pool_backend_add(backend, &lanes[pool], now);
    pool_backend_ready(backend, now);
}

static int start(void **state)
{
    (void)state;
    now = 1000 * SECOND;
    budget = (struct budget){.total = 6};
    memset(waiters, 0, sizeof(waiters));
    struct pool_settings automation = settings(4, 0, false);
    struct pool_settings adhoc = settings(2, 2, true);
    add_pool(AUTOMATION, 0, &automation);
    add_pool(ADHOC, 2, &adhoc);
    for (int i = 0; i < 4; i++, now += MS)
        open_idle(&theirs[i], AUTOMATION);
    for (int i = 0; i < 2; i++) {
        open_idle(&own[i], ADHOC);
        assert_non_null(pool_acquire(&lanes[ADHOC], now));
    }
    return 0;
}

static struct pool_action expect(int pool, enum pool_action_kind kind)
{
    struct pool_action action = pool_next(&pools[pool], now);
    assert_int_equal(action.kind, kind);
    return action;
}

/* `count` developers come, and have waited for the overflow's delay. */
static void developers_wait(int count)
{
    for (int i = 0; i < count; i++)
        pool_wait(&waiters[i], &lanes[ADHOC], now);
    expect(ADHOC, POOL_NOTHING);
    now += 100 * MS;
}

static void the_longest_idle_one_makes_room_once_the_overflow_is_due(void **state)
{
    (void)state;
    pool_wait(&waiters[0], &lanes[ADHOC], now);
    now += 100 * MS - 1;
    expect(ADHOC, POOL_NOTHING);
    now += 1;
    struct pool_action action = expect(ADHOC, POOL_CLOSE);
    assert_ptr_equal(action.backend, &theirs[0]);
    assert_string_equal(action.reason, "lent to a reserved pool");
    assert_int_equal(theirs[0].state, BACKEND_CLOSING);
    expect(ADHOC, POOL_NOTHING); /* it counts until the server has let go of it */
    pool_backend_remove(&theirs[0]);
    assert_ptr_equal(expect(ADHOC, POOL_OPEN).lane, &lanes[ADHOC]);
    open_idle(&own[2], ADHOC);
    assert_ptr_equal(expect(ADHOC, POOL_GRANT).waiter, &waiters[0]);
    assert_int_equal(budget_open(&budget), 6);
}

static void the_giver_does_not_refill_what_it_has_lent(void **state)
{
    (void)state;
    developers_wait(1);
    pool_backend_remove(expect(ADHOC, POOL_CLOSE).backend);
    expect(AUTOMATION, POOL_NOTHING); /* though a place is free, and it is asked first */
    assert_false(budget_may_take(&budget, AUTOMATION));
    expect(ADHOC, POOL_OPEN);
    open_idle(&own[2], ADHOC);
    expect(AUTOMATION, POOL_NOTHING);
}

static void the_giver_has_its_place_back_when_the_overflow_has_gone(void **state)
{
    (void)state;
    const char *must_close = NULL;
    developers_wait(1);
    pool_backend_remove(expect(ADHOC, POOL_CLOSE).backend);
    expect(ADHOC, POOL_OPEN);
    open_idle(&own[2], ADHOC);
    expect(ADHOC, POOL_GRANT);
    assert_null(pool_release(&own[2], now, &must_close));
    now += 30 * SECOND;
    struct pool_action action = pool_sweep(&pools[ADHOC], now);
    assert_string_equal(action.reason, "overflow idle");
    pool_backend_remove(action.backend);
    expect(ADHOC, POOL_NOTHING);
    assert_ptr_equal(expect(AUTOMATION, POOL_OPEN).lane, &lanes[AUTOMATION]);
}

static void one_for_each_waiter_and_no_more_than_max_overflow(void **state)
{
    (void)state;
    developers_wait(3);
    assert_ptr_equal(expect(ADHOC, POOL_CLOSE).backend, &theirs[0]);
    assert_ptr_equal(expect(ADHOC, POOL_CLOSE).backend, &theirs[1]);
    expect(ADHOC, POOL_NOTHING);
    for (int i = 0; i < 2; i++) {
        pool_backend_remove(&theirs[i]);
        expect(ADHOC, POOL_OPEN);
        open_idle(&own[2 + i], ADHOC);
        expect(ADHOC, POOL_GRANT);
    }
    expect(ADHOC, POOL_NOTHING);
    assert_int_equal(pools[AUTOMATION].counts[BACKEND_IDLE], 2);
}

static void one_waiter_costs_one_connection(void **state)
{
    (void)state;
    developers_wait(1);
    expect(ADHOC, POOL_CLOSE);
    expect(ADHOC, POOL_NOTHING);
    pool_backend_remove(&theirs[0]);
    expect(ADHOC, POOL_OPEN);
    pool_backend_add(&own[2], &lanes[ADHOC], now);
    expect(ADHOC, POOL_NOTHING);
}

static void a_close_that_hangs_is_not_waited_for(void **state)
{
    (void)state;
    developers_wait(1);
    expect(ADHOC, POOL_CLOSE);
    now += SECOND;
    expect(ADHOC, POOL_NOTHING);
    now += 1;
    assert_ptr_equal(expect(ADHOC, POOL_CLOSE).backend, &theirs[1]);
    expect(ADHOC, POOL_NOTHING);
}

static void a_place_that_nobody_needs_any_more_is_the_givers_again(void **state)
{
    (void)state;
    developers_wait(1);
    pool_backend_remove(expect(ADHOC, POOL_CLOSE).backend);
    pool_wait_end(&waiters[0]);
    expect(ADHOC, POOL_NOTHING);
    expect(AUTOMATION, POOL_OPEN);
}

static void nothing_is_lent_when_borrow_is_off(void **state)
{
    (void)state;
    struct pool_settings off = settings(2, 2, false);
    developers_wait(1);
    pool_configure(&pools[ADHOC], &off, 2);
    expect(ADHOC, POOL_NOTHING);
    struct pool_settings on = settings(2, 2, true);
    pool_configure(&pools[ADHOC], &on, 2);
    expect(ADHOC, POOL_CLOSE);
    pool_configure(&pools[ADHOC], &off, 2); /* in the middle of it */
    pool_backend_remove(&theirs[0]);
    expect(AUTOMATION, POOL_OPEN);
}

static void a_pool_without_a_reservation_borrows_from_nobody(void **state)
{
    (void)state;
    const char *must_close = NULL;
    struct pool_settings greedy = settings(4, 2, true);
    pool_configure(&pools[AUTOMATION], &greedy, 0);
    for (int i = 0; i < 4; i++)
        assert_non_null(pool_acquire(&lanes[AUTOMATION], now));
    assert_null(pool_release(&own[0], now, &must_close)); /* adhoc has a free one */
    pool_wait(&waiters[0], &lanes[AUTOMATION], now);
    now += SECOND;
    expect(AUTOMATION, POOL_NOTHING);
    assert_int_equal(own[0].state, BACKEND_IDLE);
}

static void reserved_connections_are_lent_to_nobody(void **state)
{
    (void)state;
    struct pool_settings numbers = settings(4, 0, false);
    budget.total = 6;
    pool_configure(&pools[AUTOMATION], &numbers, 1);
    developers_wait(1);
    expect(ADHOC, POOL_NOTHING);
}

static void one_in_use_is_lent_to_nobody(void **state)
{
    (void)state;
    for (int i = 0; i < 4; i++)
        assert_non_null(pool_acquire(&lanes[AUTOMATION], now));
    developers_wait(1);
    expect(ADHOC, POOL_NOTHING);
}

static void nothing_is_closed_while_the_cap_has_room(void **state)
{
    (void)state;
    budget.total = 7;
    developers_wait(1);
    expect(ADHOC, POOL_OPEN);
}

static void a_lane_whose_logins_fail_takes_nobodys_place(void **state)
{
    (void)state;
    lanes[ADHOC].failures = 10;
    developers_wait(1);
    pool_backend_remove(expect(ADHOC, POOL_CLOSE).backend);
    expect(ADHOC, POOL_OPEN);
    pool_backend_add(&own[2], &lanes[ADHOC], now);
    pool_backend_login_failed(&own[2], now);
    pool_backend_remove(&own[2]);
    expect(ADHOC, POOL_NOTHING);
    expect(AUTOMATION, POOL_OPEN); /* the place is everybody's again */
    open_idle(&theirs[0], AUTOMATION);
    now = lanes[ADHOC].retry_us - 1;
    expect(ADHOC, POOL_NOTHING);
    now += 1;
    expect(ADHOC, POOL_CLOSE);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup(name, start)
    const struct CMUnitTest tests[] = {
        TEST(the_longest_idle_one_makes_room_once_the_overflow_is_due),
        TEST(the_giver_does_not_refill_what_it_has_lent),
        TEST(the_giver_has_its_place_back_when_the_overflow_has_gone),
        TEST(one_for_each_waiter_and_no_more_than_max_overflow),
        TEST(one_waiter_costs_one_connection),
        TEST(a_close_that_hangs_is_not_waited_for),
        TEST(a_place_that_nobody_needs_any_more_is_the_givers_again),
        TEST(nothing_is_lent_when_borrow_is_off),
        TEST(a_pool_without_a_reservation_borrows_from_nobody),
        TEST(reserved_connections_are_lent_to_nobody),
        TEST(one_in_use_is_lent_to_nobody),
        TEST(nothing_is_closed_while_the_cap_has_room),
        TEST(a_lane_whose_logins_fail_takes_nobodys_place),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
