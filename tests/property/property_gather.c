/*
 * property_gather.c - gathering keeps to its bounds, and does little harm, whatever the load.
 *
 * First nonsense: counts, clocks and times at random, quiet times and reloads between them.  No pause may be longer than gather_delay, no
 * rest longer than the pause.  Then loads that gathering slows down, with the noise of answers that come at random: of a
 * long time, only a small share may be spent with it.  Then loads that it spares: most of the time must be.
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

static void check_bounds(void)
{
    bool is_bulk = gather.bytes > GATHER_BULK_BYTES;
    int64_t rest_us = gather_rest_us(&gather, now);
    CHECK(!is_bulk || rest_us == 0, "a rest of %lld amid bulk", (long long)rest_us);
    CHECK(gather.pause_us >= 0 && gather.pause_us <= gather.most_us,
          "a pause of %lld, at most %lld", (long long)gather.pause_us, (long long)gather.most_us);
    CHECK(rest_us >= 0 && rest_us <= gather.pause_us, "a rest of %lld", (long long)rest_us);
    CHECK((gather.pause_us > 0) == (gather.state == GATHER_TRYING || gather.state == GATHER_ON),
          "a pause of %lld in state %d", (long long)gather.pause_us, (int)gather.state);
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
        now += any_step();
        cpu += random_below(2000);
        gather.events += random_below(100);
        gather.bytes += random_below(random_chance(90) ? 1000 : 1000000);
        for (int i = random_below(random_chance(90) ? 100 : 10000); i > 0; i--)
            gather_answered(&gather, random_below(random_chance(90) ? 2 * MS : 100 * SECOND));
        gather_waited(&gather, random_below(SECOND));
        if (gather_window_is_over(&gather, now))
            gather_judge(&gather, now, cpu);
        check_bounds();
        if (random_chance(1))
            gather_limit(&gather, random_chance(20) ? 0 : random_below(10 * MS));
    }
}

struct load {
    int answers; /* in a hundred milliseconds, on average */
    int query_us;
    int wait_us;
    int cpu_us;
    /* gathering makes of them so many percent */
    int answers_percent;
    int query_percent;
    int cpu_percent;
};

/* In a millisecond: about as many as answers that come at random would be, of so many in a hundred. */
static int answers_now(int in_a_window)
{
    int mean = (in_a_window + random_below(100)) / 100;
    int spread = 0; /* of equal chances from -spread to spread the variance is spread^2 / 3 */
    while (spread * spread < 3 * mean)
        spread++;
    int count = mean + random_below(2 * spread + 1) - spread;
    return count > 0 ? count : 0;
}

static int64_t play(const struct load *load, int64_t for_us)
{
    int64_t gathered_us = 0;
    for (int64_t end = now + for_us; now < end; random_step++) {
        bool is_gathering = gather.pause_us > 0;
        int answers = load->answers * (is_gathering ? load->answers_percent : 100) / 100;
        int query_us = load->query_us * (is_gathering ? load->query_percent : 100) / 100;
        int cpu_us = load->cpu_us * (is_gathering ? load->cpu_percent : 100) / 100;
        now += MS;
        gathered_us += is_gathering ? MS : 0;
        for (int i = answers_now(answers); i > 0; i--) {
            gather_waited(&gather, load->wait_us / 2 + random_below(load->wait_us + 1));
            gather_answered(&gather, query_us / 2 + random_below(query_us));
            cpu += cpu_us;
        }
        if (gather_window_is_over(&gather, now))
            gather_judge(&gather, now, cpu);
        check_bounds();
    }
    return gathered_us;
}

/* Between 6 and 60 queries at a time. */
static struct load any_load(void)
{
    int answers = 600 + random_below(2400);
    return (struct load){.answers = answers,
                         .query_us = (6 + random_below(54)) * 100 * MS / answers,
                         .wait_us = random_chance(50) ? 0 : random_below(20 * MS),
                         .cpu_us = 5 + random_below(30),
                         .answers_percent = 100,
                         .query_percent = 100,
                         .cpu_percent = 50 + random_below(40)};
}

static void play_harm(uint64_t seed)
{
    random_start(seed);
    gather_init(&gather, 400, now, cpu);
    struct load load = any_load();
    if (random_chance(50))
        load.answers_percent = 92 - random_below(60);
    else
        load.query_percent = 108 + random_below(50);
    int64_t gathered_us = play(&load, 200LL * SECOND);
    CHECK(gathered_us < 20LL * SECOND, "gathered for %lld us of 200 s", (long long)gathered_us);
}

static void play_gain(uint64_t seed)
{
    random_start(seed);
    gather_init(&gather, 400, now, cpu);
    struct load load = any_load();
    load.query_us = (12 + random_below(48)) * 100 * MS / load.answers; /* so that a pause fits */
    load.answers_percent = 125 + random_below(50);
    int64_t gathered_us = play(&load, 200LL * SECOND);
    CHECK(gathered_us > 150LL * SECOND, "gathered for %lld us of 200 s", (long long)gathered_us);
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
