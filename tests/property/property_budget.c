/*
 * property_budget.c - the cap is hard and the reservation is real (contract 1.1, 1.2), whatever the order of things.
 *
 * Pools take and give at random, backends are told to close, and now and then a reload changes every number, also to
 * numbers below what is open.  Two things are claimed.  Nothing is ever taken at or over the cap.  And once the
 * books are balanced (what each pool holds or has reserved sums up to no more than the cap) they stay so
 * until the next reload, and a pool below its reservation may take at once.  After a reload that shrank
 * things, closing what budget_has_too_many points at must balance the books again.
 *
 * A pool without a reservation may give its place to one with: then that is claimed, and everybody else has to do without.
 *
 * Now and then an upgrade begins: all that is open is the old process's, which gives it back one by one while this one, the new
 * process, opens its own.  Nothing of the above changes.
 */
#include "policy/budget.h"

#include "random.h"

#define RUNS  20
#define STEPS 20000

static struct budget budget;

static int larger(int a, int b)
{
    return a > b ? a : b;
}

/* What is held or promised, without what is closing. */
static int needed(bool count_closing)
{
    int sum = budget.elsewhere;
    for (size_t i = 0; i < budget.pool_count; i++) {
        const struct budget_pool *pool = &budget.pools[i];
        sum += larger(budget_used(pool) - (count_closing ? 0 : pool->closing), pool->reserved);
        sum += pool->claimed;
    }
    return sum;
}

static bool is_balanced(void)
{
    return needed(true) <= budget.total;
}

static void reload(size_t pool_count)
{
    budget.total = 1 + random_below(80);
    int left = budget.total;
    for (size_t i = 0; i < pool_count; i++) {
        int reserved = random_chance(50) ? random_below(left + 1) : 0;
        left -= reserved;
        budget_configure(&budget, i, reserved + random_below(60), reserved);
        budget.pools[i].claimed = 0; /* as the pools do */
    }
}

static void take_or_not(size_t pool)
{
    const struct budget_pool *own = &budget.pools[pool];
    int open = budget_open(&budget);
    bool may_take = budget_may_take(&budget, pool);
    if (is_balanced() && budget_used(own) < own->reserved)
        CHECK(may_take, "pool %zu has %d of its %d", pool, budget_used(own), own->reserved);
    if (budget_used(own) >= own->limit || open >= budget.total)
        CHECK(!may_take, "pool %zu has %d of at most %d, all have %d of %d", pool, budget_used(own),
              own->limit, open, budget.total);
    if (!may_take)
        return;
    bool was_balanced = is_balanced();
    int claimed = own->claimed;
    budget_take(&budget, pool);
    CHECK(own->claimed == (claimed > 0 ? claimed - 1 : 0), "%d claimed before", claimed);
    CHECK(budget_open(&budget) == open + 1 && open + 1 <= budget.total, "%d of %d",
          budget_open(&budget), budget.total);
    CHECK(!was_balanced || is_balanced(), "taking took from a reservation of pool %zu", pool);
}

static void give_or_not(size_t pool)
{
    struct budget_pool *own = &budget.pools[pool];
    bool was_balanced = is_balanced();
    if (own->open == 0)
        return;
    if (own->closing == own->open || (own->closing > 0 && random_chance(50)))
        own->closing--;
    budget_give(&budget, pool);
    CHECK(own->open >= own->closing && own->closing >= 0, "%d open", own->open);
    CHECK(!was_balanced || is_balanced(), "giving back unbalanced the books");
}

/* A pool without a reservation lets one go, for one that has what it reserved. */
static void lend(size_t giver, size_t borrower)
{
    struct budget_pool *own = &budget.pools[giver];
    struct budget_pool *theirs = &budget.pools[borrower];
    if (own->open == 0 || own->reserved > 0 || budget_used(theirs) < theirs->reserved)
        return;
    give_or_not(giver);
    bool was_balanced = is_balanced();
    int claimed = theirs->claimed;
    budget_claim(&budget, borrower);
    CHECK(theirs->claimed == claimed || theirs->claimed == claimed + 1, "%d", theirs->claimed);
    CHECK(!was_balanced || is_balanced(), "a claim unbalanced the books");
    if (theirs->claimed == claimed)
        return;
    CHECK(budget_used(theirs) + theirs->claimed <= theirs->limit, "claimed over its limit");
    CHECK(budget_open(&budget) + theirs->claimed <= budget.total, "claimed over the cap");
    CHECK(budget_may_take(&budget, borrower), "claimed, and may not take it");
}

/* A new process begins: what is open is the old one's, and some of it of a pool that is gone from the configuration. */
static void upgrade(void)
{
    for (size_t i = 0; i < budget.pool_count; i++) {
        struct budget_pool *pool = &budget.pools[i];
        pool->elsewhere += pool->open;
        pool->open = pool->closing = 0;
        if (random_chance(10)) {
            budget.elsewhere += pool->elsewhere;
            pool->elsewhere = 0;
        }
    }
}

static void give_elsewhere(size_t pool)
{
    int *theirs = random_chance(20) ? &budget.elsewhere : &budget.pools[pool].elsewhere;
    bool was_balanced = is_balanced();
    *theirs -= *theirs > 0;
    CHECK(!was_balanced || is_balanced(), "the old process's giving back unbalanced the books");
}

/* Closes what is too much, as the pools do, and waits for it to go. */
static void shrink(void)
{
    budget.elsewhere = 0; /* the old process leaves */
    for (size_t i = 0; i < budget.pool_count; i++)
        budget.pools[i].elsewhere = 0;
    for (size_t i = 0; i < budget.pool_count; i++) {
        budget.pools[i].claimed = 0; /* who waited is gone */
        while (budget_has_too_many(&budget, i)) {
            budget.pools[i].closing++;
            CHECK(budget.pools[i].closing <= budget.pools[i].open, "closed more than is open");
        }
    }
    for (size_t i = 0; i < budget.pool_count; i++) {
        while (budget.pools[i].closing > 0) {
            budget.pools[i].closing--;
            budget_give(&budget, i);
        }
        CHECK(budget.pools[i].open <= budget.pools[i].limit, "pool %zu over its limit", i);
    }
    CHECK(is_balanced(), "%d needed of %d", needed(true), budget.total);
}

static void step(size_t pool_count)
{
    size_t pool = (size_t)random_below((int)pool_count);
    bool was_within = is_balanced() && budget_used(&budget.pools[pool]) <= budget.pools[pool].limit;
    CHECK(!was_within || !budget_has_too_many(&budget, pool), "pool %zu closed for nothing", pool);
    if (random_below(2000) == 0)
        reload(pool_count);
    else if (random_below(3000) == 0)
        shrink();
    else if (random_below(1000) == 0)
        upgrade();
    else if (random_chance(20))
        give_elsewhere(pool);
    else if (random_chance(10))
        lend(pool, (size_t)random_below((int)pool_count));
    else if (random_chance(2) && budget.pools[pool].claimed > 0)
        budget.pools[pool].claimed--; /* its waiter has gone */
    else if (random_chance(5) && budget.pools[pool].closing < budget.pools[pool].open)
        budget.pools[pool].closing++;
    else if (random_chance(55))
        take_or_not(pool);
    else
        give_or_not(pool);
}

int main(int argc, char **argv)
{
    uint64_t seed = seed_from(argc, argv, 20240501);
    printf("property_budget: seed %llu\n", (unsigned long long)seed);
    for (uint64_t run = 0; run < RUNS; run++) {
        random_start(seed + run);
        size_t pool_count = 1 + (size_t)random_below(random_chance(20) ? BUDGET_POOLS_MAX : 5);
        budget = (struct budget){0};
        reload(pool_count);
        CHECK(is_balanced(), "nothing is open");
        for (random_step = 0; random_step < STEPS; random_step++)
            step(pool_count);
        shrink();
    }
    printf("%ld checks passed\n", checks_passed);
    return 0;
}
