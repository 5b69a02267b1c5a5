/*
 * carry.h - a client between two processes of an upgrade: what is written down of it, and how it begins anew.
 *
 * A client goes when nothing ties it to this process: no backend, no TLS (its keys live in this process's memory), nothing half
 * written.  While it is on its way it is CLIENT_LEAVING here, so that it can be taken back when the other side refuses it
 * or dies; once the other side has it, this one forgets it.
 */
#ifndef PROXY_CARRY_H
#define PROXY_CARRY_H

#include "proto/record.h"
#include "proxy/proxy.h"

/* Whether an upgrade hands over and this client is of the kind that goes: nothing more is read from it here. */
bool carry_goes(const struct client *client);
static inline bool carry_is_due(const struct client *client)
{
    return client->proxy->upgrade && carry_goes(client);
}
/* Whether it can go now. */
bool carry_can_go(const struct client *client);
/* Writes down all that the other process must know. */
void carry_write(const struct client *client, struct buffer *record);

/* It is on its way: neither read nor timed. */
void carry_freeze(struct client *client);
/* It stays after all, and goes on where it was. */
void carry_thaw(struct client *client);
/* It is the other process's: nobody hears of it here any more. */
void carry_forget(struct client *client);

/* What a lane has learned of its upstream, and back: nothing happens where this process's configuration says otherwise.
 * carry_write_lane: false when there is nothing to say. */
bool carry_write_lane(const struct lane *lane, struct buffer *record);
void carry_read_lane(struct proxy *proxy, const void *record, size_t length);
/* Settings that were written as name, zero, value, zero ...; NULL when they were not, and the reader is malformed. */
struct settings *carry_settings(struct proxy *proxy, struct record_reader *reader,
                                const struct record_field *field);

/* Makes the client of what was written down; the descriptor is taken over.  NULL with a text in `why` when it cannot be had
 * here; then it stays what it was in the other process, and the descriptor is closed. */
struct client *carry_read(struct proxy *proxy, const void *record, size_t length, int fd,
                          const char **why);
/* Lets it go on: once the other process has been told that it is here. */
void carry_resume(struct client *client);

#endif
