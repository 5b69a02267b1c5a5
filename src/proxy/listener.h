/*
 * listener.h - the doors of the pools and of the console.
 */
#ifndef PROXY_LISTENER_H
#define PROXY_LISTENER_H

#include "proxy/proxy.h"

struct addrinfo;

bool listener_open_all(struct proxy *proxy);
/* Stops accepting and closes every listening socket. */
void listener_close_all(struct proxy *proxy);
/* The same for the pools' alone: the console stays open. */
void listener_close_pools(struct proxy *proxy);
/* While it is held nobody is accepted, by HTTP neither; the sockets stay open. */
void listener_hold_all(struct proxy *proxy, bool is_held);
/* The sockets' files are another process's now: closing does not remove them. */
void listener_leave_files(struct proxy *proxy);

/* How many are kept for the console, HTTP and the reserved pools. */
int64_t listener_kept_descriptors(void);
/* Says so in the log when max_clients (each a descriptor) and total_connections need more than the process may have. */
void listener_check_descriptors(const struct proxy *proxy);

/* A socket that listens there, of its own family alone; -1 with errno. */
int listener_socket(const struct addrinfo *at);

#endif
