/*
 * failures.h - how many logins of an address may fail, and when it may try again.
 *
 * Each door (the pools without a reservation, each reserved pool, the console) counts for itself, so that what goes wrong at
 * one keeps nobody out at another.  Bounded: when the table is full, the address that is nearest to being forgiven is forgotten.  Pure.
 */
#ifndef POLICY_FAILURES_H
#define POLICY_FAILURES_H

#include <stdint.h>

#define FAILURES_MOST 4096 /* addresses that are remembered */

struct failures;

/* Who: IPv4 addresses as IPv6 writes them (::ffff:192.0.2.1). */
struct failures_key {
    uint32_t door;
    uint8_t address[16];
};

/* `most` failures in a row are free; then one each window / most. */
struct failures_limit {
    int most; /* 0: no limit */
    int64_t window_us;
};

struct failures *failures_new(void);
void failures_free(struct failures *failures);
/* A login of this address has failed. */
void failures_note(struct failures *failures, const struct failures_key *key,
                   const struct failures_limit *limit, int64_t now_us);
/* How long the address has to wait until it may try again, in microseconds; 0: not at all. */
int64_t failures_wait(struct failures *failures, const struct failures_key *key,
                      const struct failures_limit *limit, int64_t now_us);

#endif
