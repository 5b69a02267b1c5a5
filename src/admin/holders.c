/*
 * holders.c - who held a backend longest in the last hour: see holders.h.
 *
 * An entry keeps the longest hold of each ten minutes, six of them; the last hour's is the longest of those that are not
 * over.  When the table is full, the entry whose longest hold is the shortest makes room, but only for a longer one.
 */
#include "admin/holders.h"

#include <string.h>

#define SLOT_US (600 * 1000000LL)

const struct holder *holders_find(const struct holders *holders, const struct holder_key *key)
{
    for (size_t i = 0; i < holders->count; i++) {
        const struct holder_key *other = &holders->items[i].key;
        if (strcmp(other->address, key->address) == 0 && strcmp(other->user, key->user) == 0 &&
            strcmp(other->application_name, key->application_name) == 0 &&
            strcmp(other->pool, key->pool) == 0)
            return &holders->items[i];
    }
    return NULL;
}

int64_t holder_longest_us(const struct holder *holder, int64_t now_us, int64_t *idle_us)
{
    int64_t longest_us = 0;
    *idle_us = 0;
    for (int i = 0; i < HOLDERS_SLOTS; i++) {
        const struct holder_slot *slot = &holder->slots[i];
        if (now_us / SLOT_US - slot->epoch >= HOLDERS_SLOTS)
            continue;
        if (slot->held_us > longest_us)
            longest_us = slot->held_us;
        if (slot->idle_us > *idle_us)
            *idle_us = slot->idle_us;
    }
    return longest_us;
}

/* The entry that matters least, when it matters less than a hold of `held_us`. */
static struct holder *least_holder(struct holders *holders, int64_t now_us, int64_t held_us)
{
    struct holder *least = NULL;
    int64_t least_us = held_us;
    int64_t idle_us;
    for (size_t i = 0; i < holders->count; i++) {
        int64_t longest_us = holder_longest_us(&holders->items[i], now_us, &idle_us);
        if (longest_us < least_us) {
            least = &holders->items[i];
            least_us = longest_us;
        }
    }
    return least;
}

static struct holder *holder_for(struct holders *holders, const struct holder_key *key,
                                 int64_t now_us, int64_t held_us)
{
    struct holder *holder = (struct holder *)holders_find(holders, key);
    if (holder)
        return holder;
    holder = holders->count < HOLDERS_MAX ? &holders->items[holders->count++]
                                          : least_holder(holders, now_us, held_us);
    if (holder) {
        memset(holder, 0, sizeof(*holder));
        holder->key = *key;
    }
    return holder;
}

void holders_note(struct holders *holders, const struct holder_key *key, int64_t now_us,
                  int64_t held_us, int64_t idle_us, int is_new)
{
    struct holder *holder = holder_for(holders, key, now_us, held_us);
    int64_t epoch = now_us / SLOT_US;
    if (!holder)
        return;
    struct holder_slot *slot = &holder->slots[epoch % HOLDERS_SLOTS];
    if (slot->epoch != epoch)
        *slot = (struct holder_slot){.epoch = epoch};
    holder->seen_us = now_us;
    holder->holds += is_new != 0;
    if (held_us > slot->held_us)
        slot->held_us = held_us;
    if (idle_us > slot->idle_us)
        slot->idle_us = idle_us;
}

void holders_expire(struct holders *holders, int64_t now_us)
{
    for (size_t i = 0; i < holders->count;) {
        if (now_us - holders->items[i].seen_us > HOLDERS_SLOTS * SLOT_US)
            holders->items[i] = holders->items[--holders->count];
        else
            i++;
    }
}
