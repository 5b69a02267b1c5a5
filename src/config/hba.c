/*
 * hba.c - which line of pg_hba.conf decides: see hba.h.
 *
 * Nothing here does I/O.  An IPv4 client of an IPv6 listener is an IPv4 client.
 */
#include "config/hba.h"

#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"

static void names_free(struct hba_names *names)
{
    for (size_t i = 0; i < names->count; i++) {
        free(names->items[i].text);
        name_pattern_free(names->items[i].pattern);
    }
    free(names->items);
}

void hba_free(struct hba *hba)
{
    if (!hba)
        return;
    for (size_t i = 0; i < hba->count; i++) {
        struct hba_rule *rule = &hba->rules[i];
        free(rule->file);
        free(rule->map);
        names_free(&rule->databases);
        names_free(&rule->users);
    }
    free(hba->rules);
    free(hba);
}

struct hba *hba_read(const char *path, const struct rule_source *source,
                     struct config_errors *errors)
{
    struct rule_lines lines;
    size_t before = errors->count;
    rule_lines_read(&lines, path, source, errors);
    struct hba *hba = memory_alloc(sizeof(*hba));
    hba->rules = memory_alloc((lines.count + 1) * sizeof(*hba->rules));
    for (size_t i = 0; i < lines.count; i++)
        hba_rule_parse(&hba->rules[hba->count++], &lines.items[i], errors);
    if (errors->count == before && hba->count == 0)
        rule_error(errors, path, 0, "there is no line in it: nobody could log in");
    rule_lines_free(&lines);
    if (errors->count == before)
        return hba;
    hba_free(hba);
    return NULL;
}

/* ---- names ---- */

static bool name_is(const struct hba_name *name, const char *text)
{
    if (name->pattern)
        return name_pattern_matches(name->pattern, text, NULL);
    return strcmp(name->text, text) == 0;
}

static bool is_keyword(const struct hba_name *name, const char *keyword)
{
    return !name->is_quoted && strcmp(name->text, keyword) == 0;
}

/* A physical replication connection has no database: `replication` alone is for it, and for nobody else. */
static bool database_fits(const struct hba_names *names, const struct hba_client *client)
{
    for (size_t i = 0; i < names->count; i++) {
        const struct hba_name *name = &names->items[i];
        if (is_keyword(name, "replication") || client->is_physical_replication) {
            if (is_keyword(name, "replication") && client->is_physical_replication)
                return true;
        } else if (is_keyword(name, "all")) {
            return true;
        } else if (is_keyword(name, "sameuser")) {
            if (strcmp(client->database, client->user) == 0)
                return true;
        } else if (name_is(name, client->database)) {
            return true;
        }
    }
    return false;
}

static bool user_fits(const struct hba_names *names, const struct hba_client *client)
{
    for (size_t i = 0; i < names->count; i++) {
        if (is_keyword(&names->items[i], "all") || name_is(&names->items[i], client->user))
            return true;
    }
    return false;
}

/* ---- addresses ---- */

struct address {
    int family;
    size_t length;
    const uint8_t *bytes;
};

static struct address address_of(const struct sockaddr *from)
{
    if (from->sa_family == AF_INET)
        return (struct address){AF_INET, 4,
                                (const uint8_t *)&((const struct sockaddr_in *)from)->sin_addr};
    const struct in6_addr *in6 = &((const struct sockaddr_in6 *)from)->sin6_addr;
    if (IN6_IS_ADDR_V4MAPPED(in6))
        return (struct address){AF_INET, 4, in6->s6_addr + 12};
    return (struct address){AF_INET6, 16, in6->s6_addr};
}

static bool network_holds(const struct hba_network *network, const struct address *address,
                          bool whole_address)
{
    if (network->family != address->family)
        return false;
    for (size_t i = 0; i < address->length; i++) {
        uint8_t mask = whole_address ? 0xff : network->mask[i];
        if ((network->address[i] ^ address->bytes[i]) & mask)
            return false;
    }
    return true;
}

static bool is_of_this_machine(const struct hba_networks *interfaces, const struct address *address,
                               bool whole_address)
{
    for (size_t i = 0; interfaces && i < interfaces->count; i++) {
        if (network_holds(&interfaces->items[i], address, whole_address))
            return true;
    }
    return false;
}

static bool address_fits(const struct hba_rule *rule, const struct hba_client *client)
{
    if (rule->from == HBA_FROM_ALL)
        return true;
    if (client->address->sa_family != AF_INET && client->address->sa_family != AF_INET6)
        return false;
    struct address address = address_of(client->address);
    if (rule->from == HBA_FROM_NETWORK)
        return network_holds(&rule->network, &address, false);
    return is_of_this_machine(client->interfaces, &address, rule->from == HBA_FROM_SAMEHOST);
}

static bool type_fits(enum hba_type type, const struct hba_client *client)
{
    if (type == HBA_LOCAL || client->is_unix)
        return type == HBA_LOCAL && client->is_unix;
    switch (type) {
    case HBA_HOSTSSL:
        return client->has_tls;
    case HBA_HOSTNOSSL:
        return !client->has_tls;
    default:
        return type != HBA_HOSTGSSENC;
    }
}

const struct hba_rule *hba_find(const struct hba *hba, const struct hba_client *client)
{
    for (size_t i = 0; i < hba->count; i++) {
        const struct hba_rule *rule = &hba->rules[i];
        if (type_fits(rule->type, client) && (client->is_unix || address_fits(rule, client)) &&
            database_fits(&rule->databases, client) && user_fits(&rule->users, client))
            return rule;
    }
    return NULL;
}

bool hba_asks_interfaces(const struct hba *hba)
{
    for (size_t i = 0; i < hba->count; i++) {
        if (hba->rules[i].from == HBA_FROM_SAMEHOST || hba->rules[i].from == HBA_FROM_SAMENET)
            return true;
    }
    return false;
}

bool hba_rule_reaches_out(const struct hba_rule *rule)
{
    static const uint8_t loopback[16] = {[15] = 1};
    const struct hba_network *network = &rule->network;
    if (rule->type == HBA_LOCAL || rule->type == HBA_HOSTGSSENC || rule->from == HBA_FROM_SAMEHOST)
        return false;
    if (rule->from != HBA_FROM_NETWORK)
        return true;
    if (network->family == AF_INET)
        return network->mask[0] != 0xff || network->address[0] != 127;
    for (size_t i = 0; i < 16; i++) {
        if (network->mask[i] != 0xff || network->address[i] != loopback[i])
            return true;
    }
    return false;
}
