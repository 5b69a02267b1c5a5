/*
 * outstanding.c - the queue of what a backend still owes: see outstanding.h.
 *
 * Entries are the letters of the messages: P B D E C (extended), S, Q, F, and `c` for the CopyDone or CopyFail that ends a
 * COPY; queries of our own by enum outstanding_injection; enum outstanding_entry has the rest; `kinds` says what is common to
 * several.  The head is never a `c`: one that nobody waits for is dropped when it comes up, for the server ignores that
 * message.  The common ways (one Query; Parse Bind Describe Execute Sync) stay within the small array inside the struct.
 *
 * A COPY from the client eats what stands behind its command up to the first `c`, that `c` included: at
 * CopyInResponse these entries are taken out, and while is_copying_in is set they are not queued at all.
 */
#include "proto/outstanding.h"

#include <stdlib.h>
#include <string.h>

#include "base/memory.h"

enum kind {
    KIND_TRACKED = 1 << 0,  /* what becomes of it is counted */
    KIND_UNNAMED = 1 << 1,  /* likewise, the client's unnamed statement */
    KIND_PROVIDED = 1 << 2, /* likewise, the unnamed statement from us */
    KIND_EVENTFUL = KIND_TRACKED | KIND_UNNAMED | KIND_PROVIDED,
    KIND_PARSE = 1 << 3, /* ParseComplete answers it */
    KIND_CLOSE = 1 << 4, /* CloseComplete does */
    KIND_OURS = 1 << 5,  /* and that is not for the client */
    KIND_OTHER = 1 << 6, /* something else of the extended protocol's does */
    KIND_EXTENDED = KIND_PARSE | KIND_CLOSE | KIND_OTHER
};

/* By entry; 0 is what there is when nothing is owed. */
static const uint8_t kinds[256] = {
    ['P'] = KIND_PARSE,
    ['C'] = KIND_CLOSE,
    ['B'] = KIND_OTHER,
    ['D'] = KIND_OTHER,
    ['E'] = KIND_OTHER,
    [OUTSTANDING_PARSE] = KIND_PARSE | KIND_TRACKED,
    [OUTSTANDING_CLOSE] = KIND_CLOSE | KIND_TRACKED,
    [OUTSTANDING_UNNAMED_PARSE] = KIND_PARSE | KIND_UNNAMED,
    [OUTSTANDING_UNNAMED_CLOSE] = KIND_CLOSE | KIND_UNNAMED,
    [OUTSTANDING_PROVIDED_UNNAMED] = KIND_PARSE | KIND_CLOSE | KIND_PROVIDED | KIND_OURS,
    [OUTSTANDING_INJECTED_PARSE] = KIND_PARSE | KIND_TRACKED | KIND_OURS,
    [OUTSTANDING_INJECTED_CLOSE] = KIND_CLOSE | KIND_TRACKED | KIND_OURS,
    [OUTSTANDING_UNTRACKED_PARSE] = KIND_PARSE | KIND_OURS,
    [OUTSTANDING_UNTRACKED_CLOSE] = KIND_CLOSE | KIND_OURS,
    [OUTSTANDING_UNTRACKED_BIND] = KIND_OTHER,
    [OUTSTANDING_QUIET_PARSE] = KIND_PARSE | KIND_OURS,
};

static bool is_a(uint8_t entry, uint8_t kind)
{
    return (kinds[entry] & kind) != 0;
}

static bool is_injection(uint8_t entry)
{
    return entry & INJECTION_BIT;
}

static uint8_t *ring_of(struct outstanding *o)
{
    return o->ring ? o->ring : o->small;
}

static uint32_t ring_mask(const struct outstanding *o)
{
    return (o->ring ? o->capacity : (uint32_t)sizeof(o->small)) - 1;
}

static void widen(struct outstanding *o)
{
    uint32_t mask = ring_mask(o);
    uint32_t capacity = (mask + 1) * 2;
    uint8_t *ring = memory_resize(NULL, capacity);
    for (uint32_t i = 0; i < o->count; i++)
        ring[i] = ring_of(o)[(o->head + i) & mask];
    free(o->ring);
    o->ring = ring;
    o->capacity = capacity;
    o->head = 0;
}

static void push(struct outstanding *o, uint8_t entry)
{
    if (o->count > ring_mask(o))
        widen(o);
    ring_of(o)[(o->head + o->count) & ring_mask(o)] = entry;
    o->count++;
}

/* A CopyDone that comes up has nobody who waits for it. */
static void pop(struct outstanding *o)
{
    do {
        o->head++;
        o->count--;
    } while (outstanding_head(o) == 'c');
    if (o->count == 0 && o->ring) {
        free(o->ring);
        o->ring = NULL;
        o->capacity = 0;
        o->head = 0;
    }
}

/* A message sent while the server waits for CopyData; all that may follow it there are these. */
static void sent_in_copy(struct outstanding *o, uint8_t type)
{
    switch (type) {
    case 'c':
    case 'f':
        o->is_copying_in = false;
        break;
    case 'S':
        o->is_sync_unsure = true;
        break;
    case 'd':
    case 'H':
    case 'X':
        break;
    default:
        o->is_confused = true; /* the server will refuse a message in mid-COPY */
        break;
    }
}

void outstanding_sent(struct outstanding *o, uint8_t type)
{
    if (o->is_copying_in) {
        sent_in_copy(o, type);
        return;
    }
    switch (type) {
    case 'Q':
    case 'F':
        o->is_open = false; /* the server ends the implicit transaction with these as with a Sync */
        if (!o->is_skipping)
            push(o, type);
        break;
    case 'P':
    case 'B':
    case 'D':
    case 'E':
    case 'C':
        if (!o->is_skipping) {
            push(o, type);
            o->is_open = true;
        }
        break;
    case 'S':
        o->is_skipping = false;
        o->is_open = false;
        push(o, 'S');
        o->syncs++;
        break;
    case 'c':
    case 'f':
        if (o->count > 0)
            push(o, 'c');
        break;
    default:
        break;
    }
}

bool outstanding_sent_as(struct outstanding *o, enum outstanding_entry entry)
{
    if (o->is_copying_in || o->is_skipping)
        return false;
    push(o, (uint8_t)entry);
    o->is_open = true;
    return true;
}

void outstanding_injected(struct outstanding *o, enum outstanding_injection injection)
{
    if (o->is_copying_in)
        o->is_confused = true;
    o->is_open = false; /* what was open or skipped, this Sync ends */
    o->is_skipping = false;
    o->syncs += injection == INJECTION_CLEAN;
    push(o, (uint8_t)injection);
}

bool outstanding_is_ours(const struct outstanding *o)
{
    const uint8_t *ring = o->ring ? o->ring : o->small;
    for (uint32_t i = 0; i < o->count; i++) {
        uint8_t entry = ring[(o->head + i) & ring_mask(o)];
        if (!is_injection(entry) && !is_a(entry, KIND_OURS))
            return false;
    }
    return !o->is_open && !o->is_skipping && !o->is_copying_in;
}

bool outstanding_is_quiet(const struct outstanding *o)
{
    return outstanding_head(o) == OUTSTANDING_QUIET_PARSE;
}

static void skip_entry(struct outstanding *o, uint8_t entry)
{
    o->undone += is_a(entry, KIND_TRACKED);
    o->unnamed_undone += is_a(entry, KIND_UNNAMED);
    o->provided_undone += is_a(entry, KIND_PROVIDED);
    o->events += is_a(entry, KIND_EVENTFUL);
}

/* An error in an extended message, the head: the server skips to the next Sync. */
static void skip_to_sync(struct outstanding *o)
{
    o->first_has_failed = o->undone == 0 && is_a(outstanding_head(o), KIND_TRACKED);
    if (outstanding_head(o) == OUTSTANDING_UNNAMED_PARSE) {
        o->unnamed_failed++;
        o->events++;
        pop(o);
    }
    while (o->count > 0) {
        if (outstanding_head(o) == 'S' || is_injection(outstanding_head(o)))
            return;
        skip_entry(o, outstanding_head(o));
        pop(o);
    }
    o->is_skipping = true;
    o->is_open = false;
}

/* What a ReadyForQuery answers. */
static bool ends_extended(uint8_t entry)
{
    return entry == 'S' || entry == 'Q' || entry == 'F' || is_injection(entry);
}

/* CopyInResponse for the head: what was sent along with it is read, and ignored, by the COPY. */
static void begin_copy_in(struct outstanding *o)
{
    uint32_t mask = ring_mask(o);
    uint8_t *ring = ring_of(o);
    uint32_t kept = 1;
    bool is_ended = false;
    bool is_synced = false; /* something behind the COPY closes what is open */
    bool was_synced = false;
    for (uint32_t i = 1; i < o->count; i++) {
        uint8_t entry = ring[(o->head + i) & mask];
        if (is_ended) {
            is_synced = is_synced || ends_extended(entry);
            ring[(o->head + kept++) & mask] = entry;
        } else if (entry == 'c') {
            is_ended = true;
        } else if (entry == 'S') {
            was_synced = true;
            o->syncs--;
        } else {
            o->is_confused = true; /* the server will refuse a message in mid-COPY */
            o->syncs -= entry == INJECTION_CLEAN;
            skip_entry(o, entry);
        }
    }
    o->count = kept;
    o->is_copying_in = !is_ended;
    o->is_sync_unsure = o->is_sync_unsure || was_synced;
    if (outstanding_head(o) == 'E' && was_synced && !is_synced)
        o->is_open = true;
}

/* The COPY, if there was one, is over. */
static void end_copy_in(struct outstanding *o, bool has_failed)
{
    if (has_failed && o->is_sync_unsure)
        o->is_confused = true;
    o->is_sync_unsure = false;
    o->is_copying_in = false;
}

static void error_answered(struct outstanding *o)
{
    end_copy_in(o, true);
    if (is_a(outstanding_head(o), KIND_EXTENDED))
        skip_to_sync(o); /* else a ReadyForQuery follows at once */
}

/* Takes off the message that this ReadyForQuery ends. */
static void ready_answered(struct outstanding *o)
{
    uint8_t head = outstanding_head(o);
    o->syncs -= head == 'S';
    if (head == 'Q' || head == 'S' || head == 'F')
        pop(o);
    else
        o->is_confused = true; /* nothing sent asks for it */
}

/* ParseComplete or CloseComplete, by the kind that it answers. */
static enum reply parsed_or_closed(struct outstanding *o, uint8_t kind)
{
    uint8_t head = outstanding_head(o);
    if (!is_a(head, kind))
        return REPLY_FORWARD;
    if (is_a(head, KIND_EVENTFUL)) {
        o->confirmed += is_a(head, KIND_TRACKED);
        o->unnamed_answered += is_a(head, KIND_UNNAMED);
        o->provided_answered += is_a(head, KIND_PROVIDED);
        o->events++;
    }
    pop(o);
    return is_a(head, KIND_OURS) ? REPLY_SWALLOW : REPLY_FORWARD;
}

enum reply outstanding_answered(struct outstanding *o, uint8_t type)
{
    uint8_t head = outstanding_head(o);
    if (is_injection(head) && type != 'A') {
        if (type != 'Z')
            return REPLY_SWALLOW;
        o->syncs -= head == INJECTION_CLEAN;
        pop(o);
        return head == INJECTION_RESTORE ? REPLY_FORWARD : REPLY_SWALLOW;
    }
    switch (type) {
    case 'D':
    case 'd':
        return REPLY_FORWARD;
    case 'Z':
        ready_answered(o);
        return outstanding_head(o) == INJECTION_RESTORE ? REPLY_SWALLOW : REPLY_FORWARD;
    case '1':
        return parsed_or_closed(o, KIND_PARSE);
    case '2':
        if (head == 'B' || head == OUTSTANDING_UNTRACKED_BIND)
            pop(o);
        if (head == OUTSTANDING_UNTRACKED_BIND)
            return REPLY_SWALLOW;
        break;
    case '3':
        return parsed_or_closed(o, KIND_CLOSE);
    case 'T':
    case 'n':
        if (head == 'D')
            pop(o);
        break;
    case 'C':
    case 's':
    case 'I':
        end_copy_in(o, false);
        if (head == 'E')
            pop(o);
        break;
    case 'G':
        if (head == 'E' || head == 'Q')
            begin_copy_in(o);
        break;
    case 'N': /* the client has heard it, or will, in answer to its own Parse */
        return is_a(head, KIND_OURS) ? REPLY_SWALLOW : REPLY_FORWARD;
    case 'W':
        o->is_copying_both = true;
        break;
    case 'E':
        error_answered(o);
        break;
    default:
        break;
    }
    return REPLY_FORWARD;
}

void outstanding_free(struct outstanding *o)
{
    free(o->ring);
    *o = (struct outstanding){0};
}
