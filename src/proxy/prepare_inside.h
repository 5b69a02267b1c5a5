/*
 * prepare_inside.h - what the files about prepared statements share: prepare.c, prepare_sql.c, prepare_answer.c.
 */
#ifndef PROXY_PREPARE_INSIDE_H
#define PROXY_PREPARE_INSIDE_H

#include "proxy/prepare.h"

#define PREPARE_HEADER_BYTES 5

static inline struct statement_table *prepare_table(const struct client *client)
{
    return &client->proxy->statements;
}

/* The message goes on unchanged. */
static inline struct prepared_head prepare_passes(void)
{
    return (struct prepared_head){0};
}

/* A Parse of ours; `body` is what stands behind the name. */
void prepare_queue_parse(struct server *server, const char *name, const void *body, size_t length);
/* A Close of ours. */
void prepare_queue_close(struct server *server, const char *name);
/* A name under which nothing is ever left: closing it does nothing, and is answered. */
void prepare_no_name(const struct client *client, char name[STATEMENT_NAME_BYTES]);
/* Ahead of a Parse of a name that SQL may have prepared, which the map of the client's names does not show: an empty
 * statement under that name, which the server refuses if so, and its Close. */
void prepare_queue_probe(struct client *client, const char *name);

/* Ends a batch of ours, which must not seem to be one that the client has begun. */
void prepare_queue_sync(struct server *server);

/* A Query that may deallocate a statement of the protocol. */
struct prepared_head prepare_query_deallocate(struct client *client, const uint8_t *bytes,
                                              size_t at_hand, uint32_t message,
                                              const uint8_t *before, size_t before_length);
/* A Bind of the unnamed statement, if that deallocates one of the protocol.  False: it does not, and nothing was queued. */
bool prepare_bind_deallocate(struct client *client, const struct unnamed *unnamed,
                             const uint8_t *before, size_t before_length);

#endif
