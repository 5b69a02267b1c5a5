/*
 * failures.c - how many logins of an address may fail: see failures.h.
 *
 * One number an address, the time at which all is forgiven (the generic cell rate algorithm of ATM): a failure moves it on
 * by window / most, and whoever's lies further ahead than the window has to wait.
 */
#include "policy/failures.h"

#include <stdlib.h>
#include <string.h>

#include "base/hash.h"
#include "base/memory.h"

#define LOOK_AT 64 /* entries, the oldest, among which one is chosen to be forgotten */

struct entry {
    struct failures_key key;
    int64_t forgiven_us;
    UT_hash_handle hh;
};

struct failures {
    struct entry *entries;
};

struct failures *failures_new(void)
{
    return memory_alloc(sizeof(struct failures));
}

static void forget(struct failures *failures, struct entry *entry)
{
    HASH_DEL(failures->entries, entry);
    free(entry);
}

void failures_free(struct failures *failures)
{
    struct entry *entry;
    struct entry *next;
    if (!failures)
        return;
    HASH_ITER (hh, failures->entries, entry, next)
        forget(failures, entry);
    free(failures);
}

static struct entry *find(const struct failures *failures, const struct failures_key *key)
{
    struct entry *entry;
    HASH_FIND(hh, failures->entries, key, sizeof(*key), entry);
    return entry;
}

static void make_room(struct failures *failures)
{
    struct entry *best = NULL;
    struct entry *entry = failures->entries;
    if (HASH_COUNT(failures->entries) < FAILURES_MOST)
        return;
    for (int i = 0; entry && i < LOOK_AT; i++, entry = entry->hh.next) {
        if (!best || entry->forgiven_us < best->forgiven_us)
            best = entry;
    }
    if (best)
        forget(failures, best);
}

void failures_note(struct failures *failures, const struct failures_key *key,
                   const struct failures_limit *limit, int64_t now_us)
{
    if (limit->most <= 0)
        return;
    struct entry *entry = find(failures, key);
    if (!entry) {
        make_room(failures);
        entry = memory_alloc(sizeof(*entry));
        entry->key = *key;
        HASH_ADD(hh, failures->entries, key, sizeof(entry->key), entry);
    }
    if (entry->forgiven_us < now_us)
        entry->forgiven_us = now_us;
    entry->forgiven_us += limit->window_us / limit->most;
    if (entry->forgiven_us > now_us + 2 * limit->window_us) /* those that were on their way */
        entry->forgiven_us = now_us + 2 * limit->window_us;
}

int64_t failures_wait(struct failures *failures, const struct failures_key *key,
                      const struct failures_limit *limit, int64_t now_us)
{
    if (limit->most <= 0)
        return 0;
    struct entry *entry = find(failures, key);
    if (!entry)
        return 0;
    if (entry->forgiven_us <= now_us) {
        forget(failures, entry);
        return 0;
    }
    int64_t one_us = limit->window_us / limit->most;
    int64_t over_us = entry->forgiven_us - now_us - (limit->window_us - one_us);
    return over_us > 0 ? over_us : 0;
}
