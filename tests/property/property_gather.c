/*
 * property_gather.c - gathering keeps to its bounds, and does little harm, whatever the load.
 *
 * The first half plays nonsense: counts, clocks and CPU times at random, quiet times and reloads between them.  No pause may be longer
 * than gather_delay, no rest longer than the pause, and none while few are busy.  The second half plays loads that gathering slows
 * down by 5 % or more: of a long time, less than a hundredth may be spent with it.  And loads that it spares as much: after
 * half a minute it must be on.
 */
#include "policy/gather.h"

#include "random.h"

#define MS     1000
#define SECOND 1000000
#define RUNS   40
#define STEPS  20000

static struct gather gather;
static int64_t now;
static int64_t cpu;

static void check_bounds(int busy)
{
    int64_t rest_us = gather_rest_us(&gather, now, busy);
    CHECK(gather.pause_us >= 0 && gather.pause_us <= gather.most_us,
          "a pause of %lld, at most %lld", (long long)gather.pause_us, (long long)gather.most_us);
    CHECK(rest_us >= 0 && rest_us <= gather.pause_us, "a rest of %lld", (long long)rest_us);
    CHECK(busy >= GATHER_LEAST_BUSY || rest_us == 0, "a rest for %d", busy);
}

static int64_t any_step(void)
{
    if (random_chance(1))
        return (int64_t)random_below(1000) * SECOND;
    return random_chance(10) ? 0 : random_below(random_chance(50) ? 100 : 20 * MS);
}

static void play_nonsense(uint64_t seed)
{
    random_start(seed);
    gather_init(&gather, random_below(10 * MS), now, cpu);
    for (random_step = 0; random_step < STEPS; random_step++) {
        int busy = random_below(random_chance(50) ? 8 : 1000);
        now += any_step();
        cpu += random_below(2000);
        gather.events += random_below(random_chance(80) ? 100 : 100000);
        if (gather_turn(&gather, now, busy))
            gather_judge(&gather, now, cpu);
        check_bounds(busy);
        if (random_chance(1))
            gather_limit(&gather, random_chance(20) ? 0 : random_below(10 * MS));
    }
}

/* A load per millisecond; gathering changes each by so many percent. */
struct load {
    int events;
    int busy;
    int cpu_us;
    int events_percent;
    int busy_percent;
    int cpu_percent;
};

static int64_t play(const struct load *load, int64_t for_us)
{
    int64_t gathered_us = 0;
    for (int64_t end = now + for_us; now < end; random_step++) {
        bool is_gathering = gather.pause_us > 0;
        now += MS;
        gathered_us += is_gathering ? MS : 0;
        /* whole numbers of events, so a hundred times as much of everything */
        gather.events += load->events * (is_gathering ? load->events_percent : 100);
        cpu += load->cpu_us * (is_gathering ? load->cpu_percent : 100);
        int busy = load->busy * (is_gathering ? load->busy_percent : 100);
        if (gather_turn(&gather, now, busy))
            gather_judge(&gather, now, cpu);
        check_bounds(busy);
    }
    return gathered_us;
}

static struct load any_load(void)
{
    return (struct load){.events = 10 + random_below(90),
                         .busy = 8 + random_below(200),
                         .cpu_us = 50 + random_below(900),
                         .events_percent = 100,
                         .busy_percent = 100,
                         .cpu_percent = 50 + random_below(40)};
}

static void play_harm(uint64_t seed)
{
    random_start(seed);
    gather_init(&gather, 400, now, cpu);
    struct load load = any_load();
    if (random_chance(50))
        load.events_percent = 95 - random_below(50);
    else
        load.busy_percent = 105 + random_below(50);
    int64_t gathered_us = play(&load, 600LL * SECOND);
    CHECK(gathered_us > 0 && gathered_us < 6 * SECOND, "gathered for %lld us of 600 s",
          (long long)gathered_us);
}

static void play_gain(uint64_t seed)
{
    random_start(seed);
    gather_init(&gather, 400, now, cpu);
    struct load load = any_load();
    load.events_percent = 100 + random_below(50);
    play(&load, 30LL * SECOND);
    CHECK(gather.state == GATHER_ON || gather.state == GATHER_CHECKING, "%d events, %d busy",
          load.events, load.busy);
}

int main(int argc, char **argv)
{
    uint64_t first = seed_from(argc, argv, 1);
    for (uint64_t seed = first; seed < first + RUNS; seed++) {
        play_nonsense(seed);
        play_harm(seed);
        play_gain(seed);
    }
    printf("%ld checks passed\n", checks_passed);
    return 0;
}
