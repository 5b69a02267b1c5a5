/*
 * limits.c - how many connections an upstream can grant us: see limits.h.
 */
#include "policy/limits.h"

static int positive(int number)
{
    return number > 0 ? number : 0;
}

static void bound(struct limits_verdict *verdict, int limit, int others, enum limits_bound by)
{
    if (limit == LIMITS_NONE || limit - others >= verdict->largest)
        return;
    verdict->largest = positive(limit - others);
    verdict->bound = by;
}

struct limits_verdict limits_judge(const struct limits_server *server)
{
    struct limits_verdict verdict = {.bound = LIMITS_BY_SERVER};
    if (!server->is_superuser)
        verdict.kept =
            server->kept_for_superusers + (server->is_member ? 0 : server->kept_for_members);
    verdict.largest = positive(server->max_connections - verdict.kept - server->others);
    if (!server->is_superuser) {
        bound(&verdict, server->role_limit, server->others_of_role, LIMITS_BY_ROLE);
        bound(&verdict, server->database_limit, server->others_of_database, LIMITS_BY_DATABASE);
    }
    bound(&verdict, server->pooler_limit, 0, LIMITS_BY_POOLER);
    return verdict;
}

/* ---- making pools fit ---- */

static int sum_reserved(const struct limits_pool *pools, size_t count)
{
    int sum = 0;
    for (size_t i = 0; i < count; i++)
        sum += pools[i].reserved;
    return sum;
}

#define POOLS_MAX 64

/* The part that is farthest below (`up`) or above what it was, and may still be changed that way. */
static size_t next_to_change(int *const *parts, const int *before, size_t count, bool up)
{
    size_t best = 0;
    for (size_t i = 1; i < count; i++) {
        bool is_better =
            up ? before[i] - *parts[i] > before[best] - *parts[best] : *parts[i] > *parts[best];
        if (is_better)
            best = i;
    }
    return best;
}

/* Shares `most` out in the proportions of what is there, none below `least`; nothing grows. */
static void scale(int *const *parts, size_t count, int most, int least)
{
    int before[POOLS_MAX];
    long long sum = 0;
    int given = 0;
    for (size_t i = 0; i < count; i++)
        sum += before[i] = *parts[i];
    if (sum <= 0 || sum <= most)
        return;
    for (size_t i = 0; i < count; i++) {
        int share = (int)(before[i] * (long long)most / sum);
        *parts[i] = share >= least || before[i] < least ? share : least;
        given += *parts[i];
    }
    for (; given < most; given++) /* what rounding has left */
        ++*parts[next_to_change(parts, before, count, true)];
    for (; given > most; given--) /* `least` for many small ones: the large ones pay */
        --*parts[next_to_change(parts, before, count, false)];
}

/* One each for the pools without a reservation must be left. */
static bool fit_reservations(struct limits_pool *pools, size_t count, int largest)
{
    int *parts[POOLS_MAX] = {NULL};
    size_t with = 0;
    for (size_t i = 0; i < count; i++) {
        if (pools[i].reserved > 0)
            parts[with++] = &pools[i].reserved;
    }
    int most = largest - (int)(count - with > 0);
    if ((int)with > most)
        return false;
    for (size_t i = 0; i < count; i++)
        pools[i].size -= pools[i].reserved; /* what is beyond the reservation stays beyond it */
    scale(parts, with, most, 1);
    for (size_t i = 0; i < count; i++)
        pools[i].size = positive(pools[i].size + pools[i].reserved);
    return true;
}

/* The pools without a reservation, within what the reservations leave. */
static void fit_shared(struct limits_pool *pools, size_t count, int before, int left)
{
    int *sizes[POOLS_MAX] = {NULL};
    int *overflows[POOLS_MAX] = {NULL};
    size_t shared = 0;
    long long size = 0;
    long long overflow = 0;
    for (size_t i = 0; i < count; i++) {
        if (pools[i].reserved > 0)
            continue;
        sizes[shared] = &pools[i].size;
        overflows[shared++] = &pools[i].max_overflow;
        size += pools[i].size;
        overflow += pools[i].max_overflow;
    }
    if (shared == 0 || size + overflow == 0 || before <= 0)
        return;
    /* pools that promised more than there was, each counting on the others' idleness, may go on doing so */
    long long most = size + overflow <= before ? left : (size + overflow) * left / before;
    if (size + overflow <= most)
        return;
    long long kept_overflow = overflow <= most / 2 ? overflow : most * overflow / (size + overflow);
    scale(overflows, shared, (int)kept_overflow, 0);
    scale(sizes, shared, (int)(most - kept_overflow), most - kept_overflow >= (int)shared ? 1 : 0);
}

bool limits_fit(struct limits_pool *pools, size_t count, int total, int largest)
{
    int before = total - sum_reserved(pools, count);
    if (count > POOLS_MAX || !fit_reservations(pools, count, largest))
        return false;
    int left = largest - sum_reserved(pools, count);
    fit_shared(pools, count, before, left);
    for (size_t i = 0; i < count; i++) {
        struct limits_pool *pool = &pools[i];
        int most = pool->reserved + left; /* what the others' reservations leave it */
        if (pool->size > most)
            pool->size = most;
        if (pool->size + pool->max_overflow == 0)
            pool->size = 1;
        if (pool->size + pool->max_overflow > most)
            pool->max_overflow = most - pool->size;
    }
    return true;
}
