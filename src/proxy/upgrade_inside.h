/*
 * upgrade_inside.h - what both sides of an upgrade say to each other: upgrade.c, takeover.c, upgrade_words.c.
 */
#ifndef PROXY_UPGRADE_INSIDE_H
#define PROXY_UPGRADE_INSIDE_H

#include "net/channel.h"
#include "proxy/proxy.h"

#define UPGRADE_VERSION  1 /* of the conversation; a client's record has its own (carry.c) */
#define UPGRADE_VARIABLE "PGRESERVE_HANDOVER" /* the number of the channel's descriptor */
#define LOST_PLACES_US   (10 * CLOCK_S) /* how long a dead process's connections are counted */

/* Numbers and fields stay what they are: the other side may be an older or a newer version. */
enum upgrade_message {
    /* old to new */
    MESSAGE_HELLO = 1, /* WORD_VERSION, WORD_PID */
    MESSAGE_SOCKET,    /* a listening socket: WORD_NAME, WORD_PATH */
    MESSAGE_OFFERED,   /* those were all */
    MESSAGE_LANE,      /* carry_lane.c's record */
    MESSAGE_CLIENT,    /* carry.c's record; the descriptor is the client's */
    /* new to old */
    MESSAGE_READY = 32, /* WORD_VERSION, WORD_PID */
    MESSAGE_TAKEN,      /* the first client that was not answered yet is here */
    MESSAGE_REFUSED,    /* it is not: WORD_REASON */
    MESSAGE_STOPPING,
    /* both ways */
    MESSAGE_PLACES =
        64,        /* WORD_POOL for each pool; the first from the old one is its leave to serve */
    MESSAGE_CANCEL /* WORD_PID, WORD_SECRET */
};

enum upgrade_word {
    WORD_VERSION = 1,
    WORD_PID,
    WORD_NAME,
    WORD_PATH,
    WORD_REASON,
    WORD_POOL, /* record of WORD_NAME, WORD_OPEN */
    WORD_OPEN,
    WORD_SECRET
};

/* ---- upgrade_program.c ---- */

/* Starts the program that we were started as, with the channel's end; 0 with an errno in `error` when it cannot be. */
pid_t upgrade_spawn(const struct proxy *proxy, int channel_fd, int *error);

/* ---- upgrade_words.c ---- */

/* HELLO or READY. */
void words_send_greeting(struct channel *channel, enum upgrade_message type);
/* Whether it is one of a conversation that we know. */
bool words_read_greeting(const struct channel_message *message, pid_t *pid);
/* What we have open in each pool; `last` is what was said before, and nothing is when that is the same. */
void words_send_places(struct proxy *proxy, struct channel *channel, struct buffer *last);
/* What the other process has open counts as ours from now on.  False when it is malformed: then nothing changes. */
bool words_read_places(struct proxy *proxy, const struct channel_message *message);
/* The other process has gone: what it had open counts on for a while. */
void words_places_lost(struct proxy *proxy);
/* Whether some of those may be open still. */
bool words_are_places_missing(const struct proxy *proxy);
/* From the tick: until then. */
void words_forget_places(struct proxy *proxy);
void words_send_cancel(struct channel *channel, uint32_t pid, const uint8_t *secret,
                       size_t secret_bytes);
/* Does what the request asks; whether it was for somebody here.  `back` gets it when not, and is not NULL. */
void words_take_cancel(struct proxy *proxy, const struct channel_message *message,
                       struct channel *back);

/* ---- takeover.c ---- */

/* The channel to the process that we take over from; NULL when there is none. */
struct channel *takeover_channel(const struct proxy *proxy);

#endif
