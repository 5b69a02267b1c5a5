/*
 * test_outstanding.c - when a backend may go to somebody else, told as short conversations.
 *
 * A conversation is a string of steps: `>Q` the client's Query goes out, `<Z` the server's ReadyForQuery comes in, `!Q`
 * a query of our own, and after each step the backend is either free (`.` follows) or not (nothing follows).
 * tests/property/property_outstanding.c holds the same against a model of the server at random.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "proto/outstanding.h"

static struct outstanding outstanding;

static int forget(void **state)
{
    (void)state;
    outstanding_free(&outstanding);
    return 0;
}

/* Plays the conversation; fails at the step behind which the backend is not what the text says. */
static void play(const char *text)
{
    const char *at = text;
    while (*at) {
        if (*at == ' ') {
            at++;
            continue;
        }
        uint8_t type = (uint8_t)at[1];
        if (*at == '>')
            outstanding_sent(&outstanding, type);
        else if (*at == '!')
            outstanding_injected(&outstanding, INJECTION_CLEAN);
        else
            outstanding_answered(&outstanding, type);
        at += 2;
        bool is_free = *at == '.';
        at += is_free;
        if (outstanding_is_empty(&outstanding) != is_free)
            fail_msg("%s: after %.*s it is %s", text, (int)(at - text), text,
                     is_free ? "not free" : "free");
    }
}

static void a_query_holds_its_backend_until_ready(void **state)
{
    (void)state;
    play(">Q <T <D <D <C <C <Z. >Q <E <Z. >F <V <Z. >Q <I <Z.");
}

static void pipelined_queries_are_all_answered_first(void **state)
{
    (void)state;
    play(">Q >Q >Q <C <Z <E <Z <C <Z.");
}

static void an_extended_query_is_open_until_its_sync(void **state)
{
    (void)state;
    play(">P >B >D >E <1 <2 <T <D <C >S <Z.");
    play(">P >B >D >E >S <1 <2 <n <C <Z.");
    play(">P >D >S <1 <t <T <Z. >B >E >E >C >S <2 <D <s <D <C <3 <Z.");
}

static void a_flush_is_owed_nothing(void **state)
{
    (void)state;
    play(">H. >P >H <1 >H >S <Z. >H.");
}

static void an_error_takes_everything_up_to_the_sync(void **state)
{
    (void)state;
    play(">P >B >E >S <E <Z.");
    play(">P >B >E >S >P >B >E >S <1 <E <Z <1 <2 <C <Z.");
    play(">P <E >B >E >Q >S <Z.");
    play(">P >Q >P <E >S <Z.");
}

static void an_error_at_the_sync_itself_is_followed_by_ready(void **state)
{
    (void)state;
    play(">P >B >E >S <1 <2 <C <E <Z.");
}

static void a_query_ends_what_was_open(void **state)
{
    (void)state;
    play(">P >Q <1 <C <Z.");
}

static void a_copy_out_is_read_to_its_end(void **state)
{
    (void)state;
    play(">Q <H <d <d <c <C <Z. >E >S <H <d <c <C <Z.");
}

static void a_copy_in_waits_for_its_data(void **state)
{
    (void)state;
    play(">Q <G >d >d >c <C <Z.");
    play(">Q <G >d >f <E <Z.");
    play(">Q <G >d <E >d >c <Z. >c.");
    play(">Q <G >d <E <Z. >d. >c. >Q <C <Z.");
    assert_false(outstanding.is_confused);
}

static void a_pipelined_copy_in_finds_its_own_end(void **state)
{
    (void)state;
    play(">Q >d >d >c >Q <G <C <Z <C <Z.");
    play(">Q >d >c >Q <E <Z <C <Z.");
    assert_false(outstanding.is_confused);
}

static void two_copies_in_one_query_need_two_ends(void **state)
{
    (void)state;
    play(">Q <G >d >c <C <G >d");
    assert_true(outstanding.is_copying_in);
    play(">c <C <Z.");
    play(">Q >c >c <G <C <G <C <Z.");
    assert_false(outstanding.is_confused);
}

/* As libpq does: the Sync sent with Execute is eaten by the COPY, another one ends it. */
static void a_sync_during_a_copy_is_not_answered(void **state)
{
    (void)state;
    play(">P >B >D >E >S <1 <2 <n <G >d >c <C >S <Z.");
    play(">E >S <G >d >S >c >S <C <Z.");
    play(">E >S >d >c <G <C >S <Z.");
    play(">E >S >d >c >S <G <C <Z.");
    play(">E >S >d >c >Q <G <C <C <Z.");
    assert_false(outstanding.is_confused);
}

static void a_failed_copy_skips_to_the_sync(void **state)
{
    (void)state;
    play(">E <G >d <E >d >c >S <Z.");
    play(">E <G >d >f >S <E <Z.");
    assert_false(outstanding.is_confused);
}

/* The server may answer both Syncs or the second alone: nobody else may get this backend. */
static void a_copy_that_fails_around_a_sync_is_not_reused(void **state)
{
    (void)state;
    play(">E >S <G >c >S <E");
    assert_true(outstanding.is_confused);
    outstanding_free(&outstanding);
    play(">Q <G >d >S >c <E");
    assert_true(outstanding.is_confused);
}

static void a_query_in_mid_copy_is_not_trusted(void **state)
{
    (void)state;
    play(">Q <G >Q");
    assert_true(outstanding.is_confused);
    outstanding_free(&outstanding);
    play(">Q >Q <G");
    assert_true(outstanding.is_confused);
}

/* Whoever waits for its fate would wait for ever. */
static void what_a_copy_eats_is_undone(void **state)
{
    (void)state;
    play(">Q");
    outstanding_sent_as(&outstanding, OUTSTANDING_UNNAMED_CLOSE);
    outstanding_sent_as(&outstanding, OUTSTANDING_PARSE);
    play(">S <G");
    assert_int_equal(outstanding.events, 2);
    assert_int_equal(outstanding.unnamed_undone, 1);
    assert_int_equal(outstanding.undone, 1);
}

static void an_answer_that_nobody_asked_for_is_not_trusted(void **state)
{
    (void)state;
    play("<N. <S. <A.");
    assert_false(outstanding.is_confused);
    play("<Z.");
    assert_true(outstanding.is_confused);
}

static void replication_is_known(void **state)
{
    (void)state;
    play(">Q <W >d <d");
    assert_true(outstanding.is_copying_both);
}

static void answers_to_our_own_queries_stay_with_us(void **state)
{
    (void)state;
    outstanding_injected(&outstanding, INJECTION_CLEAN);
    outstanding_sent(&outstanding, 'Q');
    assert_int_equal(outstanding_injection(&outstanding), INJECTION_CLEAN);
    for (const char *type = "CSEZ"; *type; type++)
        assert_int_equal(outstanding_answered(&outstanding, (uint8_t)*type), REPLY_SWALLOW);
    assert_int_equal(outstanding_injection(&outstanding), INJECTION_NONE);
    for (const char *type = "TDCZ"; *type; type++)
        assert_int_equal(outstanding_answered(&outstanding, (uint8_t)*type), REPLY_FORWARD);
    assert_true(outstanding_is_empty(&outstanding));
}

static void a_notification_is_never_swallowed(void **state)
{
    (void)state;
    outstanding_injected(&outstanding, INJECTION_CLEAN);
    assert_int_equal(outstanding_answered(&outstanding, 'A'), REPLY_FORWARD);
    assert_int_equal(outstanding_answered(&outstanding, 'N'), REPLY_SWALLOW);
    play("<Z.");
}

/* The client has heard what its own Parse said. */
static void what_is_noticed_of_a_parse_of_ours_stays_with_us(void **state)
{
    (void)state;
    outstanding_sent_as(&outstanding, OUTSTANDING_INJECTED_PARSE);
    outstanding_sent_as(&outstanding, OUTSTANDING_PARSE);
    assert_int_equal(outstanding_answered(&outstanding, 'N'), REPLY_SWALLOW);
    assert_int_equal(outstanding_answered(&outstanding, '1'), REPLY_SWALLOW);
    assert_int_equal(outstanding_answered(&outstanding, 'N'), REPLY_FORWARD);
    play("<1 >S <Z.");
}

/* What stands before it will be answered, whatever the client sends. */
static void our_own_sync_is_one(void **state)
{
    (void)state;
    play(">P !S");
    assert_true(outstanding_has_sync(&outstanding));
    play("<1 <Z.");
    assert_false(outstanding_has_sync(&outstanding));
}

static void our_own_sync_ends_what_the_client_left_open(void **state)
{
    (void)state;
    play(">P >B !S <1 <2 <Z.");
    play(">P >B !S <E <Z.");
    play(">P <E !S <Z.");
    assert_false(outstanding.is_confused);
}

static void a_deep_pipeline_is_counted(void **state)
{
    (void)state;
    for (int round = 0; round < 3; round++) {
        for (int i = 0; i < 5000; i++)
            play(">P >B >E >S");
        assert_int_equal(outstanding.count, 20000);
        for (int i = 0; i < 4999; i++)
            play("<1 <2 <C <Z");
        play("<1 <2 <C <Z.");
        assert_null(outstanding.ring);
    }
}

int main(void)
{
#define TEST(name) cmocka_unit_test_teardown(name, forget)
    const struct CMUnitTest tests[] = {
        TEST(a_query_holds_its_backend_until_ready),
        TEST(pipelined_queries_are_all_answered_first),
        TEST(an_extended_query_is_open_until_its_sync),
        TEST(a_flush_is_owed_nothing),
        TEST(an_error_takes_everything_up_to_the_sync),
        TEST(an_error_at_the_sync_itself_is_followed_by_ready),
        TEST(a_query_ends_what_was_open),
        TEST(a_copy_out_is_read_to_its_end),
        TEST(a_copy_in_waits_for_its_data),
        TEST(a_pipelined_copy_in_finds_its_own_end),
        TEST(two_copies_in_one_query_need_two_ends),
        TEST(a_sync_during_a_copy_is_not_answered),
        TEST(a_failed_copy_skips_to_the_sync),
        TEST(a_copy_that_fails_around_a_sync_is_not_reused),
        TEST(a_query_in_mid_copy_is_not_trusted),
        TEST(what_a_copy_eats_is_undone),
        TEST(an_answer_that_nobody_asked_for_is_not_trusted),
        TEST(replication_is_known),
        TEST(answers_to_our_own_queries_stay_with_us),
        TEST(a_notification_is_never_swallowed),
        TEST(what_is_noticed_of_a_parse_of_ours_stays_with_us),
        TEST(our_own_sync_is_one),
        TEST(our_own_sync_ends_what_the_client_left_open),
        TEST(a_deep_pipeline_is_counted),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
