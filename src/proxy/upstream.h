/*
 * upstream.h - what is known of a [database:...] section's upstream beyond one login (contract 12).
 *
 * The ceiling: how many connections of ours it had when it last said "full", which may be 0; UPSTREAM_NO_CEILING when it never
 * did, or when it has granted more since.  Of what make it is: a pooler in transaction mode would break every session, so start-up finds out and says so.
 */
#ifndef PROXY_UPSTREAM_H
#define PROXY_UPSTREAM_H

#include "policy/refusal.h"
#include "proxy/proxy.h"

#define UPSTREAM_NO_CEILING (-1)

enum upstream_kind {
    UPSTREAM_UNKNOWN,
    UPSTREAM_SERVER,            /* PostgreSQL itself */
    UPSTREAM_POOLER,            /* a pooler, of which mode is not known yet */
    UPSTREAM_SESSION_POOLER,    /* keeps a backend for each connection of ours */
    UPSTREAM_TRANSACTION_POOLER /* settings and prepared statements do not survive a transaction */
};

struct upstream {
    struct upstream *next;
    char *section;
    int ceiling;
    int given; /* places that other pools gave up since a pool whose reservation is short got one */
    enum upstream_kind kind;
    int probes; /* tried so far */
    bool is_being_probed;
};

/* The upstream of a section, made when it is new. */
struct upstream *upstream_of(struct proxy *proxy, const char *section);
/* Connections of ours that it counts or is about to: all but those that it refused. */
int upstream_open(const struct proxy *proxy, const struct upstream *upstream);
const char *upstream_kind_name(enum upstream_kind kind);
/* A login was refused because it is full; the backend is CLOSING already. */
void upstream_refused(struct server *server, enum refusal refusal);
/* A login is complete. */
void upstream_granted(struct server *server);
/* A backend is gone: its place may be a reserved pool's. */
void upstream_let_go(struct server *server);
/* Makes room for reserved pools whose connections a full upstream refused; asked at every tick. */
void upstream_settle(struct proxy *proxy);
/* The section means another upstream now. */
void upstream_changed(struct proxy *proxy, const char *section);
void upstream_free_all(struct proxy *proxy);

/* ---- probe.c ---- */

/* Asks a fresh connection, still libpq's, what kind of upstream it leads to; false when that is known, not worth it, or a
 * client waits: then the login goes on at once.  Afterwards server_login_probed is called. */
bool probe_start(struct server *server);
void probe_free(struct server *server);
/* Lets the logins go on that are held until another's answers are in, when they are or a client waits for them. */
void probe_release(struct proxy *proxy);

#endif
