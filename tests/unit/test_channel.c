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

/* The two ends of a channel, of which ours is listened to. */
struct ends {
    struct event_base *base;
    struct channel *ours;
    struct channel *theirs;
};

static struct ends open_ends(struct heard *heard)
{
    struct ends ends = {.base = event_base_new()};
    int fds[2];
    assert_true(channel_pair(fds));
    ends.ours = channel_open(fds[0]);
    ends.theirs = channel_open(fds[1]);
    channel_listen(ends.ours, ends.base, on_message, on_end, heard);
    return ends;
}

/* `theirs` says its last words and closes, over words of ours that it has not read when `is_unread`; then we say more. */
static struct heard hear_the_end(bool is_unread)
{
    struct heard heard = {0};
    struct ends ends = open_ends(&heard);
    if (is_unread)
        channel_send(ends.ours, 1, "unread", 6, -1);
    channel_send(ends.theirs, 1, "last ", 5, -1);
    channel_send(ends.theirs, 1, "words", 5, -1);
    channel_free(ends.theirs);
    channel_send(ends.ours, 1, "too late", 8, -1);
    channel_send(ends.ours, 1, "later", 5, -1);
    for (int i = 0; i < 100 && heard.ends == 0; i++)
        event_base_loop(ends.base, EVLOOP_NONBLOCK);
    channel_free(ends.ours);
    event_base_free(ends.base);
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
    struct ends ends = open_ends(&heard);
    for (int i = 0; i < 100; i++)
        channel_send(ends.theirs, 1, "", 0, -1);
    channel_send(ends.theirs, 1, "last", 4, -1);
    channel_free(ends.theirs);
    channel_hear(ends.ours);
    assert_string_equal(heard.words, "last");
    assert_int_equal(heard.ends, 0);
    event_base_loop(ends.base, EVLOOP_NONBLOCK);
    assert_int_equal(heard.ends, 1);
    channel_hear(ends.ours);
    channel_free(ends.ours);
    event_base_free(ends.base);
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
