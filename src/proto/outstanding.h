/*
 * outstanding.h - what a backend still owes: one entry for each message sent that it will answer.
 *
 * Messages that went to the backend are queued in order by their type; its answers take them off.  An error
 * in the extended protocol takes everything off up to the next Sync, as the server itself does (protocol
 * 55.2.3); during COPY from the client, Sync and Flush are ignored (55.2.6).  The backend is free when
 * nothing is owed and its last ReadyForQuery said `I`.  An entry may be injected: its answers are for us, not for
 * the client.
 *
 * One thing cannot be known: whether a COPY that failed had read the Syncs sent during it (ignored) or not
 * (each answered).  Then, and when a message comes that nothing here asked for, is_confused is set.
 *
 * One byte an entry.  Pure.
 */
#ifndef PROTO_OUTSTANDING_H
#define PROTO_OUTSTANDING_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* More entries than this on the way: stop reading from the client until some are answered. */
#define OUTSTANDING_MAX 65536

struct outstanding {
    uint8_t *ring;
    uint32_t capacity; /* a power of two, or 0 */
    uint32_t head;
    uint32_t count;
    uint8_t small[16];
    bool is_skipping;     /* an error was met and the Sync that ends it has not been sent yet */
    bool is_open;         /* extended messages were sent since the last Sync or Query */
    bool is_copying_in;   /* the server waits for CopyData */
    bool is_sync_unsure;  /* a Sync was sent during the COPY: ignored, if it succeeds */
    bool is_copying_both; /* COPY BOTH: replication; never ends in a reusable backend */
    bool is_confused;     /* what the server will answer is not known for sure: do not reuse */
};

/* What a message from the server is to the client. */
enum reply { REPLY_FORWARD, REPLY_SWALLOW };

/* Records a message sent; `type` is the protocol's letter. */
void outstanding_sent(struct outstanding *outstanding, uint8_t type);
/* Records a simple Query or Sync of our own, whose answers (but no notifications) are swallowed.  A Query only while
 * nothing is open or skipped: the server might ignore it. */
void outstanding_injected(struct outstanding *outstanding);
/* Takes a server's message into account and says whose it is. */
enum reply outstanding_answered(struct outstanding *outstanding, uint8_t type);
/* True when the next answer belongs to an injected query. */
bool outstanding_is_injected(const struct outstanding *outstanding);
/* True when nothing at all is owed or open. */
static inline bool outstanding_is_empty(const struct outstanding *outstanding)
{
    return outstanding->count == 0 && !outstanding->is_open && !outstanding->is_skipping;
}
void outstanding_free(struct outstanding *outstanding);

#endif
