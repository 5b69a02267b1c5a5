/*
 * held.c - bounds what is kept of the messages of all clients together: see held.h.
 *
 * Each client's share is bounded (PROXY_HELD_MAX), and ten thousand shares are 640 MB.  So it is counted, by the memory that it
 * takes, and only where something is kept: whole messages that have somewhere to go are not.
 *
 * Beyond HELD_ALL_MAX nobody is refused, for who comes then need not be who filled it.  Of a client that has no backend a block of
 * 4 kB is read: the rest is the kernel's to keep, within its own bounds, and its sender's.  If that is no whole message, the
 * client waits for a backend first and for the rest then, for those that have one are few.
 */
#include "proxy/held.h"

#include "base/log.h"

#define HELD_ALL_MAX (128u << 20)

static bool held_is_full(const struct proxy *proxy)
{
    return proxy->held_bytes >= HELD_ALL_MAX;
}

static void count(struct proxy *proxy, size_t before, size_t after)
{
    bool was_full = held_is_full(proxy);
    proxy->held_bytes += after - before;
    if (!was_full && held_is_full(proxy))
        log_event(LOG_LEVEL_WARNING, "messages that wait are read in small pieces",
                  LOG_FIELD_KIND("reason", "what is held of all clients' messages, which are not "
                                           "whole or wait for a connection, takes 128 MB"),
                  LOG_FIELD_TEXT("consequence",
                                 "a long statement needs its connection before it is there"));
}

void held_keep(struct client *client, const void *bytes, size_t length)
{
    size_t before = buffer_capacity(&client->held);
    buffer_append(&client->held, bytes, length);
    count(client->proxy, before, buffer_capacity(&client->held));
}

struct buffer held_take(struct client *client)
{
    struct buffer held = client->held;
    client->held = (struct buffer){0};
    count(client->proxy, buffer_capacity(&held), 0);
    return held;
}

void held_return(struct client *client, struct buffer *held, size_t taken)
{
    buffer_consume(held, taken);
    client->held = *held;
    *held = (struct buffer){0};
    count(client->proxy, 0, buffer_capacity(&client->held));
}

void held_consume(struct client *client, size_t length)
{
    size_t before = buffer_capacity(&client->held);
    buffer_consume(&client->held, length);
    count(client->proxy, before, buffer_capacity(&client->held));
}

void held_drop(struct client *client)
{
    count(client->proxy, buffer_capacity(&client->held), 0);
    buffer_free(&client->held);
}

/* What belongs to a message that is passing is not held. */
size_t held_room(const struct client *client)
{
    size_t held = buffer_length(&client->held);
    if (!held_is_full(client->proxy) || client->server || client->message_left >= PROXY_READ_BYTES)
        return PROXY_READ_BYTES;
    size_t room = held < BUFFER_BLOCK_BYTES ? BUFFER_BLOCK_BYTES - held : BUFFER_BLOCK_BYTES;
    room += client->message_left;
    return room < PROXY_READ_BYTES ? room : PROXY_READ_BYTES;
}

bool held_wants_backend(const struct client *client, size_t at_hand)
{
    return held_is_full(client->proxy) && at_hand >= BUFFER_BLOCK_BYTES;
}
