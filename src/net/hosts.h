/*
 * hosts.h - the hosts of a connection string that are still worth a try.
 */
#ifndef NET_HOSTS_H
#define NET_HOSTS_H

#include <stdbool.h>
#include <stddef.h>

/* libpq's three comma-separated lists.  `addresses` is NULL or as long as `names`; `ports` may have one for all of them, or be
 * NULL for the default.  `names` is NULL where only addresses are given.  Zeroed it is empty. */
struct hosts {
    char *names;
    char *addresses;
    char *ports;
    int at;          /* the user's: which of them libpq is at, or -1 */
    bool has_spoken; /* the user's: that one has */
};

/* Copies the lists, each of which may be NULL. */
void hosts_set(struct hosts *hosts, const char *names, const char *addresses, const char *ports);
/* How many there are; 0 when nothing is known of them. */
int hosts_count(const struct hosts *hosts);
/* Where the one stands that libpq is at, by its PQhost, PQhostaddr and PQport: the first that it can be, or -1. */
int hosts_find(const struct hosts *hosts, const char *name, const char *address, const char *port);
/* Takes that one out; for -1 the first.  False, and nothing is changed, when nobody else is there. */
bool hosts_drop(struct hosts *hosts, int index);
void hosts_free(struct hosts *hosts);

#endif
