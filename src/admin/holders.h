/*
 * holders.h - who held a backend longest in the last hour, by (pool, user, application_name, address).
 *
 * Pure and of a fixed size: what is held is looked at about once a second, and only from HOLDERS_LEAST_US on, so that
 * short transactions cost nothing here.
 */
#ifndef ADMIN_HOLDERS_H
#define ADMIN_HOLDERS_H

#include <stddef.h>
#include <stdint.h>

#define HOLDERS_LEAST_US 1000000LL /* shorter holds are of no interest */
#define HOLDERS_MAX      128
#define HOLDERS_SLOTS    6 /* of ten minutes each: the last hour */

struct holder_key {
    char pool[64];
    char user[64];
    char application_name[64];
    char address[64];
};

/* The longest hold in one stretch of ten minutes. */
struct holder_slot {
    int64_t epoch; /* which ten minutes since the clock's beginning */
    int64_t held_us;
    int64_t idle_us; /* idle in a transaction, at a stretch */
};

struct holder {
    struct holder_key key;
    int64_t seen_us;
    uint64_t holds; /* how many were seen that lasted long enough */
    struct holder_slot slots[HOLDERS_SLOTS];
};

struct holders {
    size_t count;
    struct holder items[HOLDERS_MAX];
};

/* A client of this key holds a backend since `held_us`, and idles in a transaction since `idle_us` (0: it does not).
 * `is_new`: this hold was not noted before. */
void holders_note(struct holders *holders, const struct holder_key *key, int64_t now_us,
                  int64_t held_us, int64_t idle_us, int is_new);
/* Forgets those of whom nothing was seen for an hour. */
void holders_expire(struct holders *holders, int64_t now_us);
/* The longest hold of the last hour, and the longest idling in a transaction. */
int64_t holder_longest_us(const struct holder *holder, int64_t now_us, int64_t *idle_us);
/* NULL when nothing is known of the key. */
const struct holder *holders_find(const struct holders *holders, const struct holder_key *key);

#endif
