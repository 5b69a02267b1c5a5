/*
 * advice.h - what was wanted of a pool, kept for an hour and a day, and the numbers that would have sufficed.
 *
 * Pure: time and counts are arguments.  One `struct advice` a pool; its size is fixed.
 */
#ifndef ADMIN_ADVICE_H
#define ADMIN_ADVICE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/histogram.h"

#define ADVICE_EXACT       128 /* demand up to here is counted exactly, above in steps of a sixteenth */
#define ADVICE_LEVELS      (ADVICE_EXACT + 1 + 16 * 13)
#define ADVICE_HOUR_SLOTS  12
#define ADVICE_DAY_SLOTS   24
#define ADVICE_OBSERVED_MS 10000 /* less than this is too little to say anything */

/* What was seen in a stretch of time; milliseconds. */
struct advice_seen {
    int64_t begins_us;
    uint64_t observed_ms;
    uint32_t demand_ms[ADVICE_LEVELS]; /* for how long so many were in use or wanted at once */
    uint64_t demand_sum_ms;            /* demand times its duration */
    uint64_t busy_sum_ms;              /* connections in use times their duration */
    uint64_t idle_sum_ms;              /* of these, idle in a transaction */
    uint64_t overflow_ms;              /* more than `size` were open */
    int peak;                          /* the highest demand */
    struct histogram wait;
    int64_t longest_wait_us;
    uint64_t timeouts;
};

struct advice {
    int64_t sampled_us;
    struct advice_seen current; /* the five minutes that run */
    struct advice_seen hour[ADVICE_HOUR_SLOTS];
    struct advice_seen day[ADVICE_DAY_SLOTS];
    struct histogram wait_before; /* the pool's totals when `current` began */
    uint64_t timeouts_before;
};

/* How it stands with a pool at this moment. */
struct advice_sample {
    int in_use;
    int idle_in_transaction; /* of them */
    int waiting;
    int open; /* all upstream connections but those that are closing */
    int size;
    const struct histogram *wait; /* totals since the start */
    uint64_t timeouts;
    int64_t longest_wait_us; /* since the last sample */
};

void advice_begin(struct advice *advice, int64_t now_us);
/* Counts the time since the last sample as being like this. */
void advice_take(struct advice *advice, int64_t now_us, const struct advice_sample *sample);

enum advice_window { ADVICE_HOUR, ADVICE_DAY };

/* All that was seen in the last hour or day. */
void advice_sum(const struct advice *advice, enum advice_window window, int64_t now_us,
                struct advice_seen *sum);

/* The pool's settings as they are. */
struct advice_settings {
    int size;
    int max_overflow;
    int reserved;
    int64_t timeout_us; /* 0: none */
};

struct advice_line {
    char now[32];
    char advice[32]; /* "" when too little was seen */
    char evidence[320];
};

struct advice_answer {
    struct advice_line size;
    struct advice_line max_overflow;
    struct advice_line timeout;
};

/* What would have sufficed for 99.9 % of what was seen. */
void advice_derive(const struct advice_seen *seen, const struct advice_settings *settings,
                   struct advice_answer *answer);
/* The demand that was not exceeded in this share of the time. */
int advice_demand(const struct advice_seen *seen, double share);

#endif
