/*
 * delay.c - a network that is far away: relays TCP and holds every byte back for a fixed time, each way.
 *
 *     delay LISTEN_PORT TARGET_PORT MICROSECONDS
 *
 * One process, one epoll.  Because every chunk waits equally long, what is due next is always the oldest: one queue for
 * all connections, and no timer but the wait for its head.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/queue.h>
#include <time.h>
#include <unistd.h>

struct end {
    int fd;
    struct end *other;
    int is_shut; /* the other side's end has been delivered to it */
};

struct chunk {
    STAILQ_ENTRY(chunk) link;
    int64_t due_ns;
    struct end *to;
    size_t length; /* 0: the other side has closed */
    char bytes[];
};

static STAILQ_HEAD(, chunk) queue = STAILQ_HEAD_INITIALIZER(queue);
static int epoll_fd;

static int64_t now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000000000LL + t.tv_nsec;
}

static struct sockaddr_in loopback(int port)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    return address;
}

static void watch(struct end *end)
{
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = end};
    int on = 1;
    setsockopt(end->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    epoll_ctl(epoll_fd, EPOLL_CTL_ADD, end->fd, &event);
}

static void accept_one(int listener, int target_port)
{
    struct sockaddr_in target = loopback(target_port);
    struct end *pair[2];
    int fds[2] = {accept(listener, NULL, NULL), socket(AF_INET, SOCK_STREAM, 0)};
    if (fds[0] < 0 || connect(fds[1], (struct sockaddr *)&target, sizeof(target)) != 0) {
        close(fds[0]);
        close(fds[1]);
        return;
    }
    for (int i = 0; i < 2; i++) {
        pair[i] = calloc(1, sizeof(struct end));
        pair[i]->fd = fds[i];
    }
    pair[0]->other = pair[1];
    pair[1]->other = pair[0];
    watch(pair[0]);
    watch(pair[1]);
}

static void take(struct end *end, int64_t delay_ns)
{
    static char bytes[65536];
    ssize_t got = recv(end->fd, bytes, sizeof(bytes), MSG_DONTWAIT);
    if (got < 0 && errno == EAGAIN)
        return;
    size_t length = got > 0 ? (size_t)got : 0;
    struct chunk *chunk = malloc(sizeof(*chunk) + length);
    chunk->due_ns = now_ns() + delay_ns;
    chunk->to = end->other;
    chunk->length = length;
    memcpy(chunk->bytes, bytes, length);
    STAILQ_INSERT_TAIL(&queue, chunk, link);
    if (length == 0)
        epoll_ctl(epoll_fd, EPOLL_CTL_DEL, end->fd, NULL);
}

static void deliver(struct chunk *chunk)
{
    struct end *to = chunk->to;
    for (size_t at = 0; at < chunk->length;) {
        ssize_t sent =
            send(to->fd, chunk->bytes + at, chunk->length - at, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (sent > 0)
            at += (size_t)sent;
        else if (errno == EAGAIN)
            poll(&(struct pollfd){.fd = to->fd, .events = POLLOUT}, 1, 1000);
        else
            break;
    }
    if (chunk->length > 0)
        return;
    shutdown(to->fd, SHUT_WR);
    to->is_shut = 1;
    if (to->other
            ->is_shut) { /* both ways are over; nothing of this pair is in the queue any more */
        close(to->fd);
        close(to->other->fd);
        free(to->other);
        free(to);
    }
}

int main(int argc, char **argv)
{
    if (argc != 4)
        return 2;
    struct sockaddr_in address = loopback(atoi(argv[1]));
    int64_t delay_ns = atoll(argv[3]) * 1000;
    int listener = socket(AF_INET, SOCK_STREAM, 0);
    int on = 1;
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
    if (bind(listener, (struct sockaddr *)&address, sizeof(address)) != 0 ||
        listen(listener, 1000) != 0) {
        perror("delay");
        return 1;
    }
    epoll_fd = epoll_create1(0);
    struct epoll_event event = {.events = EPOLLIN};
    epoll_ctl(epoll_fd, EPOLL_CTL_ADD, listener, &event);
    for (;;) {
        struct epoll_event events[64];
        struct chunk *head = STAILQ_FIRST(&queue);
        int64_t left = head ? head->due_ns - now_ns() : 1000000000LL;
        struct timespec wait = {left > 0 ? left / 1000000000 : 0, left > 0 ? left % 1000000000 : 0};
        int count = epoll_pwait2(epoll_fd, events, 64, &wait, NULL);
        for (int i = 0; i < count; i++) {
            if (events[i].data.ptr)
                take(events[i].data.ptr, delay_ns);
            else
                accept_one(listener, atoi(argv[2]));
        }
        while ((head = STAILQ_FIRST(&queue)) && head->due_ns <= now_ns()) {
            STAILQ_REMOVE_HEAD(&queue, link);
            deliver(head);
            free(head);
        }
    }
}
