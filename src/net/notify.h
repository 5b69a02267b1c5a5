/*
 * notify.h - what the service manager is told: ready, reloading, stopping, alive (sd_notify(3)).
 *
 * Without NOTIFY_SOCKET in the environment every call does nothing.
 */
#ifndef NET_NOTIFY_H
#define NET_NOTIFY_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/un.h>

struct notify {
    int fd; /* -1: nobody to tell */
    struct sockaddr_un address;
    socklen_t address_bytes;
    int64_t watchdog_us; /* how often to say that we live; 0: nobody asked */
    int64_t next_us;
    int64_t status_us; /* when the status line was last sent */
    char status[128];
};

/* Reads NOTIFY_SOCKET, WATCHDOG_USEC and WATCHDOG_PID.  The process that takes over from another is not the one that
 * WATCHDOG_PID names, and is watched all the same. */
void notify_open(struct notify *notify, bool is_successor);
void notify_close(struct notify *notify);
static inline bool notify_is_on(const struct notify *notify)
{
    return notify->fd >= 0;
}
/* Assignments, one a line: "READY=1\nSTATUS=serving". */
void notify_send(const struct notify *notify, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
/* RELOADING=1 with the time that systemd wants beside it; READY=1 must follow. */
void notify_reloading(const struct notify *notify);
/* From the loop's tick: feeds the watchdog when that is due.  A loop that is stuck does not, and is restarted. */
void notify_tick(struct notify *notify, int64_t now_us);
/* STATUS=, when it differs from the last and that is 1 s ago. */
void notify_status(struct notify *notify, int64_t now_us, const char *status);

#endif
