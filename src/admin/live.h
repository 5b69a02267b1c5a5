/*
 * live.h - the document behind the page at `/`: all that it shows, made anew for each question.
 */
#ifndef ADMIN_LIVE_H
#define ADMIN_LIVE_H

#include <stdbool.h>
#include <stdint.h>

#include "admin/history.h"
#include "proxy/proxy.h"

#define LIVE_ROWS       100 /* of holders, and of waiters: the first ones; the count tells of the rest */
#define LIVE_CELL_BYTES 400 /* of a query: enough to know it again */

/* /status.json's figures, what each slot of the cap is doing, who holds and who waits, and the history after point
 * `since`.  Without `shows_clients` no query text, no address and no upstream's words are in it (contract 9).  free() it. */
char *live_json(const struct proxy *proxy, const struct history *history, uint64_t since,
                bool shows_clients);

#endif
