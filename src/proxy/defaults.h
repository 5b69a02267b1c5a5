/*
 * defaults.h - what a session of the upstream begins with, and which of it a client has been told (defaults.c).
 */
#ifndef PROXY_DEFAULTS_H
#define PROXY_DEFAULTS_H

#include "proxy/proxy.h"

/* A login is complete: its parameters are the lane's, for who logs in from now on, and this backend's. */
void defaults_login(struct server *server);
/* What logins are told of it, or NULL; the name in any case of letters. */
struct parameter *defaults_find(const struct lane *lane, const char *name);
/* Logins are told another value of it from now on; one that they are not told of stays so. */
void defaults_tell(struct server *server, const char *name, const char *value);
/* Forgets the lane's parameters. */
void defaults_lane_free(struct lane *lane);
/* The client is about to be told the lane's parameters: notes in client->told those that later backends must have too. */
void defaults_begin(struct client *client);
/* Before the client's settings are put in force on this backend: what it was told, and the backend has otherwise, becomes one
 * of its settings. */
void defaults_link(struct client *client, const struct server *server);
/* The backend reported a parameter that nobody has set there: true when that is news, which its client should hear. */
bool defaults_changed(struct server *server, const char *name, const char *value);
/* The same in session mode, where it may yet be the client's own setting: DISCARD ALL will report that. */
void defaults_reported(struct server *server, const char *name, const char *value);
/* It is known what the client has set: other parameters that were reported to it are the backend's own. */
void defaults_asked(const struct client *client, struct server *server);

#endif
