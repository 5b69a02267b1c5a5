/*
 * refusal.h - what an upstream's refusal of a login means: full, or something else (contract 12).
 *
 * Full is not down: connections live on, and a place may come free at any moment.  How far "full" reaches says whose
 * connection would have to go to make room.
 */
#ifndef POLICY_REFUSAL_H
#define POLICY_REFUSAL_H

enum refusal {
    REFUSAL_OTHER, /* no route, a wrong password, no such database: trying again does not help */
    REFUSAL_FULL_SERVER,   /* max_connections less what it keeps back */
    REFUSAL_FULL_ROLE,     /* the role's CONNECTION LIMIT */
    REFUSAL_FULL_DATABASE, /* the database's CONNECTION LIMIT */
    REFUSAL_FULL_POOLER /* a hosted pooler's own limit, which is one for each role and database */
};

/* `sqlstate` may be NULL, for libpq before 17 does not tell it; `message` in the upstream's words. */
enum refusal refusal_of(const char *sqlstate, const char *message);

#endif
