/*
 * carry.c - a client between two processes of an upgrade: see carry.h.
 *
 * What is written down is what PostgreSQL would know of the session and what the client may still refer to: who it is, its
 * settings, its prepared statements, its cancel key, and bytes that came in and were not dealt with.  Where it stands in
 * the protocol is one of three: before its first packet, logging in with the proof given, or between two transactions.
 * A client that waits for a backend goes with the request that it waits for, and waits on over there, from the start.
 *
 * The record's version is raised when an older reader would misunderstand a newer writer; a reader that does not know the
 * version, or meets a field that it does not know, refuses the client, which then stays where it is.
 */
#include "proxy/carry.h"
#include "proxy/settle.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/memory.h"
#include "proto/record.h"
#include "proto/sqlstate.h"
#include "proxy/cancel.h"
#include "proxy/events.h"
#include "proxy/held.h"
#include "proxy/login.h"
#include "proxy/prepare.h"
#include "proxy/upgrade.h"

#define CARRY_VERSION 1

enum carry_field {
    FIELD_VERSION = 1,
    FIELD_STAGE, /* enum stage */
    FIELD_POOL,
    FIELD_FLAGS, /* of enum flag */
    FIELD_USER,
    FIELD_DATABASE,
    FIELD_START_APPLICATION, /* application_name as the start-up packet had it */
    FIELD_REPLICATION,
    FIELD_START_SETTING, /* record of FIELD_NAME, FIELD_VALUE */
    FIELD_MINOR,
    FIELD_APPLICATION,
    FIELD_KEY_PID,
    FIELD_KEY_SECRET,
    FIELD_BASE, /* settings: name, zero, value, zero ... */
    FIELD_SETTINGS,
    FIELD_TOLD,
    FIELD_STATEMENT, /* record of FIELD_NAME, FIELD_VALUE, FIELD_UNDER, FIELD_SIGNS */
    FIELD_UNNAMED,   /* record of FIELD_VALUE, FIELD_SIGNS */
    FIELD_HELD,
    FIELD_MESSAGE_LEFT,
    FIELD_CONNECTED,
    FIELD_SINCE,
    FIELD_ANSWERED,
    FIELD_NAME,
    FIELD_VALUE,
    FIELD_UNDER,
    FIELD_SIGNS
};

enum stage { STAGE_START, STAGE_LOGIN, STAGE_READY };

enum flag {
    FLAG_UNIX = 1,
    FLAG_ASKED_TLS = 2,
    FLAG_ASKED_GSS = 4,
    FLAG_SKIPPING = 8,
    FLAG_DISCARDING = 16,
    FLAG_UNASKED = 32,
    FLAG_RESTORE = 64,
    FLAG_CURRVAL = 128, /* its lane's */
    FLAGS_ALL = 255
};

/* ---- who goes ---- */

bool carry_goes(const struct client *client)
{
    return client->pool && client->pool->config && !client->must_stay && !client->stream.ssl &&
           !(client->lane && client->lane->is_replication) &&
           upgrade_is_handing_over(client->proxy);
}

static bool is_at_a_stage(const struct client *client)
{
    switch (client->state) {
    case CLIENT_STARTUP:
    case CLIENT_READY:
    case CLIENT_WAITING:
        return true;
    case CLIENT_LOGIN:
        return !client->server;
    default:
        return false;
    }
}

bool carry_can_go(const struct client *client)
{
    return carry_goes(client) && is_at_a_stage(client) && !client->stream.is_broken &&
           stream_backlog(&client->stream) == 0 && client->pins == 0 && client->asks == 0 &&
           !client->untold && client->restores == 0 && TAILQ_EMPTY(&client->statements.pending);
}

void carry_freeze(struct client *client)
{
    client->left_state = (uint8_t)client->state;
    if (client->waiter.lane)
        pool_wait_end(&client->waiter);
    stream_pause(&client->stream);
    client_set_state(client, CLIENT_LEAVING);
}

void carry_thaw(struct client *client)
{
    bool was_waiting = client->left_state == CLIENT_WAITING;
    client_set_state(client, was_waiting ? CLIENT_READY : (enum client_state)client->left_state);
    stream_resume(&client->stream);
    carry_resume(client);
}

void carry_forget(struct client *client)
{
    if (client->lane)
        stats_client_closed(client);
    client_gone(client);
}

void carry_resume(struct client *client)
{
    if (client->state == CLIENT_LOGIN)
        open_begin(client);
    proxy_read_later(client);
}

/* ---- writing ---- */

static void put_settings(struct buffer *record, uint16_t tag, const struct settings *settings)
{
    if (settings)
        record_put_bytes(record, tag, settings->text, settings->length);
}

static void put_startup(struct buffer *record, const struct client *client)
{
    const struct startup *startup = client->startup; /* NULL when its session is open */
    record_put_text(record, FIELD_USER, client->user);
    record_put_text(record, FIELD_DATABASE, client->database);
    record_put_text(record, FIELD_START_APPLICATION, startup ? startup->application_name : NULL);
    record_put_text(record, FIELD_REPLICATION, startup ? startup->replication : NULL);
    for (size_t i = 0; startup && i < startup->setting_count; i++)
        record_put_pair(record, FIELD_START_SETTING, FIELD_NAME, startup->settings[i].name,
                        FIELD_VALUE, startup->settings[i].value);
    record_put_number(record, FIELD_MINOR, client->minor);
    record_put_text(record, FIELD_APPLICATION, client->application_name);
    record_put_number(record, FIELD_KEY_PID, client->key_pid);
    record_put_bytes(record, FIELD_KEY_SECRET, client->key_secret, client->key_bytes);
}

static void put_statements(struct buffer *record, const struct client_statements *statements)
{
    const struct unnamed *unnamed = unnamed_current(statements);
    for (const struct client_statement *each = statements->by_name; each; each = each->hh.next) {
        const struct statement *statement = each->statement;
        struct buffer one = {0};
        record_put_bytes(&one, FIELD_NAME, each->name, each->hh.keylen);
        record_put_bytes(&one, FIELD_VALUE, statement->body, statement->length);
        record_put_bytes(&one, FIELD_UNDER, statement->body + statement->length,
                         statement->key_length - statement->length);
        record_put_number(&one, FIELD_SIGNS, statement->signs);
        record_put_record(record, FIELD_STATEMENT, &one);
    }
    if (unnamed) {
        struct buffer one = {0};
        record_put_bytes(&one, FIELD_VALUE, unnamed->body, unnamed->length);
        record_put_number(&one, FIELD_SIGNS, unnamed->signs);
        record_put_record(record, FIELD_UNNAMED, &one);
    }
}

static int64_t flags_of(const struct client *client)
{
    bool uses_currval = client->lane && client->lane->uses_currval;
    return (client->is_unix ? FLAG_UNIX : 0) | (client->has_asked_tls ? FLAG_ASKED_TLS : 0) |
           (client->has_asked_gss ? FLAG_ASKED_GSS : 0) |
           (client->is_skipping ? FLAG_SKIPPING : 0) |
           (client->is_discarding ? FLAG_DISCARDING : 0) |
           (client->has_unasked ? FLAG_UNASKED : 0) |
           (client->must_restore_again || client->saw_reset ? FLAG_RESTORE : 0) |
           (uses_currval ? FLAG_CURRVAL : 0);
}

void carry_write(const struct client *client, struct buffer *record)
{
    enum stage stage = client->state == CLIENT_STARTUP ? STAGE_START
                       : client->state == CLIENT_LOGIN ? STAGE_LOGIN
                                                       : STAGE_READY;
    record_put_number(record, FIELD_VERSION, CARRY_VERSION);
    record_put_number(record, FIELD_STAGE, stage);
    record_put_text(record, FIELD_POOL, client->pool->name);
    record_put_number(record, FIELD_FLAGS, flags_of(client));
    if (stage != STAGE_START)
        put_startup(record, client);
    put_settings(record, FIELD_BASE, client->base);
    put_settings(record, FIELD_SETTINGS, client->settings);
    put_settings(record, FIELD_TOLD, client->told);
    put_statements(record, &client->statements);
    if (buffer_length(&client->held) > 0)
        record_put_bytes(record, FIELD_HELD, buffer_bytes(&client->held),
                         buffer_length(&client->held));
    record_put_number(record, FIELD_MESSAGE_LEFT, client->message_left);
    record_put_number(record, FIELD_CONNECTED, client->connected_wall_us);
    record_put_number(record, FIELD_SINCE, client->since_us);
    record_put_number(record, FIELD_ANSWERED, client->answered_us);
}

/* ---- reading ---- */

/* Whether the bytes are names and values, each with its zero. */
static bool are_settings(const struct record_field *field)
{
    size_t zeros = 0;
    for (size_t i = 0; i < field->length; i++)
        zeros += field->bytes[i] == 0;
    return zeros % 2 == 0 && (field->length == 0 || field->bytes[field->length - 1] == 0);
}

struct settings *carry_settings(struct proxy *proxy, struct record_reader *reader,
                                const struct record_field *field)
{
    struct settings_draft draft = {0};
    if (!are_settings(field)) {
        reader->is_malformed = true;
        return NULL;
    }
    buffer_append(&draft.text, field->bytes, field->length);
    struct settings *settings = settings_intern(&proxy->settings, &draft);
    settle_learn_customs(proxy, settings);
    return settings;
}

static void take_settings(struct client *client, struct record_reader *reader,
                          const struct record_field *field, struct settings **place)
{
    settings_drop(&client->proxy->settings, *place);
    *place = carry_settings(client->proxy, reader, field);
}

static void take_start_setting(struct client *client, struct record_reader *outer,
                               const struct record_field *whole)
{
    struct startup *startup = client->startup;
    struct startup_setting setting;
    if (!record_pair(whole, FIELD_NAME, &setting.name, &setting.value)) {
        outer->is_malformed = true;
        return;
    }
    startup->settings =
        memory_resize(startup->settings, (startup->setting_count + 1) * sizeof(*startup->settings));
    startup->settings[startup->setting_count++] = setting;
}

/* A named statement, or, without a name, the unnamed one. */
static void take_statement(struct client *client, struct record_reader *outer,
                           const struct record_field *whole, bool is_unnamed)
{
    struct record_field name = {0};
    struct record_field body = {0};
    struct record_field under = {0};
    struct record_reader reader;
    struct record_field field;
    record_read(&reader, whole->bytes, whole->length);
    while (record_next(&reader, &field)) {
        if (field.tag == FIELD_NAME)
            name = field;
        else if (field.tag == FIELD_VALUE)
            body = field;
        else if (field.tag == FIELD_UNDER)
            under = field;
    }
    bool has_text = body.length > 0 && memchr(body.bytes, 0, body.length);
    if (reader.is_malformed || !has_text || (!is_unnamed && name.length == 0) ||
        (name.length > 0 && memchr(name.bytes, 0, name.length))) {
        outer->is_malformed = true;
        return;
    }
    /* what was sent are signs as another version knows them */
    uint32_t signs = sql_signs((const char *)body.bytes, strlen((const char *)body.bytes));
    if (is_unnamed) {
        unnamed_sent(&client->statements, body.bytes, body.length, signs, false);
        unnamed_answered(&client->statements, false);
    } else {
        prepare_carry(client, (const char *)name.bytes, name.length, body.bytes, body.length,
                      under.bytes, under.length, signs);
    }
}

static void take_flags(struct client *client, int64_t flags)
{
    client->is_unix = flags & FLAG_UNIX;
    client->has_asked_tls = flags & FLAG_ASKED_TLS;
    client->has_asked_gss = flags & FLAG_ASKED_GSS;
    client->is_skipping = flags & FLAG_SKIPPING;
    client->is_discarding = flags & FLAG_DISCARDING;
    client->has_unasked = flags & FLAG_UNASKED;
    client->must_restore_again = flags & FLAG_RESTORE;
}

static void take_text(struct record_reader *reader, const struct record_field *field, char **place)
{
    free(*place);
    *place = record_text(reader, field);
}

static void take_secret(struct client *client, struct record_reader *reader,
                        const struct record_field *field)
{
    if (field->length > CANCEL_KEY_MAX) {
        reader->is_malformed = true;
        return;
    }
    memcpy(client->key_secret, field->bytes, field->length);
    client->key_bytes = (uint8_t)field->length;
}

/* One field of the record; false when it is none that we know. */
static bool take_field(struct client *client, struct record_reader *reader,
                       const struct record_field *field)
{
    struct startup *startup = client->startup;
    switch ((enum carry_field)field->tag) {
    case FIELD_VERSION:
    case FIELD_STAGE:
    case FIELD_POOL:
    case FIELD_FLAGS:
        return true; /* read before */
    case FIELD_USER:
        take_text(reader, field, &startup->user);
        return true;
    case FIELD_DATABASE:
        take_text(reader, field, &startup->database);
        return true;
    case FIELD_START_APPLICATION:
        take_text(reader, field, &startup->application_name);
        return true;
    case FIELD_REPLICATION:
        take_text(reader, field, &startup->replication);
        return true;
    case FIELD_START_SETTING:
        take_start_setting(client, reader, field);
        return true;
    case FIELD_MINOR:
        client->minor = (uint16_t)record_number_within(reader, field, 0, STARTUP_MINOR_NEWEST);
        startup->minor = client->minor;
        return true;
    case FIELD_APPLICATION: {
        char *name = record_text(reader, field);
        client_set_application_name(client, name ? name : "");
        free(name);
        return true;
    }
    case FIELD_KEY_PID:
        client->key_pid = (uint32_t)record_number_within(reader, field, 0, UINT32_MAX);
        return true;
    case FIELD_KEY_SECRET:
        take_secret(client, reader, field);
        return true;
    case FIELD_BASE:
        take_settings(client, reader, field, &client->base);
        return true;
    case FIELD_SETTINGS:
        take_settings(client, reader, field, &client->settings);
        return true;
    case FIELD_TOLD:
        take_settings(client, reader, field, &client->told);
        return true;
    case FIELD_STATEMENT:
        take_statement(client, reader, field, false);
        return true;
    case FIELD_UNNAMED:
        take_statement(client, reader, field, true);
        return true;
    case FIELD_HELD:
        held_drop(client);
        held_keep(client, field->bytes, field->length);
        reader->is_malformed |= field->length > (size_t)2 * PROXY_HELD_MAX;
        return true;
    case FIELD_MESSAGE_LEFT:
        client->message_left = (uint32_t)record_number_within(reader, field, 0, INT32_MAX);
        return true;
    case FIELD_CONNECTED:
        client->connected_wall_us = record_number(reader, field);
        return true;
    case FIELD_SINCE:
        client->since_us = record_number(reader, field);
        return true;
    case FIELD_ANSWERED:
        client->answered_us = record_number(reader, field);
        return true;
    case FIELD_NAME:
    case FIELD_VALUE:
    case FIELD_UNDER:
    case FIELD_SIGNS:
        break; /* only within others */
    }
    return false;
}

/* What decides whether it can be had here at all. */
struct frame {
    int64_t version;
    int64_t stage;
    int64_t flags;
    char *pool;
};

static bool read_frame(struct frame *frame, const void *record, size_t length)
{
    struct record_reader reader;
    struct record_field field;
    *frame = (struct frame){0};
    record_read(&reader, record, length);
    while (record_next(&reader, &field)) {
        if (field.tag == FIELD_VERSION)
            frame->version = record_number(&reader, &field);
        else if (field.tag == FIELD_STAGE)
            frame->stage = record_number_within(&reader, &field, STAGE_START, STAGE_READY);
        else if (field.tag == FIELD_FLAGS)
            frame->flags = record_number_within(&reader, &field, 0, FLAGS_ALL);
        else if (field.tag == FIELD_POOL)
            take_text(&reader, &field, &frame->pool);
        if (frame->version !=
            CARRY_VERSION) /* it comes first, and nothing is read beyond another's */
            break;
    }
    return !reader.is_malformed && frame->pool;
}

static const char *read_fields(struct client *client, const void *record, size_t length)
{
    struct record_reader reader;
    struct record_field field;
    record_read(&reader, record, length);
    while (record_next(&reader, &field)) {
        if (!take_field(client, &reader, &field))
            return "it says what this version does not know";
    }
    return reader.is_malformed ? "its record is malformed" : NULL;
}

/* The place in this process that its name, database and key give it. */
static const char *find_place(struct client *client, enum stage stage)
{
    const struct startup *startup = client->startup;
    if (stage != STAGE_READY)
        client->key_bytes = 0; /* it has none yet */
    if (stage == STAGE_START)
        return NULL;
    if (!startup->user || !startup->database || !client->base || !client->settings)
        return "its record lacks something";
    door_leave(client);
    session_take_names(client);
    if (!config_find_database(client->proxy->config, client->database))
        return "its database is not configured any more";
    if (stage == STAGE_READY) {
        if (client->key_bytes == 0 || cancel_key_find(client->proxy, client->key_pid))
            return "its cancel key is another's here";
        cancel_key_remember(client);
    }
    client->lane = auth_lane(client);
    if (stage == STAGE_READY)
        client_forget_startup(client);
    return NULL;
}

/* Away again, before it was anything here: its key is in no table yet. */
static void drop(struct client *client)
{
    client->key_bytes = 0;
    client_gone(client);
}

struct client *carry_read(struct proxy *proxy, const void *record, size_t length, int fd,
                          const char **why)
{
    struct sockaddr_storage address = {0};
    socklen_t address_bytes = sizeof(address);
    struct frame frame;
    bool is_well_formed = read_frame(&frame, record, length);
    struct proxy_pool *pool = frame.pool ? proxy_find_pool(proxy, frame.pool) : NULL;
    free(frame.pool);
    *why = frame.version != CARRY_VERSION ? "its record is of another version"
           : !is_well_formed              ? "its record is malformed"
           : !pool || !pool->config       ? "its pool is not configured any more"
           : fd < 0                       ? "its descriptor did not come"
                                          : NULL;
    if (*why) {
        if (fd >= 0)
            close(fd);
        return NULL;
    }
    if (getpeername(fd, (struct sockaddr *)&address, &address_bytes) < 0)
        address.ss_family = AF_UNSPEC; /* it has gone meanwhile, as its first read will tell */
    struct client *client = client_new(proxy, pool, fd, (frame.flags & FLAG_UNIX) != 0, &address);
    if (!client) {
        *why = "out of resources";
        close(fd);
        return NULL;
    }
    take_flags(client, frame.flags);
    client->startup = memory_alloc(sizeof(*client->startup));
    *why = read_fields(client, record, length);
    if (!*why)
        *why = find_place(client, (enum stage)frame.stage);
    if (*why) {
        drop(client);
        return NULL;
    }
    if (frame.stage == STAGE_START) {
        client_forget_startup(client);
        client->has_begun =
            buffer_length(&client->held) > 0 || client->has_asked_tls || client->has_asked_gss;
        return client;
    }
    client->is_counted = true;
    pool->clients++;
    client->lane->uses_currval |= (frame.flags & FLAG_CURRVAL) != 0;
    stats_client_carried(client);
    if (!client->lane->parameters)
        client->lane->has_changed =
            true; /* the first login here may not say what it was told there */
    int64_t since_us = client->since_us;
    client_set_state(client, frame.stage == STAGE_LOGIN ? CLIENT_LOGIN : CLIENT_READY);
    client->since_us = since_us;
    return client;
}
