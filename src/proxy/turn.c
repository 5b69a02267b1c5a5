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

/* While clients are handed over, or the end is waited for, every turn is wanted at once. */
static bool may_rest(const struct proxy *proxy)
{
    return proxy->state == PROXY_RUNNING && !proxy->upgrade && !proxy->takeover;
}

static void rest(struct gather *gather)
{
    int64_t rest_us = gather_rest_us(gather, clock_now_us());
    struct timespec pause = {.tv_nsec = (long)(rest_us * 1000)};
    if (rest_us > 0)
        clock_nanosleep(CLOCK_MONOTONIC, 0, &pause, NULL); /* a signal may cut it short */
}

void proxy_run(struct proxy *proxy)
{
    struct gather *gather = &proxy->gather;
    prctl(PR_SET_TIMERSLACK, 1UL); /* nanoseconds; a rest would be longer by 50 us, the default */
    gather_init(gather, proxy->config->gather_delay_us, clock_now_us(), clock_thread_cpu_us());
    while (event_base_loop(proxy->base, EVLOOP_ONCE) == 0 && !event_base_got_break(proxy->base)) {
        if (gather_window_is_over(gather, proxy->now_us))
            gather_judge(gather, proxy->now_us, clock_thread_cpu_us());
        if (gather->pause_us > 0 && may_rest(proxy))
            rest(gather);
        else if (gather->pause_us > 0)
            gather_break_off(gather);
    }
}
