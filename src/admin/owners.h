/*
 * owners.h - which applications have a pool's connections, in a few words (contract 8).
 */
#ifndef ADMIN_OWNERS_H
#define ADMIN_OWNERS_H

#include <stddef.h>

#include "proxy/proxy.h"

#define OWNERS_BYTES 400

/* "scraper-7 40 (40 idle in transaction), billing 3": the three that hold most now, the greatest first; a client without
 * an application_name goes by its user.  Printable ASCII alone, whatever they call themselves; "" when nobody holds any. */
void owners_of_pool(const struct proxy_pool *pool, char *out, size_t bytes);

#endif
