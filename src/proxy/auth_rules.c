/*
 * auth_rules.c - a client's proof where hba_file says how: the line that fits its connection decides.
 *
 * What can be told at once is told here: a refusal, trust, a certificate, the user of a unix socket's other end.  Where a
 * password is asked for, auth.c asks; a certificate that must be the user's too is looked at beforehand, and its failure told
 * afterwards, in PostgreSQL's order.  Whatever a client is told is in PostgreSQL's words; which line it was stands in the
 * log alone, for it is nobody else's business.
 */
#include <errno.h>
#include <ifaddrs.h>
#include <netinet/in.h>
#include <pwd.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "base/memory.h"
#include "config/rules.h"
#include "proto/sqlstate.h"
#include "proxy/events.h"
#include "proxy/login.h"
#include "proxy/proxy.h"

#define DN_BYTES 2048
#define OVERFLOW_UID                                                                               \
    65534 /* of everybody whom our user namespace does not know (user_namespaces(7)) */
#define PASSWD_BYTES 65536 /* an entry of the system's users, at most */

/* ---- which line ---- */

/* Of this machine, as they are now: they come and go. */
static struct hba_networks interfaces_now(void)
{
    struct hba_networks found = {0};
    struct ifaddrs *first;
    if (getifaddrs(&first) < 0)
        return found;
    for (const struct ifaddrs *at = first; at; at = at->ifa_next) {
        int family = at->ifa_addr ? at->ifa_addr->sa_family : AF_UNSPEC;
        if (!at->ifa_netmask || (family != AF_INET && family != AF_INET6))
            continue;
        const void *address = &((const struct sockaddr_in *)(const void *)at->ifa_addr)->sin_addr;
        const void *mask = &((const struct sockaddr_in *)(const void *)at->ifa_netmask)->sin_addr;
        if (family == AF_INET6) {
            address = &((const struct sockaddr_in6 *)(const void *)at->ifa_addr)->sin6_addr;
            mask = &((const struct sockaddr_in6 *)(const void *)at->ifa_netmask)->sin6_addr;
        }
        found.items = memory_resize(found.items, (found.count + 1) * sizeof(*found.items));
        struct hba_network *network = &found.items[found.count++];
        *network = (struct hba_network){.family = family};
        memcpy(network->address, address, family == AF_INET ? 4 : 16);
        memcpy(network->mask, mask, family == AF_INET ? 4 : 16);
    }
    freeifaddrs(first);
    return found;
}

static const struct hba_rule *rule_for(const struct client *client)
{
    const struct hba *hba = client->proxy->rules->hba;
    struct hba_networks interfaces = {0};
    if (!client->is_unix && hba_asks_interfaces(hba))
        interfaces = interfaces_now();
    struct hba_client who = {.is_unix = client->is_unix,
                             .has_tls = client->stream.ssl != NULL,
                             .address = &client->address.any,
                             .database = client->database,
                             .user = client->user,
                             .is_physical_replication = session_is_physical_replication(client),
                             .interfaces = &interfaces};
    const struct hba_rule *rule = hba_find(hba, &who);
    free(interfaces.items);
    return rule;
}

/* ---- refusals, in PostgreSQL's words ---- */

static void log_rule(const struct client *client, const struct hba_rule *rule, const char *why)
{
    log_client(LOG_LEVEL_INFO, client, "refused by a rule", LOG_FIELD_TEXT("file", rule->file),
               LOG_FIELD_NUMBER("line", rule->line), LOG_FIELD_KIND("reason", why));
}

/* By a line that says reject, or for want of any line (NULL). */
static void refuse_connection(struct client *client, const struct hba_rule *rule)
{
    char host[64] = "[local]";
    const char *encryption = client->stream.ssl ? "SSL encryption" : "no encryption";
    char *text;
    int port;
    if (!client->is_unix)
        client_address_text(client, host, sizeof(host), &port);
    if (session_is_physical_replication(client))
        text = memory_printf("%s host \"%s\", user \"%s\", %s",
                             rule ? "pg_hba.conf rejects replication connection for"
                                  : "no pg_hba.conf entry for replication connection from",
                             host, client->user, encryption);
    else
        text =
            memory_printf("%s host \"%s\", user \"%s\", database \"%s\", %s",
                          rule ? "pg_hba.conf rejects connection for" : "no pg_hba.conf entry for",
                          host, client->user, client->database, encryption);
    if (rule)
        log_rule(client, rule, "reject");
    client_fatal(client, SQLSTATE_INVALID_AUTHORIZATION, text, NULL, NULL);
    free(text);
}

static void refuse_proof(struct client *client, const struct hba_rule *rule, const char *method,
                         const char *why)
{
    char *text = memory_printf("%s authentication failed for user \"%s\"", method, client->user);
    log_rule(client, rule, why);
    client_fatal(client, SQLSTATE_INVALID_AUTHORIZATION, text, NULL, NULL);
    free(text);
}

/* ---- names ---- */

static bool map_allows(const struct client *client, const struct hba_rule *rule,
                       const char *system_user)
{
    const struct rules *rules = client->proxy->rules;
    return ident_allows(rules ? rules->ident : NULL, rule->map, system_user, client->user);
}

static bool certificate_fits(const struct client *client, const struct hba_rule *rule)
{
    char name[DN_BYTES];
    SSL *ssl = client->stream.ssl;
    bool has_name = rule->wants_dn ? tls_peer_distinguished_name(ssl, name, sizeof(name))
                                   : tls_peer_common_name(ssl, name, sizeof(name));
    return has_name && map_allows(client, rule, name);
}

/* ---- the user of a unix socket's other end ---- */

/* What of a line is needed when the user's name is known: a reload may have replaced the lines by then. */
struct peer_check {
    struct hba_rule rule; /* its file, line and map are this job's own */
    uid_t uid;
    char *name; /* NULL: the system knows none */
};

/* A directory server may have to be asked. */
static void name_peer(void *arg)
{
    struct peer_check *check = arg;
    struct passwd entry;
    struct passwd *found = NULL;
    char *bytes = memory_alloc(PASSWD_BYTES);
    if (getpwuid_r(check->uid, &entry, bytes, PASSWD_BYTES, &found) == 0 && found)
        check->name = memory_strdup(entry.pw_name);
    free(bytes);
}

static void refuse_peer(struct client *client, const struct hba_rule *rule)
{
    refuse_proof(client, rule, "Peer", "the system's user may not be this user");
}

static void peer_named(struct client *client, void *arg)
{
    const struct peer_check *check = arg;
    if (check->name && map_allows(client, &check->rule, check->name))
        auth_succeeded(client);
    else
        refuse_peer(client, &check->rule);
}

static void peer_check_free(void *arg)
{
    struct peer_check *check = arg;
    free(check->rule.file);
    free(check->rule.map);
    free(check->name);
    free(check);
}

/* In a user namespace (PrivateUsers= of systemd) most users are not known, and nobody in particular comes from them. */
static void ask_peer(struct client *client, const struct hba_rule *rule)
{
    static const struct aside aside = {name_peer, peer_named, peer_check_free};
    struct ucred peer = {0};
    socklen_t peer_bytes = sizeof(peer);
    if (getsockopt(client->stream.fd, SOL_SOCKET, SO_PEERCRED, &peer, &peer_bytes) < 0 ||
        peer.uid == OVERFLOW_UID) {
        refuse_peer(client, rule);
        return;
    }
    struct peer_check *check = memory_alloc(sizeof(*check));
    check->rule.file = memory_strdup(rule->file);
    check->rule.line = rule->line;
    check->rule.map = rule->map ? memory_strdup(rule->map) : NULL;
    check->uid = peer.uid;
    aside_run(client, &aside, check);
}

/* ---- proof ---- */

static void ask_password(struct client *client, const struct hba_rule *rule)
{
    client->has_others_certificate =
        rule->clientcert == HBA_CLIENTCERT_VERIFY_FULL && !certificate_fits(client, rule);
    if (client->has_others_certificate)
        log_rule(client, rule, "the certificate's name is not the user's");
    auth_ask_by(client, rule->method == HBA_MD5        ? AUTH_MD5
                        : rule->method == HBA_PASSWORD ? AUTH_PASSWORD
                                                       : AUTH_SCRAM_SHA_256);
}

void auth_by_rules(struct client *client)
{
    const struct hba_rule *rule = rule_for(client);
    if (!rule) {
        refuse_connection(client, NULL);
        return;
    }
    if (rule->clientcert && !tls_peer_is_verified(client->stream.ssl)) {
        log_rule(client, rule, "no certificate");
        client_fatal(client, SQLSTATE_INVALID_AUTHORIZATION,
                     "connection requires a valid client certificate", NULL, NULL);
        return;
    }
    switch (rule->method) {
    case HBA_REJECT:
        refuse_connection(client, rule);
        return;
    case HBA_MD5:
    case HBA_SCRAM_SHA_256:
    case HBA_PASSWORD:
        ask_password(client, rule);
        return;
    case HBA_PEER:
        ask_peer(client, rule);
        return;
    case HBA_CERT:
    case HBA_TRUST:
        if (rule->clientcert == HBA_CLIENTCERT_VERIFY_FULL && !certificate_fits(client, rule)) {
            refuse_proof(client, rule, rule->method == HBA_CERT ? "certificate" : "\"trust\"",
                         "the certificate's name may not be this user");
            return;
        }
        break;
    }
    auth_succeeded(client);
}
