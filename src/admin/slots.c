/*
 * slots.c - what each connection of the cap is doing now: see slots.h.
 *
 * A pool's rules know that a client has a backend, not what it does with it; that is read from what the server still
 * owes and from its last ReadyForQuery.  Nothing on the query's way keeps these numbers.
 */
#include "admin/slots.h"
#include "proxy/settle.h"

#include <string.h>

const char *slot_name(enum slot slot)
{
    static const char *const names[SLOT_COUNT] = {
        [SLOT_RUNNING] = "running",   [SLOT_IN_TRANSACTION] = "idle_in_transaction",
        [SLOT_PINNED] = "pinned",     [SLOT_CLEANING] = "cleaning",
        [SLOT_CHECKING] = "checking", [SLOT_CONNECTING] = "connecting",
        [SLOT_CLOSING] = "closing",   [SLOT_IDLE] = "idle",
        [SLOT_RESERVED] = "reserved",
    };
    return names[slot];
}

/* A client has it. */
static enum slot slot_of_busy(const struct server *server)
{
    const struct client *client = server->client;
    if (!client)
        return SLOT_CLEANING;
    if (client->message_left > 0 || !outstanding_is_empty(&server->outstanding))
        return SLOT_RUNNING;
    if (server->status != 'I')
        return SLOT_IN_TRANSACTION;
    return client->pins != 0 || !settle_is_shared(client) ? SLOT_PINNED : SLOT_RUNNING;
}

enum slot slot_of_server(const struct server *server)
{
    switch (server->backend.state) {
    case BACKEND_CONNECTING:
        return SLOT_CONNECTING;
    case BACKEND_IDLE:
        return SLOT_IDLE;
    case BACKEND_CHECKING:
        return SLOT_CHECKING;
    case BACKEND_BUSY:
        return slot_of_busy(server);
    case BACKEND_CLEANING:
        return SLOT_CLEANING;
    default:
        return SLOT_CLOSING;
    }
}

void slots_count(const struct proxy *proxy, struct slots *slots)
{
    const struct server *server;
    memset(slots, 0, sizeof(*slots));
    TAILQ_FOREACH (server, &proxy->servers, link)
        slots->of_pool[server->lane->pool->index][slot_of_server(server)]++;
    int taken = budget_open(&proxy->budget);
    for (size_t i = 0; i < proxy->budget.pool_count; i++) {
        const struct budget_pool *pool = &proxy->budget.pools[i];
        int kept = pool->reserved - pool->open;
        slots->of_pool[i][SLOT_RESERVED] = kept > 0 ? kept : 0;
        taken += slots->of_pool[i][SLOT_RESERVED];
    }
    slots->free = taken < proxy->budget.total ? proxy->budget.total - taken : 0;
}
