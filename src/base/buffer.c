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

static struct buffer_block *free_blocks[FREE_BLOCKS_MAX];
static size_t free_block_count;

static struct buffer_block *block_take(size_t capacity)
{
    struct buffer_block *block;
    if (capacity == BUFFER_BLOCK_BYTES && free_block_count > 0)
        block = free_blocks[--free_block_count];
    else
        block = memory_resize(NULL, sizeof(*block) + capacity);
    block->start = block->end = 0;
    block->capacity = capacity;
    return block;
}

static void block_return(struct buffer_block *block)
{
    if (block->capacity == BUFFER_BLOCK_BYTES && free_block_count < FREE_BLOCKS_MAX)
        free_blocks[free_block_count++] = block;
    else
        free(block);
}

/* Doubled even when the bytes would fit: moving a nearly full block for every few bytes is slow. */
static struct buffer_block *block_grow(struct buffer_block *block, size_t waiting, size_t length)
{
    size_t capacity = block ? block->capacity * 2 : BUFFER_BLOCK_BYTES;
    while (capacity - waiting < length)
        capacity *= 2;
    struct buffer_block *larger = block_take(capacity);
    if (block) {
        memcpy(larger->data, block->data + block->start, waiting);
        block_return(block);
    }
    larger->end = waiting;
    return larger;
}

uint8_t *buffer_reserve(struct buffer *buffer, size_t length)
{
    size_t waiting = buffer_length(buffer);
    struct buffer_block *block = buffer->block;
    if (block && block->capacity - block->end >= length)
        return block->data + block->end;
    if (block && block->capacity - waiting >= length && block->start >= block->capacity / 2) {
        memmove(block->data, block->data + block->start, waiting);
        block->start = 0;
        block->end = waiting;
    } else {
        block = buffer->block = block_grow(block, waiting, length);
    }
    return block->data + block->end;
}

void buffer_append(struct buffer *buffer, const void *bytes, size_t length)
{
    if (length == 0)
        return;
    memcpy(buffer_reserve(buffer, length), bytes, length);
    buffer->block->end += length;
}

void buffer_consume(struct buffer *buffer, size_t length)
{
    if (!buffer->block)
        return;
    buffer->block->start += length;
    if (buffer->block->start == buffer->block->end)
        buffer_free(buffer);
}

void buffer_free(struct buffer *buffer)
{
    if (buffer->block)
        block_return(buffer->block);
    buffer->block = NULL;
}

void buffer_free_list_empty(void)
{
    while (free_block_count > 0)
        free(free_blocks[--free_block_count]);
}
