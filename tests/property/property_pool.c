/*
 * property_pool.c - nobody hangs, nobody gets what is another's, and the cap holds (contract 1, 4), in a simulated world.
 *
 * Two pools of several lanes share one budget, and one may borrow the other's places.  Clients come, wait, lose patience, hold a backend for a while
 * and leave it clean or dirty; logins succeed, fail or take long; pings are answered or lost; servers take
 * their time to let go; now and then somebody reloads, disposes, pauses or finds a backend dead.  Time is a
 * number that this program moves.  After every step the pools are asked what to do until they say nothing, and
 * then everything that can be counted is counted again by hand.
 *
 * The world calms down now and then: no new clients, nothing paused, logins succeed.  Then every waiter must be gone
 * after its timeout at the latest, what was borrowed must be given back, and `size` must be open again.
 */
#include "policy/lend.h"
#include "policy/pool.h"

#include <string.h>

#include "random.h"

#define RUNS      60
#define STEPS     3000
#define POOLS     2
#define LANES     4
#define BACKENDS  128
#define CLIENTS   120
#define MS        1000LL
#define SECOND    1000000LL
#define ASKED_MAX 20000 /* no sane world has more to do at one instant */

struct client {
    struct pool_waiter waiter; /* must stand first */
    struct backend *backend;
    bool is_waiting;
    int64_t until_us; /* holds its backend, or has patience, until then */
    uint64_t ticket;  /* order of arrival */
};

struct backend {
    struct pool_backend base; /* must stand first */
    bool exists;
    bool will_succeed; /* its login, its ping */
    int64_t until_us;  /* what it is doing takes until then */
    struct client *client;
};

static struct budget budget;
static struct pool pools[POOLS];
static struct pool_lane lanes[POOLS][LANES];
static struct backend backends[BACKENDS];
static struct client clients[CLIENTS];
static int64_t now;
static int64_t next_sweep;
static uint64_t next_ticket;
static bool is_calm;
static int arrivals;      /* of a thousand clients at each step */
static int favour;        /* of a hundred that come, so many go to the second pool */
static int cap_at_reload; /* what was open when the numbers last changed */
static long granted, timed_out, opened, lent;

static struct pool *any_pool(void)
{
    return &pools[random_below(POOLS)];
}

static int64_t soon(int64_t longest_us)
{
    return now + 1 + (int64_t)(random_next() % (uint64_t)longest_us);
}

/* ---- what happens when the pool says so ---- */

static void grant(struct backend *backend, struct client *client)
{
    struct pool_backend *base = &backend->base;
    CHECK(backend->exists && !backend->client, "granted twice");
    CHECK(base->state == BACKEND_BUSY, "granted in state %d", (int)base->state);
    struct pool *granting = base->lane->pool;
    bool replaces_in_turn = budget.pools[granting->budget_index].reserved > 0;
    CHECK(base->generation == base->lane->generation || replaces_in_turn,
          "granted though disposed");
    CHECK(now < base->recycle_us ||
              (replaces_in_turn && now < base->recycle_us + granting->settings.recycle_us),
          "granted though too old");
    CHECK(base->alive_us >= base->lane->suspect_before_us, "granted though suspect");
    if (base->lane->pool->settings.pre_ping)
        CHECK(now - base->alive_us <= base->lane->pool->settings.pre_ping_idle_us,
              "granted %lld us after its last sign of life", (long long)(now - base->alive_us));
    backend->client = client;
    client->backend = backend;
    client->is_waiting = false;
    client->until_us = soon(!is_calm && random_chance(10) ? 20 * SECOND : 300 * MS);
    backend->until_us = INT64_MAX;
    granted++;
}

/* Nobody of the lane may have come earlier and still wait. */
static bool is_paused(const struct pool_lane *lane)
{
    return lane->is_paused || lane->pool->is_paused;
}

static void check_first(const struct client *client, const struct pool_lane *lane)
{
    const struct pool_waiter *other;
    TAILQ_FOREACH (other, &lane->waiters, lane_link)
        CHECK(((const struct client *)other)->ticket > client->ticket, "jumped the queue");
}

static void grant_to_waiter(struct pool_backend *base, struct pool_waiter *waiter)
{
    struct client *client = (struct client *)waiter;
    CHECK(client->is_waiting && !waiter->lane, "granted to one that does not wait");
    CHECK(!is_paused(base->lane), "granted while paused");
    check_first(client, base->lane);
    grant((struct backend *)base, client);
}

static void start_closing(struct backend *backend)
{
    CHECK(backend->base.state == BACKEND_CLOSING && !backend->client, "closed while in use");
    backend->until_us = soon(random_chance(5) ? 5 * SECOND : 50 * MS);
}

static void start_ping(struct backend *backend)
{
    CHECK(backend->base.state == BACKEND_CHECKING && !backend->client, "pinged while in use");
    backend->will_succeed = is_calm || !random_chance(5);
    backend->until_us = backend->will_succeed ? soon(100 * MS) : soon(3 * SECOND);
}

static void start_login(struct pool_lane *lane)
{
    struct backend *backend = NULL;
    for (int i = 0; i < BACKENDS && !backend; i++) {
        if (!backends[i].exists)
            backend = &backends[i];
    }
    CHECK(backend, "more backends than the cap allows");
    CHECK(!lane->pool->is_stopping, "opened while stopping");
    CHECK(budget_open(&budget) < budget.total, "%d open", budget_open(&budget));
    CHECK(lane->pool->counts[BACKEND_CONNECTING] < lane->pool->settings.login_burst, "too many");
    *backend = (struct backend){.exists = true};
    pool_backend_add(&backend->base, lane, now);
    backend->will_succeed = is_calm || !random_chance(20);
    backend->until_us = soon(random_chance(10) ? 2 * SECOND : 200 * MS);
    opened++;
}

static void check_notice(const struct pool_action *action)
{
    const struct pool_waiter *waiter;
    int before = 0;
    TAILQ_FOREACH (waiter, &action->lane->pool->waiters, pool_link) {
        if (waiter == action->waiter)
            break;
        before++;
    }
    CHECK(action->before == before, "%d wait before it, not %d", before, action->before);
}

static void perform(const struct pool_action *action)
{
    struct client *client = (struct client *)action->waiter;
    switch (action->kind) {
    case POOL_GRANT:
        CHECK(action->backend->lane == action->lane, "a backend of another lane");
        grant_to_waiter(action->backend, action->waiter);
        break;
    case POOL_PING:
        start_ping((struct backend *)action->backend);
        break;
    case POOL_OPEN:
        start_login(action->lane);
        break;
    case POOL_CLOSE:
        CHECK(action->reason, "a close has a reason");
        start_closing((struct backend *)action->backend);
        break;
    case POOL_TIMEOUT:
        CHECK(client->is_waiting && client->waiter.deadline_us <= now, "timed out too early");
        client->is_waiting = false;
        timed_out++;
        break;
    case POOL_NOTICE:
        CHECK(client->is_waiting && client->waiter.lane, "a notice to one that does not wait");
        check_notice(action);
        break;
    case POOL_NOTHING:
        break;
    }
}

/* A pool has had a connection of another closed: for a waiter of its own whom the cap alone stops, one for each. */
static void check_lent(const struct pool *borrower, const struct pool_backend *base)
{
    const struct pool *giver = base->lane->pool;
    const struct budget_pool *own = &budget.pools[borrower->budget_index];
    CHECK(base->lent_to == borrower, "lent to another pool");
    CHECK(borrower->settings.borrow && own->reserved > 0, "borrowed without leave");
    CHECK(budget.pools[giver->budget_index].reserved == 0, "took from a reserved pool");
    CHECK(own->open >= own->reserved, "borrowed before it had its own");
    CHECK(!budget_may_take(&budget, borrower->budget_index), "borrowed though there was room");
    int coming = lend_coming(borrower, now, SECOND);
    CHECK(coming <= borrower->waiting, "%d for %d waiters", coming, borrower->waiting);
    CHECK(own->open + coming <= own->limit, "%d and %d, of at most %d", own->open, coming,
          own->limit);
    lent++;
}

static void run_pools(void)
{
    for (int i = 0; i < POOLS; i++) {
        struct pool_action action;
        int asked = 0;
        while ((action = pool_next(&pools[i], now)).kind != POOL_NOTHING) {
            CHECK(++asked < ASKED_MAX, "pool_next never ends");
            if (action.kind == POOL_CLOSE && action.backend->lane->pool != &pools[i])
                check_lent(&pools[i], action.backend);
            perform(&action);
        }
    }
}

static void sweep(void)
{
    for (int i = 0; i < POOLS; i++) {
        struct pool_action action;
        int asked = 0;
        while ((action = pool_sweep(&pools[i], now)).kind != POOL_NOTHING) {
            CHECK(++asked < ASKED_MAX, "pool_sweep never ends");
            perform(&action);
        }
        CHECK(!budget_has_too_many(&budget, (size_t)i) || pools[i].counts[BACKEND_IDLE] == 0,
              "keeps idle ones that are not its own any more");
    }
    next_sweep = now + 100 * MS;
}

/* ---- what the servers do ---- */

static void remove_backend(struct backend *backend)
{
    pool_backend_remove(&backend->base);
    backend->exists = false;
}

static void close_backend(struct backend *backend)
{
    pool_backend_move(&backend->base, BACKEND_CLOSING, now);
    start_closing(backend);
}

static void ping_ended(struct backend *backend)
{
    if (!backend->will_succeed) {
        pool_lane_suspect(backend->base.lane, now);
        close_backend(backend);
        return;
    }
    backend->until_us = INT64_MAX;
    struct pool_waiter *waiter = pool_backend_alive(&backend->base, now);
    if (waiter)
        grant_to_waiter(&backend->base, waiter);
    else
        CHECK(backend->base.state == BACKEND_IDLE, "neither granted nor idle");
}

static void login_ended(struct backend *backend)
{
    if (backend->will_succeed) {
        backend->until_us = INT64_MAX;
        pool_backend_ready(&backend->base, now);
        return;
    }
    int64_t longest = 15 * SECOND / 4 * 5;
    pool_backend_login_failed(&backend->base, now);
    CHECK(backend->base.lane->retry_us > now && backend->base.lane->retry_us <= now + longest,
          "back-off of %lld us", (long long)(backend->base.lane->retry_us - now));
    if (random_chance(50))
        remove_backend(backend);
    else
        close_backend(backend);
}

static void hand_back(struct backend *backend)
{
    const char *must_close = NULL;
    backend->until_us = INT64_MAX;
    struct pool_waiter *waiter = pool_release(&backend->base, now, &must_close);
    if (waiter)
        grant_to_waiter(&backend->base, waiter);
    else if (must_close)
        close_backend(backend);
    else
        CHECK(backend->base.state == BACKEND_IDLE, "neither granted nor idle nor closed");
}

static void backend_event(struct backend *backend)
{
    switch (backend->base.state) {
    case BACKEND_CONNECTING:
        login_ended(backend);
        break;
    case BACKEND_CHECKING:
        ping_ended(backend);
        break;
    case BACKEND_CLEANING:
        hand_back(backend);
        break;
    case BACKEND_CLOSING:
        remove_backend(backend);
        break;
    default:
        CHECK(false, "nothing can happen in state %d", (int)backend->base.state);
    }
}

/* ---- what the clients do ---- */

static void client_arrives(struct client *client)
{
    int pool = random_chance(favour);
    struct pool_lane *lane = &lanes[pool][random_chance(50) ? 0 : random_below(LANES)];
    client->ticket = next_ticket++;
    struct pool_backend *base = pool_acquire(lane, now);
    if (base) {
        CHECK(lane->waiting == 0 && !is_paused(lane), "overtook the waiters");
        grant((struct backend *)base, client);
        return;
    }
    pool_wait(&client->waiter, lane, now);
    CHECK(TAILQ_LAST(&lane->pool->waiters, pool_waiter_list) == &client->waiter, "not the last");
    client->is_waiting = true;
    client->until_us = random_chance(20) ? soon(3 * SECOND) : INT64_MAX;
}

static void client_leaves_backend(struct client *client)
{
    struct backend *backend = client->backend;
    client->backend = NULL;
    backend->client = NULL;
    if (random_chance(5)) {
        close_backend(backend); /* it died with the client's query */
    } else if (random_chance(20)) {
        pool_backend_move(&backend->base, BACKEND_CLEANING, now);
        backend->until_us = soon(100 * MS);
    } else {
        hand_back(backend);
    }
}

static void client_event(struct client *client)
{
    if (client->backend) {
        client_leaves_backend(client);
    } else if (client->is_waiting) {
        pool_wait_end(&client->waiter);
        client->is_waiting = false;
    }
}

/* ---- what the operators do ---- */

static struct pool_settings any_settings(int size, int overflow)
{
    return (struct pool_settings){
        .size = size,
        .max_overflow = overflow,
        .login_burst = 1 + random_below(5),
        .prefill = random_chance(70),
        .pre_ping = random_chance(80),
        .borrow = random_chance(60),
        .timeout_us = random_chance(10) ? 0 : soon(20 * SECOND) - now,
        .recycle_us = random_chance(30) ? 0 : 5 * SECOND + soon(60 * SECOND) - now,
        .pre_ping_idle_us = random_chance(20) ? 0 : 5 * SECOND,
        .overflow_delay_us = 100 * MS,
        .overflow_idle_us = 10 * SECOND,
        .wait_notice_us = random_chance(50) ? 0 : 2 * SECOND,
    };
}

static int larger(int a, int b)
{
    return a > b ? a : b;
}

static int kept_open(size_t pool)
{
    return larger(pools[pool].settings.size, budget.pools[pool].reserved);
}

static void reload(void)
{
    budget.total = 4 + random_below(40);
    int left = budget.total;
    for (int i = 0; i < POOLS; i++) {
        int size = 1 + random_below(left / 2 + 1);
        struct pool_settings settings =
            any_settings(size, random_below(random_chance(50) ? 6 : 30));
        int most = larger(left - 1, 0); /* something is left for the next one */
        if (!random_chance(20) && most > size)
            most = size;
        int reserved = random_chance(50) ? random_below(most + 1) : 0;
        if (reserved > size + settings.max_overflow)
            reserved = size + settings.max_overflow;
        left -= reserved;
        pool_configure(&pools[i], &settings, reserved);
    }
    cap_at_reload = budget_open(&budget);
}

static void operators(void)
{
    int what = random_below(3000);
    struct pool *pool = any_pool();
    struct pool_lane *lane = &lanes[pool->budget_index][random_below(LANES)];
    if (what < 3)
        reload();
    else if (what < 10)
        pool_lane_dispose(lane);
    else if (what < 15)
        pool_lane_suspect(lane, now);
    else if (what < 18)
        pool->is_paused = true;
    else if (what < 20)
        pool->is_paused = pool->is_emptying = true;
    else if (what < 22)
        lane->is_paused = lane->is_emptying = true;
    else if (what < 70)
        pool->is_paused = pool->is_emptying = false;
    else if (what < 120)
        lane->is_paused = lane->is_emptying = false;
}

/* ---- what must be true ---- */

static void check_lane(const struct pool_lane *lane, int *counts)
{
    for (int state = 0; state < BACKEND_STATE_COUNT; state++) {
        int count = 0;
        const struct pool_backend *base;
        const struct pool_backend *above = NULL;
        TAILQ_FOREACH (base, &lane->backends[state], link) {
            const struct backend *backend = (const struct backend *)base;
            CHECK(backend->exists && (int)base->state == state && base->lane == lane, "misfiled");
            CHECK((state == BACKEND_BUSY) == (backend->client != NULL), "busy without a client");
            CHECK(base->generation <= lane->generation, "a generation from the future");
            CHECK(state != BACKEND_IDLE || !above || above->used_us >= base->used_us,
                  "the stack of idle ones is out of order");
            above = base;
            count++;
        }
        CHECK(count == lane->counts[state], "%d in the list, %d counted", count,
              lane->counts[state]);
        counts[state] += count;
    }
    int waiting = 0;
    uint64_t last = 0;
    const struct pool_waiter *waiter;
    TAILQ_FOREACH (waiter, &lane->waiters, lane_link) {
        const struct client *client = (const struct client *)waiter;
        CHECK(client->is_waiting && waiter->lane == lane && (!waiting || client->ticket > last),
              "the queue is out of order");
        CHECK(waiter->deadline_us > now, "waits beyond its time");
        last = client->ticket;
        waiting++;
    }
    CHECK(waiting == lane->waiting, "%d wait, %d counted", waiting, lane->waiting);
}

/* Once pool_next says nothing, a lane with waiters has no backend that it could have given them. */
static void check_not_idle_for_nothing(const struct pool_lane *lane)
{
    const struct pool_settings *settings = &lane->pool->settings;
    if (lane->waiting == 0 || is_paused(lane))
        return;
    const struct pool_backend *base;
    TAILQ_FOREACH (base, &lane->backends[BACKEND_IDLE], link) {
        bool is_fresh = !settings->pre_ping || (settings->pre_ping_idle_us > 0 &&
                                                now - base->alive_us <= settings->pre_ping_idle_us);
        CHECK(!is_fresh || base->alive_us < lane->suspect_before_us, "a waiter and a free backend");
        CHECK(lane->counts[BACKEND_CHECKING] >= lane->waiting, "could have been pinged");
    }
    const struct pool *pool = lane->pool;
    int coming = lane->counts[BACKEND_CONNECTING] + lane->counts[BACKEND_CHECKING];
    CHECK(coming >= lane->waiting || pool_open(pool) >= kept_open(pool->budget_index) ||
              lane->retry_us > now || pool->counts[BACKEND_CONNECTING] >= settings->login_burst ||
              !budget_may_take(&budget, pool->budget_index),
          "could have opened one");
}

/* Nor has it anything to borrow, when the cap is all that stops it. */
static void check_borrows_what_it_may(const struct pool_lane *lane)
{
    const struct pool *pool = lane->pool;
    const struct pool_waiter *first = TAILQ_FIRST(&lane->waiters);
    int coming = lane->counts[BACKEND_CONNECTING] + lane->counts[BACKEND_CHECKING];
    if (!first || lane->waiting <= coming || is_paused(lane) || !lend_may_borrow(pool))
        return;
    bool is_due = pool_open(pool) < kept_open(pool->budget_index) ||
                  now - first->since_us >= pool->settings.overflow_delay_us;
    bool may_login =
        lane->retry_us <= now && pool->counts[BACKEND_CONNECTING] < pool->settings.login_burst;
    if (!is_due || !may_login || pool_open(pool) >= budget.pools[pool->budget_index].limit ||
        budget_may_take(&budget, pool->budget_index))
        return;
    CHECK(lend_coming(pool, now, SECOND) > 0 || pool->counts[BACKEND_CLOSING] > 0 ||
              !lend_find(pool),
          "could have borrowed");
}

static void check_claims(const struct pool *pool)
{
    const struct budget_pool *own = &budget.pools[pool->budget_index];
    CHECK(own->claimed >= 0 && own->claimed <= pool->waiting, "%d claimed for %d waiters",
          own->claimed, pool->waiting);
    CHECK(own->claimed == 0 || lend_may_borrow(pool), "claimed without leave");
    CHECK(own->claimed == 0 || budget_open(&budget) + own->claimed <= budget.total,
          "%d claimed beyond the cap", own->claimed);
}

static void check_all(void)
{
    int open = 0;
    for (int i = 0; i < POOLS; i++) {
        int counts[BACKEND_STATE_COUNT] = {0};
        int of_pool = 0;
        int waiting = 0;
        for (int j = 0; j < LANES; j++) {
            check_lane(&lanes[i][j], counts);
            check_not_idle_for_nothing(&lanes[i][j]);
            check_borrows_what_it_may(&lanes[i][j]);
            waiting += lanes[i][j].waiting;
        }
        for (int state = 0; state < BACKEND_STATE_COUNT; state++) {
            CHECK(counts[state] == pools[i].counts[state], "state %d of the pool", state);
            of_pool += counts[state];
        }
        CHECK(of_pool == pool_open(&pools[i]), "%d exist, %d budgeted", of_pool,
              pool_open(&pools[i]));
        CHECK(counts[BACKEND_CLOSING] == budget.pools[i].closing, "closing");
        CHECK(waiting == pools[i].waiting, "%d wait, %d counted", waiting, pools[i].waiting);
        check_claims(&pools[i]);
        open += of_pool;
    }
    CHECK(open <= budget.total || open <= cap_at_reload, "%d open of %d", open, budget.total);
    if (open <= budget.total)
        cap_at_reload = 0;
    else
        cap_at_reload = open;
}

/* ---- the world ---- */

static void happen(void)
{
    for (int i = 0; i < BACKENDS; i++) {
        if (backends[i].exists && backends[i].until_us <= now) {
            backend_event(&backends[i]);
            run_pools();
        }
    }
    for (int i = 0; i < CLIENTS; i++) {
        struct client *client = &clients[i];
        if ((client->backend || client->is_waiting) && client->until_us <= now) {
            client_event(client);
            run_pools();
        } else if (!client->backend && !client->is_waiting && !is_calm &&
                   random_below(1000) < arrivals) {
            client_arrives(client);
            run_pools();
        }
    }
}

static void step(void)
{
    random_step++;
    now += random_chance(2) ? random_below(400000) : random_below(20000);
    if (!is_calm)
        operators();
    happen();
    if (now >= next_sweep)
        sweep();
    run_pools();
    check_all();
}

/* Peace: whoever waits is served or timed out, and what the pools keep is open again. */
static void calm_down(void)
{
    is_calm = true;
    for (int i = 0; i < POOLS; i++) {
        pools[i].is_paused = pools[i].is_emptying = false;
        for (int j = 0; j < LANES; j++)
            lanes[i][j].is_paused = lanes[i][j].is_emptying = false;
        pools[i].settings.recycle_us = 0;
    }
    int64_t end = now + 120 * SECOND;
    while (now < end) {
        step();
        now += 10 * MS;
    }
    for (int i = 0; i < POOLS; i++) {
        CHECK(pools[i].waiting == 0, "%d wait for ever in pool %d", pools[i].waiting, i);
        CHECK(pools[i].counts[BACKEND_BUSY] == 0, "held for ever");
        CHECK(pool_open(&pools[i]) <= kept_open((size_t)i), "overflow is never closed");
        CHECK(pool_open(&pools[i]) >= budget.pools[i].reserved || !pools[i].settings.prefill,
              "the reservation is not filled");
        CHECK(budget.pools[i].claimed == 0, "claimed for nobody");
        CHECK(pool_open(&pools[i]) >= kept_open((size_t)i) || !pools[i].settings.prefill ||
                  !budget_may_take(&budget, (size_t)i),
              "what was lent is not given back");
    }
    CHECK(budget_open(&budget) <= budget.total, "still over the cap");
    is_calm = false;
}

static void start_world(void)
{
    budget = (struct budget){0};
    memset(backends, 0, sizeof(backends));
    memset(clients, 0, sizeof(clients));
    now = SECOND;
    next_sweep = 0;
    cap_at_reload = 0;
    for (int i = 0; i < POOLS; i++) {
        struct pool_settings settings = any_settings(1, 0);
        pool_init(&pools[i], &budget, (size_t)i, &settings, random_next());
        for (int j = 0; j < LANES; j++)
            pool_lane_init(&lanes[i][j], &pools[i], NULL);
        pools[i].primary = &lanes[i][0];
    }
    reload();
}

int main(int argc, char **argv)
{
    uint64_t seed = seed_from(argc, argv, 20240601);
    printf("property_pool: seed %llu\n", (unsigned long long)seed);
    for (uint64_t run = 0; run < RUNS; run++) {
        random_start(seed + run);
        start_world();
        arrivals = 1 + random_below(20);
        favour = random_chance(50) ? 50 : random_below(101);
        for (int i = 0; i < STEPS; i++) {
            step();
            if (random_below(1000) == 0)
                calm_down();
        }
        calm_down();
    }
    printf("%ld granted, %ld timed out, %ld opened, %ld lent\n", granted, timed_out, opened, lent);
    if (lent == 0)
        return 1; /* a world in which nobody lends proves nothing about it */
    printf("%ld checks passed\n", checks_passed);
    return 0;
}
