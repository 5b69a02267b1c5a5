/*
 * advice.c - which size, max_overflow and timeout would have sufficed: see advice.h.
 *
 * Demand is what is in use and what waits: so many connections would have been busy had there been enough.  A tick adds
 * the time since the last one to the demand's level, so that the levels are a distribution over time, whatever the
 * tick's rhythm.  Five minutes that are over go into a ring of twelve (the hour) and are added to one of 24 hours
 * (the day); what is older is overwritten.
 *
 * The advice: `size` for what was wanted in 95 % of the time, so that connections are not kept for rare peaks;
 * `max_overflow` for the rest of what was wanted in 99.9 %; `timeout` for 99.9 % of the waits.  A wait that timed out
 * might have taken any time: when these are more than 0.1 %, twice the present timeout is advised, and said why.
 */
#include "admin/advice.h"

#include <stdio.h>
#include <string.h>

#define MINUTE_US (60 * 1000000LL)
#define SLOT_US   (5 * MINUTE_US)
#define HOUR_US   (60 * MINUTE_US)

#define MOST   0.999
#define MAINLY 0.95

/* ---- levels of demand ---- */

/* Beyond ADVICE_EXACT sixteen levels to a doubling. */
static size_t level_of(int demand)
{
    if (demand < 0)
        return 0;
    if (demand <= ADVICE_EXACT)
        return (size_t)demand;
    unsigned shift = 0;
    unsigned step = (unsigned)demand - 1; /* a bound belongs to the level below */
    while (step >> shift >= 32)
        shift++;
    /* step >> shift is 16 to 31: the doubling and the sixteenth of it */
    size_t level = ADVICE_EXACT + 1 + (size_t)(shift - 3) * 16 + ((step >> shift) - 16);
    return level < ADVICE_LEVELS ? level : ADVICE_LEVELS - 1;
}

/* The highest demand of a level. */
static int level_bound(size_t level)
{
    if (level <= ADVICE_EXACT)
        return (int)level;
    size_t above = level - ADVICE_EXACT - 1;
    unsigned shift = (unsigned)(above / 16) + 3;
    return (int)((above % 16 + 17) << shift);
}

int advice_demand(const struct advice_seen *seen, double share)
{
    uint64_t sum = 0;
    for (size_t level = 0; level < ADVICE_LEVELS; level++) {
        sum += seen->demand_ms[level];
        if ((double)sum >= share * (double)seen->observed_ms) {
            int bound = level_bound(level);
            return bound < seen->peak && level < ADVICE_LEVELS - 1 ? bound : seen->peak;
        }
    }
    return seen->peak;
}

/* ---- keeping ---- */

void advice_begin(struct advice *advice, int64_t now_us)
{
    memset(advice, 0, sizeof(*advice));
    advice->sampled_us = now_us;
    advice->current.begins_us = now_us;
}

static void add(struct advice_seen *sum, const struct advice_seen *seen)
{
    for (size_t i = 0; i < ADVICE_LEVELS; i++)
        sum->demand_ms[i] += seen->demand_ms[i];
    for (size_t i = 0; i < HISTOGRAM_BUCKETS; i++)
        sum->wait.buckets[i] += seen->wait.buckets[i];
    sum->wait.sum_us += seen->wait.sum_us;
    sum->observed_ms += seen->observed_ms;
    sum->demand_sum_ms += seen->demand_sum_ms;
    sum->busy_sum_ms += seen->busy_sum_ms;
    sum->idle_sum_ms += seen->idle_sum_ms;
    sum->overflow_ms += seen->overflow_ms;
    sum->timeouts += seen->timeouts;
    if (seen->peak > sum->peak)
        sum->peak = seen->peak;
    if (seen->longest_wait_us > sum->longest_wait_us)
        sum->longest_wait_us = seen->longest_wait_us;
}

/* The running five minutes are over: into the hour's ring and the day's. */
static void close_slot(struct advice *advice, int64_t now_us, const struct advice_sample *sample)
{
    struct advice_seen *current = &advice->current;
    int64_t hour = current->begins_us / HOUR_US;
    struct advice_seen *day = &advice->day[hour % ADVICE_DAY_SLOTS];
    advice->hour[current->begins_us / SLOT_US % ADVICE_HOUR_SLOTS] = *current;
    if (day->observed_ms == 0 || day->begins_us / HOUR_US != hour) {
        memset(day, 0, sizeof(*day));
        day->begins_us = current->begins_us;
    }
    add(day, current);
    memset(current, 0, sizeof(*current));
    current->begins_us = now_us;
    advice->wait_before = *sample->wait;
    advice->timeouts_before = sample->timeouts;
}

void advice_take(struct advice *advice, int64_t now_us, const struct advice_sample *sample)
{
    struct advice_seen *current = &advice->current;
    int demand = sample->in_use + sample->waiting;
    uint64_t elapsed_ms = (uint64_t)(now_us - advice->sampled_us) / 1000;
    if (elapsed_ms == 0)
        return;
    advice->sampled_us += (int64_t)elapsed_ms * 1000;
    current->observed_ms += elapsed_ms;
    current->demand_ms[level_of(demand)] += (uint32_t)elapsed_ms;
    current->demand_sum_ms += elapsed_ms * (uint64_t)demand;
    current->busy_sum_ms += elapsed_ms * (uint64_t)sample->in_use;
    current->idle_sum_ms += elapsed_ms * (uint64_t)sample->idle_in_transaction;
    if (sample->open > sample->size)
        current->overflow_ms += elapsed_ms;
    if (demand > current->peak)
        current->peak = demand;
    if (sample->longest_wait_us > current->longest_wait_us)
        current->longest_wait_us = sample->longest_wait_us;
    histogram_since(sample->wait, &advice->wait_before, &current->wait);
    current->timeouts = sample->timeouts - advice->timeouts_before;
    if (now_us / SLOT_US != current->begins_us / SLOT_US)
        close_slot(advice, now_us, sample);
}

void advice_sum(const struct advice *advice, enum advice_window window, int64_t now_us,
                struct advice_seen *sum)
{
    bool is_hour = window == ADVICE_HOUR;
    const struct advice_seen *slots = is_hour ? advice->hour : advice->day;
    size_t count = is_hour ? ADVICE_HOUR_SLOTS : ADVICE_DAY_SLOTS;
    int64_t span_us = is_hour ? HOUR_US : ADVICE_DAY_SLOTS * HOUR_US;
    memset(sum, 0, sizeof(*sum));
    add(sum, &advice->current);
    for (size_t i = 0; i < count; i++) {
        if (slots[i].observed_ms > 0 && now_us - slots[i].begins_us <= span_us)
            add(sum, &slots[i]);
    }
}

/* ---- advising ---- */

static void put_seconds(char *out, size_t bytes, double seconds)
{
    if (seconds >= 120)
        snprintf(out, bytes, "%.3g min", seconds / 60);
    else if (seconds >= 1 || seconds == 0)
        snprintf(out, bytes, "%.3g s", seconds);
    else
        snprintf(out, bytes, "%.3g ms", seconds * 1000);
}

static double share_of(uint64_t part, uint64_t whole)
{
    return whole > 0 ? (double)part / (double)whole : 0;
}

static int at_least(int number, int least)
{
    return number > least ? number : least;
}

static void advise_size(const struct advice_seen *seen, int size, const char *time,
                        struct advice_line *line)
{
    snprintf(line->advice, sizeof(line->advice), "%d", size);
    int length = snprintf(line->evidence, sizeof(line->evidence),
                          "In 95 %% of %s at most %d were in use or waited for at once, %.1f on "
                          "average.",
                          time, advice_demand(seen, MAINLY),
                          share_of(seen->demand_sum_ms, seen->observed_ms));
    double idle = share_of(seen->idle_sum_ms, seen->busy_sum_ms);
    if (idle >= 0.25)
        snprintf(line->evidence + length, sizeof(line->evidence) - (size_t)length,
                 " For %.0f %% of the time in use they were idle in a transaction: shorter "
                 "transactions need fewer.",
                 idle * 100);
}

static void advise_overflow(const struct advice_seen *seen, int needed, int size, const char *time,
                            struct advice_line *line)
{
    snprintf(line->advice, sizeof(line->advice), "%d", at_least(needed - size, 0));
    snprintf(line->evidence, sizeof(line->evidence),
             "In 99.9 %% of %s at most %d were in use or waited for at once, %d at the peak; "
             "overflow was open for %.1f %% of the time.",
             time, needed, seen->peak, share_of(seen->overflow_ms, seen->observed_ms) * 100);
}

static void advise_timeout(const struct advice_seen *seen, const struct advice_settings *settings,
                           struct advice_line *line)
{
    uint64_t waits = histogram_count(&seen->wait);
    int64_t needed_us = histogram_quantile_us(&seen->wait, MOST);
    char longest[24];
    char needed[24];
    if (needed_us > seen->longest_wait_us)
        needed_us = seen->longest_wait_us; /* the bucket's bound may lie above all that was */
    put_seconds(longest, sizeof(longest), (double)seen->longest_wait_us / 1e6);
    put_seconds(needed, sizeof(needed), (double)needed_us / 1e6);
    if (share_of(seen->timeouts, waits) > 1 - MOST) {
        put_seconds(line->advice, sizeof(line->advice), (double)settings->timeout_us * 2 / 1e6);
        snprintf(line->evidence, sizeof(line->evidence),
                 "%llu of %llu clients found no connection within the timeout, and how long they "
                 "would have had to wait cannot be known: more connections help more than a "
                 "longer timeout.",
                 (unsigned long long)seen->timeouts, (unsigned long long)waits);
        return;
    }
    int64_t seconds = (needed_us + 999999) / 1000000;
    put_seconds(line->advice, sizeof(line->advice), seconds < 1 ? 1 : (double)seconds);
    snprintf(line->evidence, sizeof(line->evidence),
             "99.9 %% of %llu clients had a connection within %s, the last one after %s; %llu "
             "timed out.",
             (unsigned long long)waits, needed, longest, (unsigned long long)seen->timeouts);
}

void advice_derive(const struct advice_seen *seen, const struct advice_settings *settings,
                   struct advice_answer *answer)
{
    char time[24];
    memset(answer, 0, sizeof(*answer));
    snprintf(answer->size.now, sizeof(answer->size.now), "%d", settings->size);
    snprintf(answer->max_overflow.now, sizeof(answer->max_overflow.now), "%d",
             settings->max_overflow);
    put_seconds(answer->timeout.now, sizeof(answer->timeout.now),
                (double)settings->timeout_us / 1e6);
    put_seconds(time, sizeof(time), (double)seen->observed_ms / 1e3);
    if (seen->observed_ms < ADVICE_OBSERVED_MS) {
        struct advice_line *lines[] = {&answer->size, &answer->max_overflow, &answer->timeout};
        for (size_t i = 0; i < sizeof(lines) / sizeof(lines[0]); i++)
            snprintf(lines[i]->evidence, sizeof(lines[i]->evidence),
                     "Only %s were observed: too little to say.", time);
        return;
    }
    int size = at_least(at_least(advice_demand(seen, MAINLY), settings->reserved), 1);
    advise_size(seen, size, time, &answer->size);
    advise_overflow(seen, advice_demand(seen, MOST), size, time, &answer->max_overflow);
    advise_timeout(seen, settings, &answer->timeout);
}
