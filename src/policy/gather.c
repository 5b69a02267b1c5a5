/*
 * gather.c - whether events are gathered for a moment before they are dealt with: see gather.h.
 *
 * How long: with L connections busy and R events a microsecond, a connection has one every L / R.  A pause of two thirds of that
 * gathers L / 1.5 events; fewer than four are not worth a timer.
 *
 * Whether it slows anybody down depends on what is around us.  Clients and servers that lack processor time are spared the waking of
 * us for each event, which is more than they wait; where they have time to spare, the pause is lost to them.
 * So it is tried: one window of time with, beside one without.
 *
 *              fits, and it is time            was worth it
 *        OFF -----------------------> TRYING ---------------> ON
 *         ^                           |    ^                 |   ^
 *         |     was not: patience     |    | was not         |   | is still worth it
 *         +---------------------------+    +--- CHECKING <---+---+
 *         ^                                     every 3 s
 *         +---- too little to gather
 *
 * It is worth it when events come no slower (clients that wait for their answers would send fewer), connections are held no
 * longer (clients that send at a pace of their own would wait longer), and our CPU time for each event is less.
 */
#include "policy/gather.h"

#include <string.h>

#define SHARE           1.5 /* of the time from event to event of a connection, one part */
#define LEAST_US        25  /* timers are no finer */
#define LEAST_EVENTS    4.0 /* in a pause */
#define NOISE           0.04
#define WINDOWS         30
#define PATIENCE_US     1000000
#define PATIENCE_MAX_US 16000000

static void stop(struct gather *gather)
{
    gather->state = GATHER_OFF;
    gather->pause_us = 0;
}

void gather_init(struct gather *gather, int64_t most_us, int64_t now_us, int64_t cpu_us)
{
    memset(gather, 0, sizeof(*gather));
    gather->most_us = most_us;
    gather->since_us = now_us;
    gather->noted_us = now_us;
    gather->cpu_us = cpu_us;
    gather->patience_us = PATIENCE_US;
    stop(gather);
}

void gather_limit(struct gather *gather, int64_t most_us)
{
    if (gather->most_us == most_us)
        return;
    gather->most_us = most_us;
    gather->patience_us = PATIENCE_US;
    gather->try_us = 0;
    stop(gather);
}

/* 0: none is worth it. */
static int64_t fitting_pause(const struct gather *gather, const struct gather_figures *seen)
{
    double pause_us = seen->held_us / SHARE;
    if (pause_us > (double)gather->most_us)
        pause_us = (double)gather->most_us;
    if (pause_us < LEAST_US || pause_us * seen->events_per_us < LEAST_EVENTS)
        return 0;
    return (int64_t)pause_us;
}

static bool is_worth_it(const struct gather_figures *without, const struct gather_figures *with)
{
    return with->events_per_us >= without->events_per_us * (1 - NOISE) &&
           with->held_us <= without->held_us * (1 + NOISE) &&
           with->cpu_us <= without->cpu_us * (1 - NOISE);
}

static void begin(struct gather *gather, enum gather_state state, int64_t pause_us)
{
    gather->state = state;
    gather->pause_us = pause_us;
    gather->windows_left = WINDOWS;
}

static void give_up(struct gather *gather, int64_t now_us)
{
    stop(gather);
    gather->try_us = now_us + gather->patience_us;
    gather->patience_us *= 2;
    if (gather->patience_us > PATIENCE_MAX_US)
        gather->patience_us = PATIENCE_MAX_US;
}

static void decide(struct gather *gather, const struct gather_figures *seen, int64_t now_us)
{
    int64_t pause_us = fitting_pause(gather, seen);
    if (pause_us == 0) {
        stop(gather);
        return;
    }
    switch (gather->state) {
    case GATHER_OFF:
        if (now_us >= gather->try_us)
            begin(gather, GATHER_TRYING, pause_us);
        break;
    case GATHER_TRYING:
        if (is_worth_it(&gather->before, seen)) {
            gather->patience_us = PATIENCE_US;
            begin(gather, GATHER_ON, pause_us);
        } else {
            give_up(gather, now_us);
        }
        break;
    case GATHER_ON:
        gather->pause_us = pause_us;
        if (--gather->windows_left == 0)
            begin(gather, GATHER_CHECKING, 0);
        break;
    case GATHER_CHECKING:
        if (is_worth_it(seen, &gather->before))
            begin(gather, GATHER_ON, pause_us);
        else
            begin(gather, GATHER_TRYING,
                  pause_us); /* loads change: once more, with a fresh measure */
        break;
    }
}

void gather_judge(struct gather *gather, int64_t now_us, int64_t cpu_us)
{
    int64_t took_us = now_us - gather->since_us;
    if (gather->events > 0 && took_us < 2 * GATHER_WINDOW_US) {
        double events = (double)gather->events;
        struct gather_figures seen = {.events_per_us = events / (double)took_us,
                                      .held_us = (double)gather->held_us / events,
                                      .cpu_us = (double)(cpu_us - gather->cpu_us) / events};
        decide(gather, &seen, now_us);
        gather->before = seen;
    } else {
        stop(gather); /* it was quiet: no measure of what comes */
    }
    gather->events = 0;
    gather->held_us = 0;
    gather->since_us = now_us;
    gather->cpu_us = cpu_us;
}

int64_t gather_rest_us(struct gather *gather, int64_t now_us, int busy)
{
    int64_t left_us = gather->pause_us - (now_us - gather->looked_us);
    if (left_us > gather->pause_us) /* the last rest was cut short */
        left_us = gather->pause_us;
    if (busy < GATHER_LEAST_BUSY || left_us < gather->pause_us / 4)
        left_us = 0;
    gather->looked_us = now_us + left_us;
    return left_us;
}
