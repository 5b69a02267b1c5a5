/*
 * pool.c - who gets which backend, and what a pool should do next: see pool.h.
 *
 * SQLAlchemy's QueuePool made precise (contract 4): `size` connections are kept, up to `max_overflow` more are opened
 * when somebody has waited overflow_delay, a connection is replaced when it is older than `recycle` (spread
 * by up to 10 %), and none is handed out whose last sign of life is older than pre_ping_idle.  Idle backends are a
 * stack: the one used last goes out first, so that a pool that needs few lets the others grow old, be pinged, and
 * close.  An idle backend of one lane is closed when a waiter of another lane needs its place; one of another pool, when
 * that has lent it (lend.h).
 *
 * Every move between states is made by move(), which keeps the lists and the counts.
 */
#include "policy/pool.h"

#include "policy/lend.h"

#define RETRY_FIRST_US   100000LL
#define RETRY_LONGEST_US 15000000LL
#define RETRY_WAITED_US  1000000LL /* longest back-off while somebody waits */
#define STUCK_CLOSING_US                                                                           \
    1000000LL /* a close that takes longer holds up neither waiters nor the refill */
#define LANE_PATIENCE_US                                                                           \
    1000000LL /* longest wait in a lane with few places while others have many */

static uint64_t pool_random(struct pool *pool)
{
    uint64_t x = pool->random;
    x ^= x << 13;
    x ^= x >> 7;
    x ^= x << 17;
    return pool->random = x;
}

/* Into the stack of idle ones at the place that its last use gives it: a ping must not make it look used, or else
 * nothing would ever be idle for overflow_idle.  Pings begin at the bottom, so the search does too. */
static void insert_idle(struct pool_backend_list *stack, struct pool_backend *backend)
{
    const struct pool_backend *top = TAILQ_FIRST(stack);
    if (!top || top->used_us <= backend->used_us) { /* a release: the common way */
        TAILQ_INSERT_HEAD(stack, backend, link);
        return;
    }
    struct pool_backend *above = TAILQ_LAST(stack, pool_backend_list);
    while (above && above->used_us < backend->used_us)
        above = TAILQ_PREV(above, pool_backend_list, link);
    if (above)
        TAILQ_INSERT_AFTER(stack, above, backend, link);
    else
        TAILQ_INSERT_HEAD(stack, backend, link);
}

static void insert(struct pool_backend *backend, enum backend_state state, int64_t now_us)
{
    struct pool_lane *lane = backend->lane;
    backend->state = state;
    backend->since_us = now_us;
    if (state == BACKEND_IDLE)
        insert_idle(&lane->backends[state], backend);
    else
        TAILQ_INSERT_TAIL(&lane->backends[state], backend, link);
    lane->counts[state]++;
    lane->pool->counts[state]++;
    lane->pool->budget->pools[lane->pool->budget_index].closing += state == BACKEND_CLOSING;
}

static void extract(struct pool_backend *backend)
{
    struct pool_lane *lane = backend->lane;
    TAILQ_REMOVE(&lane->backends[backend->state], backend, link);
    lane->counts[backend->state]--;
    lane->pool->counts[backend->state]--;
    lane->pool->budget->pools[lane->pool->budget_index].closing -=
        backend->state == BACKEND_CLOSING;
}

void pool_backend_move(struct pool_backend *backend, enum backend_state state, int64_t now_us)
{
    extract(backend);
    insert(backend, state, now_us);
}

void pool_init(struct pool *pool, struct budget *budget, size_t budget_index,
               const struct pool_settings *settings, uint64_t seed)
{
    *pool = (struct pool){.budget = budget, .budget_index = budget_index};
    pool->random = seed ? seed : 0x9e3779b97f4a7c15u;
    budget->pools[budget_index].pool = pool;
    TAILQ_INIT(&pool->lanes);
    TAILQ_INIT(&pool->waiters);
    pool->settings = *settings;
}

static int64_t deadline(const struct pool *pool, int64_t since_us)
{
    return pool->settings.timeout_us > 0 ? since_us + pool->settings.timeout_us : INT64_MAX;
}

void pool_configure(struct pool *pool, const struct pool_settings *settings, int reserved)
{
    pool->settings = *settings;
    budget_configure(pool->budget, pool->budget_index, settings->size + settings->max_overflow,
                     reserved);
    lend_settle(pool, 0); /* the sums that it was claimed by are not those of now */
    struct pool_waiter
        *waiter; /* deadlines stay in the queue's order: pool_next looks at the first only */
    TAILQ_FOREACH (waiter, &pool->waiters, pool_link)
        waiter->deadline_us = deadline(pool, waiter->since_us);
}

void pool_backend_add(struct pool_backend *backend, struct pool_lane *lane, int64_t now_us)
{
    *backend = (struct pool_backend){.lane = lane, .generation = lane->generation};
    backend->recycle_us = INT64_MAX;
    budget_take(lane->pool->budget, lane->pool->budget_index);
    insert(backend, BACKEND_CONNECTING, now_us);
}

/* Up to 10 % earlier, so that connections opened together do not go together. */
static int64_t recycle_time(struct pool *pool, int64_t now_us)
{
    int64_t recycle = pool->settings.recycle_us;
    if (recycle <= 0)
        return INT64_MAX;
    int64_t spread = (int64_t)(pool_random(pool) % 1000) * recycle / 10000;
    return now_us + recycle - spread;
}

void pool_backend_ready(struct pool_backend *backend, int64_t now_us)
{
    backend->lane->failures = 0;
    backend->lane->tries_singly = false;
    backend->lane->retry_us = 0;
    backend->alive_us = now_us;
    backend->used_us = now_us;
    backend->recycle_us = recycle_time(backend->lane->pool, now_us);
    pool_backend_move(backend, BACKEND_IDLE, now_us);
}

void pool_backend_login_failed(struct pool_backend *backend, int64_t now_us)
{
    struct pool_lane *lane = backend->lane;
    int64_t delay = RETRY_FIRST_US;
    for (int i = 0; i < lane->failures && delay < RETRY_LONGEST_US; i++)
        delay *= 2;
    if (delay > RETRY_LONGEST_US)
        delay = RETRY_LONGEST_US;
    delay = delay * 3 / 4 + (int64_t)(pool_random(lane->pool) % (uint64_t)(delay / 2));
    if (lane->failures == 0 || backend->since_us >= lane->failed_us)
        lane->failures++; /* those begun together count once */
    lane->failed_us = now_us;
    lane->retry_us = now_us + delay;
}

void pool_backend_remove(struct pool_backend *backend)
{
    extract(backend);
    budget_give(backend->lane->pool->budget, backend->lane->pool->budget_index);
    lend_end(backend);
}

int pool_kept_open(const struct pool *pool)
{
    int reserved = pool->budget->pools[pool->budget_index].reserved;
    return reserved > pool->settings.size ? reserved : pool->settings.size;
}

/* Whether its last sign of life is recent enough to hand it out as it is. */
static bool is_known_alive(const struct pool_backend *backend, int64_t now_us)
{
    const struct pool_settings *settings = &backend->lane->pool->settings;
    if (backend->alive_us < backend->lane->suspect_before_us)
        return false;
    if (!settings->pre_ping)
        return true;
    return settings->pre_ping_idle_us > 0 &&
           now_us - backend->alive_us <= settings->pre_ping_idle_us;
}

/* A reserved pool is there for somebody who comes in a hurry, and it may not exceed its own number while it replaces: so it
 * replaces one connection at a time, and keeps the last free one until it is twice as old as `recycle`. */
static bool may_replace_now(const struct pool_backend *backend, int64_t overdue_us)
{
    const struct pool *pool = backend->lane->pool;
    if (pool->budget->pools[pool->budget_index].reserved == 0 ||
        overdue_us >= pool->settings.recycle_us)
        return true;
    if (pool->counts[BACKEND_CONNECTING] + pool->counts[BACKEND_CLOSING] > 0)
        return false;
    int other_free = pool->counts[BACKEND_IDLE] - (backend->state == BACKEND_IDLE);
    return other_free > 0 || pool_open(pool) <= 1;
}

static bool is_paused(const struct pool_lane *lane)
{
    return lane->is_paused || lane->pool->is_paused;
}

static bool is_emptying(const struct pool_lane *lane)
{
    return lane->is_emptying || lane->pool->is_emptying;
}

static const char *reason_to_replace(const struct pool_backend *backend, int64_t now_us)
{
    const struct pool *pool = backend->lane->pool;
    if (is_emptying(backend->lane))
        return "paused";
    if (backend->generation != backend->lane->generation && may_replace_now(backend, 0))
        return "disposed";
    if (now_us >= backend->recycle_us && may_replace_now(backend, now_us - backend->recycle_us))
        return "recycle";
    if (budget_has_too_many(pool->budget, pool->budget_index))
        return "pool or cap is smaller now";
    if (backend->lane->gives_up && backend->lane->counts[BACKEND_CLOSING] == 0)
        return backend->lane->gives_up;
    return NULL;
}

static struct pool_waiter *take_first_waiter(struct pool_lane *lane)
{
    struct pool_waiter *waiter = TAILQ_FIRST(&lane->waiters);
    if (waiter)
        pool_wait_end(waiter);
    return waiter;
}

struct pool_waiter *pool_backend_alive(struct pool_backend *backend, int64_t now_us)
{
    backend->alive_us = now_us;
    if (!is_paused(backend->lane) && backend->lane->waiting > 0 &&
        !reason_to_replace(backend, now_us)) {
        pool_backend_move(backend, BACKEND_BUSY, now_us);
        return take_first_waiter(backend->lane);
    }
    pool_backend_move(backend, BACKEND_IDLE, now_us);
    return NULL;
}

/* True when the pool's first waiter stands in another lane, which has nothing or has made it wait for long, and no
 * place can come to it otherwise: this lane's later waiters must not keep a free backend for ever. */
static bool other_lane_waits_longer(const struct pool_lane *lane, int64_t now_us)
{
    const struct pool *pool = lane->pool;
    const struct pool_waiter *first = TAILQ_FIRST(&pool->waiters);
    if (!first || first->lane == lane || is_paused(first->lane))
        return false;
    if (pool_lane_living(first->lane) > 0 && now_us - first->since_us < LANE_PATIENCE_US)
        return false;
    if (first->lane->counts[BACKEND_CONNECTING] > 0 || pool->counts[BACKEND_CLOSING] > 0)
        return false;
    return !budget_may_take(pool->budget, pool->budget_index) && first->lane->retry_us <= now_us;
}

struct pool_waiter *pool_release(struct pool_backend *backend, int64_t now_us,
                                 const char **must_close)
{
    struct pool_lane *lane = backend->lane;
    backend->alive_us = now_us;
    backend->used_us = now_us;
    *must_close = reason_to_replace(backend, now_us);
    if (!*must_close && lane->waiting > 0 && other_lane_waits_longer(lane, now_us))
        *must_close = "place needed by another database or user";
    if (*must_close)
        return NULL;
    if (lane->waiting > 0 && !is_paused(lane) && is_known_alive(backend, now_us)) {
        pool_backend_move(backend, BACKEND_BUSY, now_us);
        return take_first_waiter(lane);
    }
    pool_backend_move(backend, BACKEND_IDLE, now_us);
    return NULL;
}

struct pool_backend *pool_acquire(struct pool_lane *lane, int64_t now_us)
{
    struct pool_backend *backend = TAILQ_FIRST(&lane->backends[BACKEND_IDLE]);
    if (!backend || lane->waiting > 0 || is_paused(lane))
        return NULL;
    if (!is_known_alive(backend, now_us) || reason_to_replace(backend, now_us))
        return NULL;
    pool_backend_move(backend, BACKEND_BUSY, now_us);
    return backend;
}

void pool_wait(struct pool_waiter *waiter, struct pool_lane *lane, int64_t now_us)
{
    waiter->lane = lane;
    waiter->since_us = now_us;
    waiter->deadline_us = deadline(lane->pool, now_us);
    waiter->is_noticed = false;
    if (!lane->pool->unnoticed)
        lane->pool->unnoticed = waiter;
    TAILQ_INSERT_TAIL(&lane->waiters, waiter, lane_link);
    TAILQ_INSERT_TAIL(&lane->pool->waiters, waiter, pool_link);
    lane->waiting++;
    lane->pool->waiting++;
}

void pool_wait_end(struct pool_waiter *waiter)
{
    struct pool_lane *lane = waiter->lane;
    if (waiter == lane->pool->unnoticed)
        lane->pool->unnoticed = TAILQ_NEXT(waiter, pool_link);
    lane->pool->noticed -= waiter->is_noticed;
    TAILQ_REMOVE(&lane->waiters, waiter, lane_link);
    TAILQ_REMOVE(&lane->pool->waiters, waiter, pool_link);
    lane->waiting--;
    lane->pool->waiting--;
    waiter->lane = NULL;
}

/* As many logins as may be on their way are. */
static bool is_busy_logging_in(const struct pool_lane *lane)
{
    return lane->pool->counts[BACKEND_CONNECTING] >= lane->pool->settings.login_burst ||
           (lane->tries_singly && lane->counts[BACKEND_CONNECTING] > 0);
}

static bool may_try_login(const struct pool_lane *lane, int64_t now_us)
{
    const struct pool *pool = lane->pool;
    if (pool->is_stopping || lane->yield_us > now_us || is_busy_logging_in(lane))
        return false;
    if (lane->retry_us <= now_us)
        return true;
    return lane->waiting > 0 && lane->failed_us + RETRY_WAITED_US <= now_us;
}

/* A free backend for the lane's first waiter: granted, or pinged first. */
static bool serve_from_idle(struct pool_lane *lane, int64_t now_us, struct pool_action *action)
{
    struct pool_backend *backend;
    TAILQ_FOREACH (backend, &lane->backends[BACKEND_IDLE], link) {
        const char *reason = reason_to_replace(backend, now_us);
        if (reason) {
            *action = (struct pool_action){POOL_CLOSE, lane, backend, NULL, reason, 0};
            pool_backend_move(backend, BACKEND_CLOSING, now_us);
            return true;
        }
        if (is_known_alive(backend, now_us)) {
            pool_backend_move(backend, BACKEND_BUSY, now_us);
            *action =
                (struct pool_action){POOL_GRANT, lane, backend, take_first_waiter(lane), NULL, 0};
            return true;
        }
    }
    backend = TAILQ_FIRST(&lane->backends[BACKEND_IDLE]);
    if (!backend || lane->counts[BACKEND_CHECKING] >= lane->waiting)
        return false; /* enough pings are on their way */
    *action = (struct pool_action){POOL_PING, lane, backend, NULL, NULL, 0};
    pool_backend_move(backend, BACKEND_CHECKING, now_us);
    return true;
}

struct pool_backend *pool_longest_idle(const struct pool *pool, const struct pool_lane *but)
{
    struct pool_backend *oldest = NULL;
    const struct pool_lane *lane;
    TAILQ_FOREACH (lane, &pool->lanes, link) {
        struct pool_backend *last = TAILQ_LAST(&lane->backends[BACKEND_IDLE], pool_backend_list);
        if (lane == but || !last || lane->waiting > 0)
            continue;
        if (!oldest || last->used_us < oldest->used_us)
            oldest = last;
    }
    return oldest;
}

/* Backends whose close hangs: they count against the limit and the cap, but nobody's wait should be for them. */
static int stuck(const struct pool *pool, int64_t now_us)
{
    const struct pool_lane *lane;
    int count = 0;
    if (pool->counts[BACKEND_CLOSING] == 0)
        return 0;
    TAILQ_FOREACH (lane, &pool->lanes, link) {
        const struct pool_backend *closing;
        TAILQ_FOREACH (closing, &lane->backends[BACKEND_CLOSING], link)
            count += now_us - closing->since_us > STUCK_CLOSING_US;
    }
    return count;
}

/* Waiters of the lane for whom no backend is on its way. */
static int unserved(const struct pool_lane *lane)
{
    int more = lane->waiting - lane->counts[BACKEND_CONNECTING] - lane->counts[BACKEND_CHECKING];
    return more > 0 && !is_paused(lane) ? more : 0;
}

static bool is_overflow_due(const struct pool_lane *lane, int64_t now_us)
{
    const struct pool_waiter *first = TAILQ_FIRST(&lane->waiters);
    return first && now_us - first->since_us >= lane->pool->settings.overflow_delay_us;
}

/* Another pool's idle connection makes room for a waiter whom the cap alone keeps from a connection: one for each.  The back-off
 * of a login that failed is waited for to its end, or else a lane whose logins are refused would have others close
 * connections for it once a second, in vain. */
static bool borrow(struct pool_lane *lane, bool is_full, int64_t now_us, struct pool_action *action)
{
    struct pool *pool = lane->pool;
    struct pool_lane *other;
    int wanted = 0;
    if (!lend_may_borrow(pool) || lane->retry_us > now_us)
        return false;
    TAILQ_FOREACH (other, &pool->lanes, link)
        wanted += !is_full || is_overflow_due(other, now_us) ? unserved(other) : 0;
    int coming = lend_coming(pool, now_us, STUCK_CLOSING_US);
    int own = pool->counts[BACKEND_CLOSING] - stuck(pool, now_us);
    const struct budget_pool *numbers = &pool->budget->pools[pool->budget_index];
    if (coming + own >= wanted || budget_used(numbers) + coming >= numbers->limit)
        return false;
    struct pool_backend *backend = lend_find(pool);
    if (!backend)
        return false;
    *action = (struct pool_action){.kind = POOL_CLOSE, .lane = backend->lane, .backend = backend};
    action->reason = "lent to a reserved pool";
    lend_begin(backend, pool, now_us);
    return true;
}

/* Another connection for a lane that has more waiters than backends on their way. */
static bool grow_for_waiters(struct pool_lane *lane, int64_t now_us, struct pool_action *action)
{
    struct pool *pool = lane->pool;
    int coming = lane->counts[BACKEND_CONNECTING] + lane->counts[BACKEND_CHECKING];
    if (lane->waiting <= coming || !may_try_login(lane, now_us))
        return false;
    bool may_take = budget_may_take(pool->budget, pool->budget_index);
    struct pool_backend *victim = NULL;
    int hanging = stuck(pool, now_us);
    bool is_full = pool_open(pool) - hanging >= pool_kept_open(pool);
    if (is_full || !may_take)
        victim = pool_longest_idle(pool, lane);
    if (victim && pool->counts[BACKEND_CLOSING] - hanging < lane->waiting - coming) {
        *action = (struct pool_action){.kind = POOL_CLOSE, .lane = lane, .backend = victim};
        action->reason = "place needed by another database or user";
        pool_backend_move(victim, BACKEND_CLOSING, now_us);
        return true;
    }
    if (is_full && !is_overflow_due(lane, now_us))
        return false;
    if (!may_take)
        return borrow(lane, is_full, now_us, action);
    *action = (struct pool_action){.kind = POOL_OPEN, .lane = lane};
    return true;
}

/* That many are kept open: a close that hangs does not hold that up while the limit allows one more. */
static bool refill(struct pool *pool, int64_t now_us, struct pool_action *action)
{
    struct pool_lane *lane = pool->primary;
    if (!pool->settings.prefill || !lane || pool->is_stopping || is_emptying(lane) ||
        lane->retry_us > now_us || lane->yield_us > now_us || is_busy_logging_in(lane))
        return false;
    if (pool_open(pool) - stuck(pool, now_us) >= pool_kept_open(pool))
        return false;
    if (!budget_may_take(pool->budget, pool->budget_index))
        return false;
    action->kind = POOL_OPEN;
    action->lane = lane;
    return true;
}

/* The lane, not yet tried in this round, whose first waiter has waited longest. */
static struct pool_lane *next_lane_to_serve(struct pool *pool, int64_t after_us,
                                            const struct pool_lane *after)
{
    struct pool_lane *best = NULL;
    struct pool_lane *lane;
    bool is_past = after == NULL;
    TAILQ_FOREACH (lane, &pool->lanes, link) {
        if (lane == after) {
            is_past = true;
            continue;
        }
        const struct pool_waiter *first = TAILQ_FIRST(&lane->waiters);
        if (!first || first->since_us < after_us || (first->since_us == after_us && !is_past))
            continue;
        if (!best || first->since_us < TAILQ_FIRST(&best->waiters)->since_us)
            best = lane;
    }
    return best;
}

/* A place that was cleared for a waiter who needs it no more is anybody's. */
static void give_back_claims(struct pool *pool)
{
    const struct pool_lane *lane;
    int wanted = 0;
    if (pool->budget->pools[pool->budget_index].claimed == 0)
        return;
    TAILQ_FOREACH (lane, &pool->lanes, link)
        wanted += unserved(lane);
    lend_settle(pool, pool->is_stopping || !lend_may_borrow(pool) ? 0 : wanted);
}

struct pool_action pool_next(struct pool *pool, int64_t now_us)
{
    struct pool_action action = {.kind = POOL_NOTHING};
    struct pool_waiter *head = TAILQ_FIRST(&pool->waiters);
    give_back_claims(pool);
    if (head && head->deadline_us <= now_us) {
        action.kind = POOL_TIMEOUT;
        action.lane = head->lane;
        action.waiter = head;
        pool_wait_end(head);
        return action;
    }
    if (pool->waiting > 0 && !pool->is_paused) {
        struct pool_lane *lane = NULL;
        int64_t since = INT64_MIN;
        while ((lane = next_lane_to_serve(pool, since, lane))) {
            since = TAILQ_FIRST(&lane->waiters)->since_us;
            if (!lane->is_paused &&
                (serve_from_idle(lane, now_us, &action) || grow_for_waiters(lane, now_us, &action)))
                return action;
        }
    }
    refill(pool, now_us, &action);
    return action;
}

static bool sweep_backend(struct pool_backend *backend, int64_t now_us, struct pool_action *action)
{
    struct pool *pool = backend->lane->pool;
    const struct pool_settings *settings = &pool->settings;
    action->lane = backend->lane;
    action->backend = backend;
    action->reason = reason_to_replace(backend, now_us);
    int living = pool_open(pool) - pool->counts[BACKEND_CLOSING];
    if (!action->reason && living > pool_kept_open(pool) &&
        now_us - backend->used_us >= settings->overflow_idle_us)
        action->reason = "overflow idle";
    if (action->reason) {
        action->kind = POOL_CLOSE;
        pool_backend_move(backend, BACKEND_CLOSING, now_us);
        return true;
    }
    bool is_due = backend->alive_us < backend->lane->suspect_before_us ||
                  (settings->pre_ping && settings->pre_ping_idle_us > 0 &&
                   now_us - backend->alive_us >= settings->pre_ping_idle_us / 4 * 3);
    if (is_due) {
        action->kind = POOL_PING;
        pool_backend_move(backend, BACKEND_CHECKING, now_us);
    }
    return is_due;
}

/* Notices are given in the order of the queue, so that whoever is before the next one has had his. */
static bool notice_is_due(struct pool *pool, int64_t now_us, struct pool_action *action)
{
    struct pool_waiter *waiter = pool->unnoticed;
    if (!waiter || pool->settings.wait_notice_us <= 0 ||
        now_us - waiter->since_us < pool->settings.wait_notice_us)
        return false;
    action->kind = POOL_NOTICE;
    action->lane = waiter->lane;
    action->waiter = waiter;
    action->before = pool->noticed;
    waiter->is_noticed = true;
    pool->noticed++;
    pool->unnoticed = TAILQ_NEXT(waiter, pool_link);
    return true;
}

struct pool_action pool_sweep(struct pool *pool, int64_t now_us)
{
    struct pool_action action = {.kind = POOL_NOTHING};
    struct pool_lane *lane;
    if (notice_is_due(pool, now_us, &action))
        return action;
    TAILQ_FOREACH (lane, &pool->lanes, link) {
        struct pool_backend *backend;
        TAILQ_FOREACH_REVERSE(backend, &lane->backends[BACKEND_IDLE], pool_backend_list, link)
        {
            if (sweep_backend(backend, now_us, &action))
                return action;
        }
    }
    return (struct pool_action){.kind = POOL_NOTHING};
}
