/*
 * events.h - what happens to clients and backends, as lines of the log: who, what, how long (contract 10).
 *
 * log_client and log_server are log_event with "who" filled in: pool, database, user, address and application of a client;
 * pool, database, user and process of a backend.  Pool events (log_pool_events, SQLAlchemy's echo_pool) cost a look at one
 * flag when they are off.
 */
#ifndef PROXY_EVENTS_H
#define PROXY_EVENTS_H

#include "base/log.h"
#include "proxy/proxy.h"

#define log_client(level, client, event, ...)                                                      \
    do {                                                                                           \
        if (log_wants(level))                                                                      \
            events_of_client(level, client, event,                                                 \
                             (const struct log_field[]){LOG_FIELD_TEXT("", NULL), ##__VA_ARGS__,   \
                                                        LOG_FIELD_LAST});                          \
    } while (0)

#define log_server(level, server, event, ...)                                                      \
    do {                                                                                           \
        if (log_wants(level))                                                                      \
            events_of_server(level, server, event,                                                 \
                             (const struct log_field[]){LOG_FIELD_TEXT("", NULL), ##__VA_ARGS__,   \
                                                        LOG_FIELD_LAST});                          \
    } while (0)

/* The event's own fields come first, then who. */
void events_of_client(enum log_level level, const struct client *client, const char *event,
                      const struct log_field *fields);
void events_of_server(enum log_level level, const struct server *server, const char *event,
                      const struct log_field *fields);

static inline double events_seconds_since(const struct proxy *proxy, int64_t since_us)
{
    return (double)(proxy->now_us - since_us) / (double)CLOCK_S;
}

/* ---- log_pool_events ---- */

void events_write_connect(const struct server *server);
void events_write_checkout(const struct server *server, int64_t waited_us);
void events_write_checkin(const struct server *server);
void events_write_recycle(const struct server *server);
void events_write_close(const struct server *server);

static inline bool events_are_on(const struct server *server)
{
    return server->proxy->config->log_pool_events;
}

/* Its login is complete. */
static inline void events_connect(const struct server *server)
{
    if (events_are_on(server))
        events_write_connect(server);
}

/* server->client has just got it, after so long a wait. */
static inline void events_checkout(const struct server *server, int64_t waited_us)
{
    if (events_are_on(server))
        events_write_checkout(server, waited_us);
}

/* Its client has given it up or has gone. */
static inline void events_checkin(const struct server *server)
{
    if (events_are_on(server))
        events_write_checkin(server);
}

/* It has grown too old. */
static inline void events_recycle(const struct server *server)
{
    if (events_are_on(server))
        events_write_recycle(server);
}

/* It is gone; server->close_reason says why. */
static inline void events_close(const struct server *server)
{
    if (events_are_on(server))
        events_write_close(server);
}

#endif
