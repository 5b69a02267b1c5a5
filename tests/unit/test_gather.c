/*
 * test_gather.c - when messages are gathered under load (gather_delay), one promise a test.
 *
 * A world is what a load does with and without gathering: it plays turns of the loop, a millisecond each, on a clock of its own.
 * tests/property/property_gather.c plays worlds at random.
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

/* Per millisecond. */
struct load {
    int events;
    int busy; /* connections, all the while */
    int cpu_us;
};

struct world {
    struct load without;
    struct load with;
};

/* Waking costs everybody: a quarter more events with gathering, at two thirds of the CPU time each. */
static const struct world spared = {{36, 20, 288}, {45, 20, 240}};
static const struct world fewer_events = {{36, 20, 288}, {32, 20, 150}};
static const struct world held_longer = {{36, 20, 288}, {36, 22, 150}};
static const struct world no_cheaper = {{36, 20, 288}, {45, 20, 360}};

static struct gather gather;
static int64_t now;
static int64_t cpu;
static int64_t windows;  /* since the last look */
static int64_t gathered; /* of these */

static int start(void **state)
{
    (void)state;
    now = 1000 * SECOND;
    cpu = 5 * SECOND;
    gather_init(&gather, MOST_US, now, cpu);
    return 0;
}

static void play(const struct world *world, int64_t for_us)
{
    windows = 0;
    gathered = 0;
    for (int64_t end = now + for_us; now < end;) {
        const struct load *load = gather.pause_us > 0 ? &world->with : &world->without;
        now += MS;
        cpu += load->cpu_us;
        gather.events += load->events;
        if (gather_turn(&gather, now, load->busy)) {
            windows++;
            gathered += gather.pause_us > 0;
            gather_judge(&gather, now, cpu);
        }
    }
}

static void gathering_that_pays_stays_on(void **state)
{
    (void)state;
    play(&spared, SECOND);
    assert_int_equal(gather.state, GATHER_ON);
    /* 20 connections, 45 events a millisecond: one for each connection every 444 us */
    assert_in_range(gather.pause_us, 290, 300);
    play(&spared, 60 * SECOND);
    assert_true(gathered >= windows * 9 / 10);
}

static void no_pause_is_longer_than_gather_delay(void **state)
{
    const struct world many = {{36, 50, 288}, {45, 50, 240}};
    (void)state;
    play(&many, SECOND);
    assert_int_equal(gather.pause_us, MOST_US);
}

static void few_connections_are_never_gathered_for(void **state)
{
    const struct world few = {{36, 4, 288}, {45, 4, 100}};
    (void)state;
    play(&few, 60 * SECOND);
    assert_int_equal(gathered, 0);
}

static void nor_is_little_traffic_on_many(void **state)
{
    const struct world slow = {{5, 50, 60}, {5, 50, 20}};
    (void)state;
    play(&slow, 60 * SECOND);
    assert_int_equal(gathered, 0);
}

/* Tried after 0, 1, 3, 7, 15, 31 and 47 seconds. */
static void expect_no_more_than_tries(const struct world *world)
{
    play(world, 60 * SECOND);
    assert_in_range(gathered, 1, 7);
}

static void gathering_is_given_up_when_fewer_events_come(void **state)
{
    (void)state;
    expect_no_more_than_tries(&fewer_events);
}

static void gathering_is_given_up_when_connections_are_held_longer(void **state)
{
    (void)state;
    expect_no_more_than_tries(&held_longer);
}

static void gathering_is_given_up_when_it_saves_no_cpu_time(void **state)
{
    (void)state;
    expect_no_more_than_tries(&no_cheaper);
}

static void it_ends_when_the_load_becomes_one_that_it_slows_down(void **state)
{
    (void)state;
    play(&spared, 10 * SECOND);
    play(&fewer_events, 4 * SECOND); /* a check is every third */
    assert_int_equal(gather.state, GATHER_OFF);
}

static void it_begins_when_the_load_becomes_one_that_it_spares(void **state)
{
    (void)state;
    play(&fewer_events, 60 * SECOND);
    play(&spared, 17 * SECOND); /* the longest patience is 16 */
    assert_int_equal(gather.state, GATHER_ON);
}

static void a_check_that_fails_by_chance_costs_two_windows(void **state)
{
    (void)state;
    play(&spared, SECOND);
    while (gather.state != GATHER_CHECKING)
        play(&spared, MS);
    play(&(struct world){{80, 20, 288}, {80, 20, 288}},
         100 * MS); /* a burst, in this window alone */
    assert_int_equal(gather.state, GATHER_TRYING);
    play(&(struct world){{36, 20, 288}, {81, 20, 240}}, 100 * MS);
    assert_int_equal(gather.state, GATHER_ON);
}

static void a_quiet_time_ends_it(void **state)
{
    (void)state;
    play(&spared, SECOND);
    now += 10 * SECOND; /* nobody said anything, so there was no turn */
    gather.events++;
    assert_true(gather_turn(&gather, now, 1));
    gather_judge(&gather, now, cpu);
    assert_int_equal(gather.pause_us, 0);
}

static void the_rest_is_counted_from_the_last_look(void **state)
{
    (void)state;
    play(&(struct world){{36, 50, 288}, {45, 50, 240}}, SECOND);
    assert_int_equal(gather_rest_us(&gather, now, 50), 0); /* the last look was long ago */
    assert_int_equal(gather_rest_us(&gather, now, 50), MOST_US);
    now += MOST_US + 100; /* what had come took 100 us */
    assert_int_equal(gather_rest_us(&gather, now, 50), MOST_US - 100);
    now += MOST_US - 100 + 301; /* for less than a quarter no timer is set */
    assert_int_equal(gather_rest_us(&gather, now, 50), 0);
    assert_int_equal(gather_rest_us(&gather, now, 50), MOST_US);
}

static void no_rest_while_few_are_busy(void **state)
{
    (void)state;
    play(&spared, SECOND);
    assert_int_equal(gather_rest_us(&gather, now, GATHER_LEAST_BUSY - 1), 0);
    assert_true(gather_rest_us(&gather, now, GATHER_LEAST_BUSY) > 0);
}

static void with_a_delay_of_0_nothing_is_gathered(void **state)
{
    (void)state;
    gather_init(&gather, 0, now, cpu);
    play(&spared, 60 * SECOND);
    assert_int_equal(gathered, 0);
}

static void a_reload_changes_the_delay_at_once(void **state)
{
    (void)state;
    play(&spared, SECOND);
    gather_limit(&gather, MOST_US);
    assert_int_equal(gather.state, GATHER_ON);
    gather_limit(&gather, 0);
    assert_int_equal(gather.pause_us, 0);
    play(&spared, 10 * SECOND);
    assert_int_equal(gathered, 0);
    gather_limit(&gather, 150);
    play(&spared, SECOND);
    assert_int_equal(gather.pause_us, 150);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup(name, start)
    const struct CMUnitTest tests[] = {
        TEST(gathering_that_pays_stays_on),
        TEST(no_pause_is_longer_than_gather_delay),
        TEST(few_connections_are_never_gathered_for),
        TEST(nor_is_little_traffic_on_many),
        TEST(gathering_is_given_up_when_fewer_events_come),
        TEST(gathering_is_given_up_when_connections_are_held_longer),
        TEST(gathering_is_given_up_when_it_saves_no_cpu_time),
        TEST(it_ends_when_the_load_becomes_one_that_it_slows_down),
        TEST(it_begins_when_the_load_becomes_one_that_it_spares),
        TEST(a_check_that_fails_by_chance_costs_two_windows),
        TEST(a_quiet_time_ends_it),
        TEST(the_rest_is_counted_from_the_last_look),
        TEST(no_rest_while_few_are_busy),
        TEST(with_a_delay_of_0_nothing_is_gathered),
        TEST(a_reload_changes_the_delay_at_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
