/*
 * watch.h - looks at the pools at every tick, for ADVICE and for the longest holders of the last hour.
 */
#ifndef ADMIN_WATCH_H
#define ADMIN_WATCH_H

#include "admin/advice.h"
#include "admin/holders.h"
#include "proxy/proxy.h"

/* Since when it has been idle in a transaction; 0 when it is not. */
int64_t watch_idle_us(const struct client *client);
/* The client's key among the holders. */
void watch_key(const struct client *client, struct holder_key *key);

/* Installs the hooks in the proxy. */
void watch_install(struct proxy *proxy);
const struct holders *watch_holders(const struct proxy *proxy);
/* NULL before the pool's first tick. */
const struct advice *watch_advice(const struct proxy *proxy, const struct proxy_pool *pool);

#endif
