/*
 * http.c - the HTTP listener, in the same loop, by evhttp: see http.h.
 *
 * Read-only, GET and HEAD alone.  Every document is made from counters when it is asked for and none asks the upstream,
 * so that a handler is over in well under a millisecond; sizes and times of requests are bounded.
 *
 * There are no users here, so what may be shown hangs on where the listener is bound.  On loopback whoever asks sits
 * on this machine: he sees clients' addresses and query texts, and a request whose Host header is a
 * stranger's name is refused (http_host.h).  Anywhere else those columns are left out (contract 9).
 *
 * evhttp would answer a wrong method with 501 and a HEAD with a body; both are done here instead.
 */
#include "admin/http.h"

#include <netinet/in.h>
#include <netdb.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <event2/buffer.h>
#include <event2/http.h>
#include <event2/listener.h>

#include "admin/history.h"
#include "admin/http_crowd.h"
#include "admin/http_host.h"
#include "admin/live.h"
#include "admin/metrics.h"
#include "admin/metrics_text.h"
#include "admin/page.h"
#include "admin/status.h"
#include "base/log.h"
#include "base/memory.h"
#include "net/timer.h"
#include "proxy/listener.h"

#define REQUEST_HEADERS_MAX 8192
#define REQUEST_BODY_MAX    1024
#define REQUEST_SECONDS     30 /* a connection that says nothing for this long is closed, */
#define ACCEPT_PAUSE_US     (100 * CLOCK_MS)
#define CROWD_SECONDS       60 /* and one that says something, and asks for nothing */
#define CROWD_MAX           32 /* connections, over every address */

#define TYPE_TEXT "text/plain; charset=utf-8"
#define TYPE_JSON "application/json"
#define TYPE_HTML "text/html; charset=utf-8"

/* What nothing but the page needs. */
#define POLICY_NONE "default-src 'none'; frame-ancestors 'none'"

/* One address: evhttp does not say through which of its sockets a request came. */
struct http_listener {
    struct http *http;
    struct evhttp *server;
    char *host; /* as configured: its own copy, for a reload replaces the config */
    bool is_loopback;
    bool is_named; /* its sockets are those that systemd named "http" */
};

struct http {
    struct proxy *proxy;
    struct history *history;
    struct http_crowd *crowd;
    struct timer *pause; /* since accepting has failed */
    bool is_pausing;
    char *page_policy;
    struct http_listener *listeners;
    size_t count;
};

/* For evhttp's acceptor, which tells of an error with an argument of its own alone. */
static struct http *running;

struct answer {
    int code;
    const char *reason;
    const char *type;
    const char *policy;
    const char *text; /* when it is nobody's to free, */
    char *made;       /* else this one, freed when it is sent */
};

/* ---- the documents ---- */

static struct answer get_page(const struct http_listener *listener, uint64_t since)
{
    (void)since;
    return (struct answer){
        .type = TYPE_HTML, .policy = listener->http->page_policy, .text = page_text()};
}

static struct answer get_live(const struct http_listener *listener, uint64_t since)
{
    const struct http *http = listener->http;
    return (struct answer){.type = TYPE_JSON,
                           .made =
                               live_json(http->proxy, http->history, since, listener->is_loopback)};
}

static struct answer get_status(const struct http_listener *listener, uint64_t since)
{
    (void)since;
    return (struct answer){.type = TYPE_TEXT, .made = status_text(listener->http->proxy)};
}

static struct answer get_status_json(const struct http_listener *listener, uint64_t since)
{
    (void)since;
    return (struct answer){.type = TYPE_JSON, .made = status_json(listener->http->proxy)};
}

static struct answer get_metrics(const struct http_listener *listener, uint64_t since)
{
    (void)since;
    return (struct answer){.type = METRICS_TEXT_TYPE, .made = metrics_text(listener->http->proxy)};
}

static struct answer get_health(const struct http_listener *listener, uint64_t since)
{
    (void)listener;
    (void)since;
    return (struct answer){.type = TYPE_TEXT, .text = "ok\n"};
}

static struct answer get_ready(const struct http_listener *listener, uint64_t since)
{
    (void)since;
    char *why = status_not_ready(listener->http->proxy);
    if (!why)
        return (struct answer){.type = TYPE_TEXT, .text = "ready\n"};
    return (struct answer){
        .code = 503, .reason = "Service Unavailable", .type = TYPE_TEXT, .made = why};
}

static const struct {
    const char *path;
    struct answer (*get)(const struct http_listener *listener, uint64_t since);
} documents[] = {
    {"/", get_page},           {"/live.json", get_live},
    {"/status", get_status},   {"/status.json", get_status_json},
    {"/metrics", get_metrics}, {"/healthz", get_health},
    {"/readyz", get_ready},
};

/* ---- requests ---- */

/* The number of the last point of history that the caller has: `since=N` in the query; 0 without. */
static uint64_t since_of(const struct evhttp_uri *uri)
{
    struct evkeyvalq pairs;
    const char *query = evhttp_uri_get_query(uri);
    uint64_t since = 0;
    if (!query || evhttp_parse_query_str(query, &pairs) != 0)
        return 0;
    const char *text = evhttp_find_header(&pairs, "since");
    if (text)
        since = strtoull(text, NULL, 10);
    evhttp_clear_headers(&pairs);
    return since;
}

static struct answer find_document(const struct http_listener *listener,
                                   struct evhttp_request *request)
{
    const struct evhttp_uri *uri = evhttp_request_get_evhttp_uri(request);
    const char *path = uri ? evhttp_uri_get_path(uri) : NULL;
    for (size_t i = 0; path && i < sizeof(documents) / sizeof(documents[0]); i++) {
        if (strcmp(path, documents[i].path) == 0)
            return documents[i].get(listener, since_of(uri));
    }
    return (struct answer){
        .code = 404,
        .reason = "Not Found",
        .type = TYPE_TEXT,
        .text = "there are /, /status, /status.json, /metrics, /healthz and /readyz\n"};
}

static struct answer choose_answer(const struct http_listener *listener,
                                   struct evhttp_request *request)
{
    enum evhttp_cmd_type method = evhttp_request_get_command(request);
    const char *host = evhttp_find_header(evhttp_request_get_input_headers(request), "Host");
    if (method != EVHTTP_REQ_GET && method != EVHTTP_REQ_HEAD)
        return (struct answer){.code = 405,
                               .reason = "Method Not Allowed",
                               .type = TYPE_TEXT,
                               .text = "this listener is read-only: GET and HEAD\n"};
    if (listener->is_loopback && !http_host_is_ours(host, listener->host))
        return (struct answer){.code = 421,
                               .reason = "Misdirected Request",
                               .type = TYPE_TEXT,
                               .text = "ask by address, as localhost, or by the name in the "
                                       "configuration ([admin] http)\n"};
    return find_document(listener, request);
}

/* In an upgrade whoever asks again is to reach the new process; and a crowd is to make room. */
static void send_answer(struct evhttp_request *request, const struct answer *answer, bool is_last)
{
    struct evkeyvalq *headers = evhttp_request_get_output_headers(request);
    struct evbuffer *body = evbuffer_new();
    const char *text = answer->made ? answer->made : answer->text;
    char length[24];
    snprintf(length, sizeof(length), "%zu", strlen(text));
    evhttp_add_header(headers, "Content-Type", answer->type);
    evhttp_add_header(headers, "Content-Length", length);
    evhttp_add_header(headers, "Cache-Control", "no-store");
    evhttp_add_header(headers, "X-Content-Type-Options", "nosniff");
    evhttp_add_header(headers, "Referrer-Policy", "no-referrer");
    evhttp_add_header(headers, "Cross-Origin-Resource-Policy", "same-origin");
    evhttp_add_header(headers, "Content-Security-Policy",
                      answer->policy ? answer->policy : POLICY_NONE);
    if (is_last)
        evhttp_add_header(headers, "Connection", "close");
    if (answer->code == 405)
        evhttp_add_header(headers, "Allow", "GET, HEAD");
    if (evhttp_request_get_command(request) != EVHTTP_REQ_HEAD)
        evbuffer_add(body, text, strlen(text));
    evhttp_send_reply(request, answer->code ? answer->code : 200,
                      answer->reason ? answer->reason : "OK", body);
    evbuffer_free(body);
}

static void on_request(struct evhttp_request *request, void *arg)
{
    const struct http_listener *listener = arg;
    listener->http->proxy->now_us = clock_now_us();
    http_crowd_note_request(listener->http->crowd, request);
    struct answer answer = choose_answer(listener, request);
    send_answer(request, &answer,
                listener->http->proxy->is_accepting_held ||
                    !http_crowd_admits(listener->http->crowd));
    free(answer.made);
}

/* ---- listening ---- */

static bool is_loopback(int fd)
{
    struct sockaddr_storage address = {0};
    socklen_t length = sizeof(address);
    if (getsockname(fd, (struct sockaddr *)&address, &length) < 0)
        return false;
    if (address.ss_family == AF_INET) {
        const struct sockaddr_in *in = (const struct sockaddr_in *)&address;
        return ntohl(in->sin_addr.s_addr) >> 24 == IN_LOOPBACKNET;
    }
    const struct sockaddr_in6 *in6 = (const struct sockaddr_in6 *)&address;
    return address.ss_family == AF_INET6 && IN6_IS_ADDR_LOOPBACK(&in6->sin6_addr);
}

static void set_bound(struct evhttp_bound_socket *bound, void *arg)
{
    const bool *is_open = arg;
    if (*is_open)
        evconnlistener_enable(evhttp_bound_socket_get_listener(bound));
    else
        evconnlistener_disable(evhttp_bound_socket_get_listener(bound));
}

static void set_doors(void *arg)
{
    const struct http *http = arg;
    bool is_open =
        !http->proxy->is_accepting_held && !http->is_pausing && http_crowd_admits(http->crowd);
    for (size_t i = 0; i < http->count; i++)
        evhttp_foreach_bound_socket(http->listeners[i].server, set_bound, &is_open);
}

static void accept_again(void *arg)
{
    struct http *http = arg;
    http->is_pausing = false;
    set_doors(http);
}

/* Out of descriptors, most likely: to ask again at once would be to spin until somebody leaves.  `arg` is evhttp's own. */
static void on_accept_error(struct evconnlistener *acceptor, void *arg)
{
    (void)acceptor;
    (void)arg;
    log_event(LOG_LEVEL_WARNING, "accepting pauses for 100 ms", LOG_FIELD_TEXT("protocol", "http"),
              LOG_FIELD_KIND("reason", evutil_socket_error_to_string(EVUTIL_SOCKET_ERROR())));
    running->is_pausing = true;
    set_doors(running);
    timer_set(running->pause, ACCEPT_PAUSE_US);
}

static bool bind_one(struct http_listener *listener, int fd)
{
    struct evhttp_bound_socket *bound =
        fd >= 0 ? evhttp_accept_socket_with_handle(listener->server, fd) : NULL;
    if (!bound && fd >= 0)
        close(fd);
    if (!bound)
        return false;
    struct evconnlistener *acceptor = evhttp_bound_socket_get_listener(bound);
    listener->is_loopback &= is_loopback(evhttp_bound_socket_get_fd(bound));
    evconnlistener_set_error_cb(acceptor, on_accept_error);
    if (listener->http->proxy->is_accepting_held)
        evconnlistener_disable(acceptor);
    return true;
}

/* What systemd named "http" is where the first address listens, whatever it says; false when there is none. */
static bool bind_named(struct http_listener *listener)
{
    struct inherited *item;
    bool is_bound = false;
    listener->is_loopback = true;
    while ((item = inherit_by_name(&listener->http->proxy->inherited, "http")))
        is_bound |= bind_one(listener, inherit_take(item));
    listener->is_named = is_bound;
    return is_bound;
}

/* Every address that a name has: localhost is often ::1 and 127.0.0.1.  NULL: all of this machine's. */
static bool bind_all(struct http_listener *listener, const char *host, uint16_t port)
{
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE};
    struct addrinfo *found = NULL;
    struct inheritance *inherited = &listener->http->proxy->inherited;
    char service[8];
    bool is_bound = false;
    listener->is_loopback = true;
    snprintf(service, sizeof(service), "%u", port);
    if (getaddrinfo(host, service, &hints, &found) != 0)
        return false;
    for (const struct addrinfo *each = found; each; each = each->ai_next) {
        struct inherited *item = inherit_by_address(inherited, each->ai_addr, each->ai_addrlen);
        is_bound |= bind_one(listener, item ? inherit_take(item) : listener_socket(each));
    }
    freeaddrinfo(found);
    return is_bound;
}

static bool listener_open(struct http_listener *listener, const struct config_address *at)
{
    const char *host = at->host && strcmp(at->host, "*") == 0 ? NULL : at->host;
    struct evhttp *server = evhttp_new(listener->http->proxy->base);
    char address[320];
    if (!server)
        return false;
    http_crowd_watch(listener->http->crowd, server);
    listener->server = server;
    listener->host = memory_strdup(at->host);
    evhttp_set_allowed_methods(server, UINT16_MAX); /* all that it knows: refused by us, with 405 */
    evhttp_set_max_headers_size(server, REQUEST_HEADERS_MAX);
    evhttp_set_max_body_size(server, REQUEST_BODY_MAX);
    evhttp_set_timeout(server, REQUEST_SECONDS);
    evhttp_set_gencb(server, on_request, listener);
    snprintf(address, sizeof(address), "%s:%u", at->is_unix ? at->path : at->host, at->port);
    if (at->is_unix || (!bind_named(listener) && !bind_all(listener, host, at->port))) {
        log_event(LOG_LEVEL_ERROR, "cannot listen", LOG_FIELD_KIND("address", address),
                  LOG_FIELD_TEXT("pool", "admin"), LOG_FIELD_TEXT("protocol", "http"));
        return false;
    }
    log_event(LOG_LEVEL_INFO, "listening", LOG_FIELD_TEXT("address", address),
              LOG_FIELD_TEXT("pool", "admin"), LOG_FIELD_TEXT("protocol", "http"));
    return true;
}

static void listener_close(struct http_listener *listener)
{
    if (listener->server)
        evhttp_free(listener->server);
    free(listener->host);
}

struct visit {
    void (*one)(void *arg, int fd, const char *name);
    void *arg;
    const char *name;
};

static void visit_bound(struct evhttp_bound_socket *bound, void *arg)
{
    const struct visit *visit = arg;
    visit->one(visit->arg, evhttp_bound_socket_get_fd(bound), visit->name);
}

static void visit_sockets(struct proxy *proxy, void (*one)(void *arg, int fd, const char *name),
                          void *arg)
{
    const struct http *http = proxy->http;
    for (size_t i = 0; http && i < http->count; i++) {
        struct visit visit = {one, arg, http->listeners[i].is_named ? "http" : NULL};
        evhttp_foreach_bound_socket(http->listeners[i].server, visit_bound, &visit);
    }
}

static void hold_accepting(struct proxy *proxy)
{
    if (proxy->http)
        set_doors(proxy->http);
}

/* Of the descriptors that are kept, the other half is for the console and the reserved pools. */
static int crowd_most(void)
{
    int64_t half = listener_kept_descriptors() / 2;
    return half < 1 ? 1 : half < CROWD_MAX ? (int)half : CROWD_MAX;
}

bool http_start(struct proxy *proxy)
{
    const struct config_address_list *list = &proxy->config->admin_http;
    if (list->count == 0)
        return true;
    struct http *http = memory_alloc(sizeof(*http));
    proxy->http = http;
    proxy->visit_http = visit_sockets;
    proxy->hold_http = hold_accepting;
    http->proxy = proxy;
    http->history = history_new(proxy);
    http->crowd =
        http_crowd_new(proxy->base, crowd_most(), CROWD_SECONDS * CLOCK_S, set_doors, http);
    http->pause = timer_new(proxy->base, accept_again, http);
    running = http;
    http->page_policy = page_policy();
    http->listeners = memory_alloc(list->count * sizeof(*http->listeners));
    for (; http->count < list->count; http->count++) {
        struct http_listener *listener = &http->listeners[http->count];
        listener->http = http;
        if (!listener_open(listener, &list->items[http->count])) {
            listener_close(listener);
            return false;
        }
    }
    return true;
}

void http_stop(struct proxy *proxy)
{
    struct http *http = proxy->http;
    if (!http)
        return;
    for (size_t i = 0; i < http->count; i++)
        listener_close(&http->listeners[i]);
    http_crowd_free(http->crowd);
    timer_free(http->pause);
    running = NULL;
    history_free(http->history);
    free(http->page_policy);
    free(http->listeners);
    free(http);
    proxy->http = NULL;
}
