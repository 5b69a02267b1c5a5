/*
 * cancel.c - Ctrl-C: a client's cancel request, taken to the right backend and nobody else's.
 *
 * The key that a client got from us is random and looked up here; what it runs now is cancelled with the backend's own
 * key by libpq.  PQcancel blocks, so it runs in a worker; until it has returned, the backend is not given to anyone
 * else (server_release holds it), or the signal might hit a stranger's query, nor gets its own client's next one; and while a query of ours is
 * ahead of the client's, its cancel waits.  A client that waits in the
 * queue is taken out of it; one that runs nothing is left alone, as PostgreSQL does.
 */
#include <string.h>
#include <sys/random.h>

#include <openssl/crypto.h>

#include "base/memory.h"
#include "proto/build.h"
#include "proto/sqlstate.h"
#include "proxy/cancel.h"
#include "proxy/events.h"
#include "proxy/proxy.h"
#include "proxy/upgrade.h"

struct cancel_job {
    struct server *server;
    PGcancel *cancel;
    char error[256];
    int ok;
};

static void run_cancel(void *arg)
{
    struct cancel_job *job = arg;
    job->ok = PQcancel(job->cancel, job->error, sizeof(job->error));
}

static void cancel_returned(void *arg)
{
    struct cancel_job *job = arg;
    job->server->proxy->now_us = clock_now_us();
    if (!job->ok)
        log_server(LOG_LEVEL_WARNING, job->server, "cancel could not be sent",
                   LOG_FIELD_KIND("reason", job->error));
    server_cancel_done(job->server);
    free(job);
}

/* A query of ours goes first: the cancel is not for it. */
static bool is_ours(const struct server *server)
{
    return server->client && outstanding_injection(&server->outstanding) != INJECTION_NONE;
}

void cancel_server(struct server *server)
{
    if (server->cancels > 0 || is_ours(server)) {
        server->wants_cancel_again = !is_ours(server) || server->outstanding.count > 1;
        return;
    }
    if (!server->cancel)
        return;
    struct cancel_job *job = memory_alloc(sizeof(*job));
    job->server = server;
    job->cancel = server->cancel;
    server->cancels++;
    stats_count(server->lane->pool->stats.total, POOL_STAT_CANCELS);
    workers_submit(server->proxy->workers, run_cancel, cancel_returned, job);
}

static struct client_key_list *list_of_key(struct proxy *proxy, uint32_t pid)
{
    return &proxy->clients_by_key[pid % CLIENT_KEY_LISTS]; /* keys are random bits */
}

struct client *cancel_key_find(struct proxy *proxy, uint32_t pid)
{
    struct client *client;
    LIST_FOREACH (client, list_of_key(proxy, pid), key_link) {
        if (client->key_pid == pid)
            return client;
    }
    return NULL;
}

bool cancel_find(struct proxy *proxy, uint32_t pid, const uint8_t *secret, size_t secret_bytes)
{
    struct client *client = cancel_key_find(proxy, pid);
    if (!client || client->state == CLIENT_LEAVING || client->key_bytes != secret_bytes ||
        CRYPTO_memcmp(client->key_secret, secret, secret_bytes) != 0)
        return false;
    if (client->pool)
        stats_count(client->pool->stats.total, POOL_STAT_CANCEL_REQUESTS);
    if (client->state == CLIENT_WAITING)
        client_error(client, SQLSTATE_QUERY_CANCELED, "canceling statement due to user request",
                     NULL, NULL);
    else if (client->state == CLIENT_CONSOLE)
        proxy->console_cancel(client);
    else if (client->state == CLIENT_LINKED && client->server &&
             !outstanding_is_empty(&client->server->outstanding))
        cancel_server(client->server);
    return true;
}

void cancel_request(struct proxy *proxy, uint32_t pid, const uint8_t *secret, size_t secret_bytes)
{
    if (!cancel_find(proxy, pid, secret, secret_bytes))
        upgrade_forward_cancel(proxy, pid, secret, secret_bytes);
}

static void random_bytes(void *out, size_t length)
{
    uint8_t *at = out;
    while (length > 0) {
        ssize_t got = getrandom(at, length, 0);
        if (got <= 0)
            continue;
        at += got;
        length -= (size_t)got;
    }
}

void cancel_key_remember(struct client *client)
{
    LIST_INSERT_HEAD(list_of_key(client->proxy, client->key_pid), client, key_link);
}

void cancel_key_new(struct client *client)
{
    uint8_t bytes[sizeof(client->key_pid) + CANCEL_KEY_MAX]; /* for both at one go */
    client->key_bytes = client->minor >= 2 ? CANCEL_KEY_MAX : 4;
    do {
        random_bytes(bytes, sizeof(client->key_pid) + client->key_bytes);
        client->key_pid = read_u32(bytes) & 0x7fffffff; /* drivers keep it in a signed integer */
    } while (client->key_pid == 0 || cancel_key_find(client->proxy, client->key_pid));
    memcpy(client->key_secret, bytes + sizeof(client->key_pid), client->key_bytes);
    cancel_key_remember(client);
}

void cancel_key_forget(struct client *client)
{
    if (client->key_bytes == 0)
        return;
    LIST_REMOVE(client, key_link);
    client->key_bytes = 0;
}
