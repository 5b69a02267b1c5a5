/*
 * control.h - what an operator does to pools and databases: pause, disable, kill, suspend, drain.
 */
#ifndef PROXY_CONTROL_H
#define PROXY_CONTROL_H

#include <stdbool.h>
#include <stddef.h>

#include "proxy/proxy.h"

/* What a verb is about: a pool, a database in every pool, a database of a pool, or all (both NULL). */
struct control_target {
    struct proxy_pool *pool;
    const char *database; /* as clients name it; points into `word` of control_find */
};

/* Reads `postgres@automation`, the name of a pool, or of a database; `word` may be changed and must outlive the
 * target.  False when there is no such thing. */
bool control_find(struct proxy *proxy, char *word, struct control_target *target);

/* PAUSE: grants nothing more, closes what comes free. */
void control_pause(struct proxy *proxy, const struct control_target *target);
/* RESUME: takes back PAUSE, KILL and SUSPEND of this target and of what lies within it.  False when something wider
 * still holds it. */
bool control_resume(struct proxy *proxy, const struct control_target *target);
/* DISABLE and ENABLE: whether new clients may come.  False when ENABLE leaves something wider in force. */
bool control_disable(struct proxy *proxy, const struct control_target *target, bool disabled);
/* RECONNECT, DISPOSE: every connection is replaced, busy ones when they come free. */
void control_dispose(struct proxy *proxy, const struct control_target *target);
/* KILL: pauses, and ends every client and connection at once. */
void control_kill(struct proxy *proxy, const struct control_target *target);
/* KILL_CLIENT: false when no client has this id. */
bool control_kill_client(struct proxy *proxy, uint32_t id);
/* SUSPEND: nothing more is read from clients or granted to them until RESUME. */
void control_suspend(struct proxy *proxy);
/* SHUTDOWN WAIT_FOR_CLIENTS: no new clients; stops when the last one has gone of its own will. */
void control_drain(struct proxy *proxy);
/* Looks whether a drain is complete; call it at every tick. */
void control_tick(struct proxy *proxy);

/* Whether nothing of the target is connected upstream any more (PAUSE is complete). */
bool control_is_empty(const struct proxy *proxy, const struct control_target *target);
/* Whether every connection that was to be replaced has been (WAIT_CLOSE is complete). */
bool control_is_renewed(const struct proxy *proxy, const struct control_target *target);
/* Whether all that was read has been passed on (SUSPEND is complete). */
bool control_is_flushed(const struct proxy *proxy);

bool control_is_paused(const struct proxy *proxy, const struct proxy_pool *pool,
                       const char *database);
bool control_is_disabled(const struct proxy *proxy, const struct proxy_pool *pool,
                         const char *database);
/* The same for the pool as a whole: it, or the database that its URL names, which is what it keeps open. */
bool control_pool_is_paused(const struct proxy_pool *pool);
bool control_pool_is_disabled(const struct proxy_pool *pool);
/* A new lane: what is in force holds for it too. */
void control_apply(struct proxy *proxy, struct lane *lane);
void control_free(struct proxy *proxy);

#endif
