/*
 * owners.c - which applications have a pool's connections: see owners.h.
 *
 * Made when somebody asks: the pool's holders are sorted by name, so that each application is one run of them.
 */
#include "admin/owners.h"

#include <stdlib.h>
#include <string.h>

#include "admin/watch.h"
#include "base/memory.h"

#define OWNERS_SHOWN 3

struct owner {
    const struct client *client; /* one of them, for the name */
    int connections;
    int idle_in_transaction;
};

static const char *name_of(const struct client *client)
{
    return *client->application_name ? client->application_name : client->user;
}

static int compare(const void *left, const void *right)
{
    return strcmp(name_of(*(const struct client *const *)left),
                  name_of(*(const struct client *const *)right));
}

/* The pool's clients that hold a backend, by name; free() it. */
static const struct client **holders_by_name(const struct proxy_pool *pool, size_t *count)
{
    const struct proxy *proxy = pool->proxy;
    size_t most = (size_t)proxy->open_server_count + 1;
    const struct client **holders = memory_alloc(most * sizeof(struct client *));
    const struct server *server;
    *count = 0;
    TAILQ_FOREACH (server, &proxy->servers, link) {
        const struct client *client = server->client;
        if (client && client->pool == pool && client->user && *count < most)
            holders[(*count)++] = client;
    }
    qsort(holders, *count, sizeof(struct client *), compare);
    return holders;
}

/* Keeps the greatest, in order. */
static void rank(struct owner top[OWNERS_SHOWN], struct owner owner)
{
    for (int i = 0; i < OWNERS_SHOWN; i++) {
        if (owner.connections > top[i].connections) {
            struct owner smaller = top[i];
            top[i] = owner;
            owner = smaller;
        }
    }
}

static void put_owner(char *out, size_t bytes, const struct owner *owner)
{
    char name[64];
    char idle[48] = "";
    snprintf(name, sizeof(name), "%s", name_of(owner->client));
    for (char *at = name; *at; at++) {
        if (*at < ' ' || *at > '~')
            *at = '?';
    }
    if (owner->idle_in_transaction > 0)
        snprintf(idle, sizeof(idle), " (%d idle in transaction)", owner->idle_in_transaction);
    size_t used = strlen(out);
    snprintf(out + used, bytes - used, "%s%s %d%s", used > 0 ? ", " : "", name, owner->connections,
             idle);
}

void owners_of_pool(const struct proxy_pool *pool, char *out, size_t bytes)
{
    struct owner top[OWNERS_SHOWN] = {{NULL, 0, 0}};
    size_t count;
    const struct client **holders = holders_by_name(pool, &count);
    for (size_t i = 0; i < count;) {
        struct owner owner = {.client = holders[i]};
        for (; i < count && strcmp(name_of(holders[i]), name_of(owner.client)) == 0; i++) {
            owner.connections++;
            owner.idle_in_transaction += watch_idle_us(holders[i]) > 0;
        }
        rank(top, owner);
    }
    out[0] = '\0';
    for (int i = 0; i < OWNERS_SHOWN && top[i].connections > 0; i++)
        put_owner(out, bytes, &top[i]);
    free(holders);
}
