/*
 * settle_link.c - how what a session holds gets to the next backend: see settle.h.
 *
 * What a client needs and what a backend has are values that are equal when their pointers are (policy/session.h); where they
 * differ, one query of ours goes ahead of the client's first message, in the same write, and its answers are swallowed.  What
 * the last client has in force must bear neither on that query nor on what is in force afterwards: its timeouts, its
 * transactions' defaults, what it drew from sequences.
 *
 * RESET goes back to what the start-up packet said, on a connection of the client's own; on a backend that others
 * use the server does not know of that, so a query that restores it follows each RESET in the same write.
 */
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "policy/reset.h"
#include "proto/build.h"
#include "proxy/defaults.h"
#include "proxy/prepare.h"
#include "proxy/proxy.h"
#include "proxy/settle.h"

static struct settings_table *table_of(const struct client *client)
{
    return &client->proxy->settings;
}

/* ---- from the one session to the next ---- */

void settle_queue(struct server *server, struct buffer *sql, enum outstanding_injection injection)
{
    struct buffer message = {0};
    buffer_append(sql, "", 1);
    build_query(&message, (const char *)buffer_bytes(sql));
    outstanding_injected(&server->outstanding, injection);
    stream_queue(&server->stream, buffer_bytes(&message), buffer_length(&message));
    if (server->client)
        server->client->has_own_unnamed = false; /* a simple query drops it (protocol 55.2.3) */
    buffer_free(&message);
    buffer_free(sql);
}

static bool is_others(uint64_t id, const struct client *client)
{
    return id != 0 && id != client->id;
}

void settle_note_idle(struct server *server, const struct settings *settings)
{
    if (settings->idle_session_us > 0)
        server->is_dirty = true;
}

#define TIMEOUT_SHORT_MS 1000 /* one that a busy server may exceed with anything */

static bool is_short_timeout(const struct settings *settings, const char *name)
{
    const char *value = settings_get(settings, name); /* in ms, as pg_settings has it */
    long long ms = value ? strtoll(value, NULL, 10) : 0;
    return ms > 0 && ms < TIMEOUT_SHORT_MS;
}

/* The last client's timeouts hold for the query that takes them away, too.  They are taken away before it then, in a Query of
 * its own that is too short to be met by them; should it be, the settling's is as likely to succeed as it was. */
static void lift_timeouts(struct client *client, struct server *server)
{
    static const char *const timeouts[] = {"statement_timeout", "transaction_timeout"};
    for (size_t i = 0; i < sizeof(timeouts) / sizeof(timeouts[0]); i++) {
        struct buffer sql = {0};
        if (!is_short_timeout(server->settings, timeouts[i]))
            continue;
        buffer_append(&sql, "SET ", strlen("SET "));
        buffer_append(&sql, timeouts[i], strlen(timeouts[i]));
        buffer_append(&sql, " TO 0", strlen(" TO 0"));
        settle_queue(server, &sql, INJECTION_CLEAN);
        settings_replace(
            table_of(client), &server->settings,
            settings_with(table_of(client), server->settings, timeouts[i], "")); /* no one's */
    }
}

/* Where serializable, read only and deferrable are the defaults, a transaction waits for others to end before it looks at
 * anything (safe snapshot): a query of ours must not, so it runs at another level. */
static void append_level(struct buffer *sql)
{
    static const char level[] = "SET TRANSACTION ISOLATION LEVEL READ COMMITTED;";
    buffer_append(sql, level, strlen(level));
}

static bool is_deferrable(const struct settings *settings)
{
    const char *value = settings_get(settings, "default_transaction_deferrable");
    return value && strcmp(value, "on") == 0;
}

/* By default: the one of the three defaults for a level that the server reports. */
static bool is_read_only(const struct client *client)
{
    static const char name[] = "default_transaction_read_only";
    const char *value = client->told ? settings_get(client->told, name) : NULL;
    const struct parameter *parameter = value ? NULL : defaults_find(client->lane, name);
    return strcmp(parameter ? parameter->value : value ? value : "", "on") == 0;
}

void settle_level(struct buffer *sql, const struct client *client)
{
    if (is_read_only(client))
        append_level(sql);
}

/* Puts what the client needs in the place of what is in force; the server is asked for no more than the difference.  The level
 * comes first: behind anything that has looked it cannot be set. */
static void append_difference(struct buffer *sql, struct client *client, struct server *server,
                              bool is_unknown, bool discards)
{
    static const char discard[] = "DISCARD SEQUENCES;";
    bool differs = client->settings != server->settings || is_unknown;
    if (differs)
        lift_timeouts(client, server);
    if ((differs || discards) && (is_unknown || is_deferrable(server->settings)))
        append_level(sql);
    if (discards)
        buffer_append(sql, discard, strlen(discard));
    if (differs)
        session_difference(sql, server->settings, client->settings, is_unknown);
}

void settle_link(struct client *client, struct server *server)
{
    struct buffer sql = {0};
    if (server->statements.count > 0 && client->pool->config)
        prepare_trim(client, server);
    if (client->lane->is_replication)
        return;
    defaults_link(client, server);
    if (client->settings == server->settings && !server->needs_look)
        return;
    bool is_unknown = server->is_unknown || is_others(server->hidden_by, client);
    bool may_fail = session_may_fail(server->settings, client->settings, is_unknown);
    bool discards = is_others(server->sequences_by, client) || is_others(server->hidden_by, client);
    append_difference(&sql, client, server, is_unknown, discards);
    if (discards) {
        server->sequences_by = 0;
        server->inserted_by = 0;
    }
    if (is_unknown) {
        server->is_unknown = false;
        server->hidden_by = 0;
    }
    server->needs_look = server->hidden_by || server->sequences_by;
    settings_replace(table_of(client), &server->settings, settings_hold(client->settings));
    settle_note_idle(server, client->settings);
    const char *name = settings_get(client->settings, "application_name");
    snprintf(server->application_name, sizeof(server->application_name), "%s", name ? name : "");
    if (buffer_length(&sql) > 0)
        settle_queue(server, &sql, INJECTION_SETTLE);
    server->must_settle_first = may_fail;
    server->has_settled_first = false;
}

/* ---- beside the client's own statements ---- */

/* Several statements, each with a zero at its end. */
static void queue_aside(struct server *server, const char *statements, size_t length,
                        enum outstanding_injection injection)
{
    char name[STATEMENT_NAME_BYTES];
    struct buffer messages = {0};
    snprintf(name, sizeof(name), "%srestore", server->proxy->statements.prefix);
    build_close(&messages, 'S', name); /* an error may have left one behind */
    for (size_t at = 0; at < length; at += strlen(statements + at) + 1) {
        build_parse(&messages, name, statements + at);
        build_bind(&messages, name);
        build_execute(&messages, name);
        build_close(&messages, 'P', name);
        build_close(&messages, 'S', name);
    }
    build_empty(&messages, 'S');
    outstanding_injected(&server->outstanding, injection);
    stream_queue_buffer(&server->stream, &messages);
}

void settle_queue_aside(struct server *server, const char *sql,
                        enum outstanding_injection injection)
{
    queue_aside(server, sql, strlen(sql) + 1, injection);
}

bool settle_own_sequences(struct client *client, struct server *server)
{
    settle_begin_currval(client->lane);
    if (!is_others(server->inserted_by, client) || server->status == 'E' ||
        server->outstanding.is_open || server->outstanding.is_skipping)
        return false;
    server->inserted_by = 0;
    server->sequences_by = 0;
    settle_queue_aside(server, "DISCARD SEQUENCES", INJECTION_CLEAN);
    return true;
}

/* By what is known of the RESET.  False when the server must look. */
static bool append_restores(struct buffer *sql, const struct client *client, bool is_local)
{
    const struct settings *base = client->base;
    if (client->reset == RESET_SOME)
        return false;
    size_t first = client->reset == RESET_ALL ? 0 : client->reset;
    size_t end = client->reset == RESET_ALL ? base->count : first + 1;
    for (size_t which = first; which < end; which++) {
        if (!session_restore_one(sql, base, which, is_local))
            return false;
    }
    return true;
}

void settle_restore(struct client *client, struct server *server,
                    enum outstanding_injection injection)
{
    struct buffer sql = {0};
    if (client->base->count == 0 || server->outstanding.is_skipping ||
        server->outstanding.is_open || server->outstanding.is_copying_in)
        return;
    bool is_behind = injection == INJECTION_RESTORE;
    bool is_local = client->resets_locally && is_behind;
    if (!is_behind || !append_restores(&sql, client, is_local)) {
        buffer_free(&sql);
        session_restore(&sql, client->base, is_local);
        buffer_append(&sql, "", 1);
    }
    client->resets_locally = false;
    queue_aside(server, (const char *)buffer_bytes(&sql), buffer_length(&sql), injection);
    buffer_free(&sql);
    client->restores++;
}
