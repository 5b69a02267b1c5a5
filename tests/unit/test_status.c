/*
 * test_status.c - what a pool's numbers mean (contract 8), at the edges.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "admin/status.h"
#include "proxy/upstream.h"

static void ninety_percent_in_use_is_high_load(void **state)
{
    (void)state;
    assert_int_equal(status_health(0, 60, 0, 50, false), HEALTH_HEALTHY);
    assert_int_equal(status_health(53, 60, 0, 55, false), HEALTH_HEALTHY);
    assert_int_equal(status_health(54, 60, 0, 55, false), HEALTH_HIGH_LOAD);
    assert_int_equal(status_health(60, 60, 0, 60, false), HEALTH_HIGH_LOAD);
    assert_int_equal(status_health(4, 5, 0, 5, false), HEALTH_HEALTHY);
    assert_int_equal(status_health(5, 5, 0, 5, false), HEALTH_HIGH_LOAD);
}

static void anyone_waiting_is_high_load(void **state)
{
    (void)state;
    assert_int_equal(status_health(1, 60, 1, 55, false), HEALTH_HIGH_LOAD);
}

static void exhausted_is_every_connection_in_use_and_someone_waiting(void **state)
{
    (void)state;
    assert_int_equal(status_health(60, 60, 1, 60, false), HEALTH_EXHAUSTED);
    assert_int_equal(status_health(59, 60, 1, 60, false), HEALTH_HIGH_LOAD);
}

static void down_is_no_connection_and_no_way_to_one(void **state)
{
    (void)state;
    assert_int_equal(status_health(0, 60, 0, 0, true), HEALTH_DOWN);
    assert_int_equal(status_health(0, 60, 3, 0, true), HEALTH_DOWN);
    assert_int_equal(status_health(0, 60, 0, 0, false), HEALTH_HEALTHY);
    assert_int_equal(status_health(0, 60, 0, 1, true), HEALTH_HEALTHY);
}

static void the_lower_ceiling_counts_and_0_is_one(void **state)
{
    (void)state;
    assert_int_equal(status_lower_ceiling(UPSTREAM_NO_CEILING, UPSTREAM_NO_CEILING),
                     UPSTREAM_NO_CEILING);
    assert_int_equal(status_lower_ceiling(UPSTREAM_NO_CEILING, 0), 0);
    assert_int_equal(status_lower_ceiling(0, UPSTREAM_NO_CEILING), 0);
    assert_int_equal(status_lower_ceiling(3, 48), 3);
    assert_int_equal(status_lower_ceiling(48, 3), 3);
}

static void states_have_the_contracts_names(void **state)
{
    (void)state;
    assert_string_equal(status_health_name(HEALTH_HEALTHY), "healthy");
    assert_string_equal(status_health_name(HEALTH_HIGH_LOAD), "high_load");
    assert_string_equal(status_health_name(HEALTH_EXHAUSTED), "exhausted");
    assert_string_equal(status_health_name(HEALTH_DOWN), "down");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ninety_percent_in_use_is_high_load),
        cmocka_unit_test(anyone_waiting_is_high_load),
        cmocka_unit_test(exhausted_is_every_connection_in_use_and_someone_waiting),
        cmocka_unit_test(down_is_no_connection_and_no_way_to_one),
        cmocka_unit_test(the_lower_ceiling_counts_and_0_is_one),
        cmocka_unit_test(states_have_the_contracts_names),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
