/*
 * door.h - those who have come and have not logged in: how many there may be, and who has failed too often.
 */
#ifndef PROXY_DOOR_H
#define PROXY_DOOR_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>

struct client;
struct listener;
struct proxy;
struct proxy_pool;

TAILQ_HEAD(door_list, client);

/* Of the pools without a reservation, of one with, or of the console. */
struct login_door {
    unsigned number; /* of no other door */
    int count;
    struct door_list clients; /* who came first stands first */
};

void door_init(struct login_door *door, unsigned number);
/* The door that leads to this pool; NULL: the console. */
struct login_door *door_of(struct proxy *proxy, struct proxy_pool *pool);
/* A client has come; it has not logged in. */
void door_enter(struct client *client);
/* It has logged in, or is gone. */
void door_leave(struct client *client);
/* Whether one more may be accepted; if not, the listener is told again when it may. */
bool door_admits(struct listener *listener);
/* Looks at doors that are shut; at each tick. */
void door_tick(struct proxy *proxy);
/* Its login has failed. */
void door_note_failure(struct client *client);
/* How long its address must wait before it may try again, in microseconds; 0: not at all. */
int64_t door_wait(const struct client *client);

#endif
