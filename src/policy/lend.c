/*
 * lend.c - one-way lending between the pools of one budget: see lend.h.
 *
 * What is lent is a place of the cap, never a connection: sessions of two pools may differ in database, user and mode.  So an
 * idle connection is closed and the borrower logs in, 100 ms (overflow_delay) and one login after its client came.  The
 * way back needs no rule of its own: the borrower closes its overflow after overflow_idle, and the giver's refill takes
 * the place, as it takes any.
 *
 * Between the server's EOF and the borrower's login the place is claimed in the budget, or else the giver's refill, or anybody
 * who waits, would take it, and the next idle connection would go.  Reserved places are lent by nobody and
 * claimed by nobody.
 */
#include "policy/lend.h"

bool lend_may_borrow(const struct pool *pool)
{
    const struct budget_pool *own = &pool->budget->pools[pool->budget_index];
    return pool->settings.borrow && own->reserved > 0 && budget_used(own) >= own->reserved;
}

static int clearing(const struct pool *giver, const struct pool *borrower, int64_t since_us)
{
    const struct pool_lane *lane;
    int count = 0;
    if (giver->counts[BACKEND_CLOSING] == 0)
        return 0;
    TAILQ_FOREACH (lane, &giver->lanes, link) {
        const struct pool_backend *closing;
        TAILQ_FOREACH (closing, &lane->backends[BACKEND_CLOSING], link)
            count += closing->lent_to == borrower && closing->since_us >= since_us;
    }
    return count;
}

int lend_coming(const struct pool *pool, int64_t now_us, int64_t patience_us)
{
    const struct budget *budget = pool->budget;
    int count = budget->pools[pool->budget_index].claimed;
    for (size_t i = 0; i < budget->pool_count; i++) {
        if (budget->pools[i].pool)
            count += clearing(budget->pools[i].pool, pool, now_us - patience_us);
    }
    return count;
}

struct pool_backend *lend_find(const struct pool *pool)
{
    const struct budget *budget = pool->budget;
    struct pool_backend *oldest = NULL;
    for (size_t i = 0; i < budget->pool_count; i++) {
        const struct pool *giver = budget->pools[i].pool;
        if (!giver || giver == pool || budget->pools[i].reserved > 0)
            continue;
        struct pool_backend *last = pool_longest_idle(giver, NULL);
        if (last && (!oldest || last->used_us < oldest->used_us))
            oldest = last;
    }
    return oldest;
}

void lend_begin(struct pool_backend *backend, struct pool *borrower, int64_t now_us)
{
    backend->lent_to = borrower;
    pool_backend_move(backend, BACKEND_CLOSING, now_us);
}

void lend_end(const struct pool_backend *backend)
{
    const struct pool *borrower = backend->lent_to;
    if (borrower && lend_may_borrow(borrower))
        budget_claim(borrower->budget, borrower->budget_index);
}

void lend_settle(struct pool *pool, int wanted)
{
    struct budget_pool *own = &pool->budget->pools[pool->budget_index];
    if (own->claimed > wanted)
        own->claimed = wanted;
}
