/*
 * turn.c - the loop's turns: see turn.h.
 *
 * libevent waits and deals with what has come.  What is added is the rest between two looks at the sockets while events are
 * gathered (policy/gather.h): a plain sleep, from which no event wakes us.
 */
#include "proxy/turn.h"

#include <sys/prctl.h>
#include <time.h>

#include "proxy/proxy.h"

static int64_t thread_cpu_us(void)
{
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (int64_t)t.tv_sec * CLOCK_S + t.tv_nsec / 1000;
}

static int busy_connections(const struct proxy *proxy)
{
    int count = 0;
    for (size_t i = 0; i < proxy->pool_count; i++)
        count += proxy->pools[i]->pool.counts[BACKEND_BUSY];
    return count;
}

static void rest(struct gather *gather, int busy)
{
    int64_t rest_us = gather_rest_us(gather, clock_now_us(), busy);
    struct timespec pause = {.tv_nsec = (long)(rest_us * 1000)};
    if (rest_us > 0)
        clock_nanosleep(CLOCK_MONOTONIC, 0, &pause, NULL); /* a signal may cut it short */
}

void proxy_run(struct proxy *proxy)
{
    struct gather *gather = &proxy->gather;
    prctl(PR_SET_TIMERSLACK, 1UL); /* nanoseconds; a rest would be longer by 50 us, the default */
    gather_init(gather, proxy->config->gather_delay_us, clock_now_us(), thread_cpu_us());
    while (event_base_loop(proxy->base, EVLOOP_ONCE) == 0 && !event_base_got_break(proxy->base)) {
        int busy = busy_connections(proxy);
        if (gather_turn(gather, proxy->now_us, busy))
            gather_judge(gather, proxy->now_us, thread_cpu_us());
        if (gather->pause_us > 0)
            rest(gather, busy);
    }
}
