/*
 * http.c - the HTTP listener, in the same loop, by evhttp.
 *
 * Read-only, GET and HEAD alone; every page is made from counters, none asks the upstream, so that a handler
 * is over in microseconds.  Sizes and times of requests are bounded.
 */
#include "admin/http.h"

#include <stdlib.h>
#include <string.h>

#include <event2/buffer.h>
#include <event2/http.h>

#include "admin/status.h"
#include "base/log.h"

static void answer(struct evhttp_request *request, int code, const char *reason, const char *type,
                   const char *body)
{
    struct evkeyvalq *headers = evhttp_request_get_output_headers(request);
    struct evbuffer *buffer = evbuffer_new();
    evhttp_add_header(headers, "Content-Type", type);
    evhttp_add_header(headers, "Cache-Control", "no-store");
    evhttp_add_header(headers, "X-Content-Type-Options", "nosniff");
    evbuffer_add(buffer, body, strlen(body));
    evhttp_send_reply(request, code, reason, buffer);
    evbuffer_free(buffer);
}

static void on_status(struct evhttp_request *request, void *arg)
{
    struct proxy *proxy = arg;
    proxy->now_us = clock_now_us();
    char *text = status_text(proxy);
    answer(request, 200, "OK", "text/plain; charset=utf-8", text);
    free(text);
}

static void on_status_json(struct evhttp_request *request, void *arg)
{
    struct proxy *proxy = arg;
    proxy->now_us = clock_now_us();
    char *text = status_json(proxy);
    answer(request, 200, "OK", "application/json", text);
    free(text);
}

static void on_health(struct evhttp_request *request, void *arg)
{
    (void)arg;
    answer(request, 200, "OK", "text/plain; charset=utf-8", "ok\n");
}

static void on_ready(struct evhttp_request *request, void *arg)
{
    struct proxy *proxy = arg;
    proxy->now_us = clock_now_us();
    char *why = status_not_ready(proxy);
    if (why)
        answer(request, 503, "Service Unavailable", "text/plain; charset=utf-8", why);
    else
        answer(request, 200, "OK", "text/plain; charset=utf-8", "ready\n");
    free(why);
}

static void on_other(struct evhttp_request *request, void *arg)
{
    (void)arg;
    answer(request, 404, "Not Found", "text/plain; charset=utf-8",
           "there are /status, /status.json, /healthz and /readyz\n");
}

static const struct {
    const char *path;
    void (*handler)(struct evhttp_request *, void *);
} pages[] = {
    {"/status", on_status},
    {"/status.json", on_status_json},
    {"/healthz", on_health},
    {"/readyz", on_ready},
};

bool http_start(struct proxy *proxy)
{
    const struct config_address_list *list = &proxy->config->admin_http;
    if (list->count == 0)
        return true;
    struct evhttp *http = evhttp_new(proxy->base);
    if (!http)
        return false;
    proxy->http = http;
    evhttp_set_allowed_methods(http, EVHTTP_REQ_GET | EVHTTP_REQ_HEAD);
    evhttp_set_max_headers_size(http, 8192);
    evhttp_set_max_body_size(http, 1024);
    evhttp_set_timeout(http, 10);
    for (size_t i = 0; i < sizeof(pages) / sizeof(pages[0]); i++)
        evhttp_set_cb(http, pages[i].path, pages[i].handler, proxy);
    evhttp_set_gencb(http, on_other, proxy);
    for (size_t i = 0; i < list->count; i++) {
        const struct config_address *at = &list->items[i];
        const char *host = at->host && strcmp(at->host, "*") == 0 ? "0.0.0.0" : at->host;
        if (at->is_unix || evhttp_bind_socket(http, host, at->port) != 0) {
            log_error("cannot listen on %s:%u for http", at->is_unix ? at->path : at->host,
                      at->port);
            return false;
        }
        log_info("listening on %s:%u for http", at->host, at->port);
    }
    return true;
}

void http_stop(struct proxy *proxy)
{
    if (proxy->http)
        evhttp_free(proxy->http);
    proxy->http = NULL;
}
