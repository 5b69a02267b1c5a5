/*
 * relay.c - the least that a transaction pooler can be: the floor to which the others' CPU time is compared.
 *
 *     relay LISTEN_PORT TARGET_PORT USER DATABASE BACKENDS
 *
 * Knows nothing but messages' headers and who waits: no settings, no prepared statements, no statistics, no timeouts, no
 * checks of anything.  One epoll, edge-triggered; four system calls a transaction.  What a client sends at once is taken for
 * a whole transaction, which is so with pgbench's.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/queue.h>
#include <sys/socket.h>
#include <unistd.h>

#define READ_BYTES  65536
#define TURN_EVENTS 64

enum kind { LISTENER, CLIENT, BACKEND };

struct end {
    enum kind kind;
    int fd;
    struct end *other; /* a client's backend, a backend's client */
    int has_started;   /* of a client: its start-up packet was answered */
    int is_waiting;
    uint32_t left; /* of the message that is passing, of a backend */
    size_t held;   /* bytes of a query that waits */
    uint8_t *bytes;
    STAILQ_ENTRY(end) link;
};
STAILQ_HEAD(ends, end);

static struct ends waiting = STAILQ_HEAD_INITIALIZER(waiting);
static struct ends idle = STAILQ_HEAD_INITIALIZER(idle);
static int epoll_fd;
static uint8_t buffer[READ_BYTES];

static void fail(const char *what)
{
    perror(what);
    exit(1);
}

static uint32_t read_u32(const uint8_t *at)
{
    return (uint32_t)at[0] << 24 | (uint32_t)at[1] << 16 | (uint32_t)at[2] << 8 | at[3];
}

static void write_all(int fd, const void *bytes, size_t length)
{
    for (const uint8_t *at = bytes; length > 0;) {
        ssize_t sent = send(fd, at, length, MSG_NOSIGNAL);
        if (sent <= 0)
            return; /* it has left; its answers are small, so that a full socket does not happen */
        at += sent;
        length -= (size_t)sent;
    }
}

static struct end *watch(enum kind kind, int fd)
{
    int on = 1;
    struct end *end = calloc(1, sizeof(*end));
    struct epoll_event event = {EPOLLIN | (kind == LISTENER ? 0u : (uint32_t)EPOLLET), {.ptr = end}};
    if (!end)
        fail("calloc");
    end->kind = kind;
    end->fd = fd;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    if (epoll_ctl(epoll_fd, EPOLL_CTL_ADD, fd, &event) < 0)
        fail("epoll_ctl");
    return end;
}

static void link_ends(struct end *client, struct end *backend, const uint8_t *bytes, size_t length)
{
    client->other = backend;
    backend->other = client;
    write_all(backend->fd, bytes, length);
}

/* Trust, and as much of a server's greeting as pgbench needs. */
static void greet(struct end *client, size_t length)
{
    static const uint8_t greeting[] = "R\0\0\0\x08\0\0\0\0"
                                      "S\0\0\0\x19"
                                      "client_encoding\0UTF8\0"
                                      "S\0\0\0\x23"
                                      "standard_conforming_strings\0on\0"
                                      "S\0\0\0\x18"
                                      "server_version\0""15.0\0"
                                      "K\0\0\0\x0c\0\0\0\x01\0\0\0\x01"
                                      "Z\0\0\0\x05I";
    if (length >= 8 && read_u32(buffer + 4) == 80877103) {
        write_all(client->fd, "N", 1);
        return;
    }
    client->has_started = 1;
    write_all(client->fd, greeting, sizeof(greeting) - 1);
}

static void gone(struct end *client)
{
    if (client->is_waiting)
        STAILQ_REMOVE(&waiting, client, end, link);
    if (client->other)
        client->other->other = NULL;
    close(client->fd);
    free(client->bytes);
    free(client);
}

static void on_client(struct end *client)
{
    ssize_t got = recv(client->fd, buffer, sizeof(buffer), MSG_DONTWAIT);
    if (got <= 0 || (client->has_started && buffer[0] == 'X')) {
        gone(client);
        return;
    }
    struct end *backend = STAILQ_FIRST(&idle);
    if (!client->has_started) {
        greet(client, (size_t)got);
    } else if (client->other) {
        write_all(client->other->fd, buffer, (size_t)got);
    } else if (backend) {
        STAILQ_REMOVE_HEAD(&idle, link);
        link_ends(client, backend, buffer, (size_t)got);
    } else {
        client->bytes = realloc(client->bytes, (size_t)got);
        if (!client->bytes)
            fail("realloc");
        memcpy(client->bytes, buffer, (size_t)got);
        client->held = (size_t)got;
        client->is_waiting = 1;
        STAILQ_INSERT_TAIL(&waiting, client, link);
    }
}

/* Whether the last thing that was said is a ReadyForQuery outside a transaction. */
static int is_over(struct end *backend, size_t length)
{
    size_t at = 0;
    int over = 0;
    while (at < length) {
        if (backend->left > 0) {
            size_t piece = length - at < backend->left ? length - at : backend->left;
            backend->left -= (uint32_t)piece;
            at += piece;
            continue;
        }
        if (length - at < 6) /* pgbench's answers come in one piece */
            break;
        over = buffer[at] == 'Z' && buffer[at + 5] == 'I';
        backend->left = read_u32(buffer + at + 1) + 1;
    }
    return over && backend->left == 0;
}

static void on_backend(struct end *backend)
{
    ssize_t got = recv(backend->fd, buffer, sizeof(buffer), MSG_DONTWAIT);
    struct end *client = backend->other;
    if (got <= 0)
        return;
    if (is_over(backend, (size_t)got)) {
        struct end *next = STAILQ_FIRST(&waiting);
        if (client)
            client->other = NULL;
        backend->other = NULL;
        if (next) {
            STAILQ_REMOVE_HEAD(&waiting, link);
            next->is_waiting = 0;
            link_ends(next, backend, next->bytes, next->held);
        } else {
            STAILQ_INSERT_HEAD(&idle, backend, link);
        }
    }
    if (client)
        write_all(client->fd, buffer, (size_t)got);
}

static void open_backend(int port, const char *user, const char *database)
{
    uint8_t packet[256] = {0};
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (fd < 0 || connect(fd, (struct sockaddr *)&address, sizeof(address)) < 0)
        fail("connect");
    int length = 8 + snprintf((char *)packet + 8, sizeof(packet) - 8, "user%c%s%cdatabase%c%s%c", 0, user, 0, 0,
                              database, 0) + 1;
    packet[3] = (uint8_t)length;
    packet[5] = 3;
    write_all(fd, packet, (size_t)length);
    for (size_t got = 0; got < 6 || memcmp(buffer + got - 6, "Z\0\0\0\5I", 6) != 0;) {
        ssize_t more = recv(fd, buffer + got, sizeof(buffer) - got, 0);
        if (more <= 0)
            fail("login");
        got += (size_t)more;
    }
    struct end *backend = watch(BACKEND, fd);
    STAILQ_INSERT_TAIL(&idle, backend, link);
}

static void accept_all(struct end *listener)
{
    int fd;
    while ((fd = accept4(listener->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0)
        watch(CLIENT, fd);
}

int main(int count, char **arguments)
{
    int on = 1;
    struct sockaddr_in address = {.sin_family = AF_INET};
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (count != 6)
        return 2;
    epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    for (int i = 0; i < atoi(arguments[5]); i++)
        open_backend(atoi(arguments[2]), arguments[3], arguments[4]);
    address.sin_port = htons((uint16_t)atoi(arguments[1]));
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
    if (bind(listener, (struct sockaddr *)&address, sizeof(address)) < 0 || listen(listener, 4096) < 0)
        fail("listen");
    watch(LISTENER, listener);
    for (;;) {
        struct epoll_event events[TURN_EVENTS];
        int happened = epoll_wait(epoll_fd, events, TURN_EVENTS, -1);
        for (int i = 0; i < happened; i++) {
            struct end *end = events[i].data.ptr;
            if (end->kind == LISTENER)
                accept_all(end);
            else if (end->kind == CLIENT)
                on_client(end);
            else
                on_backend(end);
        }
    }
}
