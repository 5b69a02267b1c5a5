/*
 * test_draw.c - the status tree: every figure of the contract is there, and nothing that a daemon says harms the terminal.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "cli/draw.h"

static const char text[] =
    "{\"version\":\"0.1.0\",\"state\":\"high_load\",\"uptime_seconds\":7800,\"pools\":["
    "{\"name\":\"automation\",\"in_use\":40,\"available\":8,\"overflow\":1,\"total_possible\":48,"
    "\"reserved\":0,\"is_healthy\":true,\"waiting\":3,\"longest_wait\":12.25,\"longest_hold\":384,"
    "\"pinned\":2,\"closing\":1,\"clients\":71,\"ceiling\":45,\"state\":\"high_load\","
    "\"held_by\":\"scraper-7 40 (38 idle in transaction)\"}],"
    "\"total\":{\"name\":\"total\",\"in_use\":40,\"total_possible\":60,\"state\":\"high_load\","
    "\"is_healthy\":false}}";

static char *draw(const char *json, bool is_ascii, bool has_colour)
{
    struct draw_style style = {is_ascii, has_colour};
    json_t *status = json_loads(json, 0, NULL);
    assert_non_null(status);
    char *drawn = draw_status(status, &style);
    json_decref(status);
    return drawn;
}

static void the_tree_holds_every_figure(void **state)
{
    (void)state;
    char *drawn = draw(text, true, false);
    assert_string_equal(
        drawn,
        "pgreserve 0.1.0: high_load, up 2.2 h\n"
        "|- automation: high_load\n"
        "|  |- ####################====  in_use 40, available 8, overflow 1, total_possible 48, "
        "reserved 0\n"
        "|  |- held by scraper-7 40 (38 idle in transaction)\n"
        "|  |- waiting 3, longest_wait 12.2 s, longest_hold 6 min, ceiling 45 (upstream was full)\n"
        "|  `- pinned 2, closing 1, clients 71, is_healthy true\n"
        "`- total: high_load\n"
        "   |- ################........  in_use 40, available 0, overflow 0, total_possible 60, "
        "reserved 0\n"
        "   |- waiting 0, longest_wait 0.0 s, longest_hold 0.0 s\n"
        "   `- pinned 0, closing 0, clients 0, is_healthy false\n");
    free(drawn);
}

static void boxes_are_drawn_where_the_locale_allows(void **state)
{
    (void)state;
    char *drawn = draw(text, false, false);
    assert_non_null(
        strstr(drawn, "├─ automation: high_load\n│  ├─ ████████████████████▒▒▒▒  in_use"));
    assert_non_null(strstr(drawn, "└─ total"));
    free(drawn);
}

static void ascii_is_ascii_and_colour_only_when_asked_for(void **state)
{
    (void)state;
    char *drawn = draw(text, true, false);
    for (const char *at = drawn; *at; at++)
        assert_true((*at >= ' ' && *at < 0x7f) || *at == '\n');
    free(drawn);
    drawn = draw(text, true, true);
    assert_non_null(strstr(drawn, "\033[33mhigh_load\033[0m"));
    free(drawn);
}

static void something_in_use_is_always_seen(void **state)
{
    (void)state;
    char *drawn = draw("{\"state\":\"healthy\",\"pools\":[],\"total\":{\"in_use\":1,"
                       "\"total_possible\":1000,\"available\":999,\"state\":\"healthy\"}}",
                       true, false);
    assert_non_null(strstr(drawn, "- #======================="));
    free(drawn);
}

static void what_a_daemon_says_is_not_trusted(void **state)
{
    (void)state;
    char *drawn =
        draw("{\"version\":\"\\u001b[2J\\n\",\"state\":\"\\u009b31m\",\"uptime_seconds\":-1e308,"
             "\"pools\":[{\"name\":\"a\\u202eb\\u001b]0;x\\u0007\",\"in_use\":9223372036854775807,"
             "\"total_possible\":-4,\"available\":\"many\",\"longest_wait\":1e308,"
             "\"held_by\":\"\\u001b[31m\\nx\"},{\"held_by\":7},"
             "{\"in_use\":5,\"available\":900,\"total_possible\":3}],\"total\":{}}",
             true, false);
    for (const char *at = drawn; *at; at++)
        assert_true((*at >= ' ' && *at < 0x7f) || *at == '\n');
    free(drawn);
}

static void history_rises_with_the_load(void **state)
{
    (void)state;
    struct draw_style style = {true, false};
    struct draw_history history = {0};
    for (int i = 0; i < DRAW_HISTORY + 8; i++) {
        json_t *status = json_pack("{s:{s:i, s:i, s:i}}", "total", "in_use", i, "total_possible",
                                   DRAW_HISTORY + 7, "waiting", i % 2);
        draw_history_add(&history, status);
        json_decref(status);
    }
    char *drawn = draw_history(&history, 2, &style);
    char *end = strchr(drawn, '\n');
    assert_non_null(end);
    assert_int_equal(strcspn(drawn + 8, " "), DRAW_HISTORY);
    assert_int_equal(drawn[8 + DRAW_HISTORY - 1], '#');
    assert_int_equal(drawn[8], '.');
    assert_non_null(strstr(drawn, "last 2 min"));
    assert_non_null(strstr(end, "waiting _#_#_#"));
    assert_non_null(strstr(end, "most 1"));
    free(drawn);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_tree_holds_every_figure),
        cmocka_unit_test(boxes_are_drawn_where_the_locale_allows),
        cmocka_unit_test(ascii_is_ascii_and_colour_only_when_asked_for),
        cmocka_unit_test(something_in_use_is_always_seen),
        cmocka_unit_test(what_a_daemon_says_is_not_trusted),
        cmocka_unit_test(history_rises_with_the_load),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
