/*
 * gather.h - whether events are gathered for a moment before they are dealt with, and how long (gather_delay).
 *
 * A daemon that sleeps until the next event is woken for nearly every one of them, and to go to sleep and to be woken costs
 * more than the event's own work; whoever sent it pays for the waking as well.  While dozens of connections are
 * busy, a look at their sockets every 300 us finds ten events at once.  Network cards do the same (interrupt
 * coalescing), and PostgreSQL's commit_delay.
 *
 * What is promised: events are gathered only while many connections are busy, and only as long as it is measured to save CPU
 * time and to slow nobody down.  Pure: events are counted by the caller, who has the clocks as well.
 */
#ifndef POLICY_GATHER_H
#define POLICY_GATHER_H

#include <stdbool.h>
#include <stdint.h>

#define GATHER_WINDOW_US  100000
#define GATHER_LEAST_BUSY 4 /* connections; with fewer there is nothing to gather */

/* What a window of time has shown.  An event: bytes from a client or from a server that were dealt with. */
struct gather_figures {
    double events_per_us;
    double held_us; /* connections busy for a client, times microseconds, for each event */
    double cpu_us;  /* of ours, for each event */
};

enum gather_state {
    GATHER_OFF,     /* each event as it comes */
    GATHER_TRYING,  /* a window with, to be compared with the one before */
    GATHER_ON,      /* windows with */
    GATHER_CHECKING /* a window without, to be compared with the one before */
};

struct gather {
    int64_t events; /* in this window: the caller adds one for each */
    int64_t most_us;
    int64_t pause_us; /* from one look at the sockets to the next; 0: each event as it comes */
    int64_t looked_us;
    int64_t since_us; /* when the window began, */
    int64_t cpu_us;   /* and what the thread had used by then */
    int64_t noted_us;
    int64_t held_us; /* connections times microseconds */
    enum gather_state state;
    int windows_left;             /* until the next check */
    int64_t patience_us;          /* from a try that failed to the next */
    int64_t try_us;               /* not before */
    struct gather_figures before; /* the window that is compared with */
};

/* Off; `most_us` is the longest pause (0: never any), `cpu_us` what the thread has used so far. */
void gather_init(struct gather *gather, int64_t most_us, int64_t now_us, int64_t cpu_us);
/* Another longest pause, after a reload. */
void gather_limit(struct gather *gather, int64_t most_us);

/* At the end of each turn of the loop: so many connections are busy for clients.  True when a window is over, and
 * gather_judge() is due. */
static inline bool gather_turn(struct gather *gather, int64_t now_us, int busy)
{
    gather->held_us += busy * (now_us - gather->noted_us);
    gather->noted_us = now_us;
    return now_us - gather->since_us >= GATHER_WINDOW_US;
}

/* Decides how the next window goes. */
void gather_judge(struct gather *gather, int64_t now_us, int64_t cpu_us);

/* For how many microseconds from now the sockets are better left alone; 0: not at all. */
int64_t gather_rest_us(struct gather *gather, int64_t now_us, int busy);

#endif
