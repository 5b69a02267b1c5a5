/*
 * hosts.c - the hosts of a connection string that are still worth a try: see hosts.h.
 *
 * libpq goes through its hosts by itself, but for one that says nothing: connect_timeout is a matter of PQconnectdb alone, and
 * PQconnectPoll waits for the same host for ever.  So that one is taken out, and libpq begins anew with the others, in their
 * order: what target_session_attrs asks for is asked of all of them again.
 */
#include "net/hosts.h"

#include <arpa/inet.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"

void hosts_set(struct hosts *hosts, const char *names, const char *addresses, const char *ports)
{
    hosts_free(hosts);
    *hosts = (struct hosts){.names = memory_strdup(names),
                            .addresses = memory_strdup(addresses),
                            .ports = memory_strdup(ports)};
}

static int count_items(const char *list)
{
    int count = list ? 1 : 0;
    for (; list && (list = strchr(list, ',')); list++)
        count++;
    return count;
}

int hosts_count(const struct hosts *hosts)
{
    return count_items(hosts->names ? hosts->names : hosts->addresses);
}

/* Where item `index` begins; its length is set.  "" where there is none. */
static const char *item(const char *list, int index, size_t *length)
{
    const char *at = list ? list : "";
    while (index-- > 0 && (at = strchr(at, ',')))
        at++;
    if (!at)
        at = "";
    *length = strcspn(at, ",");
    return at;
}

static bool item_is(const char *list, int index, const char *text)
{
    size_t length;
    const char *at = item(list, index, &length);
    return text && strlen(text) == length && memcmp(at, text, length) == 0;
}

static bool item_is_empty(const char *list, int index)
{
    size_t length;
    (void)item(list, index, &length);
    return length == 0;
}

/* The bytes of a numeric address, whichever way it is written, without IPv6's zone.  False for anything else. */
static bool parse_address(const char *text, size_t length, uint8_t bytes[16])
{
    char copy[INET6_ADDRSTRLEN];
    size_t end = 0;
    while (end < length && text[end] != '%')
        end++;
    if (end == 0 || end >= sizeof(copy))
        return false;
    memcpy(copy, text, end);
    copy[end] = '\0';
    memset(bytes, 0, 16);
    return inet_pton(AF_INET6, copy, bytes) == 1 || inet_pton(AF_INET, copy, bytes) == 1;
}

static bool item_is_address(const char *list, int index, const char *address)
{
    uint8_t item_bytes[16];
    uint8_t address_bytes[16];
    size_t length;
    const char *at = item(list, index, &length);
    if (address && parse_address(at, length, item_bytes) &&
        parse_address(address, strlen(address), address_bytes))
        return memcmp(item_bytes, address_bytes, sizeof(item_bytes)) == 0;
    return item_is(list, index, address);
}

static bool is_at(const struct hosts *hosts, int index, const char *name, const char *address,
                  const char *port)
{
    int port_index = count_items(hosts->ports) > 1 ? index : 0;
    if (!item_is_empty(hosts->ports, port_index) && !item_is(hosts->ports, port_index, port))
        return false; /* one that is not given is libpq's to choose, for all */
    return item_is_empty(hosts->addresses, index)
               ? item_is(hosts->names, index, name)
               : item_is_address(hosts->addresses, index, address);
}

static void drop_item(char *list, int index)
{
    size_t length;
    if (index >= count_items(list))
        return;
    char *at = list + (item(list, index, &length) - list);
    if (at[length] == ',')
        memmove(at, at + length + 1, strlen(at + length + 1) + 1);
    else if (at > list)
        at[-1] = '\0'; /* the last */
}

int hosts_find(const struct hosts *hosts, const char *name, const char *address, const char *port)
{
    int count = hosts_count(hosts);
    int index = 0;
    while (index < count && !is_at(hosts, index, name, address, port))
        index++;
    return index < count ? index : -1;
}

bool hosts_drop(struct hosts *hosts, int index)
{
    if (hosts_count(hosts) < 2)
        return false;
    if (index < 0)
        index = 0;
    drop_item(hosts->names, index);
    drop_item(hosts->addresses, index);
    if (count_items(hosts->ports) > 1)
        drop_item(hosts->ports, index);
    return true;
}

void hosts_free(struct hosts *hosts)
{
    free(hosts->names);
    free(hosts->addresses);
    free(hosts->ports);
    *hosts = (struct hosts){0};
}
