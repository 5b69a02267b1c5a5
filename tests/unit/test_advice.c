/*
 * test_advice.c - the numbers that would have sufficed, from a demand that is known.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "admin/advice.h"

#define MS     1000LL
#define S      1000000LL
#define MINUTE (60 * S)
#define HOUR   (60 * MINUTE)

static const struct advice_settings settings = {
    .size = 50, .max_overflow = 5, .reserved = 0, .timeout_us = 60 * S};

struct run {
    struct advice *advice;
    struct histogram wait;
    uint64_t timeouts;
    int64_t now_us;
};

static struct run begin(void)
{
    struct run run = {.advice = calloc(1, sizeof(struct advice)), .now_us = 100 * HOUR};
    assert_non_null(run.advice);
    advice_begin(run.advice, run.now_us);
    return run;
}

/* So many in use and waiting for this long, in ticks of 100 ms. */
static void spend(struct run *run, int in_use, int waiting, int64_t us)
{
    for (int64_t passed = 0; passed < us; passed += 100 * MS) {
        run->now_us += 100 * MS;
        struct advice_sample sample = {.in_use = in_use,
                                       .waiting = waiting,
                                       .open = in_use > 50 ? in_use : 50,
                                       .size = 50,
                                       .wait = &run->wait,
                                       .timeouts = run->timeouts};
        advice_take(run->advice, run->now_us, &sample);
    }
}

static void wait_for(struct run *run, int64_t us, int times)
{
    for (int i = 0; i < times; i++)
        histogram_add(&run->wait, us);
    struct advice_sample sample = {.size = 50, .wait = &run->wait, .longest_wait_us = us};
    sample.timeouts = run->timeouts;
    run->now_us += MS;
    advice_take(run->advice, run->now_us, &sample);
}

static struct advice_answer answer_of(const struct run *run, enum advice_window window)
{
    struct advice_seen seen;
    struct advice_answer answer;
    advice_sum(run->advice, window, run->now_us, &seen);
    advice_derive(&seen, &settings, &answer);
    return answer;
}

static void little_seen_gives_no_advice(void **state)
{
    struct run run = begin();
    (void)state;
    spend(&run, 10, 0, 9 * S);
    struct advice_answer answer = answer_of(&run, ADVICE_HOUR);
    assert_string_equal(answer.size.now, "50");
    assert_string_equal(answer.size.advice, "");
    assert_string_equal(answer.timeout.now, "60 s");
    assert_non_null(strstr(answer.size.evidence, "Only 9 s were observed"));
    spend(&run, 10, 0, 2 * S);
    assert_string_equal(answer_of(&run, ADVICE_HOUR).size.advice, "10");
    free(run.advice);
}

static void size_covers_most_of_the_time_and_overflow_the_peaks(void **state)
{
    struct run run = begin();
    (void)state;
    spend(&run, 7, 0, 28 * MINUTE);
    spend(&run, 50, 12, 60 * S); /* 3 % of the time */
    spend(&run, 55, 200, 1 * S); /* less than 0.1 % */
    struct advice_answer answer = answer_of(&run, ADVICE_HOUR);
    assert_string_equal(answer.size.advice, "7");
    assert_string_equal(answer.max_overflow.advice, "55"); /* 62 - 7 */
    assert_non_null(strstr(answer.max_overflow.evidence, "at most 62"));
    assert_non_null(strstr(answer.max_overflow.evidence, "255 at the peak"));
    free(run.advice);
}

static void a_reservation_is_not_advised_away(void **state)
{
    struct advice_settings reserved = settings;
    struct advice_seen seen;
    struct advice_answer answer;
    struct run run = begin();
    (void)state;
    reserved.reserved = 5;
    spend(&run, 1, 0, 20 * MINUTE);
    advice_sum(run.advice, ADVICE_HOUR, run.now_us, &seen);
    advice_derive(&seen, &reserved, &answer);
    assert_string_equal(answer.size.advice, "5");
    assert_string_equal(answer.max_overflow.advice, "0");
    free(run.advice);
}

static void the_hour_forgets_what_the_day_remembers(void **state)
{
    struct run run = begin();
    (void)state;
    spend(&run, 40, 0, 30 * MINUTE);
    spend(&run, 3, 0, 2 * HOUR);
    assert_string_equal(answer_of(&run, ADVICE_HOUR).size.advice, "3");
    assert_string_equal(answer_of(&run, ADVICE_DAY).size.advice, "40");
    spend(&run, 3, 0, 25 * HOUR);
    assert_string_equal(answer_of(&run, ADVICE_DAY).size.advice, "3");
    struct advice_seen seen;
    advice_sum(run.advice, ADVICE_DAY, run.now_us, &seen);
    assert_true(seen.observed_ms > 22 * 3600 * 1000ull && seen.observed_ms <= 25 * 3600 * 1000ull);
    free(run.advice);
}

static void timeout_covers_the_waits_that_were(void **state)
{
    struct run run = begin();
    (void)state;
    spend(&run, 10, 0, MINUTE);
    wait_for(&run, 0, 9900);
    wait_for(&run, 3 * S, 99);
    wait_for(&run, 40 * S, 1);
    struct advice_answer answer = answer_of(&run, ADVICE_HOUR);
    assert_string_equal(answer.timeout.advice, "5 s"); /* the bucket's bound */
    assert_non_null(strstr(answer.timeout.evidence, "10000 clients"));
    assert_non_null(strstr(answer.timeout.evidence, "the last one after 40 s"));
    free(run.advice);
}

static void waits_that_timed_out_say_that_nobody_knows(void **state)
{
    struct run run = begin();
    (void)state;
    spend(&run, 55, 10, MINUTE);
    wait_for(&run, 0, 100);
    run.timeouts = 7;
    wait_for(&run, 60 * S, 7);
    struct advice_answer answer = answer_of(&run, ADVICE_HOUR);
    assert_string_equal(answer.timeout.advice, "2 min");
    assert_non_null(strstr(answer.timeout.evidence, "7 of 107 clients"));
    free(run.advice);
}

static void waits_before_a_slot_are_not_counted_again(void **state)
{
    struct advice_seen seen;
    struct run run = begin();
    (void)state;
    wait_for(&run, S, 10);
    spend(&run, 1, 0, 12 * MINUTE);
    wait_for(&run, S, 5);
    advice_sum(run.advice, ADVICE_HOUR, run.now_us, &seen);
    assert_int_equal(histogram_count(&seen.wait), 15);
    advice_sum(run.advice, ADVICE_DAY, run.now_us, &seen);
    assert_int_equal(histogram_count(&seen.wait), 15);
    spend(&run, 1, 0, 2 * HOUR);
    advice_sum(run.advice, ADVICE_HOUR, run.now_us, &seen);
    assert_int_equal(histogram_count(&seen.wait), 0);
    advice_sum(run.advice, ADVICE_DAY, run.now_us, &seen);
    assert_int_equal(histogram_count(&seen.wait), 15);
    free(run.advice);
}

/* Levels are exact up to ADVICE_EXACT and within a sixteenth above; the peak bounds them. */
static void demand_of_any_height_is_counted(void **state)
{
    (void)state;
    for (int demand = 0; demand < 2000000; demand += demand / 50 + 1) {
        struct run run = begin();
        struct advice_seen seen;
        spend(&run, demand, 0, S);
        advice_sum(run.advice, ADVICE_HOUR, run.now_us, &seen);
        assert_int_equal(advice_demand(&seen, 1.0), demand);
        spend(&run, 3000000, 0, 100 * MS); /* lifts the peak, so that the level's own bound shows */
        advice_sum(run.advice, ADVICE_HOUR, run.now_us, &seen);
        int bound = advice_demand(&seen, 0.9);
        assert_true(bound >= demand || demand > 1000000);
        assert_true(demand > ADVICE_EXACT || bound == demand);
        assert_true(bound <= demand + demand / 16 + 1 || demand > 1000000);
        free(run.advice);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(little_seen_gives_no_advice),
        cmocka_unit_test(size_covers_most_of_the_time_and_overflow_the_peaks),
        cmocka_unit_test(a_reservation_is_not_advised_away),
        cmocka_unit_test(the_hour_forgets_what_the_day_remembers),
        cmocka_unit_test(timeout_covers_the_waits_that_were),
        cmocka_unit_test(waits_that_timed_out_say_that_nobody_knows),
        cmocka_unit_test(waits_before_a_slot_are_not_counted_again),
        cmocka_unit_test(demand_of_any_height_is_counted),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
