/*
 * hba.h - pg_hba.conf: which client must prove who it is by what.
 *
 * The first line that fits a client's connection, address, database and user decides (PostgreSQL 17, 20.1); none that fits
 * is a refusal.  What needs the server's roles (samerole, +role), names of hosts and methods that pgreserve does not have are
 * refused with the line's number.
 */
#ifndef CONFIG_HBA_H
#define CONFIG_HBA_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>
#include "config/name_pattern.h"
#include "config/rule_lines.h"

enum hba_type {
    HBA_LOCAL,
    HBA_HOST,
    HBA_HOSTSSL,
    HBA_HOSTNOSSL,
    HBA_HOSTGSSENC, /* nobody: there is no GSSAPI */
    HBA_HOSTNOGSSENC
};

enum hba_method {
    HBA_TRUST,
    HBA_REJECT,
    HBA_MD5,
    HBA_SCRAM_SHA_256,
    HBA_PASSWORD,
    HBA_CERT,
    HBA_PEER
};

enum hba_clientcert { HBA_CLIENTCERT_NONE, HBA_CLIENTCERT_VERIFY_CA, HBA_CLIENTCERT_VERIFY_FULL };

/* An address's bytes (4 of IPv4) and which of their bits count. */
struct hba_network {
    int family; /* AF_INET or AF_INET6 */
    uint8_t address[16];
    uint8_t mask[16];
};

struct hba_networks {
    struct hba_network *items;
    size_t count;
};

enum hba_from { HBA_FROM_NETWORK, HBA_FROM_ALL, HBA_FROM_SAMEHOST, HBA_FROM_SAMENET };

struct hba_name {
    char *text;
    bool is_quoted;
    struct name_pattern *pattern; /* NULL: the text itself */
};

struct hba_names {
    struct hba_name *items;
    size_t count;
};

struct hba_rule {
    char *file;
    int line;
    enum hba_type type;
    struct hba_names databases;
    struct hba_names users;
    enum hba_from from;         /* not of HBA_LOCAL */
    struct hba_network network; /* of HBA_FROM_NETWORK */
    enum hba_method method;
    enum hba_clientcert clientcert; /* VERIFY_FULL with HBA_CERT */
    bool wants_dn; /* clientname=DN: the whole name of the certificate, not its CN */
    char *map;     /* NULL: names must be the same */
};

struct hba {
    struct hba_rule *rules;
    size_t count;
};

/* Who comes. */
struct hba_client {
    bool is_unix;
    bool has_tls;
    const struct sockaddr *address; /* AF_INET or AF_INET6; not looked at when is_unix */
    const char *database;
    const char *user;
    bool is_physical_replication;          /* and so of no database */
    const struct hba_networks *interfaces; /* of this machine, for samehost and samenet */
};

/* Reads and checks the file; NULL after filling `errors` with all that is wrong. */
struct hba *hba_read(const char *path, const struct rule_source *source,
                     struct config_errors *errors);
void hba_free(struct hba *hba);
/* One line; false after an error. */
bool hba_rule_parse(struct hba_rule *rule, const struct rule_line *line,
                    struct config_errors *errors);
/* The line that decides; NULL: none fits.  No I/O. */
const struct hba_rule *hba_find(const struct hba *hba, const struct hba_client *client);
/* Whether hba_find() looks at the interfaces. */
bool hba_asks_interfaces(const struct hba *hba);
/* Whether a client may come to this line from beyond this machine. */
bool hba_rule_reaches_out(const struct hba_rule *rule);

#endif
