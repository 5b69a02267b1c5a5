/*
 * server.c - a backend's life, from libpq's first poll to the server's EOF.
 *
 * server_login.c logs in with libpq; then its socket, or its SSL, is ours and libpq is asked for nothing more.  Whoever wants a backend to go calls server_close: Terminate is sent, and the place in the
 * budget is given back when the server's EOF comes, because only then has the server let go (contract 1.1).
 *
 *   connecting -> idle <-> checking          (a ping is a Sync: one round trip, no transaction)
 *                  |  ^
 *                busy |  -> cleaning -> idle (drain, ROLLBACK, DISCARD ALL, as needed; wait for cancels)
 *                  +--+-> closing -> gone
 */
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "base/memory.h"
#include "proto/build.h"
#include "proto/sqlstate.h"
#include "proxy/auth_query.h"
#include "proxy/cancel.h"
#include "proxy/events.h"
#include "proxy/prepare.h"
#include "proxy/proxy.h"
#include "proxy/settle.h"
#include "proxy/upgrade.h"
#include "proxy/upstream.h"

#define PING_TIMEOUT_US       (3 * CLOCK_S)
#define CLEANING_TIMEOUT_US   (10 * CLOCK_S)
#define UNHEARD_MAX           (1u << 20) /* bytes of answers that nobody reads; a socket would hold as much */
#define RESET_GRACE_US        (50 * CLOCK_MS)
#define DEAD_NETWORK_GRACE_US (30 * CLOCK_S) /* a server that cannot see us go may count on */

static void bury_server(void *object)
{
    struct server *server = object;
    free(server->fatal_text);
    free(server);
}

/* The end: nothing of it remains upstream. */
static void server_gone(struct server *server)
{
    struct proxy *proxy = server->proxy;
    if (server->resolving)
        resolve_cancel(server->resolving);
    if (server->has_login_event)
        event_del(&server->login_event);
    probe_free(server);
    hosts_free(&server->hosts);
    if (server->asker)
        asker_lost(server);
    if (server->is_streaming)
        stream_close(&server->stream, false);
    outstanding_free(&server->outstanding);
    backend_statements_clear(&proxy->statements, &server->statements);
    settle_server_free(server);
    buffer_free(&server->held);
    if (server->cancel)
        PQfreeCancel(server->cancel);
    PQfinish(server->conn);
    server->conn = NULL;
    events_close(server);
    stats_server_gone(server, server->close_reason);
    pool_backend_remove(&server->backend);
    TAILQ_REMOVE(&proxy->servers, server, link);
    proxy->open_server_count--;
    proxy_bury(proxy, server, bury_server);
    upstream_let_go(server);
    upgrade_places_changed(proxy);
    proxy_run_pools(proxy);
}

void server_forget(struct server *server)
{
    server->close_reason = "forgotten";
    server_gone(server);
}

/* ---- work ---- */

void server_on_stream(struct stream *stream, void *arg)
{
    struct server *server = arg;
    struct client *client = server->client;
    (void)stream;
    server->proxy->now_us = clock_now_us();
    server->proxy->gather.events++;
    relay_server_pump(server);
    if (client && client->server == server && client->state == CLIENT_LINKED)
        client_pump(client); /* the backend may take more now */
}

static void send_query(struct server *server, const char *sql)
{
    struct buffer message = {0};
    build_query(&message, sql);
    outstanding_injected(&server->outstanding, INJECTION_CLEAN);
    stream_write_buffer(&server->stream, &message);
}

static void send_sync_of_ours(struct server *server)
{
    static const uint8_t sync_message[] = {'S', 0, 0, 0, 4};
    outstanding_injected(&server->outstanding, INJECTION_CLEAN);
    stream_write(&server->stream, sync_message, sizeof(sync_message));
}

void server_ping(struct server *server)
{
    server->deadline_us = server->proxy->now_us + PING_TIMEOUT_US;
    send_sync_of_ours(server);
}

/* It is clean: to the next waiter, or to the idle ones, or away. */
static void give_back(struct server *server)
{
    struct proxy *proxy = server->proxy;
    struct proxy_pool *pool = server->lane->pool;
    const char *must_close = NULL;
    server->deadline_us = INT64_MAX;
    struct pool_waiter *waiter = pool_release(&server->backend, proxy->now_us, &must_close);
    if (waiter)
        proxy_granted(waiter, server);
    else if (must_close || !pool->config)
        server_close(server, must_close ? must_close : "pool removed");
    if (pool->pool.waiting > 0 && !waiter)
        proxy_run_pool(pool);
}

/* The next step of making it fit for another client, or the end of that. */
static void clean_further(struct server *server)
{
    if (server->cancels > 0)
        return; /* a cancel must hit neither these statements nor another client's */
    if (server->outstanding.is_confused || server->is_spoilt) {
        server_close(server, server->is_spoilt ? "its last client left what cannot be cleaned"
                                               : "what it still owes is not known for sure");
        return;
    }
    if (server->status != 'I') {
        send_query(server, "ROLLBACK");
    } else if (server->is_dirty) {
        server->is_dirty = false;
        prepare_all_gone(server);
        settle_forget(server);
        send_query(server, "DISCARD ALL");
    } else {
        give_back(server);
    }
}

void server_release(struct server *server)
{
    events_checkin(server);
    if (server->cancels == 0 && !server->is_dirty) {
        give_back(server);
        return;
    }
    pool_backend_move(&server->backend, BACKEND_CLEANING, server->proxy->now_us);
    server->deadline_us = server->proxy->now_us + CLEANING_TIMEOUT_US;
    clean_further(server);
}

/* Ends what the client had begun, so that the backend comes to a ReadyForQuery. */
static void finish_messages(struct server *server)
{
    static const uint8_t copy_fail[] = {'f', 0,   0,   0,   16,  'c', 'l', 'i', 'e',
                                        'n', 't', ' ', 'l', 'e', 'f', 't', 0};
    static const uint8_t sync_message[] = {'S', 0, 0, 0, 4};
    if (server->outstanding.is_copying_in) {
        outstanding_sent(&server->outstanding, 'f');
        stream_write(&server->stream, copy_fail, sizeof(copy_fail));
    }
    if (server->outstanding.is_open) { /* a Sync would commit what nobody has ended */
        static const char rollback[] = "Q\0\0\0\x0dROLLBACK";
        outstanding_sent(&server->outstanding, 'Q');
        stream_write(&server->stream, (const uint8_t *)rollback, sizeof(rollback));
        server->outstanding.is_open = true; /* should an error skip that Query, the Sync ends it */
    }
    if (server->outstanding.is_open || server->outstanding.is_skipping) {
        outstanding_sent(&server->outstanding, 'S');
        stream_write(&server->stream, sync_message, sizeof(sync_message));
    }
}

void server_settled(struct server *server)
{
    if (server->backend.state == BACKEND_CHECKING) {
        server->deadline_us = INT64_MAX;
        struct pool_waiter *waiter = pool_backend_alive(&server->backend, server->proxy->now_us);
        if (waiter)
            proxy_granted(waiter, server);
        else
            proxy_run_pool(server->lane->pool);
    } else if (server->backend.state == BACKEND_CLEANING) {
        if (server->is_finishing)
            server->deadline_us = server->proxy->now_us + CLEANING_TIMEOUT_US;
        server->is_finishing = false;
        finish_messages(server); /* an error has begun to skip what was to end them */
        if (outstanding_is_empty(&server->outstanding))
            clean_further(server);
    } else if (server->asker) {
        asker_settled(server);
    }
}

/* What its client has sent before a Terminate is done, within the limits that its pool sets to queries and transactions.  It
 * counts as in use meanwhile. */
static void let_finish(struct server *server)
{
    const struct config_pool *config = server->lane->pool->config;
    int64_t limit_us = config ? config->query_timeout_us : 1; /* its pool is gone: at once */
    if (config && config->transaction_timeout_us > 0 &&
        (limit_us == 0 || config->transaction_timeout_us < limit_us))
        limit_us = config->transaction_timeout_us;
    server->is_finishing = true;
    server->unheard = 0;
    server->deadline_us = limit_us > 0 ? server->proxy->now_us + limit_us : INT64_MAX;
}

static void finish_no_more(struct server *server)
{
    server->is_finishing = false;
    server->deadline_us = server->proxy->now_us + CLEANING_TIMEOUT_US;
    cancel_server(server);
}

void server_unheard(struct server *server, size_t bytes)
{
    server->unheard += bytes;
    if (server->is_finishing && server->unheard > UNHEARD_MAX)
        finish_no_more(server);
}

void server_abandon(struct server *server, bool in_mid_message, bool was_orderly)
{
    server->client = NULL;
    events_checkin(server);
    if (server->stream.is_broken || server->said_fatal || in_mid_message ||
        server->outstanding.is_confused || server->outstanding.is_copying_both ||
        server->is_spoilt) {
        server->is_broken_off = in_mid_message;
        server_close(server, server->is_spoilt ? "its last client left what cannot be cleaned"
                                               : "client left in mid-message");
        return;
    }
    pool_backend_move(&server->backend, BACKEND_CLEANING, server->proxy->now_us);
    server->deadline_us = server->proxy->now_us + CLEANING_TIMEOUT_US;
    finish_messages(server);
    if (outstanding_is_empty(&server->outstanding))
        clean_further(server);
    else if (was_orderly)
        let_finish(server);
    else
        cancel_server(server); /* nobody waits for the result any more */
    if (server->stream.may_read)
        event_active(&server->stream.read_event, EV_READ, 0); /* what its client left unread */
}

void server_cancel_again(struct server *server)
{
    bool is_wanted = server->wants_cancel_again;
    server->wants_cancel_again = false;
    if (is_wanted && server->client && server->outstanding.count > 0)
        cancel_server(server);
}

void server_cancel_done(struct server *server)
{
    server->cancels--;
    if (server->client)
        proxy_read_later(server->client);
    server_cancel_again(server);
    if (server->cancels > 0)
        return;
    if (server->backend.state == BACKEND_CLEANING && outstanding_is_empty(&server->outstanding))
        send_sync_of_ours(server); /* a signal that came late has hit nothing but this */
}

/* ---- the end ---- */

void server_close(struct server *server, const char *reason)
{
    static const uint8_t terminate[] = {'X', 0, 0, 0, 4};
    if (server->is_held_for_close)
        return;
    if (server->asker)
        asker_lost(server);
    if (!server->close_reason)
        server->close_reason = reason;
    if (strcmp(server->close_reason, "recycle") == 0)
        events_recycle(server);
    if (server->backend.state != BACKEND_CLOSING)
        pool_backend_move(&server->backend, BACKEND_CLOSING, server->proxy->now_us);
    if (!server->is_streaming) {
        server_gone(server);
        return;
    }
    server->deadline_us = INT64_MAX;
    if (server->stream.is_broken) {
        server_lost(server);
        return;
    }
    if (!server->is_broken_off)
        stream_write(&server->stream, terminate, sizeof(terminate));
    if (stream_backlog(&server->stream) == 0 || server->is_broken_off)
        stream_shutdown(&server->stream);
    server->stream.may_read = true;
    server->stream.saw_close = true; /* read to the very end */
}

static void tell_client(struct server *server)
{
    struct client *client = server->client;
    client->server = NULL;
    server->client = NULL;
    client->is_lingering = true;
    if (server->said_fatal)
        client_close(client); /* it has the server's own words */
    else
        client_fatal(client, SQLSTATE_CONNECTION_FAILURE,
                     "server closed the connection unexpectedly",
                     "The backend of this session is gone; its transaction was not committed "
                     "unless COMMIT was answered.",
                     NULL);
}

/* How long the server may go on counting a connection that has broken: its own end says that it does not.  A reset says so too,
 * but where a road between us has reset both ends the server is told at the same moment, and has yet to let go. */
static int64_t grace_us(const struct server *server)
{
    switch (server->stream.error) {
    case 0:
        return server->cancels ? CLOCK_S : 0;
    case ECONNRESET:
    case EPIPE:
        return server->cancels ? CLOCK_S : RESET_GRACE_US;
    case ETIMEDOUT:
    case EHOSTUNREACH:
    case ENETUNREACH:
        return server->cancels ? CLOCK_S : DEAD_NETWORK_GRACE_US;
    default: /* it broke here alone, and the server has yet to hear of it */
        return CLOCK_S;
    }
}

/* A backend that was not to go is gone, and others may be: they answer a ping before a client gets them. */
static void note_loss(struct server *server)
{
    struct proxy *proxy = server->proxy;
    struct lane *lane;
    struct lane *next;
    int error = server->stream.error;
    if (server->backend.state == BACKEND_CHECKING)
        stats_count(server->lane->pool->stats.total, POOL_STAT_PING_FAILURES);
    if (server->backend.state == BACKEND_CLOSING)
        return;
    log_server(LOG_LEVEL_WARNING, server, "backend lost",
               LOG_FIELD_KIND("reason", server->fatal_text
                                            ? server->fatal_text
                                            : (error ? strerror(error) : "closed by the server")));
    HASH_ITER (hh, proxy->lanes, lane, next)
        pool_lane_suspect(&lane->lane, proxy->now_us);
    server->close_reason = "lost";
    pool_backend_move(&server->backend, BACKEND_CLOSING, proxy->now_us);
}

void server_dismissed(struct server *server)
{
    if (server->backend.state == BACKEND_CLOSING)
        return;
    note_loss(server);
    server_close(server, "lost");
    proxy_run_pools(server->proxy);
}

void server_lost(struct server *server)
{
    struct proxy *proxy = server->proxy;
    if (server->is_held_for_close)
        return;
    if (server->asker)
        asker_lost(server);
    note_loss(server);
    if (server->client)
        tell_client(server);
    int64_t grace = grace_us(server);
    if (grace == 0) {
        server_gone(server);
        return;
    }
    stream_shutdown(&server->stream);
    server->is_held_for_close = true;
    server->deadline_us = proxy->now_us + grace;
}

/* The other side's system has not acknowledged that we have closed: the network may have died, and nobody say more. */
static bool is_unacknowledged(int fd)
{
    struct tcp_info info = {0};
    socklen_t length = sizeof(info);
    return getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &length) == 0 &&
           info.tcpi_state == TCP_FIN_WAIT1;
}

/* A login that took too long: a server that is there but does nothing (stopped, swapped out) goes on counting it until it
 * wakes up and closes it. */
static bool has_let_go(const struct server *server)
{
    struct pollfd at = {.fd = server->conn ? PQsocket(server->conn) : -1, .events = POLLRDHUP};
    if (!server->awaits_goodbye || at.fd < 0 || poll(&at, 1, 0) > 0)
        return true;
    return is_unacknowledged(at.fd) &&
           server->proxy->now_us - server->deadline_us > DEAD_NETWORK_GRACE_US;
}

static void give_up_login(struct server *server)
{
    ConnStatusType status = PQstatus(server->conn);
    bool is_connected = server->conn && status != CONNECTION_STARTED && status != CONNECTION_BAD;
    server_login_failed(server, "timeout expired (connect_timeout)");
    if (!server->conn || PQsocket(server->conn) < 0)
        return;
    server->awaits_goodbye = is_connected;
    shutdown(PQsocket(server->conn), SHUT_WR);
}

void server_sweep(struct server *server)
{
    struct proxy *proxy = server->proxy;
    if (server->deadline_us > proxy->now_us)
        return;
    if (server->is_held_for_close) {
        if (server->cancels == 0 && has_let_go(server))
            server_gone(server);
        return;
    }
    switch (server->backend.state) {
    case BACKEND_CONNECTING:
        if (server_login_next_host(server))
            break;
        give_up_login(server);
        break;
    case BACKEND_CHECKING: {
        struct lane *lane;
        struct lane *next;
        stats_count(server->lane->pool->stats.total, POOL_STAT_PING_FAILURES);
        log_server(LOG_LEVEL_WARNING, server, "ping_failed",
                   LOG_FIELD_SECONDS("no_answer_in", (double)PING_TIMEOUT_US / (double)CLOCK_S));
        HASH_ITER (hh, proxy->lanes, lane, next)
            pool_lane_suspect(&lane->lane, proxy->now_us);
        server_close(server, "ping_failed");
        proxy_run_pools(proxy);
        break;
    }
    case BACKEND_CLEANING:
        if (server->is_finishing) {
            finish_no_more(server);
            break;
        }
        log_server(LOG_LEVEL_WARNING, server, "backend could not be cleaned",
                   LOG_FIELD_SECONDS("tried", (double)CLEANING_TIMEOUT_US / (double)CLOCK_S));
        server_close(server, "could not be cleaned");
        break;
    default:
        server->deadline_us = INT64_MAX;
        break;
    }
}
