/*
 * test_gather.c - when messages are gathered under load (gather_delay), one promise a test.
 *
 * A world is what a load does without and with gathering; it plays turns of the loop, a millisecond each, on a clock of its own.
 * tests/property/property_gather.c plays worlds at random, with their noise.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "policy/gather.h"

#define MS      1000LL
#define SECOND  1000000LL
#define MOST_US 400

struct load {
    int answers; /* a millisecond */
    int query_us;
    int wait_us; /* for a connection */
    int cpu_us;  /* for each answer */
};

struct world {
    struct load without;
    struct load with;
};

/* Waking costs everybody: a quarter more answers with gathering, at two thirds of the CPU time. */
static const struct world spared = {{19, 900, 0, 17}, {24, 930, 0, 11}};
/* Sleeping servers, questions at their own pace: answers as before, but for a pause that sooner. */
static const struct world sooner = {{19, 900, 0, 17}, {19, 750, 0, 11}};
static const struct world fewer_answers = {{19, 900, 0, 17}, {17, 700, 0, 11}};
static const struct world held_longer = {{19, 900, 0, 17}, {19, 1050, 0, 11}};
/* The answer comes no later; the question has waited for us before. */
static const struct world questions_wait = {{19, 900, 0, 17}, {19, 900, 0, 11}};
/* Sooner, but for the queue. */
static const struct world waits_longer = {{19, 900, 2000, 17}, {19, 750, 2500, 11}};
/* With a long queue a pause is little. */
static const struct world waits_a_little_longer = {{19, 900, 9000, 17}, {19, 900, 9100, 11}};
/* Within chance, if so many hundred in a window come at random. */
static const struct world few_more = {{19, 900, 0, 17}, {20, 900, 0, 11}};
static const struct world more_of_little = {{9, 900, 0, 17}, {10, 900, 0, 11}};
static const struct world no_cheaper = {{19, 900, 0, 17}, {24, 900, 0, 17}};
/* More answers, so quick that no pause fits. */
static const struct world outgrown = {{19, 900, 0, 17}, {24, 60, 0, 11}};

static struct gather gather;
static int64_t now;
static int64_t cpu;
static int64_t windows;  /* of the last play */
static int64_t gathered; /* of these */

static int start(void **state)
{
    (void)state;
    now = 1000 * SECOND;
    cpu = 5 * SECOND;
    gather_init(&gather, MOST_US, now, cpu);
    return 0;
}

static void turn(const struct load *load)
{
    now += MS;
    for (int i = 0; i < load->answers; i++) {
        gather_waited(&gather, load->wait_us);
        gather_answered(&gather, load->query_us);
        cpu += load->cpu_us;
    }
    if (gather_window_is_over(&gather, now)) {
        windows++;
        gathered += gather.pause_us > 0;
        gather_judge(&gather, now, cpu);
    }
}

static void play(const struct world *world, int64_t for_us)
{
    windows = 0;
    gathered = 0;
    for (int64_t end = now + for_us; now < end;)
        turn(gather.pause_us > 0 ? &world->with : &world->without);
}

/* Until the next window goes another way than this one. */
static void play_until(const struct world *world, enum gather_state state)
{
    for (int i = 0; i < 60000 && gather.state != state; i++)
        play(world, MS);
    assert_int_equal(gather.state, state);
}

static void expect_kept(const struct world *world)
{
    play(world, SECOND);
    assert_int_equal(gather.state, GATHER_ON);
    play(world, 60 * SECOND);
    assert_true(gathered >= windows * 9 / 10);
}

/* Tried after 0, 1, 3, 7, 15, 31 and 47 seconds. */
static void expect_given_up(const struct world *world)
{
    play(world, 60 * SECOND);
    assert_in_range(gathered, 1, 7);
}

static void expect_never(const struct world *world)
{
    play(world, 60 * SECOND);
    assert_true(windows > 500);
    assert_int_equal(gathered, 0);
}

static void it_stays_on_where_more_answers_come(void **state)
{
    (void)state;
    expect_kept(&spared);
    play_until(&spared, GATHER_ON);
    play(&spared, 100 * MS);
    assert_int_equal(gather.pause_us, 930 / 3);
}

static void it_stays_on_where_they_come_sooner(void **state)
{
    (void)state;
    expect_kept(&sooner);
}

static void no_pause_is_longer_than_gather_delay(void **state)
{
    const struct world slow = {{19, 3000, 0, 17}, {24, 3000, 0, 11}};
    (void)state;
    play(&slow, SECOND);
    assert_int_equal(gather.pause_us, MOST_US);
}

static void few_queries_at_once_are_not_worth_it(void **state)
{
    (void)state;
    expect_never(&(struct world){{19, 300, 0, 17}, {24, 300, 0, 5}}); /* 5.7 at a time */
}

static void nor_is_little_traffic(void **state)
{
    (void)state;
    expect_never(&(struct world){{4, 9000, 0, 17}, {5, 9000, 0, 5}});
}

static void minutes_of_a_report_count_as_ten_milliseconds(void **state)
{
    (void)state;
    gather_answered(&gather, 600 * SECOND);
    gather_answered(&gather, 1000);
    gather_waited(&gather, 60 * SECOND);
    assert_int_equal(gather.query_sum_us, 11000);
    assert_int_equal(gather.wait_sum_us, 10000);
}

static void it_is_given_up_when_fewer_answers_come(void **state)
{
    (void)state;
    expect_given_up(&fewer_answers);
}

static void it_is_given_up_when_they_come_later(void **state)
{
    (void)state;
    expect_given_up(&held_longer);
}

static void it_is_given_up_when_nothing_makes_good_for_the_questions_wait(void **state)
{
    (void)state;
    expect_given_up(&questions_wait);
}

static void it_is_given_up_when_the_queue_becomes_longer(void **state)
{
    (void)state;
    expect_given_up(&waits_longer);
}

static void in_a_long_queue_a_pause_counts_as_well(void **state)
{
    (void)state;
    expect_given_up(&waits_a_little_longer);
}

static void a_few_answers_more_may_be_chance(void **state)
{
    (void)state;
    expect_given_up(&few_more);
    start(NULL);
    expect_given_up(&more_of_little);
}

/* 250 ms of load, 250 ms without: a try in each would be a fifth of the time. */
static void bursts_are_not_tried_on_one_after_the_other(void **state)
{
    int64_t tries = 0;
    (void)state;
    for (int i = 0; i < 120; i++) {
        for (int turns = 0; turns < 500; turns++) {
            bool is_first_of_try = gather.state == GATHER_OFF;
            play(turns < 250 ? &fewer_answers : &(struct world){{0, 0, 0, 0}, {0, 0, 0, 0}}, MS);
            tries += is_first_of_try && gather.state == GATHER_TRYING;
        }
    }
    assert_in_range(tries, 1, 7);
}

static void it_is_given_up_when_it_saves_no_cpu_time(void **state)
{
    (void)state;
    expect_given_up(&no_cheaper);
}

static void it_is_given_up_when_no_pause_fits_any_more(void **state)
{
    (void)state;
    expect_given_up(&outgrown);
}

static void it_ends_when_the_load_becomes_one_that_it_slows_down(void **state)
{
    (void)state;
    play(&spared, 20 * SECOND);
    play(&(struct world){{24, 930, 0, 17}, {21, 1100, 0, 11}},
         4 * SECOND); /* a check every third */
    assert_int_equal(gather.state, GATHER_OFF);
}

static void a_sudden_change_is_checked_at_once(void **state)
{
    (void)state;
    play(&spared, 20 * SECOND);
    play_until(&spared, GATHER_CHECKING);
    play(&spared, 500 * MS); /* no check is due for long */
    play(&(struct world){{19, 900, 0, 17}, {12, 1500, 0, 11}}, 350 * MS);
    assert_int_equal(gather.state, GATHER_OFF);
}

static void it_begins_when_the_load_becomes_one_that_it_spares(void **state)
{
    (void)state;
    play(&fewer_answers, 60 * SECOND);
    play(&spared, 17 * SECOND); /* the longest patience is 16 */
    assert_int_equal(gather.state, GATHER_ON);
}

static void a_load_is_seen_for_a_whole_window_before_a_try(void **state)
{
    (void)state;
    play(&(struct world){{0, 0, 0, 0}, {0, 0, 0, 0}}, 250 * MS);
    play(&fewer_answers, 150 * MS); /* half a window, and a whole one */
    assert_int_equal(gather.state, GATHER_OFF);
    play(&fewer_answers, 100 * MS);
    assert_int_equal(gather.state, GATHER_TRYING);
}

static void a_check_that_fails_by_chance_costs_two_windows(void **state)
{
    (void)state;
    play_until(&spared, GATHER_CHECKING);
    play(&(struct world){{40, 900, 0, 17}, {40, 900, 0, 17}},
         100 * MS); /* a burst in this window */
    assert_int_equal(gather.state, GATHER_TRYING);
    play(&(struct world){{19, 900, 0, 17}, {45, 900, 0, 11}}, 100 * MS);
    assert_int_equal(gather.state, GATHER_ON);
}

static void one_lucky_window_is_believed_for_three(void **state)
{
    (void)state;
    play_until(&fewer_answers, GATHER_TRYING);
    play(&(struct world){{19, 900, 0, 17}, {21, 900, 0, 11}}, 100 * MS);
    assert_int_equal(gather.state, GATHER_ON);
    play(&fewer_answers, 300 * MS);
    assert_int_equal(gather.state, GATHER_CHECKING);
    play(&fewer_answers, 200 * MS);
    assert_int_equal(gather.state, GATHER_OFF);
}

static void a_quiet_time_ends_it(void **state)
{
    (void)state;
    play(&spared, SECOND);
    now += 10 * SECOND; /* nobody said anything, so there was no turn */
    gather_answered(&gather, 1000);
    assert_true(gather_window_is_over(&gather, now));
    gather_judge(&gather, now, cpu);
    assert_int_equal(gather.pause_us, 0);
}

/* Something is there each time. */
static int64_t rest(void)
{
    gather.events += 10;
    return gather_rest_us(&gather, now);
}

static void the_rest_is_counted_from_the_last_look(void **state)
{
    (void)state;
    play(&(struct world){{19, 3000, 0, 17}, {24, 3000, 0, 11}}, SECOND);
    assert_int_equal(rest(), 0); /* the last look was long ago */
    assert_int_equal(rest(), MOST_US);
    now += MOST_US + 100; /* what had come took 100 us */
    assert_int_equal(rest(), MOST_US - 100);
    now += MOST_US - 100 + 301; /* for less than a quarter no timer is set */
    assert_int_equal(rest(), 0);
    assert_int_equal(rest(), MOST_US);
    assert_int_equal(rest(), MOST_US); /* a signal has cut it short */
}

static void no_rest_where_there_is_much_to_read(void **state)
{
    (void)state;
    play(&spared, SECOND);
    rest();
    gather.bytes = GATHER_BULK_BYTES;
    assert_true(rest() > 0);
    gather.bytes = GATHER_BULK_BYTES + 1;
    assert_int_equal(rest(), 0);
    assert_true(rest() > 0);
}

static void rests_after_which_nothing_was_there_come_to_an_end(void **state)
{
    int rests = 0;
    (void)state;
    play(&spared, SECOND);
    rest();
    for (int i = 0; i < 100; i++) {
        int64_t rest_us = gather_rest_us(&gather, now);
        now += rest_us;
        rests += rest_us > 0;
        gather.events++;
    }
    assert_int_equal(rests, 17);
    play(&spared, 100 * MS);
    assert_true(gather.pause_us > 0);
    rest();
    assert_true(rest() > 0); /* in the next window it is tried again */
}

static void a_good_rest_makes_up_for_a_poor_one(void **state)
{
    (void)state;
    play(&spared, SECOND);
    rest();
    for (int i = 0; i < 100; i++) {
        now += rest();
        assert_true(gather_rest_us(&gather, now) > 0); /* nothing was there */
        now += gather.pause_us;
    }
}

static void broken_off_it_is_off_and_the_window_not_judged(void **state)
{
    (void)state;
    play(&spared, 950 * MS);
    gather_break_off(&gather);
    assert_int_equal(gather.pause_us, 0);
    play(&spared, 100 * MS); /* the rest of that window, and half of another */
    assert_int_equal(gather.before.pause_us, 0);
    assert_true(gather.before.answers_per_us == 0);
    play(&spared, 150 * MS);
    assert_int_equal(gather.state, GATHER_TRYING);
}

static void with_a_delay_of_0_nothing_is_gathered(void **state)
{
    (void)state;
    gather_init(&gather, 0, now, cpu);
    expect_never(&spared);
}

static void a_reload_changes_the_delay_at_once(void **state)
{
    (void)state;
    play(&spared, SECOND);
    gather_limit(&gather, MOST_US);
    assert_int_equal(gather.state, GATHER_ON);
    gather_limit(&gather, 0);
    assert_int_equal(gather.pause_us, 0);
    expect_never(&spared);
    gather_limit(&gather, 150);
    play(&spared, SECOND);
    assert_int_equal(gather.pause_us, 150);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup(name, start)
    const struct CMUnitTest tests[] = {
        TEST(it_stays_on_where_more_answers_come),
        TEST(it_stays_on_where_they_come_sooner),
        TEST(no_pause_is_longer_than_gather_delay),
        TEST(few_queries_at_once_are_not_worth_it),
        TEST(nor_is_little_traffic),
        TEST(minutes_of_a_report_count_as_ten_milliseconds),
        TEST(it_is_given_up_when_fewer_answers_come),
        TEST(it_is_given_up_when_they_come_later),
        TEST(it_is_given_up_when_nothing_makes_good_for_the_questions_wait),
        TEST(it_is_given_up_when_the_queue_becomes_longer),
        TEST(in_a_long_queue_a_pause_counts_as_well),
        TEST(a_few_answers_more_may_be_chance),
        TEST(bursts_are_not_tried_on_one_after_the_other),
        TEST(it_is_given_up_when_it_saves_no_cpu_time),
        TEST(it_is_given_up_when_no_pause_fits_any_more),
        TEST(it_ends_when_the_load_becomes_one_that_it_slows_down),
        TEST(a_sudden_change_is_checked_at_once),
        TEST(it_begins_when_the_load_becomes_one_that_it_spares),
        TEST(a_load_is_seen_for_a_whole_window_before_a_try),
        TEST(a_check_that_fails_by_chance_costs_two_windows),
        TEST(one_lucky_window_is_believed_for_three),
        TEST(a_quiet_time_ends_it),
        TEST(the_rest_is_counted_from_the_last_look),
        TEST(no_rest_where_there_is_much_to_read),
        TEST(rests_after_which_nothing_was_there_come_to_an_end),
        TEST(a_good_rest_makes_up_for_a_poor_one),
        TEST(broken_off_it_is_off_and_the_window_not_judged),
        TEST(with_a_delay_of_0_nothing_is_gathered),
        TEST(a_reload_changes_the_delay_at_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
