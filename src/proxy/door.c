/*
 * door.c - how many may stand at a door without having said who they are, and who has failed too often.
 *
 * There is a door for the pools without a reservation, one for each reserved pool, and one for the console, and each has
 * room for `max_logins` that have not logged in yet: a crowd at one does not keep anyone from another (contract 7).  Whoever
 * comes to a door that is full takes the place of one that has been let wait for its own next word for DAWDLING_US; where
 * there is none, connections stay in the kernel's queue until there is room.  So a crowd of honest clients gets in as fast as
 * it can be served, and idle connections cannot shut the door.
 *
 * An address whose logins have failed too often (policy/failures.h) is refused before it is asked for anything, except those
 * that `failure_exempt` names: the many that share this machine's own address must not pay for one of them.
 */
#include <netinet/in.h>
#include <string.h>

#include "proto/sqlstate.h"
#include "proxy/auth_query.h"
#include "proxy/door.h"
#include "proxy/events.h"
#include "proxy/proxy.h"

#define DAWDLING_US (3 * CLOCK_S)
#define LOOK_AT     32 /* of those at the door, the oldest, to find one that dawdles */

void door_init(struct login_door *door, unsigned number)
{
    *door = (struct login_door){.number = number};
    TAILQ_INIT(&door->clients);
}

struct login_door *door_of(struct proxy *proxy, struct proxy_pool *pool)
{
    if (!pool)
        return &proxy->admin_door;
    return proxy_pool_is_reserved(pool) ? &pool->door : &proxy->shared_door;
}

void door_enter(struct client *client)
{
    client->door = door_of(client->proxy, client->pool);
    client->door->count++;
    TAILQ_INSERT_TAIL(&client->door->clients, client, door_link);
}

static bool is_full(const struct proxy *proxy, const struct login_door *door)
{
    return proxy->config->max_logins > 0 && door->count >= proxy->config->max_logins;
}

/* Whoever was kept out may come in. */
static void open_again(struct listener *listener)
{
    listener->is_shut = false;
    if (!listener->proxy->is_accepting_held)
        event_add(&listener->event, NULL);
}

void door_leave(struct client *client)
{
    struct proxy *proxy = client->proxy;
    struct login_door *door = client->door;
    struct listener *listener;
    if (!door)
        return;
    bool was_full = is_full(proxy, door);
    client->door = NULL;
    door->count--;
    TAILQ_REMOVE(&door->clients, client, door_link);
    if (!was_full || is_full(proxy, door))
        return;
    TAILQ_FOREACH (listener, &proxy->listeners, link) {
        if (listener->is_shut && door_of(proxy, listener->pool) == door)
            open_again(listener);
    }
}

static bool dawdles(const struct client *client)
{
    if (client->proxy->now_us - client->since_us < DAWDLING_US)
        return false;
    if (auth_query_is_open(client))
        return false; /* it waits for us */
    return client->state == CLIENT_STARTUP || client->state == CLIENT_AUTHENTICATING ||
           client->state == CLIENT_CLOSING;
}

static bool make_room(struct login_door *door)
{
    struct client *client = TAILQ_FIRST(&door->clients);
    for (int i = 0; client && i < LOOK_AT; i++, client = TAILQ_NEXT(client, door_link)) {
        if (!dawdles(client))
            continue;
        client_evict(client);
        return true;
    }
    return false;
}

bool door_admits(struct listener *listener)
{
    struct proxy *proxy = listener->proxy;
    struct login_door *door = door_of(proxy, listener->pool);
    if (!is_full(proxy, door) || make_room(door))
        return true;
    if (!listener->is_shut)
        log_event(LOG_LEVEL_WARNING, "too many logins in progress",
                  LOG_FIELD_KIND("pool", listener->pool ? listener->pool->name : "admin"),
                  LOG_FIELD_NUMBER("max_logins", proxy->config->max_logins));
    listener->is_shut = true;
    event_del(&listener->event);
    return false;
}

void door_tick(struct proxy *proxy)
{
    struct listener *listener;
    TAILQ_FOREACH (listener, &proxy->listeners, link) {
        struct login_door *door = door_of(proxy, listener->pool);
        if (listener->is_shut && (!is_full(proxy, door) || make_room(door)))
            open_again(listener);
    }
}

/* ---- failures ---- */

static struct failures_limit limit_of(const struct proxy *proxy)
{
    return (struct failures_limit){proxy->config->max_failures, proxy->config->failure_window_us};
}

static bool is_exempt(const struct client *client)
{
    return client->is_unix ||
           config_networks_contain(&client->proxy->config->failure_exempt, &client->address.any);
}

/* A network of IPv6 counts as one address up to its 64th bit, for nobody has fewer. */
static struct failures_key key_of(const struct client *client)
{
    struct failures_key key = {.door = client->door->number};
    if (client->address.any.sa_family == AF_INET) {
        memset(key.address + 10, 0xff, 2);
        memcpy(key.address + 12, &client->address.in.sin_addr, 4);
    } else {
        const struct in6_addr *in6 = &client->address.in6.sin6_addr;
        memcpy(key.address, in6, IN6_IS_ADDR_V4MAPPED(in6) ? 16 : 8);
    }
    return key;
}

void door_note_failure(struct client *client)
{
    struct proxy *proxy = client->proxy;
    struct failures_limit limit = limit_of(proxy);
    if (!client->door || is_exempt(client))
        return;
    struct failures_key key = key_of(client);
    failures_note(proxy->failures, &key, &limit, proxy->now_us);
}

int64_t door_wait(const struct client *client)
{
    struct proxy *proxy = client->proxy;
    struct failures_limit limit = limit_of(proxy);
    if (!client->door || is_exempt(client))
        return 0;
    struct failures_key key = key_of(client);
    return failures_wait(proxy->failures, &key, &limit, proxy->now_us);
}
