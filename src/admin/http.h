/*
 * http.h - the HTTP listener (contract 9): the page at `/`, /live.json behind it, /status, /status.json, /metrics,
 * /healthz and /readyz.
 */
#ifndef ADMIN_HTTP_H
#define ADMIN_HTTP_H

#include <stdbool.h>

#include "proxy/proxy.h"

/* Listens on every address of [admin] http.  False after logging which could not be had. */
bool http_start(struct proxy *proxy);
/* Closes it; safe when it was never started. */
void http_stop(struct proxy *proxy);

#endif
