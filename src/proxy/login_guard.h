/*
 * login_guard.h - looks at what a server asks during a login, before libpq reads it.
 */
#ifndef PROXY_LOGIN_GUARD_H
#define PROXY_LOGIN_GUARD_H

#include "proxy/proxy.h"

/* To be called when PQconnectPoll is due.  PASS: call it.  MORE: wait for more to come in, but only for more: what is there
 * stays unread, and a level-triggered event would go on and on.  REFUSE: the login has failed, and `why` (256 bytes) says
 * what for. */
enum sasl_guard_verdict login_guard_look(struct server *server, char *why, size_t why_bytes);

/* What a login that says too much fails with. */
#define LOGIN_GUARD_TOO_MUCH "the server says too much during the login: more than 256 kB"
/* To be called before libpq reads, during a login and the questions at its end.  False when the server has sent more than
 * that: libpq keeps a message until it is whole, and every parameter, however many there are. */
bool login_guard_is_brief(struct server *server);

/* How much memory libpq may take in one step of a login or of the questions at its end (process_may_grow(): what other threads
 * want meanwhile included).  It makes room for a whole message as soon as it knows its length, up to a gigabyte, and then reads
 * in one call for as long as there is something to read.  No look of ours before it can help, for a length can come in between
 * that look and its own, and through TLS but one record is seen; without the room it says that it has lost the server. */
#define LOGIN_GUARD_GROWTH_MAX (16 << 20)

#endif
