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
    uint32_t syncs; /* among them: a pipeline asks with every message */
    uint8_t small[16];
    bool is_skipping;     /* an error was met and the Sync that ends it has not been sent yet */
    bool is_open;         /* extended messages were sent since the last Sync or Query */
    bool is_copying_in;   /* the server waits for CopyData */
    bool is_sync_unsure;  /* a Sync was sent during the COPY: ignored, if it succeeds */
    bool is_copying_both; /* COPY BOTH: replication; never ends in a reusable backend */
    bool is_confused;     /* what the server will answer is not known for sure: do not reuse */
    /* Since somebody looked: */
    uint32_t events;       /* the sum of those below */
    uint32_t confirmed;    /* tracked entries answered */
    uint32_t undone;       /* tracked entries that an error made the server skip; they come first */
    bool first_has_failed; /* the first of these is what failed */
    uint32_t unnamed_answered; /* of the unnamed statement, likewise */
    uint32_t unnamed_failed;   /* its Parse was what failed; comes before those that were skipped */
    uint32_t unnamed_undone;
    uint32_t provided_answered; /* a Parse of ours of the unnamed statement */
    uint32_t provided_undone;
};

/* Entries of the extended protocol whose fate somebody follows, or whose answers are for us. */
enum outstanding_entry {
    OUTSTANDING_UNNAMED_PARSE = 'U',    /* the client's, of the unnamed statement */
    OUTSTANDING_UNNAMED_CLOSE = 'V',    /* likewise */
    OUTSTANDING_PROVIDED_UNNAMED = 'W', /* ours, of the unnamed statement */
    OUTSTANDING_PARSE = 't',            /* the client's, tracked */
    OUTSTANDING_CLOSE = 'x',            /* the client's, tracked */
    OUTSTANDING_INJECTED_PARSE = 'i',   /* ours, tracked */
    OUTSTANDING_INJECTED_CLOSE = 'k',   /* ours, tracked */
    OUTSTANDING_UNTRACKED_PARSE = 'u',  /* ours */
    OUTSTANDING_UNTRACKED_CLOSE = 'j',  /* ours */
    OUTSTANDING_UNTRACKED_BIND = 'b',   /* ours */
    OUTSTANDING_QUIET_PARSE = 'y'       /* ours, and its error is nobody's business */
};

/* Queries of our own, by what they are for; no letter has this bit. */
#define INJECTION_BIT 0x80
enum outstanding_injection {
    INJECTION_NONE = 0,
    INJECTION_CLEAN = INJECTION_BIT, /* ROLLBACK, DISCARD ALL, a ping, a Sync */
    INJECTION_SETTLE,                /* puts the client's settings in force */
    INJECTION_QUESTION,              /* what does the session hold? */
    INJECTION_RESTORE, /* start-up settings after a RESET: the ReadyForQuery before it waits for its own */
    INJECTION_REPAIR,  /* the same, later: the client has its ReadyForQuery */
    INJECTION_LOGIN,   /* a client's start-up settings for the first time */
    INJECTION_TRIGGERS /* has the database triggers? */
};

/* What a message from the server is to the client. */
enum reply { REPLY_FORWARD, REPLY_SWALLOW };

/* Records a message sent; `type` is the protocol's letter. */
void outstanding_sent(struct outstanding *outstanding, uint8_t type);
/* Records a Parse or Close as one of these.  False when the server will not look at it (it skips to a Sync, or is in a
 * COPY): then nothing is recorded. */
bool outstanding_sent_as(struct outstanding *outstanding, enum outstanding_entry entry);
/* Records a simple Query or Sync of our own, whose answers (but no notifications) are swallowed.  A Query only while
 * nothing is open or skipped: the server might ignore it.  One for INJECTION_RESTORE follows a Query or Sync of
 * the client's at once: the client gets one ReadyForQuery for both, the second. */
void outstanding_injected(struct outstanding *outstanding, enum outstanding_injection injection);
/* Takes a server's message into account and says whose it is. */
enum reply outstanding_answered(struct outstanding *outstanding, uint8_t type);
/* Whether an error now would be the answer to a message of ours that may fail. */
bool outstanding_is_quiet(const struct outstanding *outstanding);
/* True when nothing is owed or open but what was sent by us. */
bool outstanding_is_ours(const struct outstanding *outstanding);
/* True when nothing at all is owed or open. */
static inline bool outstanding_is_empty(const struct outstanding *outstanding)
{
    return outstanding->count == 0 && !outstanding->is_open && !outstanding->is_skipping;
}
/* The entry that the next answer is for; 0 when nothing is owed. */
static inline uint8_t outstanding_head(const struct outstanding *outstanding)
{
    const uint8_t *ring = outstanding->ring ? outstanding->ring : outstanding->small;
    uint32_t capacity =
        outstanding->ring ? outstanding->capacity : (uint32_t)sizeof(outstanding->small);
    return outstanding->count > 0 ? ring[outstanding->head & (capacity - 1)] : 0;
}
/* Which query of ours the next answer belongs to, or INJECTION_NONE. */
static inline enum outstanding_injection
outstanding_injection(const struct outstanding *outstanding)
{
    uint8_t head = outstanding_head(outstanding);
    return head & INJECTION_BIT ? (enum outstanding_injection)head : INJECTION_NONE;
}
/* True while a simple Query of the client's is answered, and no COPY from the client is on: until its ReadyForQuery (or an
 * error, or CopyInResponse) nothing that the server says of it changes anything here. */
static inline bool outstanding_is_in_query(const struct outstanding *outstanding)
{
    return outstanding_head(outstanding) == 'Q' && !outstanding->is_copying_in &&
           !outstanding->is_sync_unsure;
}
/* Whether a Sync is among what is owed: answers will come without anything more being sent. */
static inline bool outstanding_has_sync(const struct outstanding *outstanding)
{
    return outstanding->syncs > 0;
}
/* Whether something is owed, and all of it comes to its end without anything more being sent: no batch lacks its Sync, no COPY
 * its data. */
static inline bool outstanding_ends_by_itself(const struct outstanding *outstanding)
{
    return outstanding->count > 0 && !outstanding->is_open && !outstanding->is_skipping &&
           !outstanding->is_copying_in;
}
void outstanding_free(struct outstanding *outstanding);

#endif
