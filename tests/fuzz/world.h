/*
 * world.h - a whole proxy in the fuzzer's process: its real loop, state machines and sockets, between clients that the
 * fuzzer plays and an upstream that it plays too (fake_server.h).
 *
 * Nothing here waits: a turn runs the loop, the upstream and the clients until none of them has anything to do.  The
 * clock stands still but for world_pass_time, random bytes are always the same, and what would go to a worker thread
 * (cancels) runs when the fuzzer says, so that one input means one run.
 */
#ifndef FUZZ_WORLD_H
#define FUZZ_WORLD_H

#include <event2/event.h>

#include "fake_server.h"
#include "proxy/proxy.h"

#define WORLD_CLIENTS 8

enum world_door { DOOR_AUTOMATION, DOOR_ADHOC, DOOR_ADMIN, DOORS };

/* What a client has seen. */
struct world_client {
    int fd; /* -1: not there */
    int number;
    enum world_door door;
    struct buffer in;
    struct buffer out;
    size_t chunk;   /* bytes sent in one turn; 0: all */
    bool is_deaf;   /* reads nothing */
    bool is_closed; /* the proxy has closed it */
    bool is_ready;  /* has had a ReadyForQuery at all */
    bool
        is_wild; /* sends what is no protocol, or its upstream does: nothing is claimed of its answers */
    unsigned ready_count; /* ReadyForQuery received */
    int last_mark;        /* the number of the mark received last */
    int next_mark;        /* of its own, to send */
    uint32_t key_pid;
    uint8_t key_secret[32];
    size_t key_bytes;
    bool has_key;
    bool asked_cancel; /* so that it may be told 57014 */
};

struct world {
    struct event_base *base;
    struct proxy *proxy;
    struct fake_server server;
    struct world_client clients[WORLD_CLIENTS];
    bool holds_cancels; /* they have been taken and do not return yet */
    bool may_cancel;    /* timeouts and the console may cancel anybody's query */
    char directory[64];
    int first_fd; /* the lowest that was free before */
};

struct world *world_new(void);
/* Everybody leaves, time passes, the proxy stops: nothing may be left. */
void world_end(struct world *world);
void world_turn(struct world *world);
void world_pass_time(struct world *world, int64_t us);
/* Connects a client without a word; false when it is there already. */
bool world_connect(struct world *world, int number, enum world_door door);
/* Sends the start-up packet to database `database` as user fuzz. */
void world_log_in(struct world *world, int number, const char *database, const char *application);
/* Connects, logs in, and lets everything run. */
void world_enter(struct world *world, int number, enum world_door door, const char *database,
                 const char *application);
void world_send(struct world *world, int number, const void *bytes, size_t length);
void world_query(struct world *world, int number, const char *sql);
/* It goes without a word. */
void world_leave(struct world *world, int number);
/* A connection of its own brings the client's cancel key. */
void world_cancel(struct world *world, int number);
/* Cancels that were held return. */
void world_release_cancels(struct world *world);
/* Other numbers for the pools, as a reload brings them. */
void world_reload(struct world *world, int size, int max_overflow);
/* What must be true at any moment. */
void world_check(struct world *world);

#endif
