/*
 * buffer.c - growable byte queues over a free list: see buffer.h.
 *
 * The free list is bounded: a storm of waiting clients must not leave its memory behind for ever.
 */
#include "base/buffer.h"

#include <stdlib.h>
#include <string.h>

#include "base/memory.h"

#define FREE_BLOCKS_MAX 1024

static uint8_t *free_blocks[FREE_BLOCKS_MAX];
static size_t free_block_count;

static uint8_t *block_take(void)
{
    if (free_block_count > 0)
        return free_blocks[--free_block_count];
    return memory_resize(NULL, BUFFER_BLOCK_BYTES);
}

static void memory_return(uint8_t *data, size_t capacity)
{
    if (capacity == BUFFER_BLOCK_BYTES && free_block_count < FREE_BLOCKS_MAX)
        free_blocks[free_block_count++] = data;
    else
        free(data);
}

uint8_t *buffer_reserve(struct buffer *buffer, size_t length)
{
    size_t waiting = buffer_length(buffer);
    if (!buffer->data && length <= BUFFER_BLOCK_BYTES) {
        buffer->data = block_take();
        buffer->capacity = BUFFER_BLOCK_BYTES;
        return buffer->data;
    }
    if (buffer->capacity - buffer->end >= length)
        return buffer->data + buffer->end;
    if (buffer->data && buffer->capacity - waiting >= length &&
        buffer->start >= buffer->capacity / 2) {
        memmove(buffer->data, buffer->data + buffer->start, waiting);
    } else {
        /* doubled even when the bytes would fit: moving a nearly full block for every few bytes is slow */
        size_t capacity = buffer->capacity ? buffer->capacity * 2 : BUFFER_BLOCK_BYTES;
        while (capacity - waiting < length)
            capacity *= 2;
        uint8_t *data = memory_resize(NULL, capacity);
        if (waiting)
            memcpy(data, buffer_bytes(buffer), waiting);
        if (buffer->data)
            memory_return(buffer->data, buffer->capacity);
        buffer->data = data;
        buffer->capacity = capacity;
    }
    buffer->start = 0;
    buffer->end = waiting;
    return buffer->data + buffer->end;
}

void buffer_append(struct buffer *buffer, const void *bytes, size_t length)
{
    if (length == 0)
        return;
    memcpy(buffer_reserve(buffer, length), bytes, length);
    buffer->end += length;
}

void buffer_consume(struct buffer *buffer, size_t length)
{
    buffer->start += length;
    if (buffer->start == buffer->end)
        buffer_free(buffer);
}

void buffer_free(struct buffer *buffer)
{
    if (buffer->data)
        memory_return(buffer->data, buffer->capacity);
    *buffer = (struct buffer){0};
}

void buffer_free_list_empty(void)
{
    while (free_block_count > 0)
        free(free_blocks[--free_block_count]);
}
