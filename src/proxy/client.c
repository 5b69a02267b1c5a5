/*
 * client.c - a client's life, from accept to its last byte.
 *
 *   accepted -> startup -> authenticating -> (login) -> ready <-> waiting -> linked -> ready
 *                                                         +---------+----------+---> closing -> gone
 *
 * Before READY its bytes go to auth.c, then to relay.c, or to the console.  What has been read and cannot be dealt with
 * yet (no backend free, a message not complete) is held, at most one read's worth, and nothing more is read until
 * there is somewhere to put it.
 */
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/memory.h"
#include "proto/build.h"
#include "proto/sqlstate.h"
#include "proxy/cancel.h"
#include "proxy/carry.h"
#include "proxy/clear.h"
#include "proxy/client_query.h"
#include "proxy/events.h"
#include "proxy/held.h"
#include "proxy/login.h"
#include "proxy/proxy.h"
#include "proxy/settle.h"
#include "proxy/upgrade.h"

#define BACKLOG_MAX     65536u
#define CONSOLE_MESSAGE 65536u

static void on_stream(struct stream *stream, void *arg);

void client_set_state(struct client *client, enum client_state state)
{
    client->state = state;
    client->since_us = client->proxy->now_us;
    if (carry_is_due(client)) /* not for those who stay, of whom there may be thousands */
        upgrade_look(client->proxy);
}

struct client *client_new(struct proxy *proxy, struct proxy_pool *pool, int fd, bool is_unix,
                          const struct sockaddr_storage *address)
{
    struct client *client = memory_alloc(sizeof(*client));
    int on = 1;
    client->proxy = proxy;
    client->pool = pool;
    client->is_unix = is_unix;
    if (address->ss_family == AF_INET6 || address->ss_family == AF_INET)
        memcpy(&client->address, address, sizeof(client->address)); /* of a unix socket: none */
    client_set_application_name(client, "");
    client->connected_wall_us = clock_wall_us();
    client->answered_us = proxy->now_us;
    client->id = ++proxy->last_client_id;
    client_statements_init(&client->statements);
    if (!client->is_unix) {
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
        setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof(on));
    }
    if (!stream_open(&client->stream, proxy->base, fd, NULL, on_stream, client)) {
        free(client);
        return NULL;
    }
    TAILQ_INSERT_TAIL(&proxy->clients, client, link);
    proxy->client_count++;
    door_enter(client);
    client_set_state(client, CLIENT_STARTUP);
    return client;
}

bool client_accepted(struct listener *listener, int fd, const struct sockaddr_storage *address)
{
    return client_new(listener->proxy, listener->pool, fd, listener->is_unix, address) != NULL;
}

/* Its names stay until the last one that holds its address lets go. */
static void bury_client(void *object)
{
    struct client *client = object;
    free(client->user);
    client_set_application_name(client, "");
    free(client);
}

void client_gone(struct client *client)
{
    struct proxy *proxy = client->proxy;
    if (client->user)
        log_client(
            LOG_LEVEL_DEBUG, client, "client left",
            LOG_FIELD_SECONDS("connected", (double)(clock_wall_us() - client->connected_wall_us) /
                                               (double)CLOCK_S));
    cancel_key_forget(client);
    if (client->console && proxy->console_free)
        proxy->console_free(client);
    if (client->may_read_later)
        TAILQ_REMOVE(&proxy->later, client, later_link);
    client->may_read_later = false;
    if (client->is_counted)
        client->pool->clients--;
    SSL *ssl = client->stream.ssl;
    stream_close(&client->stream, true);
    if (ssl)
        SSL_free(ssl);
    held_drop(client);
    client_statements_free(&proxy->statements, &client->statements);
    settle_client_free(client);
    auth_forget_secrets(client);
    door_leave(client);
    free(client->scan);
    client_query_forget(client);
    client->scan = NULL;
    client_forget_startup(client);
    if (proxy->sweep_next == client)
        proxy->sweep_next = TAILQ_NEXT(client, link);
    TAILQ_REMOVE(&proxy->clients, client, link);
    proxy->client_count--;
    client_set_state(client, CLIENT_GONE);
    proxy_bury(proxy, client, bury_client);
}

/* Its backend, if it has one, is left to be cleaned. */
static void leave_backend(struct client *client)
{
    struct server *server = client->server;
    if (client->waiter.lane)
        pool_wait_end(&client->waiter);
    client->server = NULL;
    if (!server)
        return;
    if (client->changes_defaults)
        proxy_clear_databases(client);
    if (client->pins != 0 || client->asks != 0 || server->asked != 0 ||
        client->must_restore_again || !settle_is_shared(client) || client->state == CLIENT_LOGIN)
        server->is_dirty = true;
    if ((client->pins & PIN_BIT(PIN_LOAD)) || client->lane->is_replication)
        server->is_spoilt = true;
    server_abandon(server, client->message_left > 0 && !client->is_discarding,
                   client->has_terminated);
}

/* All is said: the peer sees the end.  One that was told a FATAL is listened to until it closes too (or the sweep
 * loses patience): closing over unread input would reset the connection, and the message might be lost. */
static void say_goodbye(struct client *client)
{
    if (client->stream.ssl && !client->stream.is_broken && !client->stream.is_shaking_hands)
        SSL_shutdown(client->stream.ssl);
    client->has_said_goodbye = true;
    if (!client->is_lingering || client->stream.is_broken) {
        client_gone(client);
        return;
    }
    stream_shutdown(&client->stream);
    client->stream.may_read = true;
}

void client_close(struct client *client)
{
    if (client->state == CLIENT_CLOSING || client->state == CLIENT_GONE)
        return;
    if (client->state == CLIENT_LEAVING) { /* the connection may be another process's by now */
        carry_forget(client);
        return;
    }
    leave_backend(client);
    stats_client_closed(client);
    client_set_state(client, CLIENT_CLOSING);
    held_drop(client);
    stream_flush(&client->stream);
    if (client->stream.is_broken || stream_backlog(&client->stream) == 0)
        say_goodbye(client);
    if (client->state == CLIENT_CLOSING)
        proxy_read_later(client);
}

void client_evict(struct client *client)
{
    client_fatal(client, SQLSTATE_TOO_MANY_CONNECTIONS,
                 "too many logins in progress (max_logins reached)", NULL, NULL);
    if (client->state == CLIENT_CLOSING)
        client_gone(client);
}

void client_sweep(struct client *client)
{
    if (client->state == CLIENT_CLOSING &&
        client->proxy->now_us - client->since_us > (client->has_said_goodbye ? 2 : 10) * CLOCK_S)
        client_gone(client);
}

void client_send_error(struct client *client, char type, const struct error_fields *fields)
{
    struct buffer message = {0};
    if (type == 'E')
        stats_error(client, fields->sqlstate);
    build_error(&message, type, fields);
    stream_write_buffer(&client->stream, &message);
}

static bool is_let_in(const struct client *client)
{
    return client->state != CLIENT_STARTUP && client->state != CLIENT_AUTHENTICATING &&
           client->state != CLIENT_LOGIN;
}

/* A password that is wrong, a certificate of somebody else, a message that is none. */
static bool is_failed_proof(const char *sqlstate)
{
    return strcmp(sqlstate, SQLSTATE_INVALID_PASSWORD) == 0 ||
           strcmp(sqlstate, SQLSTATE_INVALID_AUTHORIZATION) == 0 ||
           strcmp(sqlstate, SQLSTATE_PROTOCOL_VIOLATION) == 0;
}

void client_fatal(struct client *client, const char *sqlstate, const char *message,
                  const char *detail, const char *hint)
{
    if (client->state == CLIENT_CLOSING || client->state == CLIENT_LEAVING ||
        client->state == CLIENT_GONE)
        return;
    log_client(LOG_LEVEL_INFO, client, is_let_in(client) ? "client ended" : "login refused",
               LOG_FIELD_KIND("sqlstate", sqlstate), LOG_FIELD_TEXT("reason", message));
    if (client->state == CLIENT_AUTHENTICATING && is_failed_proof(sqlstate))
        door_note_failure(client);
    if (!client->stream.is_shaking_hands)
        client_send_error(client, 'E',
                          &(struct error_fields){"FATAL", sqlstate, message, detail, hint});
    client->is_lingering = true;
    client_close(client);
}

void client_protocol_error(struct client *client, const char *what, size_t bytes)
{
    char text[320];
    snprintf(text, sizeof(text), "%s, %zu bytes", what, bytes);
    client_fatal(client, SQLSTATE_PROTOCOL_VIOLATION, text, NULL, NULL);
}

void client_shut_down(struct client *client, const char *hint)
{
    client_fatal(client, SQLSTATE_ADMIN_SHUTDOWN,
                 "terminating connection due to administrator command", NULL, hint);
}

/* The message at the head of `held` is answered by the error: a Query is thrown away alone, an extended message with
 * all that follows up to its Sync (protocol 55.2.3). */
void client_error(struct client *client, const char *sqlstate, const char *message,
                  const char *detail, const char *hint)
{
    struct buffer answer = {0};
    if (client->waiter.lane)
        pool_wait_end(&client->waiter);
    uint8_t type = buffer_length(&client->held) > 0 ? buffer_bytes(&client->held)[0] : 'Q';
    stats_error(client, sqlstate);
    build_error(&answer, 'E', &(struct error_fields){"ERROR", sqlstate, message, detail, hint});
    if (type == 'Q' || type == 'F' || type == 'S') {
        client->message_left = read_u32(buffer_bytes(&client->held) + 1) - 4;
        client->is_discarding = true;
        held_consume(client, 5);
        build_ready(&answer, 'I');
    } else {
        client->is_skipping = true;
    }
    client->answered_us = client->proxy->now_us;
    client_set_state(client, CLIENT_READY);
    client_query_forget(client);
    stream_write_buffer(&client->stream, &answer);
    proxy_read_later(client);
}

/* ---- the queue ---- */

bool client_acquire(struct client *client)
{
    struct proxy *proxy = client->proxy;
    client->request_us = proxy->now_us;
    struct pool_backend *backend = pool_acquire(&client->lane->lane, proxy->now_us);
    if (!backend) {
        pool_wait(&client->waiter, &client->lane->lane, proxy->now_us);
        client_set_state(client, client->state == CLIENT_LOGIN ? CLIENT_LOGIN : CLIENT_WAITING);
        return false;
    }
    struct server *server = (struct server *)backend;
    stats_assigned(client, 0);
    client->server = server;
    client->linked_us = proxy->now_us;
    client->transaction_us = proxy->now_us;
    client->was_warned = false;
    client->provided = 0;
    client->has_own_unnamed = false;
    server->client = client;
    server->request_us = proxy->now_us;
    events_checkout(server, 0);
    if (client->state != CLIENT_LOGIN) {
        client_set_state(client, CLIENT_LINKED);
        settle_link(client, server);
    }
    return true;
}

/* Deals with what is held, without reading more. */
static void relay_held(struct client *client)
{
    struct buffer held = held_take(client);
    size_t taken = relay_from_client(client, buffer_bytes(&held), buffer_length(&held));
    if (taken < buffer_length(&held) && client->state != CLIENT_GONE)
        held_return(client, &held, taken);
    else
        buffer_free(&held);
}

void client_granted(struct client *client, struct server *server)
{
    stats_assigned(client, client->proxy->now_us - client->waiter.since_us);
    client->server = server;
    server->client = client;
    server->request_us = client->proxy->now_us;
    client->linked_us = client->proxy->now_us;
    client->transaction_us = client->linked_us;
    client->request_us = client->linked_us;
    client->was_warned = false;
    client->provided = 0;
    client->has_own_unnamed = false;
    events_checkout(server, client->linked_us - client->waiter.since_us);
    if (client->state == CLIENT_LOGIN) {
        open_granted(client, server);
        return;
    }
    client_set_state(client, CLIENT_LINKED);
    settle_link(client, server);
    relay_held(client);
    if (relay_awaits_more(client)) /* and what it was to send may never come: see awaits_rest() */
        stream_look_again(&client->stream);
    if (client->state != CLIENT_GONE && client->stream.may_read)
        proxy_read_later(client);
}

/* ---- reading ---- */

/* Whole messages only, for the console. */
static size_t console_input(struct client *client, const uint8_t *bytes, size_t length)
{
    size_t at = 0;
    while (length - at >= 5 && client->state == CLIENT_CONSOLE && !client->is_busy &&
           stream_backlog(&client->stream) < BACKLOG_MAX) {
        uint32_t message = read_u32(bytes + at + 1);
        if (message < 4 || message > CONSOLE_MESSAGE - 8) {
            client_protocol_error(client, "invalid message length on the admin console", message);
            return length;
        }
        if (length - at < (size_t)message + 1)
            break;
        if (bytes[at] == 'X') {
            client_close(client);
            return length;
        }
        client->request_us = client->proxy->now_us;
        client->proxy->console_message(client, bytes[at], bytes + at + 5, message - 4);
        at += (size_t)message + 1;
    }
    return client->state == CLIENT_CONSOLE ? at : length;
}

static size_t take_input(struct client *client, const uint8_t *bytes, size_t length)
{
    switch (client->state) {
    case CLIENT_STARTUP:
    case CLIENT_AUTHENTICATING:
        return auth_input(client, bytes, length);
    case CLIENT_READY:
    case CLIENT_LINKED:
        return relay_from_client(client, bytes, length);
    case CLIENT_CONSOLE:
        return console_input(client, bytes, length);
    case CLIENT_LOGIN:
    case CLIENT_WAITING:
    case CLIENT_LEAVING:
        return 0;
    case CLIENT_CLOSING:
    case CLIENT_GONE:
        break;
    }
    return length;
}

/* Whether its bytes have somewhere to go. */
static bool wants_input(const struct client *client)
{
    if (client->proxy->is_suspended && client->pool && client->state != CLIENT_CLOSING)
        return false;
    switch (client->state) {
    case CLIENT_LINKED:
        return client->server && stream_backlog(&client->server->stream) < BACKLOG_MAX &&
               client->server->outstanding.count < OUTSTANDING_MAX;
    case CLIENT_READY:
        return stream_backlog(&client->stream) < BACKLOG_MAX && !carry_is_due(client);
    case CLIENT_CONSOLE:
        return !client->is_busy && stream_backlog(&client->stream) < BACKLOG_MAX;
    case CLIENT_AUTHENTICATING:
        return !client->is_aside;
    case CLIENT_STARTUP:
    case CLIENT_CLOSING:
        return true;
    case CLIENT_LOGIN:
    case CLIENT_WAITING:
    case CLIENT_LEAVING:
    case CLIENT_GONE:
        break;
    }
    return false;
}

/* What is held may be dealt with in a state that it was not held in: again until it stays the same. */
static void take_held(struct client *client)
{
    while (buffer_length(&client->held) > 0 && wants_input(client)) {
        struct buffer held = held_take(client);
        enum client_state state = client->state;
        size_t taken = take_input(client, buffer_bytes(&held), buffer_length(&held));
        bool is_over = client->state == CLIENT_GONE || client->state == CLIENT_CLOSING;
        if (taken == buffer_length(&held) || is_over) {
            buffer_free(&held);
            return;
        }
        held_return(client, &held, taken);
        if (taken == 0 && client->state == state)
            return;
    }
}

/* A client that waits is watched for its end only: a vanished one must not get a backend. */
static void look_for_end(struct client *client)
{
    uint8_t byte;
    if (stream_is_dead(&client->stream)) { /* what it has sent meanwhile stands before a reset */
        client_close(client);
        return;
    }
    if (client->stream.ssl)
        return;
    ssize_t got = recv(client->stream.fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT);
    if (got == 0 || (got < 0 && errno != EAGAIN && errno != EINTR))
        client_close(client);
}

/* Nothing will be written to it before it has sent more, so that a reset, if one came with these bytes, shows nowhere else. */
static bool awaits_rest(const struct client *client)
{
    switch (client->state) {
    case CLIENT_LINKED:
        return relay_awaits_more(client);
    case CLIENT_STARTUP:
    case CLIENT_AUTHENTICATING:
    case CLIENT_CONSOLE:
        return buffer_length(&client->held) > 0 && !client->is_aside;
    case CLIENT_READY:
        return buffer_length(&client->held) > 0 || client->message_left > 0;
    default:
        return false;
    }
}

void client_pump(struct client *client)
{
    struct proxy *proxy = client->proxy;
    take_held(client);
    for (int reads = 0; client->stream.may_read && wants_input(client) && !client->has_terminated &&
                        buffer_length(&client->held) < PROXY_HELD_MAX;
         reads++) {
        size_t held = buffer_length(&client->held);
        if (reads == STREAM_READS_AT_ONCE) {
            stream_yield(&client->stream);
            break;
        }
        if (client->state == CLIENT_STARTUP && !auth_may_read(client))
            break;
        ssize_t got = stream_read(&client->stream, proxy->client_bytes + held, held_room(client));
        if (got <= 0)
            break;
        proxy->gather.bytes += got;
        if (client->state == CLIENT_CLOSING)
            continue;
        if (held > 0) {
            memcpy(proxy->client_bytes, buffer_bytes(&client->held), held);
            held_drop(client);
        }
        size_t length = held + (size_t)got;
        size_t taken = take_input(client, proxy->client_bytes, length);
        if (client->state == CLIENT_GONE)
            return;
        if (taken < length && client->state != CLIENT_CLOSING) {
            held_keep(client, proxy->client_bytes + taken, length - taken);
            take_held(client);
        }
        if (awaits_rest(client))
            stream_look_again(&client->stream);
    }
    if (client->waiter.lane)
        proxy_run_pool(client->pool);
    if (client->has_terminated && client->state == CLIENT_LINKED &&
        (client->stream.error != 0 || stream_is_dead(&client->stream)))
        client_close(client); /* nobody is there to hear the answers that it did not wait for */
    if (client->state != CLIENT_GONE && client->stream.is_broken) {
        if (client->stream.is_shaking_hands && client->stream.tls_reason)
            log_client(LOG_LEVEL_INFO, client, "login refused", LOG_FIELD_TEXT("of", "TLS"),
                       LOG_FIELD_KIND("reason", client->stream.tls_reason));
        if (client->state == CLIENT_CLOSING)
            client_gone(client);
        else
            client_close(client);
    }
}

static void on_stream(struct stream *stream, void *arg)
{
    struct client *client = arg;
    client->proxy->now_us = clock_now_us();
    client->proxy->gather.events++;
    if (client->state == CLIENT_GONE)
        return;
    if (client->state == CLIENT_CLOSING && !client->has_said_goodbye && stream_backlog(stream) == 0)
        say_goodbye(client);
    if (client->state == CLIENT_GONE)
        return;
    bool was_waiting = client->state == CLIENT_WAITING || client->state == CLIENT_LOGIN;
    client_pump(client);
    if (was_waiting && client->waiter.lane)
        look_for_end(client);
    if (client->state == CLIENT_LINKED && client->server && client->server->stream.may_read)
        relay_server_pump(client->server);
}
