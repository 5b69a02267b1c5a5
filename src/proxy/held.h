/*
 * held.h - what has been read from a client and not been dealt with: a message that has not come in whole, or one that waits for a
 * connection.
 */
#ifndef PROXY_HELD_H
#define PROXY_HELD_H

#include "proxy/proxy.h"

/* Keeps a copy of the bytes, behind what is held already. */
void held_keep(struct client *client, const void *bytes, size_t length);
/* Hands all of it over; nothing is held afterwards. */
struct buffer held_take(struct client *client);
/* Gives back what held_take() handed over, less `taken` bytes of it; nothing has been held since. */
void held_return(struct client *client, struct buffer *held, size_t taken);
/* Takes so many bytes from the front. */
void held_consume(struct client *client, size_t length);
/* Forgets all of it. */
void held_drop(struct client *client);

/* Whether a client without a backend, of whose message so many bytes are there, must not wait for the rest before it has one: all
 * clients together hold too much. */
bool held_wants_backend(const struct client *client, size_t at_hand);
/* How much may be read from the client at once. */
size_t held_room(const struct client *client);

#endif
