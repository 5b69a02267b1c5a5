/*
 * test_histogram.c - durations land in the bucket that Prometheus' `le` means, and quantiles come from there.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/histogram.h"

static void bounds_rise_from_100us_beyond_a_minute(void **state)
{
    (void)state;
    assert_int_equal(histogram_bounds_us[0], 100);
    for (size_t i = 1; i < HISTOGRAM_BOUNDS; i++)
        assert_true(histogram_bounds_us[i] > histogram_bounds_us[i - 1]);
    assert_true(histogram_bounds_us[HISTOGRAM_BOUNDS - 1] > 60000000);
}

static void a_value_equal_to_a_bound_belongs_below_it(void **state)
{
    (void)state;
    for (size_t i = 0; i < HISTOGRAM_BOUNDS; i++) {
        struct histogram histogram = {0};
        histogram_add(&histogram, histogram_bounds_us[i]);
        histogram_add(&histogram, histogram_bounds_us[i] + 1);
        assert_int_equal(histogram.buckets[i], 1);
        assert_int_equal(histogram.buckets[i + 1], 1);
        assert_int_equal(histogram_count(&histogram), 2);
        assert_int_equal(histogram.sum_us, 2 * histogram_bounds_us[i] + 1);
    }
}

static void extremes_are_taken(void **state)
{
    struct histogram histogram = {0};
    (void)state;
    histogram_add(&histogram, -5);
    histogram_add(&histogram, 0);
    histogram_add(&histogram, INT64_MAX / 4);
    assert_int_equal(histogram.buckets[0], 2);
    assert_int_equal(histogram.buckets[HISTOGRAM_BUCKETS - 1], 1);
    assert_int_equal(histogram.sum_us, INT64_MAX / 4);
}

static void quantiles_are_bounds(void **state)
{
    struct histogram histogram = {0};
    (void)state;
    assert_int_equal(histogram_quantile_us(&histogram, 0.999), 0);
    for (int i = 0; i < 999; i++)
        histogram_add(&histogram, 90);
    histogram_add(&histogram, 2000000);
    assert_int_equal(histogram_quantile_us(&histogram, 0.999), 100);
    assert_int_equal(histogram_quantile_us(&histogram, 1.0), 2500000);
    histogram_add(&histogram, 2000000);
    assert_int_equal(histogram_quantile_us(&histogram, 0.999), 2500000);
    histogram_add(&histogram, INT64_MAX / 4);
    assert_int_equal(histogram_quantile_us(&histogram, 1.0), INT64_MAX);
}

static void since_is_the_difference(void **state)
{
    struct histogram then = {0};
    struct histogram seen;
    (void)state;
    histogram_add(&then, 50);
    struct histogram now = then;
    histogram_add(&now, 50);
    histogram_add(&now, 700);
    histogram_since(&now, &then, &seen);
    assert_int_equal(histogram_count(&seen), 2);
    assert_int_equal(seen.buckets[0], 1);
    assert_int_equal(seen.sum_us, 750);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bounds_rise_from_100us_beyond_a_minute),
        cmocka_unit_test(a_value_equal_to_a_bound_belongs_below_it),
        cmocka_unit_test(extremes_are_taken),
        cmocka_unit_test(quantiles_are_bounds),
        cmocka_unit_test(since_is_the_difference),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
