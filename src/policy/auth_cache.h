/*
 * auth_cache.h - what auth_query last said about a user, for the moments in which it cannot be asked.
 *
 * A login asks the upstream, as a login to PostgreSQL itself looks into pg_authid: a password that was changed a moment ago
 * counts, and a role that was dropped is out.  Only when the answer does not come soon (no free connection, an upstream
 * that restarts) does what it said last stand in, and not for long.  Bounded; users with a password and names that are nobody's
 * do not take each other's room, so that strangers cannot push the users out.  Passwords are wiped when they go.  Pure.
 */
#ifndef POLICY_AUTH_CACHE_H
#define POLICY_AUTH_CACHE_H

#include <stddef.h>
#include <stdint.h>

#define AUTH_CACHE_MOST 1000 /* of either kind */
/* How old an answer may be.  A password: as long as a short restart or failover of the upstream takes, and no longer, for a
 * role that is dropped meanwhile gets in so long.  A name that is nobody's: less, for a role made meanwhile is kept out. */
#define AUTH_CACHE_SECRET_US 10000000LL
#define AUTH_CACHE_NOBODY_US 2000000LL

struct auth_cache;

enum auth_cache_found {
    AUTH_CACHE_NOTHING, /* not known, or too old */
    AUTH_CACHE_SECRET,
    AUTH_CACHE_NOBODY /* no such role, or none that may log in with a password */
};

struct auth_cache *auth_cache_new(void);
void auth_cache_free(struct auth_cache *cache);
/* An answer to a question that was asked at `asked_us`; `secret` is NULL for nobody. */
void auth_cache_put(struct auth_cache *cache, const char *key, const char *secret,
                    int64_t asked_us);
/* `*secret` is the cache's own, good until the next call of another function. */
enum auth_cache_found auth_cache_find(const struct auth_cache *cache, const char *key,
                                      int64_t now_us, const char **secret);
void auth_cache_forget(struct auth_cache *cache, const char *key);
void auth_cache_clear(struct auth_cache *cache);
size_t auth_cache_count(const struct auth_cache *cache);

#endif
