/*
 * client_facts.c - what is said of a client: its state, what it does, where it comes from.
 *
 * For logs, error details and the console; nothing here changes anything.
 */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>

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
    } else if (client->address.ss_family == AF_INET6) {
        const struct sockaddr_in6 *in6 = (const struct sockaddr_in6 *)&client->address;
        inet_ntop(AF_INET6, &in6->sin6_addr, out, (socklen_t)out_bytes);
        *port = ntohs(in6->sin6_port);
    } else {
        const struct sockaddr_in *in = (const struct sockaddr_in *)&client->address;
        inet_ntop(AF_INET, &in->sin_addr, out, (socklen_t)out_bytes);
        *port = ntohs(in->sin_port);
    }
}
