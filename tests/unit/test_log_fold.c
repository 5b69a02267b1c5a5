/*
 * test_log_fold.c - a storm of one kind of failure is a few lines, and none of it is lost without a count.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/log_fold.h"

#define SECOND 1000000LL

static struct log_fold fold;

struct written {
    int lines;
    unsigned total;
    char body[FOLD_BODY_BYTES];
    unsigned count;
    double seconds;
};

static void note(void *arg, int level, const char *body, unsigned count, double seconds)
{
    struct written *written = arg;
    (void)level;
    written->lines++;
    written->total += count;
    written->count = count;
    written->seconds = seconds;
    snprintf(written->body, sizeof(written->body), "%s", body);
}

static int start(void **state)
{
    (void)state;
    memset(&fold, 0, sizeof(fold));
    return 0;
}

static void the_first_is_written_at_once_and_the_rest_counted(void **state)
{
    (void)state;
    struct written written = {0};
    assert_true(log_fold_take(&fold, 2, "login failed\nfull", "a", 0, note, &written));
    for (int i = 1; i <= 40; i++)
        assert_false(log_fold_take(&fold, 2, "login failed\nfull", i == 40 ? "last" : "b",
                                   i * SECOND / 10, note, &written));
    log_fold_flush(&fold, 5 * SECOND, false, note, &written);
    assert_int_equal(written.lines, 0);
    log_fold_flush(&fold, FOLD_WINDOW_US, false, note, &written);
    assert_int_equal(written.lines, 1);
    assert_int_equal(written.count, 40);
    assert_string_equal(written.body, "last");
    assert_true(written.seconds > 3.99 && written.seconds < 4.01);
}

static void another_reason_or_level_is_another_kind(void **state)
{
    (void)state;
    struct written written = {0};
    assert_true(log_fold_take(&fold, 2, "login failed\nfull", "a", 0, note, &written));
    assert_true(log_fold_take(&fold, 2, "login failed\nno route", "a", 1, note, &written));
    assert_true(log_fold_take(&fold, 3, "login failed\nfull", "a", 2, note, &written));
    assert_false(log_fold_take(&fold, 2, "login failed\nfull", "a", 3, note, &written));
}

static void a_storm_that_goes_on_is_one_line_a_window(void **state)
{
    (void)state;
    struct written written = {0};
    int at_once = 0;
    for (int64_t now = 0; now < 60 * SECOND; now += SECOND / 100) {
        at_once += log_fold_take(&fold, 2, "kind", "body", now, note, &written);
        log_fold_flush(&fold, now, false, note, &written);
    }
    log_fold_flush(&fold, 60 * SECOND, true, note, &written);
    assert_int_equal(at_once, 1);
    assert_in_range(written.lines, 5, 7);
    assert_int_equal(written.total + (unsigned)at_once, 6000);
}

static void after_a_quiet_window_the_next_one_is_news(void **state)
{
    (void)state;
    struct written written = {0};
    assert_true(log_fold_take(&fold, 2, "kind", "body", 0, note, &written));
    log_fold_flush(&fold, FOLD_WINDOW_US, false, note, &written);
    assert_int_equal(written.lines, 0);
    assert_true(log_fold_take(&fold, 2, "kind", "body", FOLD_WINDOW_US + 1, note, &written));
}

/* More kinds than places: the quiet ones give way, and every event is either written or counted. */
static void memory_is_bounded_and_nothing_is_lost(void **state)
{
    (void)state;
    struct written written = {0};
    unsigned at_once = 0;
    for (int i = 0; i < 5000; i++) {
        char kind[32];
        snprintf(kind, sizeof(kind), "kind %d", i % 3 ? i : 0);
        at_once += log_fold_take(&fold, 2, kind, "body", i, note, &written);
    }
    log_fold_flush(&fold, 5000, true, note, &written);
    assert_int_equal(at_once + written.total, 5000);
}

static void at_the_end_everything_held_back_is_written(void **state)
{
    (void)state;
    struct written written = {0};
    log_fold_take(&fold, 2, "kind", "body", 0, note, &written);
    log_fold_take(&fold, 2, "kind", "body", 1, note, &written);
    log_fold_flush(&fold, 2, true, note, &written);
    assert_int_equal(written.lines, 1);
    assert_int_equal(written.count, 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(the_first_is_written_at_once_and_the_rest_counted, start),
        cmocka_unit_test_setup(another_reason_or_level_is_another_kind, start),
        cmocka_unit_test_setup(a_storm_that_goes_on_is_one_line_a_window, start),
        cmocka_unit_test_setup(after_a_quiet_window_the_next_one_is_news, start),
        cmocka_unit_test_setup(memory_is_bounded_and_nothing_is_lost, start),
        cmocka_unit_test_setup(at_the_end_everything_held_back_is_written, start),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
