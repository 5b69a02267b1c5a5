/*
 * clear.h - commands on databases and roles that concern connections which are open already.
 */
#ifndef PROXY_CLEAR_H
#define PROXY_CLEAR_H

#include "proxy/proxy.h"

/* How far a command on a database (DROP DATABASE ...) has come. */
enum database_step { DATABASE_NO_COMMAND, DATABASE_COMMAND_SENT, DATABASE_CLEARED };

/* A command on a database (DROP, ALTER ... RENAME, CREATE ... TEMPLATE) that does not come to its end waits for others to
 * leave that database, for 5 s: our free connections to those that it names do.  And all are replaced when a
 * command that changes what a login brings was done (client->changes_defaults).  Called at each tick, and when the
 * client leaves its backend. */
void proxy_clear_databases(struct client *client);

#endif
