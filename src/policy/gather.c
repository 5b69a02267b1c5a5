/*
 * gather.c - whether messages are gathered for a moment before they are dealt with: see gather.h.
 *
 * How long: a third of the time that a query takes.  With L queries running, as many questions and answers come in
 * that time as two thirds of L; fewer than four are not worth a timer.
 *
 * Whether it slows anybody down depends on what is around us.  Clients and servers that lack processor time are spared the
 * waking of us for each message, which is more than they wait; where they have time to spare, the pause is lost to them.
 * So it is tried: one window of time with, beside one without.
 *
 *              fits, and it is time            was worth it
 *        OFF -----------------------> TRYING ---------------> ON
 *         ^                           |    ^                 |   ^
 *         |     was not: patience     |    | was not         |   | is still worth it
 *         +---------------------------+    +--- CHECKING <---+---+
 *         ^                                     3 to 30 windows later, or when the load changes
 *         +---- no longer fits, or a quiet time
 *
 * It is worth it when it saves CPU time, and there are either so many more answers that clients who wait for theirs are
 * better off, or no fewer, and they come so much sooner that a question's own wait for our next look, which we cannot see, is
 * made good (clients that ask at a pace of their own would wait longer).
 */
#include "policy/gather.h"

#include <string.h>

#define SHARE           3.0 /* a pause is a query's time divided by this */
#define LEAST_US        25  /* a timer alone takes 2 us of CPU time, or 18 on a virtual machine */
#define LEAST_MESSAGES  4.0 /* in a pause */
#define NOISE           0.04
#define ALIKE           0.25 /* two windows of one load differ by less */
#define WINDOWS_FIRST   3
#define WINDOWS_MAX     30
#define PATIENCE_US     1000000
#define PATIENCE_MAX_US 16000000
#define POOR_MESSAGES   2 /* fewer, and a rest was not worth it */
#define POOR_RESTS_MAX  16

/* ---- states ---- */

static void stop(struct gather *gather)
{
    gather->state = GATHER_OFF;
    gather->pause_us = 0;
    gather->windows = WINDOWS_FIRST;
}

static void begin(struct gather *gather, enum gather_state state, int64_t pause_us)
{
    gather->state = state;
    gather->pause_us = pause_us;
    gather->windows_left = gather->windows;
}

static void give_up(struct gather *gather, int64_t now_us)
{
    stop(gather);
    gather->try_us = now_us + gather->patience_us;
    gather->patience_us *= 2;
    if (gather->patience_us > PATIENCE_MAX_US)
        gather->patience_us = PATIENCE_MAX_US;
}

void gather_init(struct gather *gather, int64_t most_us, int64_t now_us, int64_t cpu_us)
{
    memset(gather, 0, sizeof(*gather));
    gather->most_us = most_us;
    gather->window_us = now_us;
    gather->window_cpu_us = cpu_us;
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
    gather_break_off(gather);
}

void gather_break_off(struct gather *gather)
{
    gather->is_spoiled = true;
    stop(gather);
}

/* ---- what a window says ---- */

/* 0: none is worth it. */
static int64_t fitting_pause(const struct gather *gather, const struct gather_figures *seen)
{
    double pause_us = seen->query_us / SHARE;
    if (pause_us > (double)gather->most_us)
        pause_us = (double)gather->most_us;
    if (pause_us < LEAST_US || pause_us * seen->answers_per_us * 2 < LEAST_MESSAGES)
        return 0;
    return (int64_t)pause_us;
}

/* By more than chance: answers that come at random differ by the root of their number, one window from another by that of twice
 * as many; 2.5 of that. */
static bool is_clearly_more(const struct gather_figures *without, const struct gather_figures *with)
{
    double gain = with->answers_per_us / without->answers_per_us - 1;
    double answers = without->answers_per_us * GATHER_WINDOW_US;
    return gain >= 2 * NOISE && gain * gain * answers >= 2.5 * 2.5 * 2;
}

/* The noise of a query's time, not of the wait: in a long queue a pause is less than that. */
static bool is_no_later(const struct gather_figures *without, const struct gather_figures *with)
{
    return with->took_us + with->pause_us / 2 <= without->took_us + NOISE * without->query_us;
}

static bool is_worth_it(const struct gather_figures *without, const struct gather_figures *with)
{
    return with->cpu_us <= without->cpu_us * (1 - NOISE) &&
           with->answers_per_us >= without->answers_per_us * (1 - NOISE) &&
           (is_clearly_more(without, with) || is_no_later(without, with));
}

/* Both are whole windows of one load. */
static bool is_alike(const struct gather_figures *a, const struct gather_figures *b)
{
    return b->answers_per_us >= a->answers_per_us * (1 - ALIKE) &&
           b->answers_per_us <= a->answers_per_us * (1 + ALIKE);
}

/* ---- the next window ---- */

static void after_on(struct gather *gather, const struct gather_figures *seen, int64_t pause_us)
{
    bool has_changed = gather->before.pause_us > 0 && !is_alike(&gather->before, seen);
    gather->pause_us = pause_us;
    gather->windows_left--;
    if (has_changed || gather->windows_left == 0)
        begin(gather, GATHER_CHECKING, 0);
}

static void after_check(struct gather *gather, bool is_good, int64_t pause_us)
{
    if (!is_good) { /* it may have been the load that changed: once more, with a fresh measure */
        gather->windows = WINDOWS_FIRST;
        begin(gather, GATHER_TRYING, pause_us);
        return;
    }
    gather->patience_us = PATIENCE_US;
    gather->windows *= 2;
    if (gather->windows > WINDOWS_MAX)
        gather->windows = WINDOWS_MAX;
    begin(gather, GATHER_ON, pause_us);
}

static void decide(struct gather *gather, const struct gather_figures *seen, int64_t now_us)
{
    const struct gather_figures *before = &gather->before;
    int64_t pause_us = fitting_pause(gather, seen);
    if (pause_us == 0) {
        if (gather->state != GATHER_OFF)
            give_up(gather, now_us);
        return;
    }
    switch (gather->state) {
    case GATHER_OFF:
        if (now_us >= gather->try_us && is_alike(before, seen))
            begin(gather, GATHER_TRYING, pause_us);
        break;
    case GATHER_TRYING:
        if (is_worth_it(before, seen))
            begin(gather, GATHER_ON, pause_us);
        else
            give_up(gather, now_us);
        break;
    case GATHER_ON:
        after_on(gather, seen, pause_us);
        break;
    case GATHER_CHECKING:
        after_check(gather, is_worth_it(seen, before), pause_us);
        break;
    }
}

static void begin_window(struct gather *gather, int64_t now_us, int64_t cpu_us)
{
    gather->answers = 0;
    gather->query_sum_us = 0;
    gather->wait_sum_us = 0;
    gather->poor_rests = 0;
    gather->is_spoiled = false;
    gather->window_us = now_us;
    gather->window_cpu_us = cpu_us;
}

void gather_judge(struct gather *gather, int64_t now_us, int64_t cpu_us)
{
    int64_t length_us = now_us - gather->window_us;
    struct gather_figures seen = {.pause_us = (double)gather->pause_us};
    bool was_quiet = gather->answers == 0 || length_us >= 2 * GATHER_WINDOW_US;
    if (!was_quiet && !gather->is_spoiled) {
        double answers = (double)gather->answers;
        seen.answers_per_us = answers / (double)length_us;
        seen.query_us = (double)gather->query_sum_us / answers;
        seen.took_us = (double)(gather->query_sum_us + gather->wait_sum_us) / answers;
        seen.cpu_us = (double)(cpu_us - gather->window_cpu_us) / answers;
        decide(gather, &seen, now_us);
    } else if (gather->state == GATHER_TRYING) {
        give_up(gather, now_us); /* or every one of many bursts would be tried on */
    } else {
        stop(gather);
    }
    gather->before = seen;
    begin_window(gather, now_us, cpu_us);
}

/* ---- rests ---- */

/* With few clients, or none left, there is nothing to gather; the window's end will tell, but nobody is to wait for that. */
static void look_at_catch(struct gather *gather)
{
    if (gather->has_rested && gather->events - gather->last_events < POOR_MESSAGES)
        gather->poor_rests++;
    else if (gather->has_rested && gather->poor_rests > 0 && gather->poor_rests <= POOR_RESTS_MAX)
        gather->poor_rests--;
    gather->last_events = gather->events;
}

int64_t gather_rest_us(struct gather *gather, int64_t now_us)
{
    int64_t left_us = gather->pause_us - (now_us - gather->next_look_us);
    look_at_catch(gather);
    if (left_us > gather->pause_us) /* the last rest was cut short */
        left_us = gather->pause_us;
    if (left_us < gather->pause_us / 4 || gather->bytes > GATHER_BULK_BYTES ||
        gather->poor_rests > POOR_RESTS_MAX)
        left_us = 0;
    gather->has_rested = left_us > 0;
    gather->bytes = 0;
    gather->next_look_us = now_us + left_us;
    gather->rested_us += left_us;
    return left_us;
}
