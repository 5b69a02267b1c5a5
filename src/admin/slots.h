/*
 * slots.h - what each connection of the cap is doing now.
 *
 * The cap is seen as so many slots: every connection that may count at the upstream is in one, and so is every place
 * that is kept for a pool or free for any.  The page draws them, /metrics counts them.
 */
#ifndef ADMIN_SLOTS_H
#define ADMIN_SLOTS_H

#include "proxy/proxy.h"

enum slot {
    SLOT_RUNNING,        /* a query is being answered */
    SLOT_IN_TRANSACTION, /* a client's transaction is open and nothing runs */
    SLOT_PINNED,         /* kept by a client outside a transaction (contract 5), nothing runs */
    SLOT_CLEANING,       /* its client has gone; being made clean for the next */
    SLOT_CHECKING,       /* a ping is on its way */
    SLOT_CONNECTING,     /* logging in */
    SLOT_CLOSING,        /* told to go, still counted by the server */
    SLOT_IDLE,           /* open, for the next client */
    SLOT_RESERVED,       /* not open, and no other pool may open it */
    SLOT_COUNT
};

struct slots {
    int of_pool[BUDGET_POOLS_MAX][SLOT_COUNT]; /* by struct proxy_pool's index */
    int free;                                  /* not open, for any pool below its limit */
};

/* One word: "running", "idle_in_transaction", "reserved". */
const char *slot_name(enum slot slot);
/* What this connection is doing. */
enum slot slot_of_server(const struct server *server);
/* Counts them all in one walk over the servers; the sum is the cap, unless a reload has just lowered it. */
void slots_count(const struct proxy *proxy, struct slots *slots);

#endif
