/*
 * daemon.c - asking the running daemon how it stands: see daemon.h.
 *
 * HTTP is a request line and an answer up to its end: HTTP/1.0, so that nobody sends chunks.  The console's SHOW STATUS
 * is turned into the same JSON, column by column.  No password is sent to a console that only the configuration names:
 * whoever has taken its port meanwhile must not be told; over a unix socket none is needed.
 */
#include "cli/daemon.h"

#include <errno.h>
#include <netdb.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <event2/http.h>
#include <libpq-fe.h>

#include "base/clock.h"
#include "base/memory.h"

#define ANSWER_MAX  (8u << 20)
#define PATIENCE_US (5 * CLOCK_S)

/* ---- doors ---- */

static struct daemon_door *add_door(struct daemon_doors *doors)
{
    doors->items = memory_resize(doors->items, (doors->count + 1) * sizeof(*doors->items));
    struct daemon_door *door = &doors->items[doors->count++];
    *door = (struct daemon_door){.path = memory_strdup("")};
    return door;
}

const char *daemon_reachable(const char *host)
{
    if (!host || !*host || strcmp(host, "*") == 0 || strcmp(host, "0.0.0.0") == 0)
        return "127.0.0.1";
    return strcmp(host, "::") == 0 ? "::1" : host;
}

void daemon_doors_of(struct daemon_doors *doors, const struct config *config)
{
    const struct config_database *upstream = config_find_database(config, "*");
    for (size_t i = 0; i < config->admin_http.count; i++) {
        const struct config_address *at = &config->admin_http.items[i];
        if (at->is_unix)
            continue; /* the daemon does not listen there either */
        struct daemon_door *door = add_door(doors);
        door->host = memory_strdup(daemon_reachable(at->host));
        door->port = at->port;
    }
    for (size_t i = 0; i < config->admin_listen.count; i++) {
        const struct config_address *at = &config->admin_listen.items[i];
        struct daemon_door *door = add_door(doors);
        door->is_console = true;
        door->host = memory_strdup(at->is_unix ? at->path : daemon_reachable(at->host));
        door->port = at->port;
        door->user = memory_strdup(upstream ? upstream->user : NULL);
    }
}

static bool http_door(struct daemon_doors *doors, const char *url)
{
    struct evhttp_uri *uri = evhttp_uri_parse_with_flags(url, EVHTTP_URI_NONCONFORMANT);
    const char *host = uri ? evhttp_uri_get_host(uri) : NULL;
    bool is_fine = host && *host;
    if (is_fine) {
        struct daemon_door *door = add_door(doors);
        const char *path = evhttp_uri_get_path(uri);
        size_t length = strlen(path ? path : "");
        while (length > 0 && path[length - 1] == '/')
            length--;
        free(door->path);
        door->path = memory_strndup(path ? path : "", length);
        door->port = evhttp_uri_get_port(uri) > 0 ? evhttp_uri_get_port(uri) : 80;
        if (*host == '[') /* an IPv6 address stands in brackets */
            door->host = memory_strndup(host + 1, strcspn(host + 1, "]"));
        else
            door->host = memory_strdup(host);
    }
    if (uri)
        evhttp_uri_free(uri);
    return is_fine;
}

bool daemon_doors_from_url(struct daemon_doors *doors, const char *url, char *why, size_t why_bytes)
{
    if (strncmp(url, "postgresql://", 13) == 0 || strncmp(url, "postgres://", 11) == 0) {
        struct daemon_door *door = add_door(doors);
        door->is_console = true;
        door->url = memory_strdup(url);
        return true;
    }
    if (strncmp(url, "http://", 7) == 0 && http_door(doors, url))
        return true;
    snprintf(
        why, why_bytes,
        "--url takes http://HOST:PORT (the HTTP listener) or postgresql://... (the console)\n");
    return false;
}

void daemon_doors_free(struct daemon_doors *doors)
{
    for (size_t i = 0; i < doors->count; i++) {
        free(doors->items[i].url);
        free(doors->items[i].host);
        free(doors->items[i].user);
        free(doors->items[i].path);
    }
    free(doors->items);
    *doors = (struct daemon_doors){0};
}

/* ---- HTTP ---- */

/* Waits for the socket; false when the time is up. */
static bool wait_for(int fd, short what, int64_t deadline_us)
{
    for (;;) {
        struct pollfd at = {.fd = fd, .events = what};
        int64_t left_ms = (deadline_us - clock_now_us()) / CLOCK_MS;
        int ready = left_ms > 0 ? poll(&at, 1, (int)left_ms) : 0;
        if (ready >= 0 || errno != EINTR)
            return ready > 0;
    }
}

static int connect_to(const struct daemon_door *door, int64_t deadline_us, const char **why)
{
    char port[16];
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM};
    struct addrinfo *found = NULL;
    int fd = -1;
    snprintf(port, sizeof(port), "%d", door->port);
    int error = getaddrinfo(door->host, port, &hints, &found);
    if (error) {
        *why = gai_strerror(error);
        return -1;
    }
    for (const struct addrinfo *at = found; at && fd < 0; at = at->ai_next) {
        int failed = 0;
        socklen_t length = sizeof(failed);
        fd = socket(at->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
        if (fd < 0)
            continue;
        if (connect(fd, at->ai_addr, at->ai_addrlen) < 0)
            failed = errno;
        if (failed == EINPROGRESS) {
            failed = wait_for(fd, POLLOUT, deadline_us) ? 0 : ETIMEDOUT;
            if (!failed && getsockopt(fd, SOL_SOCKET, SO_ERROR, &failed, &length) < 0)
                failed = errno;
        }
        if (failed) {
            *why = strerror(failed);
            close(fd);
            fd = -1;
        }
    }
    freeaddrinfo(found);
    return fd;
}

bool daemon_listens(const struct config_address *at)
{
    struct sockaddr_un path = {.sun_family = AF_UNIX};
    const char *why;
    int fd;
    if (at->is_unix) {
        snprintf(path.sun_path, sizeof(path.sun_path), "%s/.s.PGSQL.%u", at->path, at->port);
        fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
        bool accepts = fd >= 0 && connect(fd, (const struct sockaddr *)&path, sizeof(path)) == 0;
        if (fd >= 0)
            close(fd);
        return accepts;
    }
    struct daemon_door door = {.host = memory_strdup(daemon_reachable(at->host)), .port = at->port};
    fd = connect_to(&door, clock_now_us() + PATIENCE_US, &why);
    free(door.host);
    if (fd >= 0)
        close(fd);
    return fd >= 0;
}

/* Everything up to the other side's end; NULL when that does not come in time or is too much. */
static char *read_all(int fd, int64_t deadline_us, size_t *length)
{
    size_t capacity = 65536;
    char *bytes = memory_alloc(capacity);
    *length = 0;
    while (*length < ANSWER_MAX && wait_for(fd, POLLIN, deadline_us)) {
        if (capacity - *length < 4096)
            bytes = memory_resize(bytes, capacity *= 2);
        ssize_t got = recv(fd, bytes + *length, capacity - *length - 1, 0);
        if (got == 0) {
            bytes[*length] = '\0';
            return bytes;
        }
        if (got > 0)
            *length += (size_t)got;
        else if (errno != EAGAIN && errno != EINTR)
            break;
    }
    free(bytes);
    return NULL;
}

static json_t *parse_answer(const char *answer, size_t length, const char **why)
{
    const char *body = memmem(answer, length, "\r\n\r\n", 4);
    if (strncmp(answer, "HTTP/1.", 7) != 0 || length < 12 || !body) {
        *why = "what answers there does not speak HTTP";
        return NULL;
    }
    if (strncmp(answer + 9, "200", 3) != 0) {
        *why = "what answers there has no /status.json: is it pgreserve?";
        return NULL;
    }
    json_t *status = json_loadb(body + 4, length - (size_t)(body + 4 - answer), 0, NULL);
    if (!status)
        *why = "its answer is not JSON";
    return status;
}

static json_t *ask_http(const struct daemon_door *door, const char **why)
{
    int64_t deadline_us = clock_now_us() + PATIENCE_US;
    json_t *status = NULL;
    size_t length = 0;
    int fd = connect_to(door, deadline_us, why);
    if (fd < 0)
        return NULL;
    bool is_v6 = strchr(door->host, ':') != NULL;
    char *request =
        memory_printf("GET %s/status.json HTTP/1.0\r\nHost: %s%s%s:%d\r\nConnection: close\r\n\r\n",
                      door->path, is_v6 ? "[" : "", door->host, is_v6 ? "]" : "", door->port);
    *why = "it does not answer";
    if (send(fd, request, strlen(request), MSG_NOSIGNAL) == (ssize_t)strlen(request)) {
        char *answer = read_all(fd, deadline_us, &length);
        if (answer)
            status = parse_answer(answer, length, why);
        free(answer);
    }
    free(request);
    close(fd);
    return status;
}

/* ---- the console ---- */

/* One value of SHOW STATUS as JSON of its column's type. */
static json_t *value_of(const PGresult *result, int row, int column)
{
    const char *text = PQgetvalue(result, row, column);
    if (PQgetisnull(result, row, column))
        return json_null();
    switch (PQftype(result, column)) {
    case 20: /* int8, int4, oid */
    case 23:
    case 26:
        return json_integer(atoll(text));
    case 700:
    case 701:
    case 1700:
        return json_real(strtod(text, NULL));
    case 16:
        return json_boolean(text[0] == 't');
    default:
        return json_string(text);
    }
}

static json_t *status_of(const PGresult *result)
{
    json_t *pools = json_array();
    json_t *root = json_pack("{s:o}", "pools", pools);
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
    return root;
}

static bool has_dbname(const char *url)
{
    bool has = false;
    PQconninfoOption *options = PQconninfoParse(url, NULL);
    for (const PQconninfoOption *option = options; option && option->keyword; option++)
        has |= strcmp(option->keyword, "dbname") == 0 && option->val && *option->val;
    PQconninfoFree(options);
    return has;
}

static PGconn *connect_console(const struct daemon_door *door)
{
    char port[16];
    snprintf(port, sizeof(port), "%d", door->port);
    const char *const own_keywords[] = {"host",
                                        "port",
                                        "user",
                                        "dbname",
                                        "password",
                                        "fallback_application_name",
                                        "connect_timeout",
                                        NULL};
    const char *const own_values[] = {door->host,         port, door->user, "pgreserve", "",
                                      "pgreserve status", "5",  NULL};
    /* a keyword behind the url's own overrides it */
    const char *const keywords[] = {"dbname", "fallback_application_name", "connect_timeout",
                                    has_dbname(door->url ? door->url : "") ? NULL : "dbname", NULL};
    const char *const values[] = {door->url, "pgreserve status", "5", "pgreserve", NULL};
    return door->url ? PQconnectdbParams(keywords, values, 1)
                     : PQconnectdbParams(own_keywords, own_values, 0);
}

static json_t *ask_console(const struct daemon_door *door, char *why, size_t why_bytes)
{
    PGconn *conn = connect_console(door);
    PGresult *result = PQstatus(conn) == CONNECTION_OK ? PQexec(conn, "SHOW STATUS") : NULL;
    json_t *status = NULL;
    if (result && PQresultStatus(result) == PGRES_TUPLES_OK)
        status = status_of(result);
    else
        snprintf(why, why_bytes, "%s", PQerrorMessage(conn));
    PQclear(result);
    PQfinish(conn);
    return status;
}

/* ---- both ---- */

static bool is_status(const json_t *status)
{
    size_t i;
    const json_t *pool;
    bool is_fine = json_is_array(json_object_get(status, "pools")) &&
                   json_is_object(json_object_get(status, "total")) &&
                   json_is_string(json_object_get(status, "state"));
    json_array_foreach(json_object_get(status, "pools"), i, pool)
    {
        is_fine = is_fine && json_is_object(pool);
    }
    return is_fine;
}

json_t *daemon_ask(const struct daemon_doors *doors, char *why, size_t why_bytes)
{
    size_t used = 0;
    why[0] = '\0';
    for (size_t i = 0; i < doors->count; i++) {
        const struct daemon_door *door = &doors->items[i];
        char words[512] = "";
        const char *reason = words;
        json_t *status =
            door->is_console ? ask_console(door, words, sizeof(words)) : ask_http(door, &reason);
        if (status && is_status(status))
            return status;
        if (status)
            reason = "its answer is not a status of pgreserve";
        json_decref(status);
        size_t length = strcspn(reason, "\n"); /* libpq's first line says it */
        char *place = door->url
                          ? memory_strdup("the console")
                          : memory_printf("%s%s port %d", door->is_console ? "console " : "http ",
                                          door->host, door->port);
        if (used < why_bytes)
            used += (size_t)snprintf(why + used, why_bytes - used, "%s: %.*s\n", place, (int)length,
                                     reason);
        free(place);
    }
    return NULL;
}
