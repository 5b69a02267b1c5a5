/*
 * own_address.c - whether an upstream is one of our own listeners: see own_address.h.
 *
 * A proxy in front of itself takes connections until the cap is reached, and serves nobody.  Addresses are compared as the kernel
 * would: by family and bytes, a wildcard listener with every address that this machine has, a socket directory by where it
 * really is.  libpq's rules say which address a host has: hostaddr before host, one port for all hosts or one for each, an empty
 * host is its own socket directory.
 */
#include "config/own_address.h"

#include <arpa/inet.h>
#include <ifaddrs.h>
#include <limits.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#include "base/memory.h"

#define PLACES_MAX        2
#define DEFAULT_DIRECTORY "/var/run/postgresql" /* of libpq, as Debian builds it */

/* What a host's name stands for. */
struct place {
    bool is_any;      /* `*`, of both families */
    bool is_own_name; /* this machine's, on one or several of its addresses */
    int family;       /* AF_INET or AF_INET6, else 0 */
    uint8_t address[16];
};

static bool is_name_of_loopback(const char *host, int family)
{
    static const char *const both[] = {"localhost", "localhost.localdomain", "localhost."};
    static const char *const six[] = {"ip6-localhost", "ip6-loopback", "localhost6"};
    for (size_t i = 0; i < 3; i++) {
        if (strcasecmp(host, both[i]) == 0 ||
            (family == AF_INET6 && strcasecmp(host, six[i]) == 0) ||
            (family == AF_INET && strcasecmp(host, "localhost4") == 0))
            return true;
    }
    return false;
}

static bool is_own_name(const char *host)
{
    char name[HOST_NAME_MAX + 1] = "";
    return gethostname(name, sizeof(name) - 1) == 0 && *name && strcasecmp(host, name) == 0;
}

static bool take_numeric(const char *host, struct place *place)
{
    struct in_addr four;
    struct in6_addr six;
    char *bare = memory_strndup(host, strcspn(host, "%")); /* fe80::1%eth0 */
    bool is_four = inet_aton(host, &four) != 0;
    bool is_six = !is_four && inet_pton(AF_INET6, bare, &six) == 1;
    free(bare);
    if (is_six && IN6_IS_ADDR_V4MAPPED(&six)) {
        memcpy(&four, six.s6_addr + 12, sizeof(four));
        is_four = true;
    }
    if (is_four)
        memcpy(place->address, &four, sizeof(four));
    else if (is_six)
        memcpy(place->address, &six, sizeof(six));
    place->family = is_four ? AF_INET : is_six ? AF_INET6 : 0;
    return place->family != 0;
}

static void set_loopback(struct place *place, int family)
{
    static const uint8_t four[4] = {127, 0, 0, 1};
    *place = (struct place){.family = family};
    if (family == AF_INET)
        memcpy(place->address, four, sizeof(four));
    else
        place->address[15] = 1;
}

static bool is_wildcard(const struct place *place)
{
    static const uint8_t none[16];
    return place->is_any || memcmp(place->address, none, place->family == AF_INET ? 4 : 16) == 0;
}

/* How many places a host that is no directory stands for; 0: it is a name that somebody would have to be asked for. */
static size_t places_of(const char *host, struct place *places)
{
    size_t count = 0;
    memset(places, 0, PLACES_MAX * sizeof(*places));
    places[0].is_any = strcmp(host, "*") == 0;
    places[0].is_own_name = is_own_name(host);
    if (places[0].is_any || places[0].is_own_name || take_numeric(host, &places[0]))
        return 1;
    if (is_name_of_loopback(host, AF_INET))
        set_loopback(&places[count++], AF_INET);
    if (is_name_of_loopback(host, AF_INET6))
        set_loopback(&places[count++], AF_INET6);
    return count;
}

static bool has_address(const struct sockaddr *at, const struct place *place)
{
    if (!at || at->sa_family != place->family)
        return false;
    if (at->sa_family == AF_INET)
        return memcmp(&((const struct sockaddr_in *)(const void *)at)->sin_addr, place->address,
                      4) == 0;
    return memcmp(&((const struct sockaddr_in6 *)(const void *)at)->sin6_addr, place->address,
                  16) == 0;
}

/* Whether this machine has the address. */
static bool is_of_this_machine(const struct place *place)
{
    struct ifaddrs *interfaces = NULL;
    bool is_it = place->family == AF_INET && place->address[0] == 127;
    if (is_it || getifaddrs(&interfaces) < 0)
        return is_it;
    for (const struct ifaddrs *at = interfaces; at && !is_it; at = at->ifa_next)
        is_it = has_address(at->ifa_addr, place);
    freeifaddrs(interfaces);
    return is_it;
}

/* Whether who connects to `to` comes to who listens on `on`.  Which addresses a name of ours has is not known: that one of them
 * is among all is. */
static bool do_meet(const struct place *to, const struct place *on)
{
    struct place target = *to;
    if (to->is_any || on->is_own_name)
        return false;
    if (to->is_own_name)
        return is_wildcard(on);
    if (is_wildcard(to)) /* the kernel takes it for loopback */
        set_loopback(&target, to->family);
    if (!on->is_any && on->family != target.family)
        return false;
    return is_wildcard(on) ? is_of_this_machine(&target)
                           : memcmp(on->address, target.address, sizeof(target.address)) == 0;
}

static bool is_same_host(const char *host, const char *listener)
{
    struct place to[PLACES_MAX];
    struct place on[PLACES_MAX];
    size_t to_count = places_of(host, to);
    size_t on_count = places_of(listener, on);
    for (size_t i = 0; i < to_count; i++) {
        for (size_t j = 0; j < on_count; j++) {
            if (do_meet(&to[i], &on[j]))
                return true;
        }
    }
    return strcasecmp(host, listener) == 0;
}

/* ---- socket directories ---- */

static size_t without_slashes(const char *path)
{
    size_t length = strlen(path);
    while (length > 1 && path[length - 1] == '/')
        length--;
    return length;
}

static bool is_same_directory(const char *a, const char *b)
{
    size_t length = without_slashes(a);
    if (length == without_slashes(b) && strncmp(a, b, length) == 0)
        return true;
    char *real_a = realpath(a, NULL);
    char *real_b = realpath(b, NULL);
    bool is_same = real_a && real_b && strcmp(real_a, real_b) == 0;
    free(real_a);
    free(real_b);
    return is_same;
}

/* ---- libpq's lists ---- */

/* The part of a list with commas, to be freed; "" when there are not so many. */
static char *part_of(const char *list, size_t index)
{
    const char *at = list ? list : "";
    for (; index > 0; index--) {
        at = strchr(at, ',');
        if (!at)
            return memory_strdup("");
        at++;
    }
    return memory_strndup(at, strcspn(at, ","));
}

static size_t parts_of(const char *list)
{
    size_t count = 1;
    for (const char *at = list ? list : ""; *at; at++)
        count += *at == ',';
    return count;
}

static bool leads_there(const char *host, int port, const struct config_address *listener)
{
    if (port != listener->port)
        return false;
    if (!*host)
        return listener->is_unix && is_same_directory(listener->path, DEFAULT_DIRECTORY);
    if (*host == '/')
        return listener->is_unix && is_same_directory(host, listener->path);
    return !listener->is_unix && is_same_host(host, listener->host);
}

static bool keyword_given(const struct config_database *database, const char *keyword)
{
    for (size_t i = 0; database->keywords && database->keywords[i]; i++) {
        if (strcmp(database->keywords[i], keyword) == 0)
            return true;
    }
    return false;
}

char *own_address_in(const struct config_database *database, const struct config_address *listener)
{
    bool has_addresses = database->hostaddrs && *database->hostaddrs;
    if (!has_addresses && !database->hosts && keyword_given(database, "service"))
        return NULL; /* a file that libpq reads says which */
    size_t count = parts_of(has_addresses ? database->hostaddrs : database->hosts);
    bool is_one_port = parts_of(database->ports) == 1;
    char *found = NULL;
    for (size_t i = 0; i < count && !found; i++) {
        char *host = part_of(database->hostaddrs, i);
        char *port = part_of(database->ports, is_one_port ? 0 : i);
        if (!*host) {
            free(host);
            host = part_of(database->hosts, i);
        }
        if (leads_there(host, *port ? atoi(port) : 5432, listener))
            found = memory_printf("%s port %u", *host ? host : listener->path, listener->port);
        free(host);
        free(port);
    }
    return found;
}
