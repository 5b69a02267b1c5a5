/*
 * channel.h - messages and descriptors between two processes of one machine: how an upgrade talks.
 *
 * A pair of unix sockets (SOCK_SEQPACKET), one end inherited by the other process.  A message is a type, bytes, and at most one
 * descriptor (SCM_RIGHTS); a long one goes in pieces and comes out whole.  Nothing blocks but channel_wait.
 */
#ifndef NET_CHANNEL_H
#define NET_CHANNEL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <event2/event.h>

#define CHANNEL_MESSAGE_MAX (24u << 20) /* a longer one is the end of the channel */

struct channel;

struct channel_message {
    uint8_t type;
    const uint8_t *bytes; /* until the callback returns */
    size_t length;
    int fd; /* the receiver's from now on; -1: none came, or there was no room for it */
};

typedef void (*channel_receiver)(void *arg, const struct channel_message *message);
/* The other side has gone, or spoke nonsense: free the channel.  Comes once. */
typedef void (*channel_ender)(void *arg);

/* Both ends, closed on exec; false with errno. */
bool channel_pair(int ends[2]);
/* Takes over the descriptor, which is such an end; NULL when it is not, and the descriptor is closed. */
struct channel *channel_open(int fd);
/* Receives one message within this time, before there is a loop; the message is good until the next call.  False when
 * none came, or the other side is gone. */
bool channel_wait(struct channel *channel, int64_t timeout_us, struct channel_message *message);
/* From now on messages come by callback. */
void channel_listen(struct channel *channel, struct event_base *base, channel_receiver receiver,
                    channel_ender ender, void *arg);
/* Hands out by callback what has come in already; the end, if that is next, comes later as ever. */
void channel_hear(struct channel *channel);
/* Queues a copy of the bytes and sends what can be sent; `fd` stays the caller's and must be open until it is sent. */
void channel_send(struct channel *channel, uint8_t type, const void *bytes, size_t length, int fd);
/* Pieces that wait to be sent: who has much to say stops here for a while. */
size_t channel_backlog(const struct channel *channel);
/* Safe within a callback of the channel's own. */
void channel_free(struct channel *channel);

#endif
