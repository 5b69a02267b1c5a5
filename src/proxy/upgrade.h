/*
 * upgrade.h - one process hands over to the next, which may be another version (contract 11).
 *
 *   old: upgrade.c                                new: takeover.c
 *   USR2: starts the program        ------->      reads its configuration, adopts the listening sockets
 *   stops accepting, opens no more  <- ready --
 *   connections, tells its places   - places ->   accepts; opens what the old one does not hold of the cap
 *   each client that comes idle     - client ->   goes on with it, as if nothing had been
 *   closes a connection             - places ->   opens one
 *   the last client has gone: leaves - (end) ->   is alone
 *
 * Until "ready" the new one may fail in any way and nothing has happened.  After that the old one keeps the listening
 * sockets open, though it does not accept, and takes back what was on its way when the new one dies.
 */
#ifndef PROXY_UPGRADE_H
#define PROXY_UPGRADE_H

#include "proxy/proxy.h"

/* ---- upgrade.c: the old process ---- */

/* What we were started as; call it before anything changes the working directory.  `arguments` live as long as we. */
void upgrade_remember(struct proxy *proxy, char **arguments);
/* USR2.  Logs why when it cannot be. */
void upgrade_start(struct proxy *proxy);
/* A child has ended. */
void upgrade_reap(struct proxy *proxy);
/* Whether the new process has taken over the door: we only finish. */
bool upgrade_is_handing_over(const struct proxy *proxy);
/* A client may have become idle, or a connection closed: looks at it at the end of the turn. */
void upgrade_look(struct proxy *proxy);
void upgrade_tick(struct proxy *proxy);
/* We stop (proxy->state says so): an upgrade that has only begun ends. */
void upgrade_stopping(struct proxy *proxy);
/* Whether a TERM says what the new process has passed on already, once: who stops both (systemd does) means one stop, and the
 * second TERM, which is to be at once, is another. */
bool upgrade_knows_stop(struct proxy *proxy);
void upgrade_free(struct proxy *proxy);

/* ---- takeover.c: the new process ---- */

/* Whether another process has started us to take over from it: receives its listening sockets.  False after logging when it
 * cannot be understood: then we must not run. */
bool takeover_begin(struct proxy *proxy);
/* We could serve: says so, and waits for the word.  Without another process does nothing. */
void takeover_ready(struct proxy *proxy);
void takeover_stopping(struct proxy *proxy);
void takeover_free(struct proxy *proxy);

/* ---- both ---- */

/* A connection was attempted or is gone: the other process is told. */
void upgrade_places_changed(struct proxy *proxy);
/* A cancel request for nobody whom we know: the other process may.  Whether there is one. */
bool upgrade_forward_cancel(struct proxy *proxy, uint32_t pid, const uint8_t *secret,
                            size_t secret_bytes);

#endif
