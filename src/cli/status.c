/*
 * status.c - `pgreserve status`: see status.h.
 *
 * By default it asks the HTTP listener that the configuration names, so that it needs no password; --url may point
 * to another one or to an admin console (postgresql://), where SHOW STATUS gives the same figures.
 */
#include "cli/status.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <event2/buffer.h>
#include <event2/event.h>
#include <event2/http.h>
#include <jansson.h>
#include <libpq-fe.h>

#include "base/memory.h"
#include "config/config.h"

#define UNREACHABLE 3

struct request {
    struct event_base *base;
    char *body;
    int code;
};

static void on_answer(struct evhttp_request *answer, void *arg)
{
    struct request *request = arg;
    if (answer) {
        struct evbuffer *input = evhttp_request_get_input_buffer(answer);
        size_t length = evbuffer_get_length(input);
        request->code = evhttp_request_get_response_code(answer);
        request->body = memory_alloc(length + 1);
        evbuffer_remove(input, request->body, length);
    }
    event_base_loopbreak(request->base);
}

static json_t *ask_http(const char *host, int port)
{
    struct request request = {.base = event_base_new()};
    struct evhttp_connection *connection =
        evhttp_connection_base_new(request.base, NULL, host, (unsigned short)port);
    struct evhttp_request *question = evhttp_request_new(on_answer, &request);
    evhttp_connection_set_timeout(connection, 5);
    evhttp_add_header(evhttp_request_get_output_headers(question), "Host", host);
    evhttp_add_header(evhttp_request_get_output_headers(question), "Connection", "close");
    if (evhttp_make_request(connection, question, EVHTTP_REQ_GET, "/status.json") == 0)
        event_base_dispatch(request.base);
    json_t *status = request.code == 200 ? json_loads(request.body, 0, NULL) : NULL;
    evhttp_connection_free(connection);
    event_base_free(request.base);
    free(request.body);
    return status;
}

/* One value of SHOW STATUS as JSON of its column's type. */
static json_t *value_of(const PGresult *result, int row, int column)
{
    const char *text = PQgetvalue(result, row, column);
    switch (PQftype(result, column)) {
    case 23:
        return json_integer(atoi(text));
    case 701:
        return json_real(atof(text));
    case 16:
        return json_boolean(text[0] == 't');
    default:
        return json_string(text);
    }
}

static json_t *ask_console(const char *url)
{
    const char *const keywords[] = {"dbname", "fallback_application_name", "connect_timeout", NULL};
    const char *const values[] = {url, "pgreserve status", "5", NULL};
    PGconn *conn = PQconnectdbParams(keywords, values, 1);
    PGresult *result = PQstatus(conn) == CONNECTION_OK ? PQexec(conn, "SHOW STATUS") : NULL;
    json_t *root = NULL;
    if (result && PQresultStatus(result) == PGRES_TUPLES_OK) {
        json_t *pools = json_array();
        root = json_pack("{s:o}", "pools", pools);
        for (int i = 0; i < PQntuples(result); i++) {
            json_t *figures = json_object();
            for (int j = 0; j < PQnfields(result); j++)
                json_object_set_new(figures, j == 0 ? "name" : PQfname(result, j),
                                    value_of(result, i, j));
            if (i + 1 < PQntuples(result)) {
                json_array_append_new(pools, figures);
            } else {
                json_object_set(root, "state", json_object_get(figures, "state"));
                json_object_set_new(root, "total", figures);
            }
        }
    } else {
        fprintf(stderr, "pgreserve: %s", PQerrorMessage(conn));
    }
    PQclear(result);
    PQfinish(conn);
    return root;
}

static void print_figures(const json_t *figures)
{
    static const char *const keys[] = {"in_use",         "available", "overflow",
                                       "total_possible", "reserved",  "waiting",
                                       "pinned",         "closing",   "clients"};
    printf("%-14s %-10s", json_string_value(json_object_get(figures, "name")),
           json_string_value(json_object_get(figures, "state")));
    for (size_t i = 0; i < sizeof(keys) / sizeof(keys[0]); i++)
        printf(" %s=%lld", keys[i],
               (long long)json_integer_value(json_object_get(figures, keys[i])));
    printf(" longest_wait=%.1fs longest_hold=%.1fs is_healthy=%s\n",
           json_number_value(json_object_get(figures, "longest_wait")),
           json_number_value(json_object_get(figures, "longest_hold")),
           json_is_true(json_object_get(figures, "is_healthy")) ? "true" : "false");
}

static void print_status(const json_t *status, bool as_json)
{
    size_t i;
    json_t *pool;
    if (as_json) {
        char *text = json_dumps(status, JSON_INDENT(2) | JSON_REAL_PRECISION(6));
        puts(text ? text : "{}");
        free(text);
        return;
    }
    json_array_foreach(json_object_get(status, "pools"), i, pool) print_figures(pool);
    print_figures(json_object_get(status, "total"));
}

static int exit_status(const json_t *status)
{
    const char *state = json_string_value(json_object_get(status, "state"));
    if (!state || strcmp(state, "exhausted") == 0 || strcmp(state, "down") == 0)
        return 2;
    return strcmp(state, "high_load") == 0 ? 1 : 0;
}

struct target {
    const char *url; /* postgresql://, or NULL */
    char *host;
    int port;
};

static bool find_target(struct target *target, const char *url, const char *file)
{
    if (url && strncmp(url, "http://", 7) != 0) {
        target->url = url;
        return true;
    }
    if (url) {
        struct evhttp_uri *uri = evhttp_uri_parse(url);
        const char *host = uri ? evhttp_uri_get_host(uri) : NULL;
        if (host) {
            target->host = memory_strdup(host);
            target->port = evhttp_uri_get_port(uri) > 0 ? evhttp_uri_get_port(uri) : 80;
        }
        if (uri)
            evhttp_uri_free(uri);
        return target->host != NULL;
    }
    struct config_errors errors = {0};
    struct config *config = config_load(file, &errors);
    if (config && config->admin_http.count > 0) {
        const char *host = config->admin_http.items[0].host;
        bool is_any = !host || strcmp(host, "*") == 0 || strcmp(host, "0.0.0.0") == 0;
        target->host = memory_strdup(is_any ? "127.0.0.1" : host);
        target->port = config->admin_http.items[0].port;
    } else if (!config && !file) {
        target->host = memory_strdup("127.0.0.1"); /* the shipped address, whatever else is unset */
        target->port = 6435;
    }
    for (size_t i = 0; i < errors.count && file; i++)
        fprintf(stderr, "%s\n", errors.items[i]);
    config_errors_free(&errors);
    config_free(config);
    return target->host != NULL;
}

static int ask_once(const struct target *target, bool as_json)
{
    json_t *status = target->url ? ask_console(target->url) : ask_http(target->host, target->port);
    if (!status) {
        fprintf(stderr, "pgreserve: the daemon cannot be reached%s%s\n", target->host ? " at " : "",
                target->host ? target->host : "");
        return UNREACHABLE;
    }
    print_status(status, as_json);
    fflush(stdout);
    int result = exit_status(status);
    json_decref(status);
    return result;
}

int status_command(int argc, char **argv)
{
    bool as_json = false;
    double watch = 0;
    const char *url = NULL;
    const char *file = NULL;
    for (int i = 0; i < argc; i++) {
        if (strcmp(argv[i], "--json") == 0)
            as_json = true;
        else if (strcmp(argv[i], "--watch") == 0)
            watch = 2;
        else if (strncmp(argv[i], "--watch=", 8) == 0)
            watch = atof(argv[i] + 8);
        else if (strcmp(argv[i], "--url") == 0 && i + 1 < argc)
            url = argv[++i];
        else if (strncmp(argv[i], "--url=", 6) == 0)
            url = argv[i] + 6;
        else if (strcmp(argv[i], "-c") == 0 && i + 1 < argc)
            file = argv[++i];
        else {
            fprintf(stderr, "pgreserve: status does not know %s\n", argv[i]);
            return UNREACHABLE;
        }
    }
    struct target target = {0};
    if (!find_target(&target, url, file)) {
        fprintf(stderr, "pgreserve: no HTTP listener is configured; say --url\n");
        return UNREACHABLE;
    }
    int result = ask_once(&target, as_json);
    while (watch > 0) {
        usleep((useconds_t)(watch * 1e6));
        result = ask_once(&target, as_json);
    }
    free(target.host);
    return result;
}
