/*
 * inherit.c - listening sockets that the process was born with: see inherit.h.
 *
 * systemd's part is its documented protocol of three variables, which is all that libsystemd's sd_listen_fds() reads too.
 */
#include "net/inherit.h"

#include <netdb.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/un.h>
#include <unistd.h>

#include <event2/util.h>

#include "base/memory.h"
#include "base/process.h"

#define FIRST_FD 3
#define FDS_MAX  1024

void inherit_add(struct inheritance *all, int fd, const char *name, const char *unix_path)
{
    all->items = memory_resize(all->items, (all->count + 1) * sizeof(*all->items));
    all->items[all->count++] =
        (struct inherited){fd, memory_strdup(name), memory_strdup(unix_path)};
    evutil_make_socket_nonblocking(fd);
    evutil_make_socket_closeonexec(fd);
}

static bool is_listening(int fd)
{
    int type = 0;
    int listens = 0;
    socklen_t length = sizeof(int);
    return getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &length) == 0 && type == SOCK_STREAM &&
           getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listens, &length) == 0 && listens;
}

bool inherit_from_systemd(struct inheritance *all, char *why, size_t why_bytes)
{
    bool is_for_us = process_variable("LISTEN_PID") == getpid();
    int64_t count = process_variable("LISTEN_FDS");
    char *names = memory_strdup(getenv("LISTEN_FDNAMES"));
    char *at = names;
    bool ok = true;
    unsetenv("LISTEN_PID");
    unsetenv("LISTEN_FDS");
    unsetenv("LISTEN_FDNAMES");
    for (int i = 0; is_for_us && i < count && i < FDS_MAX; i++) {
        const char *name = at ? strsep(&at, ":") : NULL;
        if (!is_listening(FIRST_FD + i)) {
            snprintf(why, why_bytes,
                     "descriptor %d, passed by systemd, is not a listening stream socket: "
                     "the .socket unit needs ListenStream= and Accept=no",
                     FIRST_FD + i);
            ok = false;
            continue;
        }
        inherit_add(all, FIRST_FD + i, name, NULL);
    }
    free(names);
    return ok;
}

static bool is_same(const struct sockaddr_storage *a, const struct sockaddr *b, socklen_t b_bytes)
{
    if (a->ss_family != b->sa_family)
        return false;
    if (b->sa_family == AF_INET && b_bytes >= sizeof(struct sockaddr_in)) {
        const struct sockaddr_in *in = (const struct sockaddr_in *)a;
        const struct sockaddr_in *other = (const struct sockaddr_in *)b;
        return in->sin_port == other->sin_port && in->sin_addr.s_addr == other->sin_addr.s_addr;
    }
    if (b->sa_family == AF_INET6 && b_bytes >= sizeof(struct sockaddr_in6)) {
        const struct sockaddr_in6 *in6 = (const struct sockaddr_in6 *)a;
        const struct sockaddr_in6 *other = (const struct sockaddr_in6 *)b;
        return in6->sin6_port == other->sin6_port &&
               memcmp(&in6->sin6_addr, &other->sin6_addr, sizeof(in6->sin6_addr)) == 0;
    }
    if (b->sa_family == AF_UNIX)
        return strncmp(((const struct sockaddr_un *)a)->sun_path,
                       ((const struct sockaddr_un *)b)->sun_path,
                       sizeof(((const struct sockaddr_un *)a)->sun_path)) == 0;
    return false;
}

struct inherited *inherit_by_address(struct inheritance *all, const struct sockaddr *address,
                                     socklen_t address_bytes)
{
    for (size_t i = 0; i < all->count; i++) {
        struct sockaddr_storage own = {0};
        socklen_t length = sizeof(own);
        struct inherited *item = &all->items[i];
        if (item->fd >= 0 && getsockname(item->fd, (struct sockaddr *)&own, &length) == 0 &&
            is_same(&own, address, address_bytes))
            return item;
    }
    return NULL;
}

struct inherited *inherit_by_name(struct inheritance *all, const char *name)
{
    for (size_t i = 0; i < all->count; i++) {
        struct inherited *item = &all->items[i];
        if (item->fd >= 0 && item->name && strcmp(item->name, name) == 0)
            return item;
    }
    return NULL;
}

int inherit_take(struct inherited *item)
{
    int fd = item->fd;
    item->fd = -1;
    return fd;
}

size_t inherit_free(struct inheritance *all)
{
    size_t unused = 0;
    for (size_t i = 0; i < all->count; i++) {
        struct inherited *item = &all->items[i];
        if (item->fd >= 0) {
            close(item->fd);
            unused++;
        }
        free(item->name);
        free(item->unix_path);
    }
    free(all->items);
    *all = (struct inheritance){0};
    return unused;
}

void inherit_describe(int fd, char *out, size_t out_bytes)
{
    struct sockaddr_storage own = {0};
    socklen_t length = sizeof(own);
    char host[INET6_ADDRSTRLEN];
    char port[8];
    snprintf(out, out_bytes, "?");
    if (getsockname(fd, (struct sockaddr *)&own, &length) < 0)
        return;
    if (own.ss_family == AF_UNIX)
        snprintf(out, out_bytes, "%s", ((const struct sockaddr_un *)&own)->sun_path);
    else if (getnameinfo((const struct sockaddr *)&own, length, host, sizeof(host), port,
                         sizeof(port), NI_NUMERICHOST | NI_NUMERICSERV) == 0)
        snprintf(out, out_bytes, own.ss_family == AF_INET6 ? "[%s]:%s" : "%s:%s", host, port);
}
