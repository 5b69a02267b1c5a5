/*
 * resolve.c - host names to addresses in a worker: see resolve.h.
 *
 * A name with several addresses is repeated in the lists once for each of them, so that libpq tries them all and still
 * checks certificates against the name.  The job outlives a caller that cancels it: it is then told nothing.
 */
#include "net/resolve.h"

#include <arpa/inet.h>
#include <netdb.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "base/memory.h"

#define ADDRESSES_MAX 8 /* of one name */

struct resolve_job {
    char *hosts;
    char *ports;
    resolve_done done; /* NULL: cancelled */
    void *arg;
    char *out_hosts;
    char *out_addresses;
    char *out_ports;
    int found;
    char error[256];
};

static bool needs_no_resolver(const char *host)
{
    uint8_t bytes[16];
    return !*host || *host == '/' || *host == '@' || inet_pton(AF_INET, host, bytes) == 1 ||
           inet_pton(AF_INET6, host, bytes) == 1;
}

static void append(char **list, int index, const char *text)
{
    char *longer = index ? memory_printf("%s,%s", *list, text) : memory_strdup(text);
    free(*list);
    *list = longer;
}

static void add(struct resolve_job *job, const char *host, const char *address, const char *port)
{
    append(&job->out_hosts, job->found, host);
    append(&job->out_addresses, job->found, address);
    append(&job->out_ports, job->found, port);
    job->found++;
}

static void look_up(struct resolve_job *job, const char *host, const char *port)
{
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_ADDRCONFIG};
    struct addrinfo *found = NULL;
    int error = getaddrinfo(host, NULL, &hints, &found);
    if (error == EAI_ADDRFAMILY || error == EAI_NONAME || error == EAI_NODATA) {
        hints.ai_flags = 0; /* a machine that has nothing but loopback */
        error = getaddrinfo(host, NULL, &hints, &found);
    }
    if (error != 0) {
        snprintf(job->error, sizeof(job->error),
                 "could not translate host name \"%.100s\" to address: %s", host,
                 gai_strerror(error));
        return;
    }
    int count = 0;
    for (struct addrinfo *each = found; each && count < ADDRESSES_MAX; each = each->ai_next) {
        char text[INET6_ADDRSTRLEN];
        if (getnameinfo(each->ai_addr, each->ai_addrlen, text, sizeof(text), NULL, 0,
                        NI_NUMERICHOST) == 0) {
            add(job, host, text, port);
            count++;
        }
    }
    freeaddrinfo(found);
}

static void resolve_all(void *arg)
{
    struct resolve_job *job = arg;
    char *hosts = memory_strdup(job->hosts);
    char *ports = memory_strdup(job->ports ? job->ports : "");
    char *host_at = hosts;
    char *port_at = ports;
    const char *port = "";
    bool is_one_port = !strchr(ports, ',');
    for (char *host; (host = strsep(&host_at, ","));) {
        if (is_one_port)
            port = ports;
        else
            port = port_at ? strsep(&port_at, ",") : "";
        if (needs_no_resolver(host))
            add(job, host, *host == '/' || *host == '@' ? "" : host, port);
        else
            look_up(job, host, port);
    }
    free(hosts);
    free(ports);
}

static void finish(void *arg)
{
    struct resolve_job *job = arg;
    if (job->done && job->found > 0)
        job->done(job->arg, job->out_hosts, job->out_addresses, job->out_ports, NULL);
    else if (job->done)
        job->done(job->arg, NULL, NULL, NULL, job->error);
    free(job->hosts);
    free(job->ports);
    free(job->out_hosts);
    free(job->out_addresses);
    free(job->out_ports);
    free(job);
}

struct resolve_job *resolve_start(struct workers *workers, const char *hosts, const char *ports,
                                  resolve_done done, void *arg)
{
    struct resolve_job *job = memory_alloc(sizeof(*job));
    job->hosts = memory_strdup(hosts);
    job->ports = memory_strdup(ports);
    job->done = done;
    job->arg = arg;
    char *copy = memory_strdup(hosts);
    char *at = copy;
    bool is_at_hand = true;
    for (char *host; (host = strsep(&at, ","));)
        is_at_hand &= needs_no_resolver(host);
    free(copy);
    if (is_at_hand) {
        resolve_all(job);
        finish(job);
        return NULL;
    }
    workers_submit(workers, resolve_all, finish, job);
    return job;
}

void resolve_cancel(struct resolve_job *job)
{
    job->done = NULL;
}
