/*
 * channel.c - messages and descriptors between two processes: see channel.h.
 *
 * A piece on the wire is the message's type, a byte that says whether more follow, and up to PIECE_BYTES.  The kernel keeps
 * pieces apart and in order; a descriptor goes with the first one.  What the socket does not take waits in a list.
 */
#include "net/channel.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/buffer.h"
#include "base/clock.h"
#include "base/memory.h"

#define PIECE_BYTES 32768u
#define HEAD_BYTES  2u
#define TURN_PIECES 64 /* received in one turn of the loop: others want theirs too */

struct piece {
    TAILQ_ENTRY(piece) link;
    int fd;
    size_t length;
    uint8_t bytes[];
};
TAILQ_HEAD(piece_list, piece);

struct channel {
    int fd;
    struct event *read_event;
    struct event *write_event;
    struct piece_list out;
    size_t out_count;
    struct buffer in; /* of a message whose last piece has not come */
    int in_fd;
    bool has_ended;
    bool
        is_closed_there; /* the other side takes nothing more; what it said before is still to be read */
    bool is_receiving; /* within a callback: freed when that returns */
    bool is_freed;
    channel_receiver receiver;
    channel_ender ender;
    void *arg;
    uint8_t piece[HEAD_BYTES + PIECE_BYTES];
};

bool channel_pair(int ends[2])
{
    return socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) == 0;
}

struct channel *channel_open(int fd)
{
    int domain = 0;
    int type = 0;
    socklen_t length = sizeof(int);
    if (getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &length) < 0 || domain != AF_UNIX ||
        getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &length) < 0 || type != SOCK_SEQPACKET ||
        evutil_make_socket_nonblocking(fd) < 0 || evutil_make_socket_closeonexec(fd) < 0) {
        if (fd >= 0)
            close(fd);
        return NULL;
    }
    struct channel *channel = memory_alloc(sizeof(*channel));
    channel->fd = fd;
    channel->in_fd = -1;
    TAILQ_INIT(&channel->out);
    return channel;
}

static void forget_message(struct channel *channel)
{
    buffer_free(&channel->in);
    if (channel->in_fd >= 0)
        close(channel->in_fd);
    channel->in_fd = -1;
}

static void destroy(struct channel *channel)
{
    struct piece *piece;
    while ((piece = TAILQ_FIRST(&channel->out))) {
        TAILQ_REMOVE(&channel->out, piece, link);
        free(piece);
    }
    forget_message(channel);
    free(channel);
}

void channel_free(struct channel *channel)
{
    if (!channel || channel->is_freed)
        return;
    channel->is_freed = true;
    channel->has_ended = true;
    if (channel->read_event)
        event_free(channel->read_event);
    if (channel->write_event)
        event_free(channel->write_event);
    channel->read_event = channel->write_event = NULL;
    close(channel->fd);
    if (!channel->is_receiving)
        destroy(channel);
}

/* The owner is told in the loop, not in the middle of something else. */
static void end(struct channel *channel)
{
    channel->has_ended = true;
    if (channel->read_event)
        event_active(channel->read_event, EV_READ, 0);
}

/* ---- receiving ---- */

static int received_fd(struct msghdr *header)
{
    int fd = -1;
    for (struct cmsghdr *at = CMSG_FIRSTHDR(header); at; at = CMSG_NXTHDR(header, at)) {
        if (at->cmsg_level == SOL_SOCKET && at->cmsg_type == SCM_RIGHTS &&
            at->cmsg_len == CMSG_LEN(sizeof(int)))
            memcpy(&fd, CMSG_DATA(at), sizeof(fd));
    }
    return fd;
}

/* One piece; true when it completes a message, whose bytes are then in `in`. */
static bool receive_piece(struct channel *channel, uint8_t *type, bool *has_more)
{
    union {
        struct cmsghdr header;
        char bytes[CMSG_SPACE(sizeof(int))];
    } control;
    struct iovec into = {channel->piece, sizeof(channel->piece)};
    struct msghdr header = {.msg_iov = &into,
                            .msg_iovlen = 1,
                            .msg_control = &control,
                            .msg_controllen = sizeof(control)};
    ssize_t got;
    do {
        got = recvmsg(channel->fd, &header, MSG_CMSG_CLOEXEC);
        /* The kernel says once that the other side has closed over words of ours that it had not read. */
    } while (got < 0 && (errno == EINTR || errno == ECONNRESET));
    *has_more = got > 0;
    if (got < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
        return false;
    int fd = got > 0 ? received_fd(&header) : -1;
    if (fd >= 0 && channel->in_fd < 0)
        channel->in_fd = fd;
    else if (fd >= 0)
        close(fd);
    size_t length = got > 0 ? (size_t)got : 0;
    if (length < HEAD_BYTES || (header.msg_flags & MSG_TRUNC) ||
        buffer_length(&channel->in) + length > CHANNEL_MESSAGE_MAX) {
        *has_more = false;
        end(channel);
        return false;
    }
    buffer_append(&channel->in, channel->piece + HEAD_BYTES, length - HEAD_BYTES);
    *type = channel->piece[0];
    return channel->piece[1] == 0;
}

/* Hands the complete message out: its descriptor is the receiver's. */
static struct channel_message complete(struct channel *channel, uint8_t type)
{
    size_t length = buffer_length(&channel->in);
    struct channel_message message = {.type = type,
                                      .bytes =
                                          length > 0 ? buffer_bytes(&channel->in) : channel->piece,
                                      .length = length,
                                      .fd = channel->in_fd};
    channel->in_fd = -1;
    return message;
}

bool channel_wait(struct channel *channel, int64_t timeout_us, struct channel_message *message)
{
    int64_t deadline_us = clock_now_us() + timeout_us;
    uint8_t type;
    bool has_more;
    forget_message(channel);
    while (!channel->has_ended) {
        if (receive_piece(channel, &type, &has_more)) {
            *message = complete(channel, type);
            return true;
        }
        int64_t left_ms = (deadline_us - clock_now_us()) / CLOCK_MS;
        struct pollfd at = {.fd = channel->fd, .events = POLLIN};
        if (!has_more && (left_ms <= 0 || (poll(&at, 1, (int)left_ms) < 0 && errno != EINTR)))
            return false;
    }
    return false;
}

static void receive_pieces(struct channel *channel, size_t most)
{
    bool has_more = true;
    uint8_t type;
    for (size_t i = 0; i < most && has_more && !channel->has_ended; i++) {
        if (!receive_piece(channel, &type, &has_more))
            continue;
        struct channel_message message = complete(channel, type);
        channel->receiver(channel->arg, &message);
        forget_message(channel);
    }
}

void channel_hear(struct channel *channel)
{
    if (channel->is_receiving || channel->has_ended)
        return;
    channel->is_receiving = true;
    receive_pieces(channel, SIZE_MAX);
    channel->is_receiving = false;
    if (channel->is_freed)
        destroy(channel);
}

static void on_readable(evutil_socket_t fd, short what, void *arg)
{
    struct channel *channel = arg;
    (void)fd;
    (void)what;
    channel->is_receiving = true;
    receive_pieces(channel, TURN_PIECES);
    if (channel->has_ended && !channel->is_freed) {
        event_del(channel->read_event);
        event_del(channel->write_event);
        channel->ender(channel->arg);
    }
    channel->is_receiving = false;
    if (channel->is_freed)
        destroy(channel);
}

/* ---- sending ---- */

/* True when it is gone, false when it has to wait. */
static bool send_piece(struct channel *channel, const struct piece *piece)
{
    union {
        struct cmsghdr header;
        char bytes[CMSG_SPACE(sizeof(int))];
    } control = {0};
    struct iovec from = {(void *)piece->bytes, piece->length};
    struct msghdr header = {.msg_iov = &from, .msg_iovlen = 1};
    if (piece->fd >= 0) {
        header.msg_control = &control;
        header.msg_controllen = sizeof(control);
        control.header.cmsg_level = SOL_SOCKET;
        control.header.cmsg_type = SCM_RIGHTS;
        control.header.cmsg_len = CMSG_LEN(sizeof(int));
        memcpy(CMSG_DATA(&control.header), &piece->fd, sizeof(int));
    }
    ssize_t sent;
    do {
        sent = sendmsg(channel->fd, &header, MSG_NOSIGNAL);
    } while (sent < 0 && errno == EINTR);
    if (sent >= 0)
        return true;
    if (errno == EPIPE || errno == ECONNRESET)
        channel->is_closed_there = true; /* its last words may wait to be read, and then the end */
    else if (errno != EAGAIN && errno != EWOULDBLOCK && errno != ENOBUFS && errno != ETOOMANYREFS)
        end(channel);
    return false;
}

static void flush(struct channel *channel)
{
    struct piece *piece;
    while (!channel->has_ended && !channel->is_closed_there &&
           (piece = TAILQ_FIRST(&channel->out))) {
        if (!send_piece(channel, piece))
            break;
        TAILQ_REMOVE(&channel->out, piece, link);
        channel->out_count--;
        free(piece);
    }
    if (!TAILQ_EMPTY(&channel->out) && channel->write_event && !channel->has_ended &&
        !channel->is_closed_there)
        event_add(channel->write_event, NULL);
}

static void on_writable(evutil_socket_t fd, short what, void *arg)
{
    (void)fd;
    (void)what;
    flush(arg);
}

void channel_send(struct channel *channel, uint8_t type, const void *bytes, size_t length, int fd)
{
    const uint8_t *at = bytes;
    if (channel->has_ended || channel->is_closed_there)
        return;
    do {
        size_t part = length > PIECE_BYTES ? PIECE_BYTES : length;
        struct piece *piece = memory_alloc(sizeof(*piece) + HEAD_BYTES + part);
        piece->fd = fd;
        piece->length = HEAD_BYTES + part;
        piece->bytes[0] = type;
        piece->bytes[1] = length > part;
        if (part > 0)
            memcpy(piece->bytes + HEAD_BYTES, at, part);
        TAILQ_INSERT_TAIL(&channel->out, piece, link);
        channel->out_count++;
        length -= part;
        if (length > 0)
            at += part;
        fd = -1;
    } while (length > 0);
    flush(channel);
}

size_t channel_backlog(const struct channel *channel)
{
    return channel->out_count;
}

void channel_listen(struct channel *channel, struct event_base *base, channel_receiver receiver,
                    channel_ender ender, void *arg)
{
    channel->receiver = receiver;
    channel->ender = ender;
    channel->arg = arg;
    channel->read_event = event_new(base, channel->fd, EV_READ | EV_PERSIST, on_readable, channel);
    channel->write_event = event_new(base, channel->fd, EV_WRITE, on_writable, channel);
    event_add(channel->read_event, NULL);
    flush(channel);
    if (channel->has_ended)
        end(channel);
}
