/*
 * daemon.h - asking the running daemon how it stands (contract 3): over HTTP, or on its admin console.
 *
 * What comes back is from the network: it is bounded in size and time, and JSON that is no status is refused here, so that
 * whoever draws it finds an object with "pools" and "total".
 */
#ifndef CLI_DAEMON_H
#define CLI_DAEMON_H

#include <stdbool.h>
#include <stddef.h>

#include <jansson.h>

#include "config/config.h"

/* Where to ask; the first of a list that answers counts. */
struct daemon_door {
    bool is_console;
    char *url;  /* of a console; NULL when host and user stand for themselves */
    char *host; /* a name, an address, or for a console a directory of unix sockets */
    char *user; /* for a console; NULL: libpq's default */
    char *path; /* what stands before /status.json */
    int port;
};

struct daemon_doors {
    struct daemon_door *items;
    size_t count;
};

/* The doors that a configuration names: HTTP first, then the console, as they are reached from this host. */
void daemon_doors_of(struct daemon_doors *doors, const struct config *config);
/* An address to listen on as one to connect to: loopback for a wildcard. */
const char *daemon_reachable(const char *host);
/* http://HOST[:PORT][/PATH], or postgresql://... of a console.  False with a reason when it is neither. */
bool daemon_doors_from_url(struct daemon_doors *doors, const char *url, char *why,
                           size_t why_bytes);
void daemon_doors_free(struct daemon_doors *doors);

/* Whether anybody accepts connections at an address of the configuration. */
bool daemon_listens(const struct config_address *at);
/* The status, as /status.json has it; NULL with one line for each door in `why` when none answers. */
json_t *daemon_ask(const struct daemon_doors *doors, char *why, size_t why_bytes);

#endif
