/*
 * notify.c - what the service manager is told: see notify.h.
 *
 * The protocol is a datagram of text to a unix socket.  libsystemd would do it too, and bring liblzma, libzstd, libgcrypt and
 * the rest of its neighbours into every image for these forty lines; PostgreSQL's and PgBouncer's maintainers link it, and
 * OpenSSH's wrote their own after one of those neighbours was found to carry a back door (CVE-2024-3094).
 */
#include "net/notify.h"

#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/process.h"

#define STATUS_US CLOCK_S

void notify_open(struct notify *notify, bool is_successor)
{
    const char *path = getenv("NOTIFY_SOCKET");
    size_t length = path ? strlen(path) : 0;
    *notify = (struct notify){.fd = -1};
    if (length < 2 || length >= sizeof(notify->address.sun_path) || (*path != '/' && *path != '@'))
        return;
    notify->address.sun_family = AF_UNIX;
    memcpy(notify->address.sun_path, path, length);
    if (*path == '@') /* an abstract name */
        notify->address.sun_path[0] = '\0';
    notify->address_bytes = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + length);
    notify->fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    int64_t pid = process_variable("WATCHDOG_PID");
    if (pid == 0 || pid == getpid() || is_successor)
        notify->watchdog_us = process_variable("WATCHDOG_USEC");
}

void notify_close(struct notify *notify)
{
    if (notify->fd >= 0)
        close(notify->fd);
    notify->fd = -1;
}

void notify_send(const struct notify *notify, const char *format, ...)
{
    char text[512];
    va_list arguments;
    if (notify->fd < 0)
        return;
    va_start(arguments, format);
    int length = vsnprintf(text, sizeof(text), format, arguments);
    va_end(arguments);
    if (length <= 0 || (size_t)length >= sizeof(text))
        return;
    /* A manager that does not listen is no reason to stop serving. */
    (void)!sendto(notify->fd, text, (size_t)length, MSG_NOSIGNAL,
                  (const struct sockaddr *)&notify->address, notify->address_bytes);
}

void notify_reloading(const struct notify *notify)
{
    notify_send(notify, "RELOADING=1\nMONOTONIC_USEC=%lld", (long long)clock_now_us());
}

void notify_tick(struct notify *notify, int64_t now_us)
{
    if (notify->fd < 0 || notify->watchdog_us <= 0 || now_us < notify->next_us)
        return;
    notify_send(notify, "WATCHDOG=1");
    notify->next_us = now_us + notify->watchdog_us / 2;
}

void notify_status(struct notify *notify, int64_t now_us, const char *status)
{
    if (notify->fd < 0 || now_us - notify->status_us < STATUS_US ||
        strcmp(status, notify->status) == 0)
        return;
    snprintf(notify->status, sizeof(notify->status), "%s", status);
    notify->status_us = now_us;
    notify_send(notify, "STATUS=%s", status);
}
