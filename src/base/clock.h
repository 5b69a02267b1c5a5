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

static inline int64_t clock_now_us(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * CLOCK_S + t.tv_nsec / 1000;
}

/* Wall clock, microseconds since 1970: for people, never for deadlines. */
static inline int64_t clock_wall_us(void)
{
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    return (int64_t)t.tv_sec * CLOCK_S + t.tv_nsec / 1000;
}

#endif
