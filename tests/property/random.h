/*
 * random.h - what the property programs share: a seeded generator, the seed's way in, and how a check fails.
 *
 * A run is a function of its seed alone, which is printed with every failure, so that any failure can be seen
 * again: `property_pool 1234`.  Everything is static: each program is one translation unit of its own.
 */
#ifndef PROPERTY_RANDOM_H
#define PROPERTY_RANDOM_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

static uint64_t random_seed; /* of the run in progress */
static uint64_t random_state;
static long random_step; /* how far it has come */
static long checks_passed;

static inline void random_start(uint64_t seed)
{
    random_seed = seed;
    random_step = 0;
    random_state = seed * 0x9e3779b97f4a7c15u + 0x2545f4914f6cdd1du;
    if (random_state == 0)
        random_state = 1;
}

/* xorshift64 */
static inline uint64_t random_next(void)
{
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return random_state * 0x2545f4914f6cdd1du >> 16;
}

/* 0 to `count` - 1 */
static inline int random_below(int count)
{
    return (int)(random_next() % (uint64_t)count);
}

/* True this often in a hundred. */
static inline bool random_chance(int percent)
{
    return random_below(100) < percent;
}

/* The first argument, or the default. */
static inline uint64_t seed_from(int argc, char **argv, uint64_t otherwise)
{
    return argc > 1 ? strtoull(argv[1], NULL, 0) : otherwise;
}

/* Counts a check; ends the program when it does not hold. */
#define CHECK(what, ...)                                                                           \
    do {                                                                                           \
        checks_passed++;                                                                           \
        if (!(what)) {                                                                             \
            fprintf(stderr, "%s:%d: seed %llu step %ld: not so: %s: ", __FILE__, __LINE__,         \
                    (unsigned long long)random_seed, random_step, #what);                          \
            fprintf(stderr, __VA_ARGS__);                                                          \
            fputc('\n', stderr);                                                                   \
            exit(1);                                                                               \
        }                                                                                          \
    } while (0)

#endif
