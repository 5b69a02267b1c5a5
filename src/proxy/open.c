/*
 * open.c - how a session opens, once it is known who the client is.
 *
 * Its parameters are reported as the upstream reported them at a login; when no login to that database has been made yet,
 * the client waits for one as for a query.  Start-up settings beyond application_name that differ from the backend's are
 * tried on a backend, and what they come to is asked back: an error there is the client's FATAL, as PostgreSQL's would be.
 * What they came to is remembered, so that one client of a fleet pays and the others open without a backend.
 */
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/memory.h"
#include "proto/build.h"
#include "proxy/cancel.h"
#include "proxy/defaults.h"
#include "proxy/events.h"
#include "proxy/login.h"
#include "proxy/proxy.h"
#include "proxy/settle.h"

void open_ready(struct client *client)
{
    struct buffer message = {0};
    cancel_key_new(client);
    size_t mark = build_begin(&message, 'K');
    build_u32(&message, client->key_pid);
    buffer_append(&message, client->key_secret, client->key_bytes);
    build_end(&message, mark);
    build_ready(&message, 'I');
    stream_write_buffer(&client->stream, &message);
    client_forget_startup(client);
    client->answered_us = client->proxy->now_us;
    log_client(
        LOG_LEVEL_DEBUG, client, "client login",
        LOG_FIELD_TEXT("tls", client->stream.ssl ? SSL_get_version(client->stream.ssl) : NULL));
}

/* As the last login to the upstream reported them, but for what the client's own settings changed. */
static void send_parameters(struct client *client)
{
    struct buffer message = {0};
    const struct lane *lane = client->lane;
    defaults_begin(client);
    for (size_t i = 0; i < lane->parameter_count; i++) {
        const struct parameter *parameter = &lane->parameters[i];
        const char *own = client->told ? settings_get(client->told, parameter->name) : NULL;
        if (strcmp(parameter->name, "application_name") == 0)
            own = client->application_name;
        build_parameter_status(&message, parameter->name, own ? own : parameter->value);
    }
    stream_queue_buffer(&client->stream, &message);
}

/* UTF8 and utf-8 are one encoding; ISO and ISO, MDY one DateStyle's output. */
static bool means_the_same(const char *name, const char *wanted, const char *reported)
{
    if (strcasecmp(name, "datestyle") == 0) {
        size_t length = strlen(wanted);
        return strncasecmp(wanted, reported, length) == 0 &&
               (reported[length] == '\0' || reported[length] == ',');
    }
    if (strcasecmp(name, "client_encoding") != 0)
        return strcmp(wanted, reported) == 0;
    while (*wanted && *reported) {
        if (*wanted == '-' || *wanted == '_' || *wanted == '\'') { /* asyncpg quotes it */
            wanted++;
            continue;
        }
        if ((*wanted | 0x20) != (*reported | 0x20))
            return false;
        wanted++;
        reported++;
    }
    while (*wanted == '\'')
        wanted++;
    return *wanted == *reported;
}

static bool is_in_force(const struct client *client, const struct startup_setting *setting)
{
    if (strcasecmp(setting->name, "seed") == 0)
        return true; /* at a login it seeds nothing */
    const struct parameter *parameter = defaults_find(client->lane, setting->name);
    return parameter && means_the_same(setting->name, setting->value, parameter->value);
}

static bool needs_own_settings(const struct client *client)
{
    for (size_t i = 0; i < client->startup->setting_count; i++) {
        if (!is_in_force(client, &client->startup->settings[i]))
            return true;
    }
    return false;
}

/* What identifies a client's start-up settings among those of its lane; "" when it needs none.  free() it. */
static char *start_key(const struct client *client)
{
    struct buffer key = {0};
    for (size_t i = 0; i < client->startup->setting_count; i++) {
        const struct startup_setting *setting = &client->startup->settings[i];
        if (is_in_force(client, setting))
            continue;
        char *item = memory_printf("%zu:%s=%zu:%s;", strlen(setting->name), setting->name,
                                   strlen(setting->value), setting->value);
        buffer_append(&key, item, strlen(item));
        free(item);
    }
    char *text = memory_strndup(buffer_length(&key) > 0 ? (const char *)buffer_bytes(&key) : "",
                                buffer_length(&key));
    buffer_free(&key);
    return text;
}

/* The session begins with these settings, and RESET goes back to them. */
static void begin_with(struct client *client, const struct settings *settings)
{
    struct settings_table *table = &client->proxy->settings;
    settings_replace(&client->proxy->settings, &client->base,
                     settings_with(table, settings, "application_name", client->application_name));
    settings_replace(&client->proxy->settings, &client->settings, settings_hold(client->base));
}

static struct start_memory *find_start(const struct client *client)
{
    struct start_memory *memory;
    char *key = start_key(client);
    HASH_FIND_STR(client->lane->starts, key, memory);
    free(key);
    return memory;
}

/* Whether the client has start-up settings that nobody has had before; for replication they went with the login. */
bool open_needs_backend(const struct client *client)
{
    return needs_own_settings(client) && !client->lane->is_replication && !find_start(client);
}

/* The next client with the same start-up settings needs no backend to know what they come to. */
static void remember_start(struct client *client)
{
    struct lane *lane = client->lane;
    struct settings_table *table = &client->proxy->settings;
    char *key = start_key(client);
    struct start_memory *memory;
    HASH_FIND_STR(lane->starts, key, memory);
    if (memory || HASH_COUNT(lane->starts) >= OPEN_STARTS_MAX) {
        free(key);
        return;
    }
    memory = memory_alloc(sizeof(*memory));
    memory->key = key;
    memory->settings = settings_with(table, client->settings, "application_name", "");
    memory->told = client->told ? settings_hold(client->told) : NULL;
    HASH_ADD_KEYPTR(hh, lane->starts, memory->key, strlen(memory->key), memory);
}

void open_forget_starts(struct proxy *proxy, struct lane *lane)
{
    struct start_memory *memory;
    struct start_memory *next;
    HASH_ITER (hh, lane->starts, memory, next) {
        HASH_DEL(lane->starts, memory);
        settings_drop(&proxy->settings, memory->settings);
        settings_drop(&proxy->settings, memory->told);
        free(memory->key);
        free(memory);
    }
}

/* The start-up settings as one statement; set_config takes values as the start-up packet does. */
static char *settings_statement(const struct client *client)
{
    char *sql = memory_strdup("SELECT 1");
    for (size_t i = 0; i < client->startup->setting_count; i++) {
        const struct startup_setting *setting = &client->startup->settings[i];
        if (is_in_force(client, setting))
            continue;
        char *name = build_quote_literal(setting->name);
        char *value = build_quote_literal(setting->value);
        char *longer = memory_printf("%s, pg_catalog.set_config(%s,%s, false)", sql, name, value);
        if (setting_is_custom(setting->name)) {
            char *named = memory_printf("SET %s", setting->name);
            settle_learn_names(client->proxy, SQL_SIGN_SET, named, strlen(named));
            free(named);
        }
        free(name);
        free(value);
        free(sql);
        sql = longer;
    }
    return sql;
}

void open_begin(struct client *client)
{
    if (client->lane->parameters && !open_needs_backend(client))
        open_settled(client, NULL);
    else if (client_acquire(client))
        open_granted(client, client->server);
    else
        stream_flush(&client->stream); /* it waits, and knows for what */
}

/* All is known: the session is open, on no backend. */
static void open_session(struct client *client)
{
    send_parameters(client);
    client_set_state(client, CLIENT_READY);
    open_ready(client);
    proxy_read_later(client);
}

/* A backend is there.  Start-up settings that nobody has had before are made on it, and asked back: what they come to, and
 * what the server reports, is the session's beginning. */
void open_granted(struct client *client, struct server *server)
{
    if (!open_needs_backend(client)) {
        open_settled(client, NULL);
        return;
    }
    char *sql = settings_statement(client);
    struct buffer message = {0};
    build_query(&message, sql);
    defaults_begin(client);
    settle_link(client, server);
    outstanding_injected(&server->outstanding, INJECTION_LOGIN);
    stream_queue_buffer(&server->stream, &message);
    free(sql);
    settle_ask(client, server, PIN_BIT(PIN_SETTING) | PIN_BIT(PIN_ROLE) | PIN_BIT(PIN_REQUEST));
    stream_flush(&server->stream);
}

void open_settled(struct client *client, const struct error_fields *error)
{
    struct server *server = client->server;
    if (error) {
        client_fatal(client, error->sqlstate, error->message, error->detail, error->hint);
        return;
    }
    if (server && client->asks != 0 && client->pins == 0) { /* the question has failed: once more */
        settle_ask(client, server, client->asks);
        stream_flush(&server->stream);
        return;
    }
    const struct start_memory *memory = find_start(client);
    if (memory) {
        begin_with(client, memory->settings);
        settings_replace(&client->proxy->settings, &client->told,
                         memory->told ? settings_hold(memory->told) : NULL);
    } else if (needs_own_settings(client) && !client->lane->is_replication) {
        begin_with(client, client->settings);
        if (client->pins == 0)
            remember_start(client);
    }
    if (!server) {
        open_session(client);
    } else if (client->pins != 0) {
        send_parameters(client);
        client_set_state(client, CLIENT_LINKED);
        open_ready(client);
        proxy_read_later(client);
    } else {
        client->server = NULL;
        server->client = NULL;
        open_session(client);
        server_release(server);
    }
}
