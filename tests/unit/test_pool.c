/*
 * test_pool.c - who gets which backend and what happens next, one promise of contract 4 a test.
 *
 * Each test has one pool of two lanes and moves time by hand; tests/property/property_pool.c does the same with many of
 * everything at random.
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

static struct budget budget;
static struct pool pool;
static struct pool_lane first;
static struct pool_lane second;
static struct pool_backend backends[16];
static struct pool_waiter waiters[16];
static int64_t now;

static const struct pool_settings defaults = {
    .size = 2,
    .max_overflow = 1,
    .login_burst = 4,
    .pre_ping = true,
    .timeout_us = 60 * SECOND,
    .recycle_us = 1800 * SECOND,
    .pre_ping_idle_us = 5 * SECOND,
    .overflow_delay_us = 100 * MS,
    .overflow_idle_us = 30 * SECOND,
    .wait_notice_us = 5 * SECOND,
};

static int start(void **state)
{
    (void)state;
    now = 1000 * SECOND;
    budget = (struct budget){.total = 10};
    memset(waiters, 0, sizeof(waiters));
    pool_init(&pool, &budget, 0, &defaults, 42);
    pool_configure(&pool, &defaults, 0);
    pool_lane_init(&first, &pool, NULL);
    pool_lane_init(&second, &pool, NULL);
    pool.primary = &first;
    return 0;
}

static void open_idle(int index, struct pool_lane *lane)
{
    pool_backend_add(&backends[index], lane, now);
    pool_backend_ready(&backends[index], now);
}

static void open_busy(int index, struct pool_lane *lane)
{
    open_idle(index, lane);
    assert_ptr_equal(pool_acquire(lane, now), &backends[index]);
}

static struct pool_action expect(enum pool_action_kind kind)
{
    struct pool_action action = pool_next(&pool, now);
    assert_int_equal(action.kind, kind);
    return action;
}

static struct pool_action expect_swept(enum pool_action_kind kind)
{
    struct pool_action action = pool_sweep(&pool, now);
    assert_int_equal(action.kind, kind);
    return action;
}

/* Hands it back; returns who got it, fails when it must be closed. */
static struct pool_waiter *release(int index)
{
    const char *must_close = NULL;
    struct pool_waiter *waiter = pool_release(&backends[index], now, &must_close);
    assert_null(must_close);
    return waiter;
}

static const char *release_to_close(int index)
{
    const char *must_close = NULL;
    assert_null(pool_release(&backends[index], now, &must_close));
    assert_non_null(must_close);
    return must_close;
}

static void the_backend_used_last_goes_out_first(void **state)
{
    (void)state;
    open_busy(0, &first);
    open_busy(1, &first);
    release(1);
    now += MS;
    release(0);
    assert_ptr_equal(pool_acquire(&first, now), &backends[0]);
    assert_ptr_equal(pool_acquire(&first, now), &backends[1]);
    assert_null(pool_acquire(&first, now));
}

static void waiters_are_served_in_order(void **state)
{
    (void)state;
    open_busy(0, &first);
    open_busy(1, &first);
    for (int i = 0; i < 3; i++)
        pool_wait(&waiters[i], &first, now);
    expect(POOL_NOTHING);
    assert_ptr_equal(release(0), &waiters[0]);
    assert_ptr_equal(release(1), &waiters[1]);
    assert_ptr_equal(release(0), &waiters[2]);
    assert_null(release(0));
}

static void nobody_overtakes_those_who_wait(void **state)
{
    (void)state;
    open_idle(0, &first);
    now += 6 * SECOND; /* must be pinged first */
    pool_wait(&waiters[0], &first, now);
    backends[0].alive_us = now;
    assert_null(pool_acquire(&first, now));
    assert_ptr_equal(expect(POOL_GRANT).waiter, &waiters[0]);
}

static void a_client_that_leaves_the_queue_is_forgotten(void **state)
{
    (void)state;
    open_busy(0, &first);
    pool_wait(&waiters[0], &first, now);
    pool_wait(&waiters[1], &first, now);
    pool_wait_end(&waiters[0]);
    assert_null(waiters[0].lane);
    assert_ptr_equal(release(0), &waiters[1]);
    assert_int_equal(pool.waiting, 0);
}

static void a_wait_ends_at_the_timeout(void **state)
{
    (void)state;
    budget.total = 0;
    pool_wait(&waiters[0], &first, now);
    now += 60 * SECOND - 1;
    expect(POOL_NOTHING);
    now += 1;
    assert_ptr_equal(expect(POOL_TIMEOUT).waiter, &waiters[0]);
    assert_null(waiters[0].lane);
    expect(POOL_NOTHING);
}

static void a_shorter_timeout_reaches_those_who_wait(void **state)
{
    (void)state;
    budget.total = 0;
    pool_wait(&waiters[0], &first, now);
    struct pool_settings settings = defaults;
    settings.timeout_us = 2 * SECOND;
    pool_configure(&pool, &settings, 0);
    pool_wait(&waiters[1], &first, now);
    now += 2 * SECOND;
    expect(POOL_TIMEOUT);
    assert_ptr_equal(expect(POOL_TIMEOUT).waiter, &waiters[1]);
}

static void a_long_wait_is_noticed_once(void **state)
{
    (void)state;
    budget.total = 0;
    pool_wait(&waiters[0], &first, now);
    expect_swept(POOL_NOTHING);
    now += 5 * SECOND;
    assert_ptr_equal(expect_swept(POOL_NOTICE).waiter, &waiters[0]);
    expect_swept(POOL_NOTHING);
}

static void a_notice_tells_how_many_wait_before(void **state)
{
    (void)state;
    budget.total = 0;
    for (int i = 0; i < 4; i++)
        pool_wait(&waiters[i], &first, now);
    now += 5 * SECOND;
    assert_int_equal(expect_swept(POOL_NOTICE).before, 0);
    assert_int_equal(expect_swept(POOL_NOTICE).before, 1);
    pool_wait_end(&waiters[0]);
    pool_wait_end(&waiters[2]); /* it leaves before its notice */
    struct pool_action action = expect_swept(POOL_NOTICE);
    assert_ptr_equal(action.waiter, &waiters[3]);
    assert_int_equal(action.before, 1);
    expect_swept(POOL_NOTHING);
}

static void one_login_for_each_waiter_and_no_more(void **state)
{
    (void)state;
    pool_wait(&waiters[0], &first, now);
    assert_ptr_equal(expect(POOL_OPEN).lane, &first);
    pool_backend_add(&backends[0], &first, now);
    expect(POOL_NOTHING);
    pool_backend_ready(&backends[0], now);
    struct pool_action action = expect(POOL_GRANT);
    assert_ptr_equal(action.backend, &backends[0]);
    assert_ptr_equal(action.waiter, &waiters[0]);
}

static void logins_are_not_a_storm(void **state)
{
    (void)state;
    pool.settings.login_burst = 1;
    pool_wait(&waiters[0], &first, now);
    pool_wait(&waiters[1], &first, now);
    expect(POOL_OPEN);
    pool_backend_add(&backends[0], &first, now);
    expect(POOL_NOTHING);
}

static void overflow_opens_only_after_its_delay(void **state)
{
    (void)state;
    open_busy(0, &first);
    open_busy(1, &first);
    pool_wait(&waiters[0], &first, now);
    now += 99 * MS;
    expect(POOL_NOTHING);
    now += 1 * MS;
    expect(POOL_OPEN);
    pool_backend_add(&backends[2], &first, now);
    pool_wait(&waiters[1], &first, now);
    now += SECOND;
    expect(POOL_NOTHING); /* size + max_overflow are open */
}

/* Pings in between must not make an unused connection look used. */
static void unused_overflow_is_closed(void **state)
{
    (void)state;
    for (int i = 0; i < 3; i++)
        open_busy(i, &first);
    for (int i = 0; i < 3; i++)
        release(i);
    for (int second_of_idling = 1; second_of_idling < 30; second_of_idling++) {
        now += SECOND;
        for (;;) {
            struct pool_action action = pool_sweep(&pool, now);
            if (action.kind == POOL_NOTHING)
                break;
            assert_int_equal(action.kind, POOL_PING);
            assert_null(pool_backend_alive(action.backend, now));
        }
    }
    now += SECOND;
    assert_ptr_equal(expect_swept(POOL_CLOSE).backend, &backends[0]);
    assert_int_equal(pool.counts[BACKEND_CLOSING], 1);
    assert_int_not_equal(pool_sweep(&pool, now).kind, POOL_CLOSE);
}

static void pings_leave_the_order_of_use_alone(void **state)
{
    (void)state;
    open_idle(0, &first);
    now += MS;
    open_idle(1, &first);
    now += 4 * SECOND;
    assert_ptr_equal(expect_swept(POOL_PING).backend, &backends[0]);
    assert_ptr_equal(expect_swept(POOL_PING).backend, &backends[1]);
    expect_swept(POOL_NOTHING);
    pool_backend_alive(&backends[1], now);
    pool_backend_alive(&backends[0], now);
    assert_ptr_equal(pool_acquire(&first, now), &backends[1]);
}

static void a_silent_backend_is_pinged_before_it_is_given(void **state)
{
    (void)state;
    open_idle(0, &first);
    now += 5 * SECOND + 1;
    assert_null(pool_acquire(&first, now));
    pool_wait(&waiters[0], &first, now);
    assert_ptr_equal(expect(POOL_PING).backend, &backends[0]);
    expect(POOL_NOTHING);
    assert_ptr_equal(pool_backend_alive(&backends[0], now), &waiters[0]);
    assert_int_equal(backends[0].state, BACKEND_BUSY);
}

static void a_backend_known_to_live_does_not_wait_behind_a_silent_one(void **state)
{
    (void)state;
    open_idle(0, &first);
    now += SECOND;
    open_idle(1, &first);
    now += 5 * SECOND;
    backends[0].alive_us = now;
    backends[1].alive_us = now - 6 * SECOND;
    pool_wait(&waiters[0], &first, now);
    assert_ptr_equal(expect(POOL_GRANT).backend, &backends[0]);
}

static void pre_ping_idle_zero_pings_every_time(void **state)
{
    (void)state;
    pool.settings.pre_ping_idle_us = 0;
    open_idle(0, &first);
    expect_swept(POOL_NOTHING);
    assert_null(pool_acquire(&first, now));
    pool_wait(&waiters[0], &first, now);
    expect(POOL_PING);
    assert_ptr_equal(pool_backend_alive(&backends[0], now), &waiters[0]);
}

static void without_pre_ping_nothing_is_pinged(void **state)
{
    (void)state;
    pool.settings.pre_ping = false;
    open_idle(0, &first);
    now += 1000 * SECOND;
    expect_swept(POOL_NOTHING);
    assert_ptr_equal(pool_acquire(&first, now), &backends[0]);
}

static void one_dead_backend_makes_the_older_ones_suspect(void **state)
{
    (void)state;
    pool.settings.pre_ping = false;
    open_idle(0, &first);
    now += MS;
    pool_lane_suspect(&first, now);
    open_idle(1, &first);
    assert_ptr_equal(pool_acquire(&first, now), &backends[1]);
    assert_null(pool_acquire(&first, now));
    assert_ptr_equal(expect_swept(POOL_PING).backend, &backends[0]);
    pool_backend_alive(&backends[0], now);
    assert_ptr_equal(pool_acquire(&first, now), &backends[0]);
}

static void an_old_connection_is_replaced_when_it_is_free(void **state)
{
    (void)state;
    open_busy(0, &first);
    open_idle(1, &first);
    assert_in_range(backends[0].recycle_us - now, 1620 * SECOND, 1800 * SECOND);
    assert_true(backends[0].recycle_us != backends[1].recycle_us);
    now += 1800 * SECOND;
    assert_string_equal(expect_swept(POOL_CLOSE).reason, "recycle");
    expect_swept(POOL_NOTHING);
    assert_string_equal(release_to_close(0), "recycle");
}

static void dispose_replaces_busy_ones_when_they_come_free(void **state)
{
    (void)state;
    open_busy(0, &first);
    open_idle(1, &first);
    pool_lane_dispose(&first);
    assert_null(pool_acquire(&first, now));
    assert_ptr_equal(expect_swept(POOL_CLOSE).backend, &backends[1]);
    assert_string_equal(release_to_close(0), "disposed");
}

static void a_closing_connection_still_counts(void **state)
{
    (void)state;
    budget.total = 1;
    open_busy(0, &first);
    pool_backend_move(&backends[0], BACKEND_CLOSING, now);
    pool_wait(&waiters[0], &first, now);
    now += SECOND;
    expect(POOL_NOTHING);
    pool_backend_remove(&backends[0]);
    expect(POOL_OPEN);
}

static void a_free_connection_of_one_lane_makes_room_for_another(void **state)
{
    (void)state;
    open_idle(0, &first);
    now += MS;
    open_idle(1, &first);
    pool_wait(&waiters[0], &second, now);
    assert_ptr_equal(expect(POOL_CLOSE).backend, &backends[0]);
    expect(POOL_NOTHING);
    pool_backend_remove(&backends[0]);
    assert_ptr_equal(expect(POOL_OPEN).lane, &second);
}

/* The server is slow to let go: the waiter still gets its overflow. */
static void a_close_that_hangs_does_not_stop_the_overflow(void **state)
{
    (void)state;
    open_idle(0, &first);
    open_idle(1, &first);
    pool_wait(&waiters[0], &second, now);
    expect(POOL_CLOSE);
    now += 100 * MS;
    assert_ptr_equal(expect(POOL_OPEN).lane, &second);
}

static void a_busy_lane_does_not_starve_another(void **state)
{
    (void)state;
    pool.settings.max_overflow = 0;
    pool_configure(&pool, &pool.settings, 0);
    open_busy(0, &first);
    open_busy(1, &first);
    pool_wait(&waiters[0], &second, now);
    pool_wait(&waiters[1], &first, now);
    now += MS;
    assert_string_equal(release_to_close(0), "place needed by another database or user");
    pool_backend_move(&backends[0], BACKEND_CLOSING, now);
    assert_ptr_equal(release(1), &waiters[1]); /* one place is enough */
}

/* The other lane has a connection, but one that is held for long. */
static void a_lane_with_one_long_holder_is_not_starved(void **state)
{
    (void)state;
    pool.settings.max_overflow = 0;
    pool_configure(&pool, &pool.settings, 0);
    open_busy(0, &first);
    open_busy(1, &second);
    pool_wait(&waiters[0], &second, now);
    pool_wait(&waiters[1], &first, now);
    pool_wait(&waiters[2], &first, now);
    assert_ptr_equal(release(0), &waiters[1]);
    now += SECOND;
    release_to_close(0);
}

static void failed_logins_back_off(void **state)
{
    (void)state;
    pool.settings.prefill = true;
    int64_t last = 0;
    for (int i = 0; i < 12; i++) {
        expect(POOL_OPEN);
        pool_backend_add(&backends[0], &first, now);
        pool_backend_login_failed(&backends[0], now);
        pool_backend_remove(&backends[0]);
        int64_t delay = first.retry_us - now;
        assert_in_range(delay, 75 * MS, 18750 * MS);
        assert_true(i != 11 || delay > 11 * SECOND);
        assert_true(i == 0 || delay > last / 2);
        last = delay;
        expect(POOL_NOTHING);
        now = first.retry_us;
    }
    expect(POOL_OPEN);
    open_idle(0, &first);
    assert_int_equal(first.failures, 0);
}

static void logins_that_fail_together_count_once(void **state)
{
    (void)state;
    for (int i = 0; i < 4; i++)
        pool_backend_add(&backends[i], &first, now);
    for (int i = 0; i < 4; i++) {
        now += MS;
        pool_backend_login_failed(&backends[i], now);
        pool_backend_remove(&backends[i]);
    }
    assert_int_equal(first.failures, 1);
    pool_backend_add(&backends[0], &first, now);
    pool_backend_login_failed(&backends[0], now);
    assert_int_equal(first.failures, 2);
}

static void a_waiter_shortens_the_back_off(void **state)
{
    (void)state;
    first.failures = 10;
    pool_backend_add(&backends[0], &first, now);
    pool_backend_login_failed(&backends[0], now);
    pool_backend_remove(&backends[0]);
    pool_wait(&waiters[0], &first, now);
    assert_true(pool_lane_is_dead(&first));
    expect(POOL_NOTHING);
    now += SECOND;
    expect(POOL_OPEN);
}

static void size_is_kept_open(void **state)
{
    (void)state;
    pool.settings.prefill = true;
    for (int i = 0; i < 2; i++) {
        assert_ptr_equal(expect(POOL_OPEN).lane, &first);
        pool_backend_add(&backends[i], &first, now);
    }
    expect(POOL_NOTHING);
    pool_backend_remove(&backends[1]);
    expect(POOL_OPEN);
}

/* Two are the pool's size, but three are reserved. */
static void what_is_reserved_beyond_size_is_kept_open_too(void **state)
{
    (void)state;
    pool.settings.prefill = true;
    pool_configure(&pool, &pool.settings, 3);
    for (int i = 0; i < 3; i++) {
        assert_ptr_equal(expect(POOL_OPEN).lane, &first);
        open_idle(i, &first);
    }
    expect(POOL_NOTHING);
    now += 40 * SECOND;
    for (int i = 0; i < 3; i++)
        backends[i].alive_us = now;
    expect_swept(POOL_NOTHING);
}

static void who_waits_for_a_reserved_one_does_not_wait_for_the_overflows_delay(void **state)
{
    (void)state;
    pool_configure(&pool, &pool.settings, 3);
    open_busy(0, &first);
    open_busy(1, &first);
    pool_wait(&waiters[0], &first, now);
    expect(POOL_OPEN);
}

static void a_hanging_close_does_not_hold_up_the_refill(void **state)
{
    (void)state;
    pool.settings.prefill = true;
    open_idle(0, &first);
    open_idle(1, &first);
    pool_backend_move(&backends[0], BACKEND_CLOSING, now);
    expect(POOL_NOTHING);
    now += SECOND + 1;
    expect(POOL_OPEN);
}

/* Else the pool would close and open without end. */
static void the_refill_takes_no_place_that_a_waiter_has_cleared(void **state)
{
    (void)state;
    pool.settings.prefill = true;
    open_busy(0, &second);
    pool_backend_move(&backends[0], BACKEND_CLOSING, now);
    now += SECOND + 1;
    open_idle(1, &first);
    open_idle(2, &first);
    pool_wait(&waiters[0], &second, now);
    pool_wait(&waiters[1], &second, now);
    struct pool_backend *victim = expect(POOL_CLOSE).backend;
    assert_ptr_equal(victim->lane, &first);
    assert_ptr_equal(expect(POOL_CLOSE).lane, &second); /* there are two who wait */
    pool_backend_remove(victim);
    assert_ptr_equal(expect(POOL_OPEN).lane, &second);
}

static void a_paused_pool_gives_nothing(void **state)
{
    (void)state;
    open_idle(0, &first);
    open_busy(1, &first);
    release(1);
    pool.is_paused = true;
    assert_null(pool_acquire(&first, now));
    pool_wait(&waiters[0], &first, now);
    expect(POOL_NOTHING);
    pool.is_paused = false;
    expect(POOL_GRANT);
}

static void a_paused_lane_does_not_hold_up_the_others(void **state)
{
    (void)state;
    open_idle(0, &first);
    open_busy(1, &second);
    first.is_paused = true;
    assert_null(pool_acquire(&first, now));
    pool_wait(&waiters[0], &first, now);
    expect(POOL_NOTHING);
    pool_wait(&waiters[1], &second, now);
    now += 2 * SECOND;
    assert_ptr_equal(release(1), &waiters[1]);
    first.is_paused = false;
    assert_ptr_equal(expect(POOL_GRANT).waiter, &waiters[0]);
}

static void what_is_emptied_closes_when_free_and_is_not_filled_again(void **state)
{
    (void)state;
    pool.settings.prefill = true;
    open_busy(0, &first);
    open_idle(1, &first);
    pool.is_paused = pool.is_emptying = true;
    struct pool_action action = expect_swept(POOL_CLOSE);
    assert_ptr_equal(action.backend, &backends[1]);
    assert_string_equal(action.reason, "paused");
    pool_backend_remove(&backends[1]);
    assert_string_equal(release_to_close(0), "paused");
    pool_backend_move(&backends[0], BACKEND_CLOSING, now);
    pool_backend_remove(&backends[0]);
    expect(POOL_NOTHING);
    assert_int_equal(pool_open(&pool), 0);
    pool.is_paused = pool.is_emptying = false;
    expect(POOL_OPEN);
}

static void a_stopping_pool_opens_nothing(void **state)
{
    (void)state;
    pool.settings.prefill = true;
    pool.is_stopping = true;
    pool_wait(&waiters[0], &first, now);
    expect(POOL_NOTHING);
}

/* The cap falls by one: one connection goes, although its server takes its time. */
static void a_smaller_cap_closes_no_more_than_it_must(void **state)
{
    (void)state;
    open_idle(0, &first);
    open_idle(1, &first);
    budget.total = 1;
    expect_swept(POOL_CLOSE);
    expect_swept(POOL_NOTHING);
    assert_int_equal(pool.counts[BACKEND_IDLE], 1);
}

static void a_smaller_pool_closes_down_to_its_limit(void **state)
{
    (void)state;
    for (int i = 0; i < 3; i++)
        open_busy(i, &first);
    struct pool_settings settings = defaults;
    settings.size = 1;
    pool_configure(&pool, &settings, 0);
    release_to_close(0);
    pool_backend_move(&backends[0], BACKEND_CLOSING, now);
    assert_null(release(1));
}

static void a_lane_that_goes_is_forgotten(void **state)
{
    (void)state;
    pool_lane_remove(&first);
    assert_null(pool.primary);
    pool.settings.prefill = true;
    expect(POOL_NOTHING);
    pool_wait(&waiters[0], &second, now);
    assert_ptr_equal(expect(POOL_OPEN).lane, &second);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup(name, start)
    const struct CMUnitTest tests[] = {
        TEST(the_backend_used_last_goes_out_first),
        TEST(waiters_are_served_in_order),
        TEST(nobody_overtakes_those_who_wait),
        TEST(a_client_that_leaves_the_queue_is_forgotten),
        TEST(a_wait_ends_at_the_timeout),
        TEST(a_shorter_timeout_reaches_those_who_wait),
        TEST(a_long_wait_is_noticed_once),
        TEST(a_notice_tells_how_many_wait_before),
        TEST(one_login_for_each_waiter_and_no_more),
        TEST(logins_are_not_a_storm),
        TEST(overflow_opens_only_after_its_delay),
        TEST(unused_overflow_is_closed),
        TEST(pings_leave_the_order_of_use_alone),
        TEST(a_silent_backend_is_pinged_before_it_is_given),
        TEST(a_backend_known_to_live_does_not_wait_behind_a_silent_one),
        TEST(pre_ping_idle_zero_pings_every_time),
        TEST(without_pre_ping_nothing_is_pinged),
        TEST(one_dead_backend_makes_the_older_ones_suspect),
        TEST(an_old_connection_is_replaced_when_it_is_free),
        TEST(dispose_replaces_busy_ones_when_they_come_free),
        TEST(a_closing_connection_still_counts),
        TEST(a_free_connection_of_one_lane_makes_room_for_another),
        TEST(a_close_that_hangs_does_not_stop_the_overflow),
        TEST(a_busy_lane_does_not_starve_another),
        TEST(a_lane_with_one_long_holder_is_not_starved),
        TEST(failed_logins_back_off),
        TEST(logins_that_fail_together_count_once),
        TEST(a_waiter_shortens_the_back_off),
        TEST(size_is_kept_open),
        TEST(what_is_reserved_beyond_size_is_kept_open_too),
        TEST(who_waits_for_a_reserved_one_does_not_wait_for_the_overflows_delay),
        TEST(a_hanging_close_does_not_hold_up_the_refill),
        TEST(the_refill_takes_no_place_that_a_waiter_has_cleared),
        TEST(a_paused_pool_gives_nothing),
        TEST(a_paused_lane_does_not_hold_up_the_others),
        TEST(what_is_emptied_closes_when_free_and_is_not_filled_again),
        TEST(a_stopping_pool_opens_nothing),
        TEST(a_smaller_cap_closes_no_more_than_it_must),
        TEST(a_smaller_pool_closes_down_to_its_limit),
        TEST(a_lane_that_goes_is_forgotten),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
