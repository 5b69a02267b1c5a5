/*
 * client_query.h - what a client ran last: for those who ask what a connection is held with (SHOW HOLDERS, leak_warning).
 */
#ifndef PROXY_CLIENT_QUERY_H
#define PROXY_CLIENT_QUERY_H

#include <stddef.h>

#define CLIENT_QUERY_BYTES 1025 /* what is shown of a text, and a zero */

struct client;
struct proxy;
struct statement;

/* It sends this text: its first bytes are kept. */
void client_query_keep(struct client *client, const void *text, size_t length);
/* It runs this statement, which is kept alive for as long as its text may be asked for. */
void client_query_bound(struct client *client, struct statement *statement);
/* It has no backend any more, and nobody asks what it ran. */
void client_query_forget(struct client *client);
/* Copies its last text's first bytes, or of a client that waits the one that it waits with, to `out`, and returns that; NULL
 * when it has run nothing. */
const char *client_query_text(const struct client *client, char out[CLIENT_QUERY_BYTES]);
/* Gives the room for texts back to the heap, at the end. */
void client_query_free_all(struct proxy *proxy);

#endif
