/*
 * show_sockets.c - the chapter about connections: CLIENTS, SERVERS, SOCKETS, ACTIVE_SOCKETS, FDS.
 *
 * The first four share PgBouncer's columns; the `link` of a client is the `ptr` of its server and the other way
 * round.  A client that has not said yet who it is has no row.
 */
#include "admin/show_row.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <string.h>

#define SOCKET_COLUMNS                                                                             \
    {"type", SHOW_TEXT, SHOW_PUBLIC}, {"user", SHOW_TEXT, SHOW_PUBLIC},                            \
        {"database", SHOW_TEXT, SHOW_PUBLIC}, {"replication", SHOW_TEXT, SHOW_PUBLIC},             \
        {"state", SHOW_TEXT, SHOW_PUBLIC}, {"addr", SHOW_TEXT, SHOW_ADDRESSES},                    \
        {"port", SHOW_INT4, SHOW_ADDRESSES}, {"local_addr", SHOW_TEXT, SHOW_ADDRESSES},            \
        {"local_port", SHOW_INT4, SHOW_ADDRESSES}, {"connect_time", SHOW_TEXT, SHOW_PUBLIC},       \
        {"request_time", SHOW_TEXT, SHOW_PUBLIC}, {"wait", SHOW_INT4, SHOW_PUBLIC},                \
        {"wait_us", SHOW_INT4, SHOW_PUBLIC}, {"close_needed", SHOW_INT4, SHOW_PUBLIC},             \
        {"ptr", SHOW_TEXT, SHOW_PUBLIC}, {"link", SHOW_TEXT, SHOW_PUBLIC},                         \
        {"remote_pid", SHOW_INT4, SHOW_PUBLIC}, {"tls", SHOW_TEXT, SHOW_PUBLIC},                   \
        {"application_name", SHOW_TEXT, SHOW_PUBLIC},                                              \
        {"prepared_statements", SHOW_INT4, SHOW_PUBLIC},                                           \
    {                                                                                              \
        "id", SHOW_INT4, SHOW_PUBLIC                                                               \
    }

static const struct show_column connection_columns[] = {
    SOCKET_COLUMNS, {"pinned_by", SHOW_TEXT, SHOW_PUBLIC}, {NULL, SHOW_TEXT, SHOW_PUBLIC}};

static const struct show_column socket_columns[] = {
    SOCKET_COLUMNS,
    {"recv_pos", SHOW_INT4, SHOW_PUBLIC},
    {"pkt_pos", SHOW_INT4, SHOW_PUBLIC},
    {"pkt_remain", SHOW_INT4, SHOW_PUBLIC},
    {"send_pos", SHOW_INT4, SHOW_PUBLIC},
    {"send_remain", SHOW_INT4, SHOW_PUBLIC},
    {"pkt_avail", SHOW_INT4, SHOW_PUBLIC},
    {"send_avail", SHOW_INT4, SHOW_PUBLIC},
    {NULL, SHOW_TEXT, SHOW_PUBLIC},
};

/* ---- addresses ---- */

static void put_address(struct show_row *row, const struct sockaddr *address)
{
    char text[INET6_ADDRSTRLEN] = "";
    if (address->sa_family == AF_INET) {
        const struct sockaddr_in *in = (const struct sockaddr_in *)address;
        inet_ntop(AF_INET, &in->sin_addr, text, sizeof(text));
        row_format(row, "%s", text);
        row_number(row, ntohs(in->sin_port));
    } else if (address->sa_family == AF_INET6) {
        const struct sockaddr_in6 *in6 = (const struct sockaddr_in6 *)address;
        inet_ntop(AF_INET6, &in6->sin6_addr, text, sizeof(text));
        row_format(row, "%s", text);
        row_number(row, ntohs(in6->sin6_port));
    } else {
        row_text(row, "unix");
        row_number(row, 0);
    }
}

static void put_name_of(struct show_row *row, int fd, bool of_peer)
{
    struct sockaddr_storage address = {0};
    socklen_t length = sizeof(address);
    if (fd >= 0)
        (void)(of_peer ? getpeername(fd, (struct sockaddr *)&address, &length)
                       : getsockname(fd, (struct sockaddr *)&address, &length));
    put_address(row, (const struct sockaddr *)&address);
}

/* Over a unix socket the system knows the process at the other end. */
static int peer_pid(const struct client *client)
{
    struct ucred peer = {0};
    socklen_t length = sizeof(peer);
    if (!client->is_unix ||
        getsockopt(client->stream.fd, SOL_SOCKET, SO_PEERCRED, &peer, &length) < 0)
        return 0;
    return peer.pid;
}

/* ---- one connection ---- */

static int64_t wall_of(const struct proxy *proxy, int64_t then_us)
{
    return then_us > 0 ? clock_wall_us() - (proxy->now_us - then_us) : 0;
}

static void put_tls(struct show_row *row, const SSL *ssl)
{
    if (ssl)
        row_format(row, "%s/%s", SSL_get_version(ssl), SSL_get_cipher_name(ssl));
    else
        row_text(row, "");
}

static void put_pointer(struct show_row *row, const void *pointer)
{
    if (pointer)
        row_format(row, "%p", pointer);
    else
        row_text(row, "");
}

static void put_client(struct show_row *row, const struct client *client)
{
    const struct proxy *proxy = client->proxy;
    int64_t wait_us = client->waiter.lane ? proxy->now_us - client->waiter.since_us : 0;
    row_text(row, "C");
    row_text(row, client->user);
    if (client->pool)
        row_format(row, "%s@%s", client->database, client->pool->name);
    else
        row_text(row, "pgbouncer");
    row_text(row, "none");
    row_text(row, client_state_name(client));
    put_address(row, &client->address.any);
    put_name_of(row, client->stream.fd, false);
    row_time(row, client->connected_wall_us);
    row_time(row, wall_of(proxy, client->request_us));
    row_number(row, wait_us / CLOCK_S);
    row_number(row, wait_us % CLOCK_S);
    row_number(row, 0);
    put_pointer(row, client);
    put_pointer(row, client->server);
    row_number(row, peer_pid(client));
    put_tls(row, client->stream.ssl);
    row_text(row, client->application_name);
    row_number(row, HASH_COUNT(client->statements.by_name));
    row_number(row, client->key_pid);
}

static const char *server_state_name(const struct server *server)
{
    static const char *const names[BACKEND_STATE_COUNT] = {
        [BACKEND_CONNECTING] = "new", [BACKEND_IDLE] = "idle",       [BACKEND_CHECKING] = "tested",
        [BACKEND_BUSY] = "active",    [BACKEND_CLEANING] = "tested", [BACKEND_CLOSING] = "closing"};
    return server->cancels > 0 ? "being_canceled" : names[server->backend.state];
}

static void put_server(struct show_row *row, const struct server *server)
{
    const struct lane *lane = server->lane;
    row_text(row, "S");
    row_text(row, lane_user(lane));
    row_lane_name(row, lane);
    row_text(row, "none");
    row_text(row, server_state_name(server));
    put_name_of(row, server->stream.fd, true);
    put_name_of(row, server->stream.fd, false);
    row_time(row, server->connected_wall_us);
    row_time(row, wall_of(server->proxy, server->request_us));
    row_number(row, 0);
    row_number(row, 0);
    row_number(row, server->backend.generation != lane->lane.generation ||
                        server->backend.state == BACKEND_CLOSING);
    put_pointer(row, server);
    put_pointer(row, server->client);
    row_number(row, server->pid);
    put_tls(row, server->stream.ssl);
    row_text(row, server->application_name);
    row_number(row, server->statements.count);
    row_number(row, server->pid);
}

/* What waits in its buffers, in PgBouncer's terms. */
static void put_buffers(struct show_row *row, const struct buffer *held, uint32_t message_left,
                        const struct stream *stream)
{
    row_number(row, (int64_t)buffer_length(held));
    row_number(row, 0);
    row_number(row, message_left);
    row_number(row, 0);
    row_number(row, (int64_t)stream_backlog(stream));
    row_number(row, (int64_t)buffer_length(held));
    row_number(row, (int64_t)stream_backlog(stream));
}

/* ---- tables ---- */

static bool is_known(const struct client *client)
{
    return client->user && client->state != CLIENT_CLOSING;
}

static void client_rows(const struct proxy *proxy, struct show_row *row)
{
    const struct client *client;
    TAILQ_FOREACH (client, &proxy->clients, link) {
        if (!is_known(client))
            continue;
        put_client(row, client);
        row_pins(row, client);
        if (!row_end(row))
            return;
    }
}

static void server_rows(const struct proxy *proxy, struct show_row *row)
{
    const struct server *server;
    TAILQ_FOREACH (server, &proxy->servers, link) {
        put_server(row, server);
        if (server->client)
            row_pins(row, server->client);
        else
            row_text(row, "");
        if (!row_end(row))
            return;
    }
}

static bool has_work(const struct buffer *held, uint32_t message_left, const struct stream *stream)
{
    return buffer_length(held) > 0 || message_left > 0 || stream_backlog(stream) > 0;
}

static void put_sockets(const struct proxy *proxy, struct show_row *row, bool active_only)
{
    const struct client *client;
    const struct server *server;
    TAILQ_FOREACH (client, &proxy->clients, link) {
        if (!is_known(client) || (active_only && !client->server &&
                                  !has_work(&client->held, client->message_left, &client->stream)))
            continue;
        put_client(row, client);
        put_buffers(row, &client->held, client->message_left, &client->stream);
        if (!row_end(row))
            return;
    }
    TAILQ_FOREACH (server, &proxy->servers, link) {
        if (active_only && !server->client &&
            !has_work(&server->held, server->message_left, &server->stream))
            continue;
        put_server(row, server);
        put_buffers(row, &server->held, server->message_left, &server->stream);
        if (!row_end(row))
            return;
    }
}

static void socket_rows(const struct proxy *proxy, struct show_row *row)
{
    put_sockets(proxy, row, false);
}

static void active_socket_rows(const struct proxy *proxy, struct show_row *row)
{
    put_sockets(proxy, row, true);
}

/* ---- FDS ---- */

static const struct show_column fd_columns[] = {
    {"fd", SHOW_INT4, SHOW_PUBLIC},
    {"task", SHOW_TEXT, SHOW_PUBLIC},
    {"user", SHOW_TEXT, SHOW_PUBLIC},
    {"database", SHOW_TEXT, SHOW_PUBLIC},
    {"addr", SHOW_TEXT, SHOW_ADDRESSES},
    {"port", SHOW_INT4, SHOW_ADDRESSES},
    {"cancel", SHOW_INT8, SHOW_PUBLIC},
    {"link", SHOW_INT4, SHOW_PUBLIC},
    {"client_encoding", SHOW_TEXT, SHOW_PUBLIC},
    {"std_strings", SHOW_TEXT, SHOW_PUBLIC},
    {"datestyle", SHOW_TEXT, SHOW_PUBLIC},
    {"timezone", SHOW_TEXT, SHOW_PUBLIC},
    {"password", SHOW_TEXT, SHOW_PUBLIC},
    {"scram_client_key", SHOW_BYTEA, SHOW_PUBLIC},
    {"scram_server_key", SHOW_BYTEA, SHOW_PUBLIC},
    {NULL, SHOW_TEXT, SHOW_PUBLIC},
};

/* The cancel keys and the secrets that PgBouncer shows for its old way of taking over stay with us: null. */
static void put_fd(struct show_row *row, int fd, const char *task, const char *user)
{
    row_number(row, fd);
    row_text(row, task);
    row_text(row, user);
}

static void put_fd_rest(struct show_row *row, int link)
{
    row_text(row, NULL);
    row_number(row, link >= 0 ? link : 0);
    while (row->count < sizeof(fd_columns) / sizeof(fd_columns[0]) - 1)
        row_text(row, NULL);
}

static void fd_rows(const struct proxy *proxy, struct show_row *row)
{
    const struct listener *listener;
    const struct client *client;
    const struct server *server;
    TAILQ_FOREACH (listener, &proxy->listeners, link) {
        put_fd(row, listener->fd, "pooler", NULL);
        row_text(row, NULL);
        put_name_of(row, listener->fd, false);
        put_fd_rest(row, -1);
        if (!row_end(row))
            return;
    }
    TAILQ_FOREACH (client, &proxy->clients, link) {
        put_fd(row, client->stream.fd, "client", client->user);
        row_text(row, client->pool ? client->database : "pgbouncer");
        put_address(row, &client->address.any);
        put_fd_rest(row, client->server ? client->server->stream.fd : -1);
        if (!row_end(row))
            return;
    }
    TAILQ_FOREACH (server, &proxy->servers, link) {
        if (server->stream.fd < 0)
            continue;
        put_fd(row, server->stream.fd, "server", lane_user(server->lane));
        row_text(row, server->lane->database);
        put_name_of(row, server->stream.fd, true);
        put_fd_rest(row, server->client ? server->client->stream.fd : -1);
        if (!row_end(row))
            return;
    }
}

const struct show_table show_socket_tables[] = {
    {"CLIENTS", connection_columns, client_rows, NULL},
    {"SERVERS", connection_columns, server_rows, NULL},
    {"SOCKETS", socket_columns, socket_rows, NULL},
    {"ACTIVE_SOCKETS", socket_columns, active_socket_rows, NULL},
    {"FDS", fd_columns, fd_rows, NULL},
    {NULL, NULL, NULL, NULL},
};
