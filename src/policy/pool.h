/*
 * pool.h - who gets which backend, and what a pool should do next.
 *
 * A pool is split into lanes, one for each (database, upstream user); lanes share the pool's numbers.  Backends
 * are in one list of their lane by state, waiters in their lane's and their pool's queue, first come first
 * served.  Whoever does the I/O tells what happened and asks pool_next() what to do, until it says nothing.
 * Pure: time is an argument (microseconds), randomness a seed, connections are opaque.
 */
#ifndef POLICY_POOL_H
#define POLICY_POOL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/queue.h>

#include "policy/budget.h"

enum backend_state {
    BACKEND_CONNECTING, /* from the attempt to the end of the login */
    BACKEND_IDLE,
    BACKEND_CHECKING, /* a ping is on its way */
    BACKEND_BUSY,     /* a client has it */
    BACKEND_CLEANING, /* its client has gone; rolled back and reset, or held for a cancel */
    BACKEND_CLOSING,  /* told to go; counted until the server's EOF */
    BACKEND_STATE_COUNT
};

struct pool;
struct pool_lane;

/* Part of the owner's connection object. */
struct pool_backend {
    TAILQ_ENTRY(pool_backend) link;
    struct pool_lane *lane;
    enum backend_state state;
    uint32_t generation; /* older than the lane's: to be replaced when free */
    int64_t since_us;    /* in this state */
    int64_t used_us;  /* when a client last gave it back, or it was opened; a ping does not count */
    int64_t alive_us; /* its last sign of life */
    int64_t recycle_us;   /* when to replace it; INT64_MAX never */
    struct pool *lent_to; /* it is CLOSING, and its place is that pool's (lend.h); NULL: nobody's */
};
TAILQ_HEAD(pool_backend_list, pool_backend);

/* Part of the owner's client object. */
struct pool_waiter {
    TAILQ_ENTRY(pool_waiter) lane_link;
    TAILQ_ENTRY(pool_waiter) pool_link;
    struct pool_lane *lane; /* NULL while it does not wait */
    int64_t since_us;
    int64_t deadline_us; /* INT64_MAX: no limit */
    bool is_noticed;     /* had its notice of a long wait */
};
TAILQ_HEAD(pool_waiter_list, pool_waiter);

struct pool_lane {
    TAILQ_ENTRY(pool_lane) link;
    struct pool *pool;
    void *owner;
    struct pool_backend_list backends[BACKEND_STATE_COUNT];
    int counts[BACKEND_STATE_COUNT];
    struct pool_waiter_list waiters;
    int waiting;
    uint32_t generation;
    int64_t suspect_before_us; /* a sign of life older than this is not believed */
    int failures;              /* logins failed in a row */
    int64_t failed_us;         /* when the last one did */
    int64_t retry_us;          /* no login before this time unless someone waits */
    int64_t yield_us;          /* no login at all before this time: another pool goes first */
    bool tries_singly;         /* the upstream was full: one login at a time until one succeeds */
    const char *gives_up;      /* why its next free backend is closed; NULL: it is not */
    bool is_paused;            /* grants nothing */
    bool is_emptying;          /* closes what is free, opens nothing */
};

TAILQ_HEAD(pool_lane_list, pool_lane);

struct pool_settings {
    int size;
    int max_overflow;
    int login_burst;
    bool prefill;
    bool pre_ping;
    bool borrow; /* another pool's idle connection makes room, once this one has what it reserved */
    int64_t timeout_us;
    int64_t recycle_us;
    int64_t pre_ping_idle_us;
    int64_t overflow_delay_us;
    int64_t overflow_idle_us;
    int64_t wait_notice_us;
};

struct pool {
    struct budget *budget;
    size_t budget_index;
    struct pool_settings settings;
    struct pool_lane_list lanes;
    struct pool_lane *primary; /* kept filled when prefill is on; may be NULL */
    struct pool_waiter_list waiters;
    int waiting;
    struct pool_waiter *unnoticed; /* the first that has not had its notice; NULL: none */
    int noticed;                   /* how many waiters have had it */
    int counts[BACKEND_STATE_COUNT];
    bool is_paused;   /* grants nothing, in no lane */
    bool is_emptying; /* closes what is free, opens nothing */
    bool is_stopping; /* opens nothing */
    uint64_t random;  /* state of the spread's generator */
};

enum pool_action_kind {
    POOL_NOTHING,
    POOL_GRANT,   /* backend to waiter; both have left their lists: the backend is BUSY */
    POOL_PING,    /* backend is CHECKING: ping it, tell pool_backend_alive */
    POOL_OPEN,    /* open a connection for lane: pool_backend_add it first */
    POOL_CLOSE,   /* close an idle backend, which may be another pool's: it is CLOSING */
    POOL_TIMEOUT, /* waiter has left the queue: its time is over */
    POOL_NOTICE   /* waiter still waits and should be told so */
};

struct pool_action {
    enum pool_action_kind kind;
    struct pool_lane *lane;
    struct pool_backend *backend;
    struct pool_waiter *waiter;
    const char *reason; /* of a close */
    int before;         /* of a notice: how many wait before the waiter */
};

void pool_init(struct pool *pool, struct budget *budget, size_t budget_index,
               const struct pool_settings *settings, uint64_t seed);
/* New numbers, by a reload: what is too much goes when it is free; who waits gets the new timeout. */
void pool_configure(struct pool *pool, const struct pool_settings *settings, int reserved);
void pool_lane_init(struct pool_lane *lane, struct pool *pool, void *owner);
void pool_lane_remove(struct pool_lane *lane);

/* A backend that is about to be opened (CONNECTING); takes its place in the budget. */
void pool_backend_add(struct pool_backend *backend, struct pool_lane *lane, int64_t now_us);
/* Its login is complete: IDLE. */
void pool_backend_ready(struct pool_backend *backend, int64_t now_us);
/* Its login failed; it must still be removed.  Waits before the next one grow from 100 ms to 15 s. */
void pool_backend_login_failed(struct pool_backend *backend, int64_t now_us);
/* The answer to a ping: IDLE again, or straight to the first waiter of its lane (returned, in BUSY). */
struct pool_waiter *pool_backend_alive(struct pool_backend *backend, int64_t now_us);
/* Its client is done with it and it is clean.  Returns the waiter that gets it at once, or NULL: then it is IDLE, or,
 * when `*must_close` is set, BUSY still and to be closed. */
struct pool_waiter *pool_release(struct pool_backend *backend, int64_t now_us,
                                 const char **must_close);
/* Moves it between states that need no decision: BUSY to CLEANING, anything to CLOSING. */
void pool_backend_move(struct pool_backend *backend, enum backend_state state, int64_t now_us);
/* The server has let go of it: leaves its list, gives its place back. */
void pool_backend_remove(struct pool_backend *backend);

/* A free backend for a client at once (BUSY), or NULL: then the client has to wait. */
struct pool_backend *pool_acquire(struct pool_lane *lane, int64_t now_us);
void pool_wait(struct pool_waiter *waiter, struct pool_lane *lane, int64_t now_us);
void pool_wait_end(struct pool_waiter *waiter);

/* What to do next because of waiters and free places.  Call until POOL_NOTHING after anything has changed. */
struct pool_action pool_next(struct pool *pool, int64_t now_us);
/* What to do because of time: recycle, overflow, pings, notices.  Call until POOL_NOTHING every 100 ms. */
struct pool_action pool_sweep(struct pool *pool, int64_t now_us);

/* Everything is replaced: idle ones by the next sweep, busy ones when they come free. */
void pool_lane_dispose(struct pool_lane *lane);
/* A backend of this lane's upstream was found dead: older signs of life are not believed any more. */
void pool_lane_suspect(struct pool_lane *lane, int64_t now_us);
/* No login before that time, unless somebody waits: its database must be left alone. */
void pool_lane_hold_off(struct pool_lane *lane, int64_t until_us);
/* No login before `until_us`, whoever waits: the upstream is full, and a reserved pool goes first (contract 12). */
void pool_lane_yield(struct pool_lane *lane, int64_t until_us);
/* A login was refused because the upstream is full: until one succeeds, only one is tried at a time.  Several at once would
 * take the last place from each other: a pooler counts those that it is about to refuse. */
void pool_lane_try_singly(struct pool_lane *lane);
/* Its next backend that is free is closed for this reason; one at a time.  NULL: none. */
void pool_lane_give_up(struct pool_lane *lane, const char *reason);
/* A place may be free: forgets how long the last failed login bade it wait. */
void pool_lane_retry_now(struct pool_lane *lane, int64_t now_us);
/* How many connections are kept open and ready: `size`, and what is reserved should that be more, for reserved ones are had at
 * once (contract 1.2), never only after overflow_delay and a login. */
int pool_kept_open(const struct pool *pool);
/* The longest idle backend of the pool's lanes but this one (or NULL), of those in which nobody waits; NULL: none. */
struct pool_backend *pool_longest_idle(const struct pool *pool, const struct pool_lane *but);
/* Backends that serve or may serve a client. */
int pool_lane_living(const struct pool_lane *lane);
/* True when waiters of the lane can only be failed: nothing lives and nothing is on its way. */
bool pool_lane_is_dead(const struct pool_lane *lane);
/* What it holds of the cap, what another process has open of it in an upgrade included. */
static inline int pool_open(const struct pool *pool)
{
    return budget_used(&pool->budget->pools[pool->budget_index]);
}

#endif
