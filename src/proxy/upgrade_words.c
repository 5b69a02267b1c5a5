/*
 * upgrade_words.c - what both sides of an upgrade say in the same way: greetings, places, cancels.
 *
 * Places are told as they are, not as changes: a message that is late says too much, never too little, for of the two
 * processes only the new one opens connections (policy/budget.c).
 */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/memory.h"
#include "proto/record.h"
#include "proxy/upgrade.h"
#include "proxy/cancel.h"
#include "proxy/upgrade_inside.h"

void words_send_greeting(struct channel *channel, enum upgrade_message type)
{
    struct buffer record = {0};
    record_put_number(&record, WORD_VERSION, UPGRADE_VERSION);
    record_put_number(&record, WORD_PID, getpid());
    channel_send(channel, (uint8_t)type, buffer_bytes(&record), buffer_length(&record), -1);
    buffer_free(&record);
}

bool words_read_greeting(const struct channel_message *message, pid_t *pid)
{
    struct record_reader reader;
    struct record_field field;
    int64_t version = 0;
    record_read(&reader, message->bytes, message->length);
    while (record_next(&reader, &field)) {
        if (field.tag == WORD_VERSION)
            version = record_number(&reader, &field);
        else if (field.tag == WORD_PID)
            *pid = (pid_t)record_number_within(&reader, &field, 1, INT32_MAX);
    }
    return !reader.is_malformed && version == UPGRADE_VERSION;
}

/* ---- places ---- */

void words_send_places(struct proxy *proxy, struct channel *channel, struct buffer *last)
{
    struct buffer record = {0};
    for (size_t i = 0; i < proxy->pool_count; i++) {
        struct buffer pool = {0};
        record_put_text(&pool, WORD_NAME, proxy->pools[i]->name);
        record_put_number(&pool, WORD_OPEN, proxy->budget.pools[i].open);
        record_put_record(&record, WORD_POOL, &pool);
    }
    size_t length = buffer_length(&record);
    if (length == buffer_length(last) &&
        memcmp(buffer_bytes(&record), buffer_bytes(last), length) == 0) {
        buffer_free(&record);
        return;
    }
    channel_send(channel, MESSAGE_PLACES, buffer_bytes(&record), length, -1);
    buffer_free(last);
    *last = record;
}

static bool read_pool(const struct record_field *whole, char **name, int *open)
{
    struct record_reader reader;
    struct record_field field;
    record_read(&reader, whole->bytes, whole->length);
    *name = NULL;
    *open = 0;
    while (record_next(&reader, &field)) {
        if (field.tag == WORD_NAME) {
            free(*name);
            *name = record_text(&reader, &field);
        } else if (field.tag == WORD_OPEN) {
            *open = (int)record_number_within(&reader, &field, 0, 1000000);
        }
    }
    return !reader.is_malformed && *name;
}

static void forget_places(struct budget *budget)
{
    budget->elsewhere = 0;
    for (size_t i = 0; i < budget->pool_count; i++)
        budget->pools[i].elsewhere = 0;
}

bool words_read_places(struct proxy *proxy, const struct channel_message *message)
{
    struct budget after = proxy->budget;
    struct record_reader reader;
    struct record_field field;
    char *name = NULL;
    int open;
    forget_places(&after);
    record_read(&reader, message->bytes, message->length);
    while (record_next(&reader, &field)) {
        if (field.tag != WORD_POOL)
            continue;
        if (read_pool(&field, &name, &open)) {
            const struct proxy_pool *pool = proxy_find_pool(proxy, name);
            if (pool)
                after.pools[pool->index].elsewhere += open;
            else
                after.elsewhere += open;
        } else {
            reader.is_malformed = true;
        }
        free(name);
    }
    if (reader.is_malformed)
        return false;
    proxy->budget = after;
    return true;
}

void words_places_lost(struct proxy *proxy)
{
    proxy->places_lost_us = proxy->now_us + LOST_PLACES_US;
}

bool words_are_places_missing(const struct proxy *proxy)
{
    const struct budget *budget = &proxy->budget;
    int places = budget->elsewhere;
    for (size_t i = 0; i < budget->pool_count; i++)
        places += budget->pools[i].elsewhere;
    return proxy->places_lost_us > 0 && places > 0;
}

void words_forget_places(struct proxy *proxy)
{
    if (proxy->places_lost_us == 0 || proxy->now_us < proxy->places_lost_us)
        return;
    proxy->places_lost_us = 0;
    forget_places(&proxy->budget);
    proxy_run_pools(proxy);
}

/* ---- cancels ---- */

void words_send_cancel(struct channel *channel, uint32_t pid, const uint8_t *secret,
                       size_t secret_bytes)
{
    struct buffer record = {0};
    record_put_number(&record, WORD_PID, pid);
    record_put_bytes(&record, WORD_SECRET, secret, secret_bytes);
    channel_send(channel, MESSAGE_CANCEL, buffer_bytes(&record), buffer_length(&record), -1);
    buffer_free(&record);
}

void words_take_cancel(struct proxy *proxy, const struct channel_message *message,
                       struct channel *back)
{
    struct record_reader reader;
    struct record_field field;
    struct record_field secret = {0};
    uint32_t pid = 0;
    record_read(&reader, message->bytes, message->length);
    while (record_next(&reader, &field)) {
        if (field.tag == WORD_PID)
            pid = (uint32_t)record_number_within(&reader, &field, 0, UINT32_MAX);
        else if (field.tag == WORD_SECRET)
            secret = field;
    }
    if (reader.is_malformed || secret.length == 0)
        return;
    if (!cancel_find(proxy, pid, secret.bytes, secret.length) && back)
        channel_send(back, MESSAGE_CANCEL, message->bytes, message->length, -1);
}
