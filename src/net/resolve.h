/*
 * resolve.h - host names to addresses without blocking the loop: getaddrinfo in a worker.
 */
#ifndef NET_RESOLVE_H
#define NET_RESOLVE_H

#include "net/worker.h"

/* Resolves each of a comma-separated list of hosts (as libpq's `host`); entries that are unix socket directories
 * or numeric addresses resolve at once.  `ports` is libpq's comma-separated list or NULL.
 * Calls done(arg, hosts, hostaddrs, ports, error) in the loop: three lists of one length, comma-separated, a host
 * with several addresses repeated once for each, ready for libpq's host, hostaddr and port (an empty hostaddr for a
 * unix directory); or, when not one host resolves, NULLs and a text `could not translate host name "..." ...`.
 * The strings belong to the caller's callback for its duration only.  When nothing needs a resolver the callback
 * is called before the function returns. */
typedef void (*resolve_done)(void *arg, const char *hosts, const char *hostaddrs, const char *ports,
                             const char *error);
struct resolve_job;
/* Returns a handle for resolve_cancel, or NULL when done was called already. */
struct resolve_job *resolve_start(struct workers *workers, const char *hosts, const char *ports,
                                  resolve_done done, void *arg);
/* The callback will not be called any more. */
void resolve_cancel(struct resolve_job *job);

#endif
