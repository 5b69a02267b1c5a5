/*
 * limits.h - how many connections an upstream can grant us, and what to write when that is less than the cap (contract 3).
 *
 * PostgreSQL lets a login in while free slots remain beyond those that it keeps back: for superusers, and since version 16
 * for members of pg_use_reserved_connections.  Who holds the others does not matter to it.  A role and a database may have
 * a CONNECTION LIMIT of their own; superusers are exempt from both.  Pure.
 */
#ifndef POLICY_LIMITS_H
#define POLICY_LIMITS_H

#include <stdbool.h>
#include <stddef.h>

#define LIMITS_NONE (-1)

struct limits_server {
    int max_connections;
    int kept_for_superusers; /* superuser_reserved_connections */
    int kept_for_members;    /* reserved_connections; 0 before version 16 */
    int role_limit;          /* LIMITS_NONE: no limit */
    int database_limit;
    int pooler_limit; /* of a pooler in between, for our role and database */
    bool is_superuser;
    bool is_member;         /* of pg_use_reserved_connections */
    int others;             /* clients' connections now that are not pgreserve's */
    int others_of_role;     /* of these, by our role */
    int others_of_database; /* of these, to our database */
};

enum limits_bound { LIMITS_BY_SERVER, LIMITS_BY_ROLE, LIMITS_BY_DATABASE, LIMITS_BY_POOLER };

struct limits_verdict {
    int largest; /* cap that can hold now; 0 when there is nothing left */
    enum limits_bound bound;
    int kept; /* slots that are kept back from us */
};

struct limits_verdict limits_judge(const struct limits_server *server);

struct limits_pool {
    int size;
    int max_overflow;
    int reserved;
};

/* Makes the pools of a cap of `total` fit into a cap of `largest`, in the proportions that they had: reservations stay as long as
 * each other pool can have one connection, then overflow, then sizes.  False when not even one for each pool fits. */
bool limits_fit(struct limits_pool *pools, size_t count, int total, int largest);

#endif
