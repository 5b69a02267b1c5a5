/*
 * history.h - the last few minutes of every pool, so that a page opened during an incident shows how it began: in_use,
 * waiting, transactions (a second) and wait (seconds for a connection).
 */
#ifndef ADMIN_HISTORY_H
#define ADMIN_HISTORY_H

#include <stdint.h>

#include <jansson.h>

#include "proxy/proxy.h"

#define HISTORY_INTERVAL_S 2
#define HISTORY_POINTS     150 /* five minutes */

struct history;

/* Begins to record, by a timer in the proxy's loop. */
struct history *history_new(struct proxy *proxy);
void history_free(struct history *history);
/* The points after number `since` (0: all that are kept) as an object: "interval_seconds", "latest" (the number to ask
 * with next time), and under "pools" for each pool's name one array a figure, oldest first, all of one length. */
json_t *history_json(const struct history *history, uint64_t since);

#endif
