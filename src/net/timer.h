/*
 * timer.h - a timer that costs the loop nothing while it waits.
 *
 * libevent bounds each of its waits by its next timer: two looks at the clock for each round of the loop, and
 * one timer set and cancelled in the kernel.  What has to run all the while is here a descriptor among the others
 * (timerfd_create(2)), so that the wait needs no bound.  Where no descriptor is to be had, it is one of libevent's timers.
 */
#ifndef NET_TIMER_H
#define NET_TIMER_H

#include <stdint.h>

#include <event2/event.h>

struct timer;

/* Never NULL; timer_free() it.  `fire(arg)` is called by the loop, after timer_set(). */
struct timer *timer_new(struct event_base *base, void (*fire)(void *arg), void *arg);
/* Once, in so many microseconds from now (0: as soon as the loop turns), whatever was set before. */
void timer_set(struct timer *timer, int64_t in_us);
/* NULL does nothing. */
void timer_free(struct timer *timer);

#endif
