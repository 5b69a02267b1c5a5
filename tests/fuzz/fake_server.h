/*
 * fake_server.h - an upstream inside the fuzzer's process, behind an abstract unix socket: libpq logs in to it for real.
 *
 * It knows as much of PostgreSQL as pgreserve relies on: transaction states, the extended protocol with its statements and
 * portals, skipping to the Sync after an error, COPY, cancels.  Queries answer with the mark that they carry: a
 * text of the form m<client>.<number>.  And it misbehaves on command.  What it is sent must be whole messages of known
 * types: a stream out of step is a claim that does not hold.
 */
#ifndef FUZZ_FAKE_SERVER_H
#define FUZZ_FAKE_SERVER_H

#include <stdbool.h>
#include <stdint.h>

#include "base/buffer.h"

#define FAKE_BACKENDS   64
#define FAKE_STATEMENTS 64
#define FAKE_PORTALS    4
#define FAKE_NAME       64
#define FAKE_TEXT       256
#define FAKE_MARK       32
#define FAKE_CHUNKED    1024 /* what is longer is not sent in chunks: that would take forever */

struct fake_statement {
    char name[FAKE_NAME];
    char text[FAKE_TEXT];
    bool is_there;
};

struct fake_portal {
    char name[FAKE_NAME];
    char text[FAKE_TEXT];
    char mark[FAKE_MARK];
    bool is_there;
};

struct fake_backend {
    int fd; /* -1: free */
    int pid;
    struct buffer in;
    struct buffer out;
    bool is_in;         /* logged in */
    char status;        /* I, T, E */
    bool is_skipping;   /* to the next Sync */
    bool is_copying_in; /* waits for CopyData */
    bool is_copy_extended;
    bool is_extended; /* what sleeps or copies came by the extended protocol */
    bool is_asleep;   /* a query runs until it is woken or cancelled */
    char sleeper[FAKE_MARK];
    bool is_stalled; /* neither reads nor writes */
    bool fails_next; /* the next statement ends in an error */
    bool is_ending;  /* closed once its last words are out */
    double probe_seed;
    struct fake_statement statements[FAKE_STATEMENTS];
    struct fake_portal portals[FAKE_PORTALS];
};

enum fake_login {
    FAKE_LOGIN_OK,
    FAKE_LOGIN_FULL,
    FAKE_LOGIN_DENIED,
    FAKE_LOGIN_CLOSED,
    FAKE_LOGIN_HANGS,
    FAKE_LOGINS
};

struct fake_server {
    char name[64]; /* of the abstract socket, as libpq's `host` */
    int listener;
    int last_pid;
    enum fake_login login;
    size_t chunk; /* bytes sent in one turn to each; 0: all */
    struct fake_backend backends[FAKE_BACKENDS];
    bool never_sleeps;
    int open; /* connections that it has not let go of */
    int most; /* and how many at once there ever were */
    bool
        is_lenient; /* what comes may be out of step: the client or the server has sent arbitrary bytes */
};

/* Listens under a name of this process's own. */
void fake_server_start(struct fake_server *server);
void fake_server_end(struct fake_server *server);
/* Reads, answers and writes what there is; true when anything happened. */
bool fake_server_turn(struct fake_server *server);
/* The nth open connection, counted round; NULL when there is none. */
struct fake_backend *fake_server_pick(struct fake_server *server, unsigned nth);
/* It goes, with a FATAL of this SQLSTATE first unless that is NULL. */
void fake_server_kill(struct fake_server *server, struct fake_backend *backend,
                      const char *sqlstate);
/* The query that sleeps there has its answer, or the error of a cancel. */
void fake_server_wake(struct fake_backend *backend, bool is_cancelled);
void fake_server_say(struct fake_backend *backend, const void *bytes, size_t length);
/* A cancel by the key of this process, as libpq would send it. */
void fake_server_cancel(struct fake_server *server, int pid);

#endif
