/*
 * inherit.h - listening sockets that the process was born with: from systemd, or from the process that it replaces.
 *
 * Whoever is about to listen at an address asks here first.  A socket that systemd named after a pool is that pool's,
 * wherever it listens; any other is found by its address (sd_listen_fds(3)).
 */
#ifndef NET_INHERIT_H
#define NET_INHERIT_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/socket.h>

struct inherited {
    int fd;     /* -1 once somebody has it */
    char *name; /* NULL: none */
    char *
        unix_path; /* of a socket file that is ours to remove; NULL: there is none, or it is another's */
};

struct inheritance {
    struct inherited *items;
    size_t count;
};

/* Takes over the descriptor; the texts are copied, and may be NULL. */
void inherit_add(struct inheritance *all, int fd, const char *name, const char *unix_path);
/* What systemd passed to this process (LISTEN_PID, LISTEN_FDS, LISTEN_FDNAMES); the variables are removed, for a child must
 * not take them for its own.  False with a text in `why` when what is passed are not listening stream sockets. */
bool inherit_from_systemd(struct inheritance *all, char *why, size_t why_bytes);
/* The socket that listens there, which is the caller's from now on; NULL when there is none.  The item stays the list's. */
struct inherited *inherit_by_address(struct inheritance *all, const struct sockaddr *address,
                                     socklen_t address_bytes);
/* The next socket of this name, likewise. */
struct inherited *inherit_by_name(struct inheritance *all, const char *name);
/* The descriptor, which is the caller's from now on. */
int inherit_take(struct inherited *item);
/* Closes and forgets what nobody has taken; returns how many those were. */
size_t inherit_free(struct inheritance *all);

/* Where a listening socket listens, as text: 127.0.0.1:6432, [::1]:6432, a path. */
void inherit_describe(int fd, char *out, size_t out_bytes);

#endif
