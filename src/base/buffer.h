/*
 * buffer.h - bytes that wait: a growable queue of them.
 *
 * An empty buffer owns no memory.  Blocks of BUFFER_BLOCK_BYTES come from a shared free list and go back
 * to it, so that a connection costs a buffer only while something waits in it; larger ones come from the
 * heap and go back there.
 */
#ifndef BASE_BUFFER_H
#define BASE_BUFFER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define BUFFER_BLOCK_BYTES 4096

struct buffer {
    uint8_t *data;
    size_t start; /* first byte that still waits */
    size_t end;   /* one past the last */
    size_t capacity;
};

static inline size_t buffer_length(const struct buffer *buffer)
{
    return buffer->end - buffer->start;
}

/* NULL when it owns no memory (nothing may be added to NULL, not even 0). */
static inline uint8_t *buffer_bytes(const struct buffer *buffer)
{
    return buffer->data ? buffer->data + buffer->start : NULL;
}

/* Adds a copy of the bytes at the end. */
void buffer_append(struct buffer *buffer, const void *bytes, size_t length);
/* Makes room for `length` more bytes and returns where they go; add them with buffer_added. */
uint8_t *buffer_reserve(struct buffer *buffer, size_t length);
static inline void buffer_added(struct buffer *buffer, size_t length)
{
    buffer->end += length;
}
/* Takes `length` bytes from the front; the memory goes back when none are left. */
void buffer_consume(struct buffer *buffer, size_t length);
/* Forgets everything and gives the memory back.  Safe on an empty buffer. */
void buffer_free(struct buffer *buffer);
/* Gives the free list's memory back to the heap; at exit, so that a leak checker sees real leaks. */
void buffer_free_list_empty(void);

#endif
