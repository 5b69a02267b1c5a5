/*
 * client_query.c - what a client ran last, while it waits or has a backend.
 *
 * Nearly nobody ever asks, and every transaction pays.  So the text of a Query or Parse, which is gone when its message has
 * passed, is cut to its first bytes and copied to a block that is there already; of a prepared statement, whose text
 * the table of statements has anyway, only a reference is kept.  Who asks gets a copy of either.
 */
#include "proxy/client_query.h"

#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "proxy/prepare.h"
#include "proxy/proxy.h"

/* Blocks: as many as clients have been at work at once, within bounds. */
#define FREE_QUERIES_MAX 1024
struct query_text {
    struct query_text *next;
};

static void take_block(struct client *client)
{
    struct proxy *proxy = client->proxy;
    struct query_text *block = proxy->free_queries;
    if (block) {
        proxy->free_queries = block->next;
        proxy->free_query_count--;
    } else {
        block = memory_alloc(CLIENT_QUERY_BYTES);
    }
    client->query = (char *)block;
}

void client_query_keep(struct client *client, const void *text, size_t length)
{
    if (client->has_bound)
        client_query_forget(client);
    if (!client->query)
        take_block(client);
    if (length >= CLIENT_QUERY_BYTES)
        length = CLIENT_QUERY_BYTES - 1;
    memcpy(client->query, text, length);
    client->query[length] = '\0';
}

void client_query_bound(struct client *client, struct statement *statement)
{
    if (client->has_bound && client->bound == statement)
        return;
    client_query_forget(client);
    statement->references++;
    client->bound = statement;
    client->has_bound = true;
}

void client_query_forget(struct client *client)
{
    struct proxy *proxy = client->proxy;
    struct query_text *block = (struct query_text *)(void *)client->query;
    if (client->has_bound) {
        statement_drop(&proxy->statements, client->bound);
        client->has_bound = false;
    } else if (block && proxy->free_query_count < FREE_QUERIES_MAX) {
        block->next = proxy->free_queries;
        proxy->free_queries = block;
        proxy->free_query_count++;
    } else {
        free(block);
    }
    client->query = NULL;
}

const char *client_query_text(const struct client *client, char out[CLIENT_QUERY_BYTES])
{
    const char *text = client->has_bound ? (const char *)client->bound->body : client->query;
    if (!text && client->state == CLIENT_WAITING)
        text =
            prepare_bound_text(client, buffer_bytes(&client->held), buffer_length(&client->held));
    if (!text)
        return NULL;
    size_t length = strnlen(text, CLIENT_QUERY_BYTES - 1);
    memcpy(out, text, length);
    out[length] = '\0';
    return out;
}

void client_query_free_all(struct proxy *proxy)
{
    for (struct query_text *block; (block = proxy->free_queries);) {
        proxy->free_queries = block->next;
        free(block);
    }
}
