/*
 * buffer.h - bytes that wait: a growable queue of them.
 *
 * An empty buffer owns no memory and is one pointer, for every connection has two.  Blocks of BUFFER_BLOCK_BYTES come from a shared free list and go back
 * to it, so that a connection costs a buffer only while something waits in it; larger ones come from the
 * heap and go back there.
 */
#ifndef BASE_BUFFER_H
#define BASE_BUFFER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define BUFFER_BLOCK_BYTES 4096

struct buffer_block {
    size_t start; /* first byte that still waits */
    size_t end;   /* one past the last */
    size_t capacity;
    uint8_t data[];
};

struct buffer {
    struct buffer_block *block; /* NULL: empty */
};

static inline size_t buffer_length(const struct buffer *buffer)
{
    return buffer->block ? buffer->block->end - buffer->block->start : 0;
}

/* The first byte that waits; NULL in an empty buffer. */
static inline uint8_t *buffer_bytes(const struct buffer *buffer)
{
    return buffer->block ? buffer->block->data + buffer->block->start : NULL;
}

/* The memory that it owns. */
static inline size_t buffer_capacity(const struct buffer *buffer)
{
    return buffer->block ? buffer->block->capacity : 0;
}

/* Adds a copy of the bytes at the end. */
void buffer_append(struct buffer *buffer, const void *bytes, size_t length);
/* Makes room for `length` more bytes and returns where they go; add them with buffer_added. */
uint8_t *buffer_reserve(struct buffer *buffer, size_t length);
static inline void buffer_added(struct buffer *buffer, size_t length)
{
    if (length > 0)
        buffer->block->end += length;
}
/* Takes `length` bytes from the front; the memory goes back when none are left. */
void buffer_consume(struct buffer *buffer, size_t length);
/* Forgets everything and gives the memory back.  Safe on an empty buffer. */
void buffer_free(struct buffer *buffer);
/* Gives the free list's memory back to the heap; at exit, so that a leak checker sees real leaks. */
void buffer_free_list_empty(void);

#endif
