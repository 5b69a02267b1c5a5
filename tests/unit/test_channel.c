/*
 * The channel between the two processes of an upgrade: what one said before it closed is heard, whatever the other was about to
 * say.  If this fails, connections that are gone are counted, and clients that are carried over are served twice.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>
#include <event2/event.h>

#include "net/channel.h"

struct heard {
    char words[64];
    int ends;
};

static void on_message(void *arg, const struct channel_message *message)
{
    struct heard *heard = arg;
    assert_int_equal(heard->ends, 0);
    strncat(heard->words, (const char *)message->bytes, message->length);
}

static void on_end(void *arg)
{
    ((struct heard *)arg)->ends++;
}

/* `theirs` says its last words and closes, over words of ours that it has not read when `is_unread`; then we say more. */
static struct heard hear_the_end(bool is_unread)
{
    struct heard heard = {0};
    struct event_base *base = event_base_new();
    int ends[2];
    assert_true(channel_pair(ends));
    struct channel *ours = channel_open(ends[0]);
    struct channel *theirs = channel_open(ends[1]);
    channel_listen(ours, base, on_message, on_end, &heard);
    if (is_unread)
        channel_send(ours, 1, "unread", 6, -1);
    channel_send(theirs, 1, "last ", 5, -1);
    channel_send(theirs, 1, "words", 5, -1);
    channel_free(theirs);
    channel_send(ours, 1, "too late", 8, -1);
    channel_send(ours, 1, "later", 5, -1);
    for (int i = 0; i < 100 && heard.ends == 0; i++)
        event_base_loop(base, EVLOOP_NONBLOCK);
    channel_free(ours);
    event_base_free(base);
    return heard;
}

static void last_words_are_heard_before_the_end(void **state)
{
    (void)state;
    struct heard heard = hear_the_end(false);
    assert_string_equal(heard.words, "last words");
    assert_int_equal(heard.ends, 1);
}

static void last_words_are_heard_over_words_that_were_not(void **state)
{
    (void)state;
    struct heard heard = hear_the_end(true);
    assert_string_equal(heard.words, "last words");
    assert_int_equal(heard.ends, 1);
}

/* More than are received in one turn of the loop, and in no callback of the loop's. */
static void what_has_come_in_is_heard_at_once(void **state)
{
    (void)state;
    struct heard heard = {0};
    struct event_base *base = event_base_new();
    int ends[2];
    assert_true(channel_pair(ends));
    struct channel *ours = channel_open(ends[0]);
    struct channel *theirs = channel_open(ends[1]);
    channel_listen(ours, base, on_message, on_end, &heard);
    for (int i = 0; i < 100; i++)
        channel_send(theirs, 1, "", 0, -1);
    channel_send(theirs, 1, "last", 4, -1);
    channel_free(theirs);
    channel_hear(ours);
    assert_string_equal(heard.words, "last");
    assert_int_equal(heard.ends, 0);
    event_base_loop(base, EVLOOP_NONBLOCK);
    assert_int_equal(heard.ends, 1);
    channel_hear(ours);
    channel_free(ours);
    event_base_free(base);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(last_words_are_heard_before_the_end),
        cmocka_unit_test(last_words_are_heard_over_words_that_were_not),
        cmocka_unit_test(what_has_come_in_is_heard_at_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
