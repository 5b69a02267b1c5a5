/*
 * budget.h - the cap: who may open an upstream connection (contract 1.1, 1.2, 4).
 *
 * Pure arithmetic over counts.  A connection is taken before it is attempted and given back when the server
 * has let go of it, never earlier.  While an upgrade hands over from one process to the next, each counts what the other
 * has open as well (`elsewhere`), so that the cap holds over both.
 */
#ifndef POLICY_BUDGET_H
#define POLICY_BUDGET_H

#include <stdbool.h>
#include <stddef.h>

#define BUDGET_POOLS_MAX 64

struct pool;

struct budget_pool {
    int open;          /* attempted, alive or not yet let go of */
    int closing;       /* of these, told to go: still counted, but soon free */
    int elsewhere;     /* the same pool's in the other process of an upgrade */
    int limit;         /* size + max_overflow */
    int reserved;      /* of the total, nobody else's */
    int claimed;       /* places that other pools have cleared for it and it has not taken yet */
    struct pool *pool; /* whose numbers these are; NULL: of no pool of pool.c's */
};

struct budget {
    int total;
    int elsewhere; /* the other process's in pools that this one does not have */
    size_t pool_count;
    struct budget_pool pools[BUDGET_POOLS_MAX];
};

/* Sets the numbers of a pool; what is open stays.  `pool` below BUDGET_POOLS_MAX. */
void budget_configure(struct budget *budget, size_t pool, int limit, int reserved);
/* What the pool holds of the cap, in both processes. */
static inline int budget_used(const struct budget_pool *pool)
{
    return pool->open + pool->elsewhere;
}
/* All connections that the upstream may still count, the other process's included. */
int budget_open(const struct budget *budget);
/* What of the cap must stay free for pools other than this one: their unused reservations, and what they have claimed. */
int budget_owed_to_others(const struct budget *budget, size_t pool);
/* True when the pool holds a place that is not its own any more: a reload has lowered its limit or the cap, or
 * reserved more for others.  What is closing is on its way out already. */
bool budget_has_too_many(const struct budget *budget, size_t pool);
/* The rule of contract 4, and the only place that decides. */
bool budget_may_take(const struct budget *budget, size_t pool);
/* Takes a place: of those that it has claimed, if there are any. */
void budget_take(struct budget *budget, size_t pool);
void budget_give(struct budget *budget, size_t pool);
/* A place has come free that was cleared for this pool: nobody else takes it before the pool has, if it may take it at all. */
void budget_claim(struct budget *budget, size_t pool);

#endif
