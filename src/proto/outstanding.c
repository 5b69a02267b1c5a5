/*
 * outstanding.c - the queue of what a backend still owes: see outstanding.h.
 *
 * Entries are the letters of the messages: P B D E C (extended), S, Q, F, and `c` for the CopyDone or
 * CopyFail that ends a COPY; INJECTED is a query of our own.  A head of `c` is dropped whenever it comes up outside a
 * COPY, for then the server ignores that message.  The common ways (one Query; Parse Bind Describe Execute Sync) stay
 * within the small array inside the struct.
 */
#include "proto/outstanding.h"

#include <stdlib.h>
#include <string.h>

#include "base/memory.h"

#define INJECTED 'p'

static uint8_t *ring_of(struct outstanding *o)
{
    return o->ring ? o->ring : o->small;
}

static uint32_t ring_mask(const struct outstanding *o)
{
    return (o->ring ? o->capacity : (uint32_t)sizeof(o->small)) - 1;
}

static void push(struct outstanding *o, uint8_t entry)
{
    uint32_t mask = ring_mask(o);
    if (o->count > mask) {
        uint32_t capacity = (mask + 1) * 2;
        uint8_t *ring = memory_resize(NULL, capacity);
        for (uint32_t i = 0; i < o->count; i++)
            ring[i] = ring_of(o)[(o->head + i) & mask];
        free(o->ring);
        o->ring = ring;
        o->capacity = capacity;
        o->head = 0;
        mask = capacity - 1;
    }
    ring_of(o)[(o->head + o->count) & mask] = entry;
    o->count++;
}

static uint8_t peek(const struct outstanding *o)
{
    if (o->count == 0)
        return 0;
    const uint8_t *ring = o->ring ? o->ring : o->small;
    return ring[o->head & ring_mask(o)];
}

static void pop(struct outstanding *o)
{
    o->head++;
    o->count--;
    if (o->count == 0 && o->ring) {
        free(o->ring);
        o->ring = NULL;
        o->capacity = 0;
        o->head = 0;
    }
}

/* A CopyDone that nobody waits for is ignored by the server. */
static void drop_idle_copy_ends(struct outstanding *o)
{
    while (peek(o) == 'c')
        pop(o);
}

void outstanding_sent(struct outstanding *o, uint8_t type)
{
    switch (type) {
    case 'Q':
    case 'F':
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
        if (o->is_copying_in) {
            if (o->has_copied)
                o->is_confused = true;
            break; /* the server ignores it while it copies */
        }
        o->is_skipping = false;
        o->is_open = false;
        push(o, 'S');
        break;
    case 'd':
        if (o->is_copying_in)
            o->has_copied = true;
        break;
    case 'c':
    case 'f':
        o->is_copying_in = false;
        if (o->count > 0)
            push(o, 'c');
        break;
    default:
        break;
    }
}

void outstanding_injected(struct outstanding *o)
{
    push(o, INJECTED);
}

bool outstanding_is_injected(const struct outstanding *o)
{
    return peek(o) == INJECTED;
}

/* An error in an extended message: the server skips to the next Sync. */
static void skip_to_sync(struct outstanding *o)
{
    o->is_copying_in = false;
    while (o->count > 0) {
        if (peek(o) == 'S')
            return;
        pop(o);
    }
    o->is_skipping = true;
    o->is_open = false;
}

/* CopyInResponse for the head: Syncs that were sent along with it are read, and ignored, by the COPY. */
static void begin_copy_in(struct outstanding *o)
{
    uint32_t mask = ring_mask(o);
    uint8_t *ring = ring_of(o);
    uint32_t kept = 1;
    bool ended = false;
    bool dropped = false;
    for (uint32_t i = 1; i < o->count; i++) {
        uint8_t entry = ring[(o->head + i) & mask];
        if (entry == 'c')
            ended = true;
        else if (!ended && entry == 'S') {
            dropped = true;
            continue;
        } else if (!ended)
            o->is_confused = true; /* the server will refuse a message in mid-COPY */
        ring[(o->head + kept) & mask] = entry;
        kept++;
    }
    o->count = kept;
    o->has_copied = false;
    if (!ended) {
        o->is_copying_in = true;
        if (dropped && peek(o) == 'E')
            o->is_open = true;
    }
}

static enum reply error_answered(struct outstanding *o)
{
    switch (peek(o)) {
    case 'P':
    case 'B':
    case 'D':
    case 'E':
    case 'C':
        skip_to_sync(o);
        break;
    case 'Q':
    case 'F':
        o->is_copying_in = false;
        break;
    case INJECTED:
        return REPLY_SWALLOW;
    default:
        break;
    }
    return REPLY_FORWARD;
}

enum reply outstanding_answered(struct outstanding *o, uint8_t type)
{
    uint8_t head = peek(o);
    if (head == INJECTED) {
        if (type == 'Z')
            pop(o);
        return REPLY_SWALLOW;
    }
    switch (type) {
    case 'D':
    case 'd':
        return REPLY_FORWARD;
    case 'Z':
        while (o->count > 0) {
            head = peek(o);
            pop(o);
            if (head == 'Q' || head == 'S' || head == 'F')
                break;
        }
        break;
    case '1':
        if (head == 'P')
            pop(o);
        break;
    case '2':
        if (head == 'B')
            pop(o);
        break;
    case '3':
        if (head == 'C')
            pop(o);
        break;
    case 'T':
    case 'n':
        if (head == 'D')
            pop(o);
        break;
    case 'C':
    case 's':
    case 'I':
        if (head == 'E')
            pop(o);
        break;
    case 'G':
        if (head == 'E' || head == 'Q')
            begin_copy_in(o);
        return REPLY_FORWARD;
    case 'W':
        o->is_copying_both = true;
        break;
    case 'E':
        return error_answered(o);
    default:
        return REPLY_FORWARD;
    }
    drop_idle_copy_ends(o);
    return REPLY_FORWARD;
}

void outstanding_free(struct outstanding *o)
{
    free(o->ring);
    *o = (struct outstanding){0};
}
