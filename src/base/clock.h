/*
 * clock.h - microseconds since an arbitrary start, never going back.
 *
 * The loop reads the clock once a turn and hands the number down; policy code takes it as an argument.
 */
#ifndef BASE_CLOCK_H
#define BASE_CLOCK_H

#include <stdint.h>
#include <time.h>

#define CLOCK_MS 1000LL
#define CLOCK_S  1000000LL

/* What a clock of clock_gettime(2) says. */
static inline int64_t clock_read_us(clockid_t clock)
{
    struct timespec t;
    clock_gettime(clock, &t);
    return (int64_t)t.tv_sec * CLOCK_S + t.tv_nsec / 1000;
}

static inline int64_t clock_now_us(void)
{
    return clock_read_us(CLOCK_MONOTONIC);
}

/* Wall clock, microseconds since 1970: for people, never for deadlines. */
static inline int64_t clock_wall_us(void)
{
    return clock_read_us(CLOCK_REALTIME);
}

/* CPU time that the calling thread has used. */
static inline int64_t clock_thread_cpu_us(void)
{
    return clock_read_us(CLOCK_THREAD_CPUTIME_ID);
}

#endif
