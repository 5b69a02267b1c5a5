/*
 * startup.h - the first packet of a connection (protocol 55.2.1, 55.7).
 */
#ifndef PROTO_STARTUP_H
#define PROTO_STARTUP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define STARTUP_CANCEL_REQUEST 80877102u
#define STARTUP_SSL_REQUEST    80877103u
#define STARTUP_GSSENC_REQUEST 80877104u
#define STARTUP_PACKET_MAX     10000 /* PostgreSQL's MAX_STARTUP_PACKET_LENGTH */
#define STARTUP_MINOR_NEWEST   2     /* protocol 3.2 */
#define STARTUP_NAME_MAX       63    /* bytes of a user's and a database's name: NAMEDATALEN - 1 */

/* One run-time setting that came with the start-up packet. */
struct startup_setting {
    char *name;
    char *value;
};

struct startup {
    char *user;
    char *database;
    char *application_name;
    char *replication;
    struct startup_setting *settings; /* options=-c ... and every other parameter, each name once */
    size_t setting_count;
    uint16_t minor;         /* what the client asked for */
    char **unknown_options; /* `_pq_.` names that we do not know */
    size_t unknown_option_count;
    bool has_no_user;          /* that is what is wrong with it */
    bool has_bad_options;      /* `options` is what is wrong with it */
    bool has_unknown_argument; /* and in a way that `postgres --help` explains */
};

/* What a value of `replication` asks for. */
enum startup_replication {
    STARTUP_REPLICATION_NONE,
    STARTUP_REPLICATION_PHYSICAL,
    STARTUP_REPLICATION_DATABASE,
    STARTUP_REPLICATION_INVALID
};

/* Reads a StartupMessage (body behind the length: version, then pairs).  False with a text in `error` (static
 * or in the caller's buffer) when it is malformed.  Free with startup_free either way.
 * The user's and the database's name are cut to STARTUP_NAME_MAX bytes, as PostgreSQL cuts them. */
bool startup_parse(struct startup *startup, const uint8_t *body, size_t length, char *error,
                   size_t error_bytes);
/* As PostgreSQL reads it, to the letter: what it takes for no replication must not be taken for one here, where rules for
 * replication are not those for databases.  NULL: it was not there. */
enum startup_replication startup_replication(const char *value);
void startup_free(struct startup *startup);

#endif
