/*
 * test_metrics_text.c - Prometheus' text format: a scrape that one client's odd user name could break would leave ops
 * blind.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "admin/metrics_text.h"

static void assert_text(struct buffer *out, const char *expected)
{
    char *text = calloc(1, buffer_length(out) + 1);
    memcpy(text, buffer_bytes(out), buffer_length(out));
    assert_string_equal(text, expected);
    free(text);
    buffer_free(out);
}

static void assert_value(const char *value, const char *expected)
{
    struct buffer out = {0};
    struct metrics_labels labels = {.items = {{"user", value}}, .count = 1};
    metrics_text_count(&out, "x", &labels, 1);
    assert_text(&out, expected);
}

static void a_family_has_its_help_and_type(void **state)
{
    struct buffer out = {0};
    (void)state;
    metrics_text_family(&out, "pgreserve_clients", "gauge", "Clients.");
    assert_text(&out, "# HELP pgreserve_clients Clients.\n# TYPE pgreserve_clients gauge\n");
}

static void numbers_keep_what_they_are(void **state)
{
    struct buffer out = {0};
    struct metrics_labels labels = {.items = {{"pool", "a"}, {"state", "b"}}, .count = 2};
    struct metrics_labels none = {.count = 0};
    (void)state;
    metrics_text_count(&out, "x_total", &none, UINT64_MAX);
    metrics_text_number(&out, "x_seconds", &labels, 1795594587.74949);
    metrics_text_number(&out, "x_seconds", &none, 0.1);
    assert_text(&out, "x_total 18446744073709551615\n"
                      "x_seconds{pool=\"a\",state=\"b\"} 1795594587.74949\n"
                      "x_seconds 0.1\n");
}

static void what_the_format_gives_a_meaning_to_is_escaped(void **state)
{
    (void)state;
    assert_value("a\"b", "x{user=\"a\\\"b\"} 1\n");
    assert_value("a\\b", "x{user=\"a\\\\b\"} 1\n");
    assert_value("a\nx 1", "x{user=\"a\\nx 1\"} 1\n");
    assert_value("", "x{user=\"\"} 1\n");
}

static void what_is_not_utf8_becomes_a_question_mark(void **state)
{
    (void)state;
    assert_value("J\xc3\xbcrgen \xe2\x82\xac \xf0\x9f\x90\x98",
                 "x{user=\"J\xc3\xbcrgen \xe2\x82\xac \xf0\x9f\x90\x98\"} 1\n");
    assert_value("J\xfcrgen", "x{user=\"J?rgen\"} 1\n");
    assert_value("\xc0\xaf", "x{user=\"??\"} 1\n");            /* an overlong slash */
    assert_value("\xed\xa0\x80", "x{user=\"???\"} 1\n");       /* half a surrogate pair */
    assert_value("\xf4\x90\x80\x80", "x{user=\"????\"} 1\n");  /* beyond the last character */
    assert_value("cut \xe2\x82", "x{user=\"cut ??\"} 1\n");    /* ends in mid-character */
    assert_value("\xf0\x9f\x90\"", "x{user=\"???\\\"\"} 1\n"); /* the quote is not swallowed */
}

static void a_histogram_counts_up_to_infinity(void **state)
{
    struct buffer out = {0};
    struct histogram histogram = {.sum_us = 400300000};
    struct metrics_labels labels = {.items = {{"pool", "a"}}, .count = 1};
    (void)state;
    histogram.buckets[0] = 2;
    histogram.buckets[1] = 1;
    histogram.buckets[HISTOGRAM_BUCKETS - 1] = 1;
    metrics_text_histogram(&out, "x_seconds", &labels, &histogram);
    char *text = calloc(1, buffer_length(&out) + 1);
    memcpy(text, buffer_bytes(&out), buffer_length(&out));
    assert_non_null(strstr(text, "x_seconds_bucket{pool=\"a\",le=\"0.0001\"} 2\n"));
    assert_non_null(strstr(text, "x_seconds_bucket{pool=\"a\",le=\"0.00025\"} 3\n"));
    assert_non_null(strstr(text, "x_seconds_bucket{pool=\"a\",le=\"300\"} 3\n"));
    assert_non_null(strstr(text, "x_seconds_bucket{pool=\"a\",le=\"+Inf\"} 4\n"));
    assert_non_null(strstr(text, "x_seconds_sum{pool=\"a\"} 400.3\n"));
    assert_non_null(strstr(text, "x_seconds_count{pool=\"a\"} 4\n"));
    free(text);
    buffer_free(&out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_family_has_its_help_and_type),
        cmocka_unit_test(numbers_keep_what_they_are),
        cmocka_unit_test(what_the_format_gives_a_meaning_to_is_escaped),
        cmocka_unit_test(what_is_not_utf8_becomes_a_question_mark),
        cmocka_unit_test(a_histogram_counts_up_to_infinity),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
