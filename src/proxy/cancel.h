/*
 * cancel.h - cancel requests, and the keys that they name clients by.
 */
#ifndef PROXY_CANCEL_H
#define PROXY_CANCEL_H

#include "proxy/proxy.h"

/* A client asks to cancel what runs under this key, through any listener (protocol 55.2.8).  When nobody here has the key,
 * the other process of an upgrade is asked. */
void cancel_request(struct proxy *proxy, uint32_t pid, const uint8_t *secret, size_t secret_bytes);
/* The same in this process alone: whether somebody here has the key. */
bool cancel_find(struct proxy *proxy, uint32_t pid, const uint8_t *secret, size_t secret_bytes);
/* Cancels what the backend runs; it goes to nobody else until that has returned. */
void cancel_server(struct server *server);
/* The client of this key; NULL when there is none. */
struct client *cancel_key_find(struct proxy *proxy, uint32_t pid);
/* From now on it is found by the key that it has. */
void cancel_key_remember(struct client *client);
/* A key that no other client has. */
void cancel_key_new(struct client *client);
void cancel_key_forget(struct client *client);

#endif
