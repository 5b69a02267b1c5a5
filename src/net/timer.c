/*
 * timer.c - timers as descriptors: see timer.h.
 *
 * Edge-triggered, so that nobody has to read what the descriptor counts: each expiry is an edge.
 */
#include "net/timer.h"

#include <stdbool.h>
#include <stdlib.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/memory.h"

struct timer {
    int fd; /* -1: a timer of libevent's */
    struct event *event;
    void (*fire)(void *arg);
    void *arg;
};

static void on_expiry(evutil_socket_t fd, short what, void *arg)
{
    struct timer *timer = arg;
    (void)fd;
    (void)what;
    timer->fire(timer->arg);
}

/* False when it is not to be had. */
static bool use_descriptor(struct timer *timer, struct event_base *base)
{
    timer->fd = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
    if (timer->fd < 0)
        return false;
    timer->event = event_new(base, timer->fd, EV_READ | EV_PERSIST | EV_ET, on_expiry, timer);
    if (timer->event && event_add(timer->event, NULL) == 0)
        return true;
    if (timer->event)
        event_free(timer->event);
    close(timer->fd);
    timer->fd = -1;
    return false;
}

struct timer *timer_new(struct event_base *base, void (*fire)(void *arg), void *arg)
{
    struct timer *timer = memory_alloc(sizeof(*timer));
    timer->fire = fire;
    timer->arg = arg;
    if (!use_descriptor(timer, base))
        timer->event = evtimer_new(base, on_expiry, timer);
    return timer;
}

void timer_set(struct timer *timer, int64_t in_us)
{
    if (timer->fd < 0) {
        struct timeval in = {in_us / CLOCK_S, in_us % CLOCK_S};
        event_add(timer->event, &in);
        return;
    }
    if (in_us <= 0)
        in_us = 1; /* 0 would disarm it */
    struct itimerspec in = {.it_value = {in_us / CLOCK_S, in_us % CLOCK_S * 1000}};
    timerfd_settime(timer->fd, 0, &in, NULL);
}

void timer_free(struct timer *timer)
{
    if (!timer)
        return;
    event_free(timer->event);
    if (timer->fd >= 0)
        close(timer->fd);
    free(timer);
}
