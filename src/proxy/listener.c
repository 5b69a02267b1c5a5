/*
 * listener.c - the doors: every address of every pool, and of the console.
 *
 * accept4 until nobody is left.  When descriptors run out, accepting pauses for a moment instead of spinning, and a spare
 * descriptor, kept for that, is given up so that one client can be told why.  The last descriptors are
 * kept for the console and the reserved pools: others are refused a little earlier (contract 7, "the doors stay open").
 *
 * A socket that the process was born with (net/inherit.h) is used before one is made.  In an upgrade two processes have
 * the same sockets: exactly one of them accepts.
 */
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/log.h"
#include "base/memory.h"
#include "proto/build.h"
#include "proto/sqlstate.h"
#include "proxy/listener.h"
#include "proxy/proxy.h"

#define LISTEN_BACKLOG   1024
#define KEPT_DESCRIPTORS 64

static void on_accept(evutil_socket_t fd, short what, void *arg);

static void refuse(int fd, const char *message)
{
    struct buffer answer = {0};
    build_error(
        &answer, 'E',
        &(struct error_fields){
            "FATAL", SQLSTATE_TOO_MANY_CONNECTIONS, message, NULL,
            "Raise the limit of open files: LimitNOFILE in the service's unit, or ulimit -n."});
    if (send(fd, buffer_bytes(&answer), buffer_length(&answer), MSG_NOSIGNAL | MSG_DONTWAIT) < 0)
        log_event(LOG_LEVEL_DEBUG, "a refused client was gone already",
                  LOG_FIELD_TEXT("refusal", message));
    buffer_free(&answer);
    close(fd);
}

void listener_check_descriptors(const struct proxy *proxy)
{
    struct rlimit limit;
    const struct config *config = proxy->config;
    int64_t needed = (int64_t)config->max_clients + config->total_connections + KEPT_DESCRIPTORS;
    if (getrlimit(RLIMIT_NOFILE, &limit) < 0 || limit.rlim_cur == RLIM_INFINITY ||
        limit.rlim_cur >= (rlim_t)needed)
        return;
    log_event(LOG_LEVEL_WARNING, "fewer open files are allowed than max_clients needs",
              LOG_FIELD_NUMBER("max_clients", config->max_clients),
              LOG_FIELD_NUMBER("needed", needed), LOG_FIELD_NUMBER("allowed", limit.rlim_cur),
              LOG_FIELD_TEXT("consequence", "clients beyond that are refused with 53300"),
              LOG_FIELD_TEXT("hint", "raise LimitNOFILE in the service's unit, or ulimit -n; or "
                                     "lower max_clients in [pgreserve]"));
}

static void pause_accepting(struct proxy *proxy, int error)
{
    struct timeval moment = {0, 100000};
    struct listener *listener;
    log_event(LOG_LEVEL_WARNING, "accepting pauses for 100 ms",
              LOG_FIELD_KIND("reason", strerror(error)));
    TAILQ_FOREACH (listener, &proxy->listeners, link)
        event_del(&listener->event);
    event_add(proxy->accept_again_event, &moment);
}

static void keep_spare(struct proxy *proxy)
{
    proxy->spare_fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
}

static bool keeps_doors(const struct listener *listener)
{
    return !listener->pool || proxy_pool_is_reserved(listener->pool);
}

int64_t listener_kept_descriptors(void)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) < 0 || limit.rlim_cur == RLIM_INFINITY ||
        limit.rlim_cur / 8 >= KEPT_DESCRIPTORS)
        return KEPT_DESCRIPTORS;
    return (int64_t)limit.rlim_cur / 8;
}

/* A new descriptor's number says how many are in use: the system gives the lowest free one. */
static bool is_too_high(int fd)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) < 0 || limit.rlim_cur == RLIM_INFINITY)
        return false;
    return (rlim_t)(fd + listener_kept_descriptors()) >= limit.rlim_cur;
}

static void on_accept(evutil_socket_t fd, short what, void *arg)
{
    struct listener *listener = arg;
    struct proxy *proxy = listener->proxy;
    (void)what;
    proxy->now_us = clock_now_us();
    while (door_admits(listener)) {
        struct sockaddr_storage address = {0};
        socklen_t length = sizeof(address);
        int accepted =
            accept4(fd, (struct sockaddr *)&address, &length, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (accepted >= 0) {
            if (!keeps_doors(listener) && is_too_high(accepted))
                refuse(accepted, "no more connections allowed (file descriptors are used up)");
            else if (!client_accepted(listener, accepted, &address))
                refuse(accepted, "no more connections allowed (the kernel watches no more)");
            continue;
        }
        if (errno == EINTR || errno == ECONNABORTED)
            continue;
        if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM) {
            int error = errno;
            if (proxy->spare_fd >= 0) {
                close(proxy->spare_fd);
                int last = accept4(fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
                if (last >= 0)
                    refuse(last, "no more connections allowed (file descriptors are used up)");
                keep_spare(proxy);
            }
            pause_accepting(proxy, error);
        }
        return;
    }
}

static void accept_again(evutil_socket_t fd, short what, void *arg)
{
    struct proxy *proxy = arg;
    struct listener *listener;
    (void)fd;
    (void)what;
    if (proxy->spare_fd < 0)
        keep_spare(proxy);
    if (proxy->is_accepting_held)
        return;
    TAILQ_FOREACH (listener, &proxy->listeners, link)
        event_add(&listener->event, NULL);
}

void listener_hold_all(struct proxy *proxy, bool is_held)
{
    struct listener *listener;
    proxy->is_accepting_held = is_held;
    if (proxy->hold_http)
        proxy->hold_http(proxy);
    TAILQ_FOREACH (listener, &proxy->listeners, link) {
        if (is_held)
            event_del(&listener->event);
        else if (!listener->is_shut)
            event_add(&listener->event, NULL);
    }
}

void listener_leave_files(struct proxy *proxy)
{
    struct listener *listener;
    TAILQ_FOREACH (listener, &proxy->listeners, link) {
        free(listener->unix_path);
        listener->unix_path = NULL;
    }
}

static bool is_unix_socket(int fd)
{
    struct sockaddr_storage address = {0};
    socklen_t length = sizeof(address);
    return getsockname(fd, (struct sockaddr *)&address, &length) == 0 &&
           address.ss_family == AF_UNIX;
}

static bool add_listener(struct proxy *proxy, struct proxy_pool *pool, int fd, char *text,
                         char *unix_path)
{
    struct listener *listener = memory_alloc(sizeof(*listener));
    listener->proxy = proxy;
    listener->pool = pool;
    listener->fd = fd;
    listener->is_unix = is_unix_socket(fd);
    listener->unix_path = unix_path;
    listener->text = text;
    event_assign(&listener->event, proxy->base, fd, EV_READ | EV_PERSIST, on_accept, listener);
    if (!proxy->is_accepting_held)
        event_add(&listener->event, NULL);
    TAILQ_INSERT_TAIL(&proxy->listeners, listener, link);
    log_event(LOG_LEVEL_INFO, "listening", LOG_FIELD_TEXT("address", text),
              LOG_FIELD_TEXT("pool", pool ? pool->name : "admin"));
    return true;
}

/* One that the process was born with. */
static void adopt(struct proxy *proxy, struct proxy_pool *pool, struct inherited *item)
{
    char where[160];
    int fd = inherit_take(item);
    inherit_describe(fd, where, sizeof(where));
    add_listener(proxy, pool, fd, memory_strdup(where), memory_strdup(item->unix_path));
    TAILQ_LAST(&proxy->listeners, listener_list)->name = memory_strdup(item->name);
}

/* What systemd named after the pool is where it listens, whatever its `listen` says.  How many these are. */
static int adopt_named(struct proxy *proxy, struct proxy_pool *pool, const char *name)
{
    struct inherited *item;
    int count = 0;
    for (; (item = inherit_by_name(&proxy->inherited, name)); count++)
        adopt(proxy, pool, item);
    return count;
}

static void cannot_listen(const struct config_address *at, const char *why)
{
    log_event(LOG_LEVEL_ERROR, "cannot listen",
              LOG_FIELD_KIND("address", at->is_unix ? at->path : at->host),
              LOG_FIELD_NUMBER("port", at->port), LOG_FIELD_KIND("reason", why));
}

int listener_socket(const struct addrinfo *at)
{
    int on = 1;
    int fd = socket(at->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -1;
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
    if (at->ai_family ==
        AF_INET6) /* or it would take IPv4's port too, which has a socket of its own */
        setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof(on));
    if (bind(fd, at->ai_addr, at->ai_addrlen) == 0 && listen(fd, LISTEN_BACKLOG) == 0)
        return fd;
    int error = errno;
    close(fd);
    errno = error;
    return -1;
}

static bool open_tcp(struct proxy *proxy, struct proxy_pool *pool, const struct config_address *at)
{
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE};
    struct addrinfo *found = NULL;
    char port[8];
    int opened = 0;
    const char *host = strcmp(at->host, "*") == 0 ? NULL : at->host;
    snprintf(port, sizeof(port), "%u", at->port);
    int error = getaddrinfo(host, port, &hints, &found);
    if (error != 0) {
        cannot_listen(at, gai_strerror(error));
        return false;
    }
    for (struct addrinfo *each = found; each; each = each->ai_next) {
        struct inherited *item =
            inherit_by_address(&proxy->inherited, each->ai_addr, each->ai_addrlen);
        if (item) {
            adopt(proxy, pool, item);
            opened++;
            continue;
        }
        int fd = listener_socket(each);
        if (fd < 0) {
            if (errno != EAFNOSUPPORT) /* a machine without IPv6 */
                cannot_listen(at, strerror(errno));
            continue;
        }
        add_listener(proxy, pool, fd, memory_printf("%s:%u", at->host, at->port), NULL);
        opened++;
    }
    freeaddrinfo(found);
    return opened > 0;
}

/* A socket file that nobody answers behind is left over and may go. */
static bool is_left_over(const struct sockaddr_un *address)
{
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return false;
    bool refused = connect(fd, (const struct sockaddr *)address, sizeof(*address)) < 0 &&
                   errno == ECONNREFUSED;
    close(fd);
    return refused;
}

static bool open_unix(struct proxy *proxy, struct proxy_pool *pool, const struct config_address *at)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    char *path = memory_printf("%s/.s.PGSQL.%u", at->path, at->port);
    if (strlen(path) >= sizeof(address.sun_path)) {
        cannot_listen(at, "the path is too long");
        free(path);
        return false;
    }
    memcpy(address.sun_path, path, strlen(path));
    struct inherited *item =
        inherit_by_address(&proxy->inherited, (const struct sockaddr *)&address, sizeof(address));
    if (item) {
        adopt(proxy, pool, item);
        free(path);
        return true;
    }
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd >= 0 && is_left_over(&address))
        unlink(path);
    if (fd < 0 || bind(fd, (struct sockaddr *)&address, sizeof(address)) < 0 ||
        chmod(path, 0777) < 0 || listen(fd, LISTEN_BACKLOG) < 0) {
        cannot_listen(at, strerror(errno));
        if (fd >= 0)
            close(fd);
        free(path);
        return false;
    }
    return add_listener(proxy, pool, fd, memory_strdup(path), path);
}

static bool open_list(struct proxy *proxy, struct proxy_pool *pool,
                      const struct config_address_list *list)
{
    bool ok = true;
    for (size_t i = 0; i < list->count; i++) {
        const struct config_address *at = &list->items[i];
        ok &= at->is_unix ? open_unix(proxy, pool, at) : open_tcp(proxy, pool, at);
    }
    return ok;
}

bool listener_open_all(struct proxy *proxy)
{
    bool ok = true;
    if (!proxy->accept_again_event)
        proxy->accept_again_event = evtimer_new(proxy->base, accept_again, proxy);
    keep_spare(proxy);
    for (size_t i = 0; i < proxy->pool_count; i++) {
        struct proxy_pool *pool = proxy->pools[i];
        if (adopt_named(proxy, pool, pool->name) == 0)
            ok &= open_list(proxy, pool, &pool->config->listen);
    }
    if (adopt_named(proxy, NULL, "admin") == 0)
        ok &= open_list(proxy, NULL, &proxy->config->admin_listen);
    return ok;
}

static void listener_close(struct listener *listener)
{
    event_del(&listener->event);
    close(listener->fd);
    if (listener->unix_path)
        unlink(listener->unix_path);
    TAILQ_REMOVE(&listener->proxy->listeners, listener, link);
    free(listener->unix_path);
    free(listener->name);
    free(listener->text);
    free(listener);
}

void listener_close_pools(struct proxy *proxy)
{
    for (struct listener *next, *listener = TAILQ_FIRST(&proxy->listeners); listener;
         listener = next) {
        next = TAILQ_NEXT(listener, link);
        if (listener->pool)
            listener_close(listener);
    }
}

void listener_close_all(struct proxy *proxy)
{
    struct listener *listener;
    if (proxy->accept_again_event)
        event_free(proxy->accept_again_event);
    proxy->accept_again_event = NULL;
    while ((listener = TAILQ_FIRST(&proxy->listeners)))
        listener_close(listener);
    if (proxy->spare_fd >= 0)
        close(proxy->spare_fd);
    proxy->spare_fd = -1;
}
