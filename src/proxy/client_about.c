/*
 * client_about.c - what is known about a client: what it does, where it comes from, its name, its last query's text.
 *
 * A client that is idle keeps as little as can be: what came in its start-up packet goes when its session is open, and
 * the text of its query, which is for those who ask what a connection is held with, when it gives its backend back.
 * Such texts are blocks of one size on a free list, so that a transaction allocates nothing.
 */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "proxy/proxy.h"

const char *client_state_name(const struct client *client)
{
    switch (client->state) {
    case CLIENT_STARTUP:
    case CLIENT_AUTHENTICATING:
    case CLIENT_LOGIN:
        return "login";
    case CLIENT_WAITING:
        return "waiting";
    case CLIENT_LINKED:
        return "active";
    case CLIENT_CLOSING:
    case CLIENT_GONE:
        return "closing";
    case CLIENT_READY:
    case CLIENT_CONSOLE:
    case CLIENT_LEAVING:
        break;
    }
    return "idle";
}

bool client_is_running(const struct client *client)
{
    return !outstanding_is_empty(&client->server->outstanding) || client->message_left > 0;
}

const char *client_doing(const struct client *client)
{
    if (client_is_running(client))
        return "running";
    switch (client->server->status) {
    case 'T':
        return "idle in transaction";
    case 'E':
        return "idle in transaction (aborted)";
    default:
        return "idle"; /* pinned, or in session mode */
    }
}

void client_address_text(const struct client *client, char *out, size_t out_bytes, int *port)
{
    *port = 0;
    if (client->is_unix) {
        snprintf(out, out_bytes, "unix");
    } else if (client->address.any.sa_family == AF_INET6) {
        inet_ntop(AF_INET6, &client->address.in6.sin6_addr, out, (socklen_t)out_bytes);
        *port = ntohs(client->address.in6.sin6_port);
    } else {
        inet_ntop(AF_INET, &client->address.in.sin_addr, out, (socklen_t)out_bytes);
        *port = ntohs(client->address.in.sin_port);
    }
}

/* ---- what it keeps, and for how long ---- */

void client_forget_startup(struct client *client)
{
    if (client->startup)
        startup_free(client->startup);
    free(client->startup);
    client->startup = NULL;
}

void client_set_application_name(struct client *client, const char *name)
{
    static char none[1]; /* many idle clients have no name, and an allocation is 32 bytes of each */
    char *old = client->application_name;
    client->application_name = *name ? memory_strndup(name, strnlen(name, NAME_BYTES - 1)) : none;
    if (old != none)
        free(old);
}
