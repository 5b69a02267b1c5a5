/*
 * events.c - what happens to clients and backends, as lines of the log: see events.h.
 */
#include "proxy/events.h"

#include <netinet/in.h>
#include <string.h>

#define FIELDS_MAX 20

struct fields {
    struct log_field items[FIELDS_MAX + 1];
    size_t count;
};

/* The first of a name counts: an event may say itself what would be said of the client anyhow. */
static void add(struct fields *fields, struct log_field field)
{
    for (size_t i = 0; i < fields->count; i++) {
        if (strcmp(fields->items[i].key, field.key) == 0)
            return;
    }
    if (fields->count < FIELDS_MAX)
        fields->items[fields->count++] = field;
    fields->items[fields->count] = LOG_FIELD_LAST;
}

static void add_all(struct fields *fields, const struct log_field *others)
{
    for (; others->type != LOG_FIELD_END; others++)
        add(fields, *others);
}

/* 127.0.0.1:5000, [::1]:5000, unix. */
static void address_of(const struct client *client, char *out, size_t bytes)
{
    char host[INET6_ADDRSTRLEN];
    int port;
    client_address_text(client, host, sizeof(host), &port);
    if (client->is_unix)
        snprintf(out, bytes, "%s", host);
    else if (client->address.any.sa_family == AF_INET6)
        snprintf(out, bytes, "[%s]:%d", host, port);
    else
        snprintf(out, bytes, "%s:%d", host, port);
}

void events_of_client(enum log_level level, const struct client *client, const char *event,
                      const struct log_field *fields)
{
    struct fields all = {.count = 0};
    char address[INET6_ADDRSTRLEN + 16];
    address_of(client, address, sizeof(address));
    add_all(&all, fields);
    add(&all, LOG_FIELD_TEXT("pool", client->pool ? client->pool->name : "admin"));
    add(&all, LOG_FIELD_TEXT("database", client->database));
    add(&all, LOG_FIELD_TEXT("user", client->user));
    add(&all, LOG_FIELD_TEXT("address", address));
    add(&all, LOG_FIELD_TEXT("application", client->application_name));
    log_write_event(level, event, all.items);
}

void events_of_server(enum log_level level, const struct server *server, const char *event,
                      const struct log_field *fields)
{
    struct fields all = {.count = 0};
    add_all(&all, fields);
    add(&all, LOG_FIELD_TEXT("pool", server->lane->pool->name));
    add(&all, LOG_FIELD_TEXT("database", server->lane->database));
    add(&all, LOG_FIELD_TEXT("user", server->lane->user));
    if (server->pid != 0)
        add(&all, LOG_FIELD_NUMBER("pid", server->pid));
    log_write_event(level, event, all.items);
}

/* ---- log_pool_events ---- */

static double age_of(const struct server *server)
{
    return (double)(clock_wall_us() - server->connected_wall_us) / (double)CLOCK_S;
}

void events_write_connect(const struct server *server)
{
    double took = events_seconds_since(server->proxy, server->backend.since_us);
    log_server(LOG_LEVEL_INFO, server, "connect", LOG_FIELD_SECONDS("took", took));
}

void events_write_checkout(const struct server *server, int64_t waited_us)
{
    const struct client *client = server->client;
    log_client(LOG_LEVEL_INFO, client, "checkout", LOG_FIELD_NUMBER("pid", server->pid),
               LOG_FIELD_SECONDS("waited", (double)waited_us / (double)CLOCK_S));
}

void events_write_checkin(const struct server *server)
{
    double held = events_seconds_since(server->proxy, server->backend.since_us);
    log_server(LOG_LEVEL_INFO, server, "checkin", LOG_FIELD_SECONDS("held", held));
}

void events_write_close(const struct server *server)
{
    if (server->connected_wall_us == 0)
        log_server(LOG_LEVEL_INFO, server, "close", LOG_FIELD_TEXT("reason", server->close_reason));
    else
        log_server(LOG_LEVEL_INFO, server, "close", LOG_FIELD_TEXT("reason", server->close_reason),
                   LOG_FIELD_SECONDS("age", age_of(server)));
}

void events_write_recycle(const struct server *server)
{
    log_server(LOG_LEVEL_INFO, server, "recycle", LOG_FIELD_SECONDS("age", age_of(server)));
}
