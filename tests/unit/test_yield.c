/*
 * test_yield.c - lanes that give way to a reserved pool while the upstream is full (contract 12).
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "policy/pool.h"

#define SECOND 1000000LL

static const char reason[] = "place needed by a reserved pool";

static struct budget budget;
static struct pool pool;
static struct pool_lane lane;
static struct pool_backend backends[4];
static struct pool_waiter waiter;
static int64_t now;

static int start(void **state)
{
    static const struct pool_settings settings = {.size = 3,
                                                  .login_burst = 4,
                                                  .prefill = true,
                                                  .timeout_us = 60 * SECOND,
                                                  .overflow_idle_us = 30 * SECOND};
    (void)state;
    now = 1000 * SECOND;
    budget = (struct budget){.total = 10};
    waiter = (struct pool_waiter){.lane = NULL};
    pool_init(&pool, &budget, 0, &settings, 42);
    pool_configure(&pool, &settings, 0);
    pool_lane_init(&lane, &pool, NULL);
    pool.primary = &lane;
    return 0;
}

static void open_idle(int count)
{
    for (int i = 0; i < count; i++) {
        pool_backend_add(&backends[i], &lane, now);
        pool_backend_ready(&backends[i], now);
    }
}

static void who_yields_opens_nothing_whoever_waits(void **state)
{
    (void)state;
    pool_lane_yield(&lane, now + SECOND);
    assert_int_equal(pool_next(&pool, now).kind, POOL_NOTHING);
    pool_wait(&waiter, &lane, now);
    assert_int_equal(pool_next(&pool, now).kind, POOL_NOTHING);
    assert_int_equal(pool_next(&pool, now + SECOND - 1).kind, POOL_NOTHING);
    assert_int_equal(pool_next(&pool, now + SECOND).kind, POOL_OPEN);
    pool_lane_yield(&lane, 0);
    assert_int_equal(pool_next(&pool, now).kind, POOL_OPEN);
}

static void who_yields_still_serves_with_what_it_has(void **state)
{
    (void)state;
    open_idle(1);
    pool_lane_yield(&lane, now + SECOND);
    assert_non_null(pool_acquire(&lane, now));
}

static void one_free_connection_is_given_up_at_a_time(void **state)
{
    (void)state;
    open_idle(3);
    pool_lane_yield(&lane, INT64_MAX);
    pool_lane_give_up(&lane, reason);
    struct pool_action action = pool_sweep(&pool, now);
    assert_int_equal(action.kind, POOL_CLOSE);
    assert_ptr_equal(action.reason, reason);
    assert_int_equal(pool_sweep(&pool, now).kind, POOL_NOTHING);
    pool_backend_remove(action.backend);
    assert_int_equal(pool_sweep(&pool, now).kind, POOL_CLOSE);
    pool_lane_give_up(&lane, NULL);
    assert_int_equal(pool.counts[BACKEND_IDLE], 1);
    assert_int_equal(pool_sweep(&pool, now).kind, POOL_NOTHING);
}

static void one_in_use_is_given_up_when_it_comes_free(void **state)
{
    (void)state;
    const char *must_close = NULL;
    open_idle(1);
    struct pool_backend *backend = pool_acquire(&lane, now);
    pool_lane_give_up(&lane, reason);
    assert_int_equal(pool_sweep(&pool, now).kind, POOL_NOTHING);
    assert_null(pool_release(backend, now, &must_close));
    assert_ptr_equal(must_close, reason);
}

static void a_place_that_came_free_ends_the_back_off(void **state)
{
    (void)state;
    pool_backend_add(&backends[0], &lane, now);
    pool_backend_login_failed(&backends[0], now);
    pool_backend_move(&backends[0], BACKEND_CLOSING, now);
    pool_backend_remove(&backends[0]);
    assert_int_equal(pool_next(&pool, now).kind, POOL_NOTHING);
    pool_lane_retry_now(&lane, now);
    assert_int_equal(pool_next(&pool, now).kind, POOL_OPEN);
}

static void who_met_a_full_upstream_tries_one_login_at_a_time(void **state)
{
    (void)state;
    pool_lane_try_singly(&lane);
    assert_int_equal(pool_next(&pool, now).kind, POOL_OPEN);
    pool_backend_add(&backends[0], &lane, now);
    assert_int_equal(pool_next(&pool, now).kind, POOL_NOTHING);
    pool_wait(&waiter, &lane, now);
    assert_int_equal(pool_next(&pool, now).kind, POOL_NOTHING);
    pool_backend_ready(&backends[0], now);
    assert_int_equal(pool_next(&pool, now).kind, POOL_GRANT);
    for (int i = 1; i < 3; i++) { /* it has succeeded: as many as before */
        assert_int_equal(pool_next(&pool, now).kind, POOL_OPEN);
        pool_backend_add(&backends[i], &lane, now);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(who_yields_opens_nothing_whoever_waits, start),
        cmocka_unit_test_setup(who_yields_still_serves_with_what_it_has, start),
        cmocka_unit_test_setup(one_free_connection_is_given_up_at_a_time, start),
        cmocka_unit_test_setup(one_in_use_is_given_up_when_it_comes_free, start),
        cmocka_unit_test_setup(who_met_a_full_upstream_tries_one_login_at_a_time, start),
        cmocka_unit_test_setup(a_place_that_came_free_ends_the_back_off, start),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
