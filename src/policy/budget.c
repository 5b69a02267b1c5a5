/*
 * budget.c - who may open an upstream connection, and the proof that the cap holds.
 *
 * PostgreSQL counts a connection from its attempt until it has closed its own end, so that is how we count:
 * budget_take before the login starts, budget_give at the server's EOF, never at close().  A pool may grow while it
 * is below its own limit and what is left of the cap still covers every other pool's unused reservation:
 *
 *     open(p) < limit(p)   and   open(all) + sum over q != p of max(0, reserved(q) - open(q)) < total
 *
 * A place that another pool has cleared for q, and q has not taken yet, counts as q's too (lend.c): that only ever takes from
 * what others may have.
 *
 * From that follows: open(all) never exceeds total, and a pool with fewer open than reserved may always take
 * one (tests/property/property_budget.c walks both at random).  A reload may lower the numbers under what is
 * open; then nothing may be taken until enough has been given back.
 *
 * In an upgrade `open` means both processes' connections.  One of the two opens nothing more, so that what the other knows of
 * it can only be too much, never too little.
 */
#include "policy/budget.h"

void budget_configure(struct budget *budget, size_t pool, int limit, int reserved)
{
    if (pool >= budget->pool_count)
        budget->pool_count = pool + 1;
    budget->pools[pool].limit = limit;
    budget->pools[pool].reserved = reserved;
}

int budget_open(const struct budget *budget)
{
    int open = budget->elsewhere;
    for (size_t i = 0; i < budget->pool_count; i++)
        open += budget_used(&budget->pools[i]);
    return open;
}

int budget_owed_to_others(const struct budget *budget, size_t pool)
{
    int owed = 0;
    for (size_t i = 0; i < budget->pool_count; i++) {
        int unused = budget->pools[i].reserved - budget_used(&budget->pools[i]);
        if (i == pool)
            continue;
        owed += budget->pools[i].claimed + (unused > 0 ? unused : 0);
    }
    return owed;
}

bool budget_has_too_many(const struct budget *budget, size_t pool)
{
    const struct budget_pool *own = &budget->pools[pool];
    int kept = budget_used(own) - own->closing;
    if (own->open <= own->closing)
        return false; /* nothing of it is here to close */
    if (kept > own->limit)
        return true;
    int needed = kept + budget->elsewhere;
    for (size_t i = 0; i < budget->pool_count; i++) {
        const struct budget_pool *other = &budget->pools[i];
        int others = budget_used(other) - other->closing;
        if (i != pool)
            needed += others > other->reserved ? others : other->reserved;
    }
    return needed > budget->total && kept > own->reserved;
}

bool budget_may_take(const struct budget *budget, size_t pool)
{
    if (budget_used(&budget->pools[pool]) >= budget->pools[pool].limit)
        return false;
    return budget_open(budget) + budget_owed_to_others(budget, pool) < budget->total;
}

void budget_take(struct budget *budget, size_t pool)
{
    struct budget_pool *own = &budget->pools[pool];
    own->open++;
    own->claimed -= own->claimed > 0;
}

void budget_give(struct budget *budget, size_t pool)
{
    budget->pools[pool].open--;
}

void budget_claim(struct budget *budget, size_t pool)
{
    struct budget_pool *own = &budget->pools[pool];
    int claimed = own->claimed + 1;
    if (budget_used(own) + claimed <= own->limit &&
        budget_open(budget) + budget_owed_to_others(budget, pool) + claimed <= budget->total)
        own->claimed = claimed;
}
