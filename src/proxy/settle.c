/*
 * settle.c - what a client's session holds (contract 5); how that gets to the next backend is settle_link.c.
 *
 * Settings travel.  How a client's settings change is not read from its statements: when
 * one of them may have changed something, the server is asked after the transaction, while the client
 * already has its answer.  So SET in a transaction, its rollback, a savepoint, a function that calls
 * set_config() all come out as the server sees them.
 *
 * The same question finds what cannot travel (LISTEN, temporary tables, locks ...): that pins the client to its
 * backend, until a later question finds it gone.
 *
 *   signs of a text -> asks -> [at rest] question -> answer -> settings, pins -> [no pins] the backend is free
 */
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/log.h"
#include "base/memory.h"
#include "proto/build.h"
#include "policy/reset.h"
#include "proto/sql_names.h"
#include "proto/sqlstate.h"
#include "proxy/defaults.h"
#include "proxy/login.h"
#include "proxy/prepare.h"
#include "proxy/proxy.h"
#include "proxy/settle.h"

#define QUESTIONS_FAIL_MOST 3    /* in a row, before the client is tied */
#define CUSTOMS_MAX_BYTES   4096 /* names of custom settings that are asked for */

static struct settings_table *table_of(const struct client *client)
{
    return &client->proxy->settings;
}

void settle_begin(struct client *client)
{
    struct settings_draft draft = {0};
    settings_draft_add(&draft, "application_name", client->application_name);
    settings_replace(table_of(client), &client->base, settings_intern(table_of(client), &draft));
    settings_replace(table_of(client), &client->settings, settings_hold(client->base));
}

void settle_client_free(struct client *client)
{
    settings_replace(table_of(client), &client->base, NULL);
    settings_replace(table_of(client), &client->settings, NULL);
    settings_replace(table_of(client), &client->told, NULL);
    settings_replace(table_of(client), &client->untold, NULL);
    settle_set_pins(client, 0);
}

void settle_server_free(struct server *server)
{
    settings_replace(&server->proxy->settings, &server->settings, NULL);
    settings_replace(&server->proxy->settings, &server->defaults, NULL);
    settings_draft_free(&server->draft);
    buffer_free(&server->named);
}

void settle_forget(struct server *server)
{
    struct settings_draft nothing = {0};
    struct settings_table *table = &server->proxy->settings;
    settings_replace(table, &server->settings, settings_intern(table, &nothing));
    server->needs_look = false;
    server->is_unknown = false;
    server->hidden_by = 0;
    server->sequences_by = 0;
    server->inserted_by = 0;
    server->prepared_by = 0;
}

/* ---- pins ---- */

void settle_set_pins(struct client *client, uint32_t pins)
{
    if (client->pool) {
        client->pool->pinned += (pins != 0) - (client->pins != 0);
        stats_pinned(client, pins & ~client->pins);
    }
    client->pins = pins;
}

void settle_pin(struct client *client, uint32_t pins)
{
    if (pins & ~client->pins)
        settle_set_pins(client, client->pins | pins);
}

/* ---- what a statement may have changed ---- */

static bool is_ascii(const char *text)
{
    for (; *text; text++) {
        if ((unsigned char)*text >= 0x80)
            return false;
    }
    return true;
}

struct learning {
    struct proxy *proxy;
    struct buffer *own; /* what one client has named; NULL: not kept */
    bool has_missed;    /* a name found no room */
};

static bool has_name(const struct buffer *names, const char *name)
{
    const char *known = (const char *)buffer_bytes(names);
    for (size_t at = 0; at < buffer_length(names); at += strlen(known + at) + 1) {
        if (strcmp(known + at, name) == 0)
            return true;
    }
    return false;
}

/* False when there is no room for it. */
static bool add_name(struct buffer *names, const char *name)
{
    if (has_name(names, name))
        return true;
    if (buffer_length(names) + strlen(name) + 1 > CUSTOMS_MAX_BYTES)
        return false;
    buffer_append(names, name, strlen(name) + 1);
    return true;
}

static void learn_name(void *arg, const char *name)
{
    struct learning *learning = arg;
    if (!name || !is_ascii(name) || !add_name(&learning->proxy->customs, name))
        learning->has_missed = true;
    else if (learning->own)
        add_name(learning->own, name);
}

static uint32_t learn_names(struct learning *learning, uint32_t signs, const char *text,
                            size_t length)
{
    if (!(signs & (SQL_SIGN_SET | SQL_SIGN_CONFIG | SQL_SIGN_NAMES)))
        return 0;
    uint32_t config = sql_names(text, length, learn_name, learning);
    bool is_misread = (signs & SQL_SIGN_CONFIG) && !(config & SQL_CONFIG_SEEN);
    if (is_misread || (learning->has_missed && (signs & (SQL_SIGN_SET | SQL_SIGN_CONFIG))))
        config |= SQL_CONFIG_UNKNOWN;
    return config;
}

uint32_t settle_learn_names(struct proxy *proxy, uint32_t signs, const char *text, size_t length)
{
    struct learning learning = {.proxy = proxy};
    return learn_names(&learning, signs, text, length);
}

/* The same for a client on its backend, which may find them empty and yet its own. */
static uint32_t learn_own_names(struct client *client, uint32_t signs, const char *text,
                                size_t length)
{
    struct server *server = client->server;
    struct learning learning = {.proxy = client->proxy};
    if (signs & (SQL_SIGN_SET | SQL_SIGN_CONFIG))
        learning.own = &server->named;
    if (server->named_by != client->id)
        buffer_free(&server->named);
    server->named_by = client->id;
    return learn_names(&learning, signs, text, length);
}

void settle_learn_customs(struct proxy *proxy, const struct settings *settings)
{
    struct learning learning = {.proxy = proxy};
    const char *value;
    for (const char *name = NULL; (name = settings_next(settings, name, &value));) {
        if (setting_is_custom(name))
            learn_name(&learning, name);
    }
}

/* The backend is the client's to the end, and then of no use to others: nothing tells what is there of it, and DISCARD ALL
 * leaves random() as it was seeded, a temporary replication slot, a connection of dblink. */
static void note_spoiling(struct client *client)
{
    client->server->is_spoilt = true;
    settle_pin(client, PIN_BIT(PIN_OTHER));
}

static void note_config(struct client *client, uint32_t config)
{
    if (config & SQL_CONFIG_SETTING)
        client->asks |= PIN_BIT(PIN_SETTING) | PIN_BIT(PIN_REQUEST) | PIN_BIT(PIN_ROLE);
    if (config & SQL_CONFIG_ROLE)
        client->asks |= PIN_BIT(PIN_ROLE);
    if (config & SQL_CONFIG_SEED)
        note_spoiling(client);
    if (config & SQL_CONFIG_UNKNOWN) {
        client->asks |= PIN_BIT(PIN_SETTING) | PIN_BIT(PIN_ROLE);
        settle_pin(client, PIN_BIT(PIN_OTHER)); /* the server would not list a custom one */
    }
}

/* Not before: where nobody asks, who inserts pays nothing for it. */
void settle_begin_currval(struct lane *lane)
{
    struct server *server;
    if (lane->uses_currval)
        return;
    lane->uses_currval = true;
    TAILQ_FOREACH (server, &lane->pool->proxy->servers, link) {
        if (server->lane != lane || server->inserted_by == 0)
            continue;
        server->sequences_by = server->inserted_by;
        server->needs_look = true;
    }
}

/* What may draw from a sequence; of code, and of what fires triggers, nothing better is known. */
#define MAY_DRAW                                                                                   \
    (SQL_SIGN_SEQUENCE | SQL_SIGN_INSERT | SQL_SIGN_WRITE | SQL_SIGN_FUNCTION | SQL_SIGN_CODE)

/* Sequences: a draw pins while nobody waits; under pressure only where somebody is known to ask for its value. */
static void note_sequences(struct client *client, uint32_t signs)
{
    struct server *server = client->server;
    if (signs & SQL_SIGN_CURRVAL)
        settle_begin_currval(client->lane);
    if (!(signs & MAY_DRAW))
        return;
    server->inserted_by = client->id;
    if ((signs & SQL_SIGN_SEQUENCE) || client->lane->uses_currval) {
        server->sequences_by = client->id;
        server->needs_look = true;
    }
    if ((signs & SQL_SIGN_SEQUENCE) || ((signs & SQL_SIGN_INSERT) && client->lane->uses_currval))
        settle_pin(client, PIN_BIT(PIN_SEQUENCE));
}

#define TRIGGERS_ASKED_US (60 * CLOCK_S)

void settle_ask_triggers(struct server *server)
{
    static const char question[] = "SELECT 1 WHERE EXISTS (SELECT FROM pg_catalog.pg_trigger"
                                   " WHERE NOT tgisinternal)";
    struct lane *lane = server->lane;
    struct buffer sql = {0};
    if (lane->is_replication || lane->asker || lane->has_triggers ||
        (lane->triggers_asked_us > 0 &&
         server->proxy->now_us - lane->triggers_asked_us < TRIGGERS_ASKED_US))
        return;
    lane->triggers_asked_us = server->proxy->now_us;
    buffer_append(&sql, question, strlen(question));
    settle_queue(server, &sql, INJECTION_TRIGGERS);
    stream_flush(&server->stream);
}

/* What a trigger does cannot be seen, and to ask after each write would cost too much: but it must not reach the next client.
 * Where a database has triggers, a backend that was written through has its settings reset for another client. */
static void note_triggers(struct client *client, uint32_t signs)
{
    struct lane *lane = client->lane;
    struct lane *each;
    if (signs & SQL_SIGN_TRIGGER) {
        for (each = client->proxy->lanes; each; each = each->hh.next)
            each->has_triggers |= strcmp(each->database, lane->database) == 0;
    }
    if (lane->has_triggers) {
        client->server->hidden_by = client->id;
        client->server->needs_look = true;
    }
}

/* Start-up settings follow behind the text's Query or Sync.  Only a Query is known to be run, and once. */
static void note_resets(struct client *client, uint32_t signs, const char *text, size_t length)
{
    if (!(signs & (SQL_SIGN_RESET | SQL_SIGN_LOCAL_RESET)))
        return;
    uint8_t reset = text ? reset_of(client->base, text, length) : RESET_SOME;
    if (reset == RESET_NOTHING)
        return;
    client->reset = client->saw_reset || client->last_type != 'Q' ? RESET_SOME : reset;
    client->resets_locally =
        !(signs & SQL_SIGN_RESET) && (client->resets_locally || !client->saw_reset);
    client->saw_reset = true;
}

void settle_note_own(struct client *client, uint32_t signs, const char *text, size_t length)
{
    note_resets(client, signs, text, length);
    bool is_seeded = (signs & SQL_SIGN_CONFIG) && text &&
                     (settle_learn_names(client->proxy, signs, text, length) & SQL_CONFIG_SEED);
    if (is_seeded || (signs & (SQL_SIGN_SPOIL | SQL_SIGN_LOAD)))
        client->server->is_spoilt = true;
    if (signs & SQL_SIGN_DEFAULTS)
        client->server->watches_tags = true;
}

void settle_note_prepared(struct client *client, uint32_t signs)
{
    struct server *server = client->server;
    if (server->prepared_by != client->id)
        server->prepared_signs = 0;
    server->prepared_by = client->id;
    server->prepared_signs |= signs;
}

/* What runs now was prepared before: its text is not at hand, so it may be a sign of all that such texts are.  One that code
 * has prepared was never seen. */
static void note_executed(struct client *client, uint32_t *signs)
{
    const struct server *server = client->server;
    bool is_known = server->prepared_by == client->id && server->hidden_by != client->id;
    uint32_t prepared = is_known ? server->prepared_signs : SQL_SIGN_CODE;
    if (prepared & SQL_SIGN_CONFIG)
        note_config(client, SQL_CONFIG_SETTING);
    *signs |= prepared;
}

void settle_note_executed(struct client *client)
{
    settle_note_signs(client, SQL_SIGN_EXECUTE, NULL, 0);
}

static void ignore_name(void *arg, const char *name)
{
    (void)arg;
    (void)name;
}

/* What the transaction's later statements mean may be another thing behind this one.  Not behind a custom setting for the
 * transaction alone, which nothing but a query asks for: row-level security lives by those. */
static void note_reading(struct client *client, uint32_t signs, uint32_t config, const char *text,
                         size_t length)
{
    if (client->has_set || !(signs & (SQL_SIGN_SET | SQL_SIGN_CONFIG | SQL_SIGN_LOCAL |
                                      SQL_SIGN_TEMP | SQL_SIGN_RESET)))
        return;
    if (!text || (signs & (SQL_SIGN_SET | SQL_SIGN_TEMP | SQL_SIGN_RESET))) {
        client->has_set = true;
        return;
    }
    if (!(signs & SQL_SIGN_CONFIG)) /* a SET LOCAL alone: not read yet */
        config = sql_names(text, length, ignore_name, NULL);
    bool is_misread = (signs & SQL_SIGN_CONFIG) && !(config & SQL_CONFIG_SEEN);
    client->has_set = is_misread || (config & SQL_CONFIG_READING);
}

void settle_note_signs(struct client *client, uint32_t signs, const char *text, size_t length)
{
    client->has_unasked = true;
    if (signs == 0)
        return;
    uint32_t named = 0; /* enum sql_config */
    if (text && (signs & (SQL_SIGN_SET | SQL_SIGN_CONFIG | SQL_SIGN_NAMES)))
        named = learn_own_names(client, signs, text, length);
    else if (signs & (SQL_SIGN_SET | SQL_SIGN_CONFIG))
        named = SQL_CONFIG_UNKNOWN;
    note_config(client, named);
    note_reading(client, signs, named, text, length);
    if (signs & SQL_SIGN_PREPARE)
        settle_note_prepared(client, signs);
    if (signs & SQL_SIGN_EXECUTE)
        note_executed(client, &signs);
    const struct config_pool *config = client->pool->config;
    bool asks_functions = !config || config->hidden_state == HIDDEN_STATE_ASK;
    struct pin_verdict verdict = pin_judge(signs, client->pins, asks_functions);
    client->asks |= verdict.asks;
    client->has_set |= (verdict.asks & PIN_BIT(PIN_SETTING)) != 0;
    note_sequences(client, signs);
    settle_pin(client, verdict.pins & ~PIN_BIT(PIN_SEQUENCE));
    if ((signs & SQL_SIGN_CODE) || ((signs & SQL_SIGN_FUNCTION) && asks_functions)) {
        client->server->hidden_by = client->id;
        client->server->needs_look = true;
    }
    if (signs & (SQL_SIGN_WRITE | SQL_SIGN_TRIGGER))
        note_triggers(client, signs);
    if (signs & (SQL_SIGN_DISCARD | SQL_SIGN_DEALLOCATE | SQL_SIGN_DEFAULTS))
        client->server->watches_tags = true;
    note_resets(client, signs, text, length);
    client->saw_copy = client->saw_reset && (signs & SQL_SIGN_INSERT) &&
                       (!text || reset_mentions(text, length, "copy"));
    if (signs & SQL_SIGN_SPOIL)
        note_spoiling(client);
}

/* ---- the question and its answer ---- */

static const char *login_user(const struct server *server)
{
    return PQuser(server->conn);
}

void settle_ask(struct client *client, struct server *server, uint32_t asks)
{
    struct buffer sql = {0};
    struct buffer customs = {0};
    if (client->pins & PIN_BIT(PIN_SETTING))
        asks |= PIN_BIT(PIN_TEMP); /* made under such a search_path */
    asks &= PINS_ASKABLE;
    if (asks == 0 || server->asked != 0)
        return;
    buffer_append(&customs, buffer_bytes(&client->proxy->customs),
                  buffer_length(&client->proxy->customs));
    buffer_append(&customs, "", 1);
    settle_level(&sql, client);
    bool is_aside = buffer_length(&sql) == 0 && (client->pins & PIN_BIT(PIN_STATEMENTS));
    pin_question(&sql, asks, login_user(server), (const char *)buffer_bytes(&customs));
    buffer_free(&customs);
    if (is_aside) { /* its unnamed statement may be kept nowhere else */
        buffer_append(&sql, "", 1);
        settle_queue_aside(server, (const char *)buffer_bytes(&sql), INJECTION_QUESTION);
        buffer_free(&sql);
    } else {
        settle_queue(server, &sql, INJECTION_QUESTION);
    }
    server->asked = asks;
    server->found = 0;
    server->has_failed_question = false;
    client->asks = 0;
    client->has_unasked = false;
}

/* What is left of a custom setting that was reset, by whomever: empty.  To this client it is something only if it knows of
 * it or has named it here, and taken over it might even be refused elsewhere, where an extension has made a setting of its
 * own of that name. */
static bool is_strangers(const struct server *server, const char *name, const char *value)
{
    const struct client *client = server->client;
    if (*value != '\0' || !setting_is_custom(name) || !client)
        return false;
    bool has_named = server->named_by == client->id && has_name(&server->named, name);
    return !has_named && !settings_get(client->settings, name);
}

void settle_row(struct server *server, const uint8_t *body, size_t length)
{
    const char *name;
    const char *value;
    enum pin pin;
    if (length == 0 ||
        buffer_length(&server->draft.text) > SETTLE_SETTINGS_MAX) { /* not carried about */
        server->found |= PIN_BIT(PIN_SETTING);
        return;
    }
    char *copy = memory_alloc(length + 2);
    switch (pin_read_row(body, length, copy, &name, &value, &pin)) {
    case PIN_ROW_SETTING:
        if (is_strangers(server, name, value))
            break;
        settings_draft_add(&server->draft, name, value);
        if (!is_ascii(name) || !is_ascii(value)) /* its bytes mean something in one encoding only */
            server->found |= PIN_BIT(PIN_SETTING);
        break;
    case PIN_ROW_PIN:
        server->found |= PIN_BIT(pin);
        break;
    case PIN_ROW_NONE:
        break;
    }
    free(copy);
}

/* Under such a search_path an unmarked CREATE TABLE makes a temporary one; and temp_buffers cannot be set on a backend
 * that has had a temporary table. */
static bool hides_temporary(const struct settings *settings)
{
    const char *path = settings_get(settings, "search_path");
    return (path && strstr(path, "pg_temp")) || settings_get(settings, "temp_buffers");
}

/* Code that was not seen has put settings back, and the server does not know that it is the start-up packet's values that
 * they go back to: these are added to what was found, and must be put in force.  NULL when all are there. */
static struct settings *with_base(struct client *client, const struct settings *found)
{
    struct settings_draft draft = {0};
    const char *value;
    bool is_complete = true;
    for (const char *name = NULL; (name = settings_next(client->base, name, &value));) {
        if (setting_is_custom(name) || settings_get(found, name))
            continue;
        settings_draft_add(&draft, name, value);
        is_complete = false;
    }
    if (is_complete)
        return NULL;
    for (const char *name = NULL; (name = settings_next(found, name, &value));)
        settings_draft_add(&draft, name, value);
    return settings_intern(table_of(client), &draft);
}

static void take_settings(struct client *client, struct server *server, struct settings *settings)
{
    struct settings *whole = client->state == CLIENT_LOGIN ? NULL : with_base(client, settings);
    if (whole) {
        settings_drop(table_of(client), settings);
        settings = whole;
        client->must_restore_again = true;
    }
    if (hides_temporary(settings))
        server->found |= PIN_BIT(PIN_SETTING);
    settle_note_idle(server, settings);
    settings_replace(table_of(client), &client->settings, settings);
    settings_replace(table_of(client), &server->settings, settings_hold(settings));
    const char *name = settings_get(settings, "application_name");
    if (name)
        client_set_application_name(client, name);
}

void settle_answered(struct server *server)
{
    struct client *client = server->client;
    uint32_t asked = server->asked;
    server->asked = 0;
    if (!client || server->has_failed_question) {
        settings_draft_free(&server->draft);
        if (client && server->failed_questions++ < QUESTIONS_FAIL_MOST) {
            client->asks |= asked; /* a cancel meant for the statement before it, perhaps */
        } else if (client) {
            settle_pin(client, asked); /* in doubt: asked again when it has been idle */
            client->has_unasked = true;
        }
        return;
    }
    server->failed_questions = 0;
    if (asked & PIN_BIT(PIN_SETTING)) {
        take_settings(client, server, settings_intern(table_of(client), &server->draft));
        if (!(server->found &
              PIN_BIT(PIN_SETTING))) /* else its own may be among what was not taken */
            defaults_asked(client, server);
    }
    settings_draft_free(&server->draft);
    settle_set_pins(client, (client->pins & ~asked) | server->found);
}

void settle_failed(struct server *server, enum outstanding_injection injection,
                   const struct error_fields *error)
{
    struct client *client = server->client;
    switch (injection) {
    case INJECTION_LOGIN:
        open_settled(client, error);
        break;
    case INJECTION_QUESTION:
        server->has_failed_question = true;
        break;
    case INJECTION_RESTORE:
    case INJECTION_REPAIR:
        if (strcmp(error->sqlstate, SQLSTATE_QUERY_CANCELED) == 0)
            client->must_restore_again = true;
        else
            server->is_dirty = true; /* what it is thought to have in force is not */
        break;
    case INJECTION_SETTLE:
        server->is_unknown = true;
        server->needs_look = true;
        server->is_dirty = true;
        client_fatal(client, error->sqlstate, error->message,
                     "A setting of this session could not be restored.", NULL);
        break;
    default:
        break;
    }
}

/* ---- time ---- */

/* A sequence's value cannot be asked for.  It ties its backend while nobody needs one; when somebody waits, only
 * for as long as pin_recheck, and not at all where nobody has ever asked for such a value. */
static bool may_forget_sequence(const struct client *client, int64_t idle_us)
{
    return client->pins == PIN_BIT(PIN_SEQUENCE) && client->pool->pool.waiting > 0 &&
           (!client->lane->uses_currval || idle_us >= client->pool->config->pin_recheck_us);
}

void settle_sweep(struct client *client)
{
    struct server *server = client->server;
    int64_t idle_us = client->proxy->now_us - client->answered_us;
    if (client->pins == 0 || !settle_is_shared(client) || server->status != 'I' ||
        !outstanding_is_empty(&server->outstanding) || client->message_left > 0)
        return;
    if (may_forget_sequence(client, idle_us)) {
        settle_set_pins(client, 0);
        relay_release(client, server);
    } else if (client->has_unasked && idle_us >= client->pool->config->pin_recheck_us) {
        settle_ask(client, server, client->pins);
        stream_flush(&server->stream);
    }
}
