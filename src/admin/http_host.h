/*
 * http_host.h - whether a request's Host header is one that a loopback listener answers.
 */
#ifndef ADMIN_HTTP_HOST_H
#define ADMIN_HTTP_HOST_H

#include <stdbool.h>

/* `host` is the header ("localhost:6435", "[::1]", NULL when there was none), `configured` the listener's own name in
 * the configuration.  True for an address, for localhost, and for that name. */
bool http_host_is_ours(const char *host, const char *configured);

#endif
