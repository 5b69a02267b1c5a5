/*
 * reach.c - why an upstream cannot be reached: see reach.h.
 *
 * The case that costs people most: a hosted database whose name has only IPv6 addresses (Supabase's direct hosts), asked from
 * a machine without an IPv6 route.  Whether there is a route is asked of the kernel with a connected UDP socket, which
 * sends nothing.
 */
#include "cli/reach.h"

#include <errno.h>
#include <netdb.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/memory.h"

static const struct {
    const char *words;
    const char *advice;
} meanings[] = {
    {"password authentication failed", "The user or the password is wrong: see url, user and "
                                       "password of the section."},
    {"no password supplied", "The upstream wants a password: put one into url or password."},
    {"no pg_hba.conf entry", "The server's pg_hba.conf does not let this user in from here, or "
                             "only with (or without) TLS: see sslmode in url."},
    {"Tenant or user not found", "Supavisor wants the user as ROLE.PROJECT, and the pooler host "
                                 "of the project's own region."},
    {"does not exist", "Check the names of the user and the database in url."},
    {"is not permitted to log in", "The role has no LOGIN attribute."},
    {"the database system is", "The server is starting, stopping or recovering: try again."},
    {"certificate", "TLS: the server's certificate does not satisfy sslmode and sslrootcert of "
                    "url."},
    {"SSL", "TLS: see sslmode in url; hosted servers want sslmode=require or better."},
    {"Connection refused", "Nothing listens there: is the server running, are host and port "
                           "right?"},
    {"timeout expired", "No answer: a firewall, a paused project, or a wrong address."},
    {"No such file or directory", "There is no such unix socket: is the server running here, and "
                                  "is the directory right?"},
};

/* How many addresses of the family the name has. */
static int count_addresses(const char *host, int family, struct sockaddr_storage *first)
{
    struct addrinfo hints = {.ai_family = family, .ai_socktype = SOCK_STREAM};
    struct addrinfo *found = NULL;
    int count = 0;
    if (getaddrinfo(host, "5432", &hints, &found) != 0)
        return 0;
    memcpy(first, found->ai_addr, found->ai_addrlen);
    for (const struct addrinfo *at = found; at; at = at->ai_next)
        count++;
    freeaddrinfo(found);
    return count;
}

static bool has_route(const struct sockaddr_storage *address)
{
    int fd = socket(address->ss_family, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return false;
    bool is_fine = connect(fd, (const struct sockaddr *)address, sizeof(*address)) == 0;
    close(fd);
    return is_fine;
}

static void explain_host(FILE *out, const char *host)
{
    struct sockaddr_storage v4 = {0};
    struct sockaddr_storage v6 = {0};
    if (*host == '/' || *host == '@' || !*host)
        return;
    int v4_count = count_addresses(host, AF_INET, &v4);
    int v6_count = count_addresses(host, AF_INET6, &v6);
    if (v4_count + v6_count == 0) {
        fprintf(out, "%s: there is no such host name, or no name server answers.\n", host);
        return;
    }
    if (v4_count > 0 || has_route(&v6))
        return;
    fprintf(out, "%s has only IPv6 addresses, and this machine has no IPv6 route.\n", host);
    if (strcasestr(host, ".supabase."))
        fprintf(out,
                "Supabase's direct hosts are IPv6 only: take the session pooler's address from the "
                "dashboard\n(aws-0-REGION.pooler.supabase.com, port 5432, user ROLE.PROJECT), or "
                "buy the IPv4 add-on.\n");
    else
        fprintf(out, "Give this machine IPv6, or use an address of the upstream that has IPv4.\n");
}

void reach_explain(FILE *out, const struct config_database *database, const char *message)
{
    for (size_t i = 0; i < sizeof(meanings) / sizeof(meanings[0]); i++) {
        if (strstr(message, meanings[i].words)) {
            fprintf(out, "%s\n", meanings[i].advice);
            break;
        }
    }
    if (database->hostaddrs)
        return; /* no name is looked up */
    char *hosts = memory_strdup(database->hosts ? database->hosts : "");
    char *rest = hosts;
    for (char *host; (host = strsep(&rest, ","));)
        explain_host(out, host);
    free(hosts);
}
