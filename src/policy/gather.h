/*
 * gather.h - whether messages are gathered for a moment before they are dealt with, and how long (gather_delay).
 *
 * A daemon that sleeps until the next message is woken for nearly every one of them, and to go to sleep and to be woken
 * costs more than the message's own work; whoever sent it pays for the waking as well.  While dozens of queries are
 * running, a look at the sockets every 300 us finds ten messages at once.  Network cards do the same (interrupt
 * coalescing), and PostgreSQL's commit_delay.
 *
 * What is promised: messages are gathered only while they come close together, and only as long as it is measured to save
 * CPU time, and to give clients more answers, or no fewer and none the later (to 4 %; means over the whole daemon).  Pure:
 * the caller counts, and has the clocks.
 */
#ifndef POLICY_GATHER_H
#define POLICY_GATHER_H

#include <stdbool.h>
#include <stdint.h>

#define GATHER_WINDOW_US 100000LL
/* Of a longer query or wait no more is counted: minutes of a report would hide what happens to the others. */
#define GATHER_BOUND_US 10000
/* Who has read so much in a turn looks again at once: sockets' buffers are small, and there is more where it came from. */
#define GATHER_BULK_BYTES 131072

/* What a window of time has shown. */
struct gather_figures {
    double answers_per_us;
    double query_us; /* from the query's way upstream to its answer: the mean, each cut */
    double took_us;  /* the same with the wait for a connection */
    double cpu_us;   /* of ours, for each answer */
    double pause_us; /* in force then */
};

enum gather_state {
    GATHER_OFF,     /* each message as it comes */
    GATHER_TRYING,  /* a window with, to be compared with the one before */
    GATHER_ON,      /* windows with */
    GATHER_CHECKING /* a window without, to be compared with the one before */
};

struct gather {
    /* The caller's: */
    int64_t events; /* one for each time that a socket had something */
    int64_t bytes;  /* read in this turn; gather_rest_us() begins anew */
    /* ours: */
    int64_t most_us;
    int64_t pause_us;  /* from one look at the sockets to the next; 0: each message as it comes */
    int64_t rested_us; /* in all */
    int64_t next_look_us; /* when the rest is over, or the last look if there was none */
    int64_t last_events;  /* as many at the last look */
    bool has_rested;      /* after that */
    int poor_rests;  /* of the window, which found hardly anything; a good one makes up for one */
    int64_t answers; /* in this window, */
    int64_t query_sum_us; /* and their times, each cut */
    int64_t wait_sum_us;
    int64_t window_us;     /* when the window began, */
    int64_t window_cpu_us; /* and what the thread had used by then */
    bool is_spoiled;       /* the window's figures are of two ways */
    enum gather_state state;
    int windows; /* from one check to the next; the more have been passed, the more */
    int windows_left;
    int64_t patience_us;          /* from a try that failed to the next */
    int64_t try_us;               /* not before */
    struct gather_figures before; /* of the last window */
};

/* Off; `most_us` is the longest pause (0: never any), `cpu_us` what the thread has used so far. */
void gather_init(struct gather *gather, int64_t most_us, int64_t now_us, int64_t cpu_us);
/* Another longest pause, after a reload. */
void gather_limit(struct gather *gather, int64_t most_us);
/* Off: there may be no rest now.  What this window shows is not judged. */
void gather_break_off(struct gather *gather);

static inline int64_t gather_cut(int64_t us)
{
    return us < GATHER_BOUND_US ? us : GATHER_BOUND_US;
}

/* A query has been answered after so long. */
static inline void gather_answered(struct gather *gather, int64_t query_us)
{
    gather->answers++;
    gather->query_sum_us += gather_cut(query_us);
}

/* Before it, the client has waited so long for a connection. */
static inline void gather_waited(struct gather *gather, int64_t wait_us)
{
    gather->wait_sum_us += gather_cut(wait_us);
}

/* At the end of each turn of the loop: true when the window is over and gather_judge() is due. */
static inline bool gather_window_is_over(const struct gather *gather, int64_t now_us)
{
    return now_us - gather->window_us >= GATHER_WINDOW_US;
}

/* Decides how the next window goes. */
void gather_judge(struct gather *gather, int64_t now_us, int64_t cpu_us);

/* At the end of a turn, when there is a pause: for how many microseconds the sockets are left alone; 0: not at all. */
int64_t gather_rest_us(struct gather *gather, int64_t now_us);

#endif
