/*
 * prepare.c - protocol-level prepared statements over shared backends (contract 5).
 *
 * The names in Parse, Bind, Describe and Close are a client's own; a backend knows the statements by ours.  So those four
 * messages get another head on their way, and the rest of them passes through.  A Parse always goes to the server, which
 * says what it would say on the client's own connection: a statement that is there already is closed first,
 * or, where that might close a portal, prepared under another name.  A Bind or Describe on a backend that lacks the
 * statement has a Parse of ours before it.  A Close closes nothing: others use the statement.
 *
 * What no name is known for passes as it is; so does everything in session mode.  A text too long to be kept ties the
 * client to its backend, as in relay.c.
 */
#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "proto/build.h"
#include "proto/sqlstate.h"
#include "proxy/proxy.h"

#define STATEMENT_MAX    32768u /* longer Query and Parse messages are not waited for, nor shared */
#define NAMES_MAX        16384u /* longer names are not looked at */
#define DEALLOCATE_MAX   256u   /* longer queries are no plain DEALLOCATE */
#define CLIENT_NAMES_MAX 10000u /* names of one client; more tie it to its backend */
#define HEADER_BYTES     5

/* Where the names of a message stand. */
struct head {
    const char *portal; /* of Bind */
    const char *name;
    size_t portal_length;
    size_t name_length;
    size_t end; /* behind the names, from the message's first byte */
};

static bool read_name(const uint8_t *bytes, size_t length, size_t *at, const char **name,
                      size_t *name_length)
{
    const uint8_t *end = *at < length ? memchr(bytes + *at, 0, length - *at) : NULL;
    if (!end)
        return false;
    *name = (const char *)bytes + *at;
    *name_length = (size_t)(end - bytes) - *at;
    *at = (size_t)(end - bytes) + 1;
    return true;
}

static bool read_head(uint8_t type, const uint8_t *bytes, size_t length, struct head *head)
{
    size_t at = HEADER_BYTES;
    *head = (struct head){.portal = ""};
    if (type == 'B' && !read_name(bytes, length, &at, &head->portal, &head->portal_length))
        return false;
    if (type == 'D' || type == 'C')
        at++; /* S or P */
    if (!read_name(bytes, length, &at, &head->name, &head->name_length))
        return false;
    head->end = at;
    return true;
}

/* How much of the message, its type and length included, is there. */
static size_t part_at_hand(size_t at_hand, uint32_t message)
{
    return at_hand > (size_t)message + 1 ? (size_t)message + 1 : at_hand;
}

bool prepare_is_at_hand(uint8_t type, const uint8_t *bytes, size_t at_hand, uint32_t message)
{
    struct head head;
    size_t whole = (size_t)message + 1;
    if (at_hand >= whole)
        return true;
    switch (type) {
    case 'Q':
    case 'P':
        return whole > STATEMENT_MAX;
    case 'B':
    case 'D':
    case 'C':
        return at_hand >= NAMES_MAX || read_head(type, bytes, at_hand, &head);
    default:
        return true;
    }
}

/* ---- what goes to the server ---- */

static struct statement_table *table_of(const struct client *client)
{
    return &client->proxy->statements;
}

static void queue_parse(struct server *server, const char *name, const void *body, size_t length)
{
    struct buffer message = {0};
    size_t mark = build_begin(&message, 'P');
    build_text(&message, name);
    buffer_append(&message, body, length);
    build_end(&message, mark);
    stats_server_parse(server);
    stream_queue(&server->stream, buffer_bytes(&message), buffer_length(&message));
    buffer_free(&message);
}

static void queue_close(struct server *server, const char *name)
{
    uint8_t message[HEADER_BYTES + 1 + STATEMENT_NAME_BYTES];
    size_t length = strlen(name) + 1;
    uint32_t said = (uint32_t)(length + 5);
    message[0] = 'C';
    message[1] = message[2] = 0;
    message[3] = (uint8_t)(said >> 8);
    message[4] = (uint8_t)said;
    message[5] = 'S';
    memcpy(message + 6, name, length);
    stream_queue(&server->stream, message, 6 + length);
}

/* A name under which nothing is ever left: closing it does nothing, and is answered. */
static void no_name(const struct client *client, char name[STATEMENT_NAME_BYTES])
{
    snprintf(name, STATEMENT_NAME_BYTES, "%snone", client->proxy->statements.prefix);
}

/* Room for one more: the least recently used one goes, while nothing can be using it. */
static void evict(struct client *client, struct server *server)
{
    int most = client->pool->config->max_prepared_statements;
    if (server->status != 'I' || !outstanding_is_empty(&server->outstanding))
        return;
    while (server->statements.count > 0 && server->statements.count >= most) {
        struct statement *oldest = backend_statement_oldest(&server->statements);
        queue_close(server, oldest->name);
        outstanding_sent_as(&server->outstanding, OUTSTANDING_INJECTED_CLOSE);
        expect_answer(&server->statements, EXPECT_EVICTION, oldest, NULL, 0);
        backend_statement_remove(table_of(client), &server->statements, oldest);
    }
}

/* Whether the statement's Parse is on its way in an earlier batch, which an error may skip. */
static bool is_unsure(const struct server *server, const struct statement *statement)
{
    return !TAILQ_EMPTY(&server->statements.expected) &&
           expected_decides_statement(&server->statements, statement) &&
           outstanding_has_sync(&server->outstanding);
}

void prepare_trim(struct client *client, struct server *server)
{
    if (server->statements.count > client->pool->config->max_prepared_statements)
        evict(client, server);
}

/* Nothing may stand in the way of a Parse: what an error has skipped is not always known in time. */
static void clear_name(struct server *server, const struct statement *statement)
{
    queue_close(server, statement->name);
    outstanding_sent_as(&server->outstanding, OUTSTANDING_UNTRACKED_CLOSE);
}

/* Sees to it that the backend has the statement. */
static void provide(struct client *client, struct server *server, struct statement *statement)
{
    bool is_there = backend_statement_use(&server->statements, statement);
    if (is_there && !is_unsure(server, statement))
        return;
    if (!is_there)
        evict(client, server);
    clear_name(server, statement);
    queue_parse(server, statement->name, statement->body, statement->length);
    outstanding_sent_as(&server->outstanding, OUTSTANDING_INJECTED_PARSE);
    expect_answer(&server->statements, EXPECT_PARSE, statement, NULL, 0);
    backend_statement_add(&server->statements, statement);
}

/* The unnamed statement that is there may be another client's: this one's own takes its place, or none. */
static void provide_unnamed(struct client *client, struct server *server)
{
    const struct unnamed *own = unnamed_current(&client->statements);
    client->has_own_unnamed = true;
    client->provided++;
    outstanding_sent_as(&server->outstanding, OUTSTANDING_PROVIDED_UNNAMED);
    if (!own) {
        queue_close(server, "");
        return;
    }
    queue_parse(server, "", own->body, own->length);
    settle_note_signs(client, own->signs, (const char *)own->body, strlen((const char *)own->body));
}

/* A Parse of the unnamed statement passes: it is kept, for a Bind may come in another transaction. */
static void keep_unnamed(struct client *client, const uint8_t *bytes, size_t at_hand,
                         uint32_t message, uint32_t signs)
{
    bool was_there = client->has_own_unnamed;
    client->has_own_unnamed = true;
    client->has_set_unnamed = true;
    client->has_unbound_parse = at_hand < (size_t)message + 1;
    if (client->has_unbound_parse)
        unnamed_sent(&client->statements, NULL, 0, 0, was_there);
    else
        unnamed_sent(&client->statements, bytes + HEADER_BYTES + 1, at_hand - HEADER_BYTES - 1,
                     signs, was_there);
}

/* The message's head with another name; `kind` is Describe's and Close's S. */
static void queue_head(struct server *server, uint8_t type, uint32_t message,
                       const struct head *head, const char *name)
{
    uint8_t start[HEADER_BYTES];
    uint32_t length = message + (uint32_t)strlen(name) - (uint32_t)head->name_length;
    start[0] = type;
    for (int i = 0; i < 4; i++)
        start[1 + i] = (uint8_t)(length >> (24 - 8 * i));
    stream_queue(&server->stream, start, sizeof(start));
    if (type == 'B')
        stream_queue(&server->stream, head->portal, head->portal_length + 1);
    else if (type != 'P')
        stream_queue(&server->stream, "S", 1);
    stream_queue(&server->stream, name, strlen(name) + 1);
}

/* ---- the four messages ---- */

static struct prepared_head passes(void)
{
    return (struct prepared_head){0};
}

static void begin_change(struct server *server, const uint8_t *before, size_t length)
{
    stream_queue(&server->stream, before, length);
}

/* A name that the client has already: the server refuses it, under our name for it. */
static void parse_again(struct client *client, struct server *server, uint32_t message,
                        const struct head *head, struct statement *statement)
{
    provide(client, server, statement);
    outstanding_sent_as(&server->outstanding, OUTSTANDING_PARSE);
    expect_answer(&server->statements, EXPECT_ERROR, statement, NULL, 0);
    queue_head(server, 'P', message, head, statement->name);
}

/* The same body under a name that nobody has used. */
static struct statement *renewed(struct statement_table *table, struct statement *statement)
{
    struct statement *other = statement_renew(table, statement);
    statement_drop(table, statement);
    return other;
}

static void parse_new(struct client *client, struct server *server, uint32_t message,
                      uint32_t signs, const struct head *head, const uint8_t *body, size_t length)
{
    struct statement_table *table = table_of(client);
    struct statement *statement = statement_intern(table, body, length);
    if (client_statement_name(&client->statements, statement->name, strlen(statement->name)))
        statement = renewed(table, statement); /* two names of one client are two statements */
    if (!backend_statement_use(&server->statements, statement))
        evict(client, server);
    else if (server->status != 'I' || !outstanding_is_empty(&server->outstanding))
        statement = renewed(table, statement);
    clear_name(server, statement);
    statement->signs = signs;
    outstanding_sent_as(&server->outstanding, OUTSTANDING_PARSE);
    expect_answer(&server->statements, EXPECT_CLIENT_PARSE, statement, head->name,
                  head->name_length);
    backend_statement_add(&server->statements, statement);
    client_statement_add(&client->statements, head->name, head->name_length, statement);
    queue_head(server, 'P', message, head, statement->name);
    statement_drop(table, statement); /* the maps have their own references */
}

static struct prepared_head translate_parse(struct client *client, struct server *server,
                                            const uint8_t *bytes, size_t at_hand, uint32_t message,
                                            uint32_t signs, const uint8_t *before,
                                            size_t before_length)
{
    struct head head;
    if (!read_head('P', bytes, at_hand, &head) || head.name_length == 0)
        return passes();
    struct statement *known =
        client_statement_find(&client->statements, head.name, head.name_length);
    if (!known && (at_hand < (size_t)message + 1 || message > STATEMENT_MAX ||
                   client->pool->config->max_prepared_statements == 0 ||
                   HASH_COUNT(client->statements.by_name) >= CLIENT_NAMES_MAX)) {
        settle_pin(client, PIN_BIT(PIN_STATEMENTS));
        return passes();
    }
    begin_change(server, before, before_length);
    if (known)
        parse_again(client, server, message, &head, known);
    else
        parse_new(client, server, message, signs, &head, bytes + head.end, at_hand - head.end);
    return (struct prepared_head){.taken = head.end, .is_changed = true, .is_recorded = true};
}

/* Bind, and Describe of a statement. */
static struct prepared_head translate_use(struct client *client, struct server *server,
                                          uint8_t type, const uint8_t *bytes, size_t at_hand,
                                          uint32_t message, const uint8_t *before,
                                          size_t before_length)
{
    struct head head;
    if (!read_head(type, bytes, at_hand, &head) || (type == 'D' && bytes[HEADER_BYTES] != 'S'))
        return passes();
    if (head.name_length == 0) {
        bool may_be_skipped = client->provided > 0 && outstanding_has_sync(&server->outstanding);
        if (client->has_own_unnamed && !may_be_skipped)
            return passes();
        begin_change(server, before, before_length);
        provide_unnamed(client, server);
        return (struct prepared_head){.is_changed = true};
    }
    struct statement *statement =
        client_statement_find(&client->statements, head.name, head.name_length);
    if (!statement)
        return passes();
    begin_change(server, before, before_length);
    provide(client, server, statement);
    queue_head(server, type, message, &head, statement->name);
    if (type == 'B')
        settle_note_signs(client, statement->signs, (const char *)statement->body,
                          strlen((const char *)statement->body));
    return (struct prepared_head){.taken = head.end, .is_changed = true};
}

static struct prepared_head translate_close(struct client *client, struct server *server,
                                            const uint8_t *bytes, size_t at_hand, uint32_t message,
                                            const uint8_t *before, size_t before_length)
{
    struct head head;
    char none[STATEMENT_NAME_BYTES];
    if (!read_head('C', bytes, at_hand, &head) || bytes[HEADER_BYTES] != 'S')
        return passes();
    if (head.name_length == 0) {
        unnamed_sent(&client->statements, NULL, 0, 0, client->has_own_unnamed);
        outstanding_sent_as(&server->outstanding, OUTSTANDING_UNNAMED_CLOSE);
        client->has_own_unnamed = true;
        client->has_set_unnamed = true;
        return (struct prepared_head){.is_recorded = true};
    }
    struct statement *statement =
        client_statement_find(&client->statements, head.name, head.name_length);
    if (!statement)
        return passes();
    begin_change(server, before, before_length);
    outstanding_sent_as(&server->outstanding, OUTSTANDING_CLOSE);
    expect_answer(&server->statements, EXPECT_CLIENT_CLOSE, statement, head.name, head.name_length);
    no_name(client, none);
    queue_head(server, 'C', message, &head, none);
    client_statement_remove(table_of(client), &client->statements, head.name, head.name_length);
    return (struct prepared_head){.taken = head.end, .is_changed = true, .is_recorded = true};
}

/* ---- DEALLOCATE in SQL, which some drivers say for Close ---- */

static bool skip_word(const char **at, const char *word)
{
    size_t length = strlen(word);
    if (strncasecmp(*at, word, length) != 0 || (*at)[length] == '_' || isalnum((*at)[length]))
        return false;
    *at += length;
    *at += strspn(*at, " \t\r\n\f");
    return true;
}

/* The name in `DEALLOCATE [PREPARE] name`, and nothing else; false for anything more. */
static bool read_deallocate(const char *text, char *name, size_t *length)
{
    const char *at = text + strspn(text, " \t\r\n\f");
    size_t count = 0;
    if (!skip_word(&at, "deallocate"))
        return false;
    skip_word(&at, "prepare");
    if (*at == '"') {
        for (at++; *at && *at != '"'; at++)
            name[count++] = *at;
        if (*at++ != '"' || *at == '"')
            return false;
    } else {
        for (; *at == '_' || isalnum((unsigned char)*at); at++)
            name[count++] = (char)tolower((unsigned char)*at);
        if (count == 3 && memcmp(name, "all", 3) == 0)
            return false; /* the tag of its answer tells */
    }
    at += strspn(at, " \t\r\n\f;");
    *length = count;
    return count > 0 && *at == '\0';
}

/* Makes a statement for the server to deallocate: the client's own stays for others. */
static void queue_sacrifice(struct client *client, struct server *server)
{
    static const uint8_t body[] = "SELECT 1\0\0"; /* and no parameter types */
    char none[STATEMENT_NAME_BYTES];
    no_name(client, none);
    queue_close(server, none);
    outstanding_sent_as(&server->outstanding, OUTSTANDING_UNTRACKED_CLOSE);
    queue_parse(server, none, body, sizeof(body));
    outstanding_sent_as(&server->outstanding, OUTSTANDING_UNTRACKED_PARSE);
}

/* A Query, or a Parse of the unnamed statement, that deallocates a statement of the protocol. */
static struct prepared_head translate_deallocate(struct client *client, struct server *server,
                                                 uint8_t type, const uint8_t *bytes, size_t at_hand,
                                                 uint32_t message, const uint8_t *before,
                                                 size_t before_length)
{
    static const uint8_t sync_message[] = {'S', 0, 0, 0, 4};
    char name[DEALLOCATE_MAX];
    char sql[STATEMENT_NAME_BYTES + 20];
    size_t length;
    size_t text_at = HEADER_BYTES + (type == 'P');
    if (at_hand != (size_t)message + 1 || at_hand > DEALLOCATE_MAX || at_hand <= text_at ||
        !memchr(bytes + text_at, 0, at_hand - text_at) || server->status == 'E' ||
        !read_deallocate((const char *)bytes + text_at, name, &length) ||
        !client_statement_find(&client->statements, name, length) ||
        (type == 'Q' && (server->outstanding.is_open || server->outstanding.is_skipping)))
        return passes();
    begin_change(server, before, before_length);
    queue_sacrifice(client, server);
    if (type == 'Q') {
        outstanding_injected(&server->outstanding, INJECTION_CLEAN);
        stream_queue(&server->stream, sync_message, sizeof(sync_message));
    }
    struct buffer changed = {0};
    size_t text_end = text_at + strlen((const char *)bytes + text_at) + 1;
    snprintf(sql, sizeof(sql), "DEALLOCATE %snone", client->proxy->statements.prefix);
    size_t mark = build_begin(&changed, (char)type);
    if (type == 'P')
        build_text(&changed, "");
    build_text(&changed, sql);
    buffer_append(&changed, bytes + text_end, at_hand - text_end);
    build_end(&changed, mark);
    stream_queue(&server->stream, buffer_bytes(&changed), buffer_length(&changed));
    buffer_free(&changed);
    client_statement_remove(table_of(client), &client->statements, name, length);
    return (struct prepared_head){.taken = at_hand, .is_changed = true};
}

struct prepared_head prepare_translate(struct client *client, uint8_t type, const uint8_t *bytes,
                                       size_t at_hand, uint32_t message, uint32_t signs,
                                       const uint8_t *before, size_t before_length)
{
    struct server *server = client->server;
    at_hand = part_at_hand(at_hand, message);
    if (server->outstanding.is_skipping || server->outstanding.is_copying_in ||
        client->has_private_names)
        return passes(); /* the server will not look at it, or knows the client's names */
    if (type == 'S')
        client->has_set_unnamed = false;
    if (type == 'S' && client->has_unbound_parse)
        settle_pin(client, PIN_BIT(PIN_STATEMENTS));
    else if (type == 'B' || type == 'Q')
        client->has_unbound_parse = false;
    switch (type) {
    case 'Q': /* it drops the unnamed statement */
        client->has_own_unnamed = true;
        unnamed_dropped(&client->statements);
        return translate_deallocate(client, server, type, bytes, at_hand, message, before,
                                    before_length);
    case 'P':
        if (at_hand > HEADER_BYTES && bytes[HEADER_BYTES] == 0) {
            keep_unnamed(client, bytes, at_hand, message, signs);
            struct prepared_head changed = translate_deallocate(
                client, server, type, bytes, at_hand, message, before, before_length);
            outstanding_sent_as(&server->outstanding, OUTSTANDING_UNNAMED_PARSE);
            changed.is_recorded = true;
            return changed;
        }
        return translate_parse(client, server, bytes, at_hand, message, signs, before,
                               before_length);
    case 'B':
    case 'D':
        return translate_use(client, server, type, bytes, at_hand, message, before, before_length);
    case 'C':
        return translate_close(client, server, bytes, at_hand, message, before, before_length);
    default:
        return passes();
    }
}

/* ---- a pool that does not pin ---- */

static const char *denied_what(uint32_t signs)
{
    struct pin_verdict verdict = pin_judge(pin_denied(signs), 0, false);
    for (unsigned i = 0; i < PIN_COUNT; i++) {
        if ((verdict.pins | verdict.asks) & PIN_BIT(i) & ~PIN_BIT(PIN_SETTING))
            return pin_name((enum pin)i);
    }
    return "session state";
}

/* A statement that fails as the refused one should: the server's own error leaves its transaction as it must. */
static char *refusal_statement(const struct client *client, uint32_t signs)
{
    const struct config_pool *config = client->pool->config;
    char *what = memory_printf(
        config->pin_limit == 0
            ? "pool \"%s\" does not keep session state (%s): pin = deny"
            : "pool \"%s\" keeps session state (%s) for no more than its limit of pinned clients",
        client->pool->name, denied_what(signs));
    char *message = build_quote_literal(what);
    char *statement = memory_printf(
        "DO $pgreserve$BEGIN RAISE EXCEPTION USING ERRCODE='%s', MESSAGE=%s, HINT='Keep it within "
        "a "
        "transaction, or use a pool whose pin setting allows it, or one in session mode.'; "
        "END$pgreserve$",
        config->pin_limit == 0 ? SQLSTATE_FEATURE_NOT_SUPPORTED
                               : SQLSTATE_CONFIGURATION_LIMIT_EXCEEDED,
        message);
    free(message);
    free(what);
    return statement;
}

/* In the place of a Parse that must fail: one of ours that is executed at once, for a Parse of it would not. */
static void build_failing_parse(struct buffer *out, struct client *client, const char *statement)
{
    struct outstanding *outstanding = &client->server->outstanding;
    char none[STATEMENT_NAME_BYTES];
    no_name(client, none);
    for (const char *kind = "PS"; *kind; kind++) {
        size_t mark = build_begin(out, 'C');
        build_u8(out, (uint8_t)*kind);
        build_text(out, none);
        build_end(out, mark);
        outstanding_sent_as(outstanding, OUTSTANDING_UNTRACKED_CLOSE);
    }
    size_t mark = build_begin(out, 'P');
    build_text(out, none);
    build_text(out, statement);
    build_u16(out, 0);
    build_end(out, mark);
    outstanding_sent_as(outstanding, OUTSTANDING_UNTRACKED_PARSE);
    mark = build_begin(out, 'B');
    build_text(out, none); /* of the portal */
    build_text(out, none);
    for (int i = 0; i < 3; i++)
        build_u16(out, 0); /* no formats, no parameters, text results */
    build_end(out, mark);
    outstanding_sent_as(outstanding, OUTSTANDING_UNTRACKED_BIND);
    mark = build_begin(out, 'E');
    build_text(out, none);
    build_u32(out, 0);
    build_end(out, mark);
    outstanding_sent(outstanding, 'E');
}

struct prepared_head prepare_refusal(struct client *client, uint8_t type, uint32_t message,
                                     uint32_t signs, const uint8_t *before, size_t before_length)
{
    const struct config_pool *config = client->pool->config;
    if (config->pin_limit < 0 || client->pins != 0 || !pin_denied(signs) ||
        client->pool->pinned < config->pin_limit || client->server->outstanding.is_skipping)
        return passes();
    struct buffer other = {0};
    char *statement = refusal_statement(client, signs);
    begin_change(client->server, before, before_length);
    if (type == 'P') {
        build_failing_parse(&other, client, statement);
    } else {
        size_t mark = build_begin(&other, 'Q');
        build_text(&other, statement);
        build_end(&other, mark);
    }
    stream_queue(&client->server->stream, buffer_bytes(&other), buffer_length(&other));
    buffer_free(&other);
    free(statement);
    return (struct prepared_head){
        .taken = (size_t)message + 1, .is_changed = true, .is_recorded = type == 'P'};
}

/* ---- a client that looks ---- */

/* While anything is open, a Sync of ours would end it: then the view shows our names. */
void prepare_make_private(struct client *client, struct server *server)
{
    static const uint8_t sync_message[] = {'S', 0, 0, 0, 4};
    const struct backend_statement *there;
    const struct client_statement *each;
    if (!outstanding_is_empty(&server->outstanding) || server->status == 'E')
        return;
    TAILQ_FOREACH (there, &server->statements.used, link) {
        queue_close(server, there->statement->name);
        outstanding_sent_as(&server->outstanding, OUTSTANDING_UNTRACKED_CLOSE);
    }
    backend_statements_clear(table_of(client), &server->statements);
    for (each = client->statements.by_name; each; each = each->hh.next) {
        queue_parse(server, each->name, each->statement->body, each->statement->length);
        outstanding_sent_as(&server->outstanding, OUTSTANDING_UNTRACKED_PARSE);
    }
    stream_queue(&server->stream, sync_message, sizeof(sync_message));
    outstanding_injected(&server->outstanding, INJECTION_CLEAN);
    client->has_private_names = true;
    settle_pin(client, PIN_BIT(PIN_STATEMENTS));
}

/* A name whose fate is not known yet (prepared again behind a Sync, or used where a Close of it may have been skipped): the
 * server decides first. */
bool prepare_must_wait(const struct client *client, uint8_t type, const uint8_t *bytes,
                       size_t at_hand, uint32_t message)
{
    struct head head;
    const struct server *server = client->server;
    bool is_undecided = server && (!TAILQ_EMPTY(&server->statements.expected) ||
                                   !TAILQ_EMPTY(&client->statements.pending));
    if (!is_undecided || (type != 'P' && type != 'B' && type != 'D' && type != 'C') ||
        !read_head(type, bytes, part_at_hand(at_hand, message), &head))
        return false;
    if (head.name_length == 0)
        return type != 'P' && !client->has_set_unnamed && !TAILQ_EMPTY(&client->statements.pending);
    return expected_decides(&server->statements, head.name, head.name_length, type != 'P') &&
           outstanding_has_sync(&server->outstanding);
}

/* ---- what comes from the server ---- */

/* Whatever of the unnamed statement was skipped stands behind what was answered or has failed. */
static void unnamed_events(struct client *client, const struct outstanding *outstanding)
{
    struct client_statements *statements = &client->statements;
    for (uint32_t i = 0; i < outstanding->unnamed_answered; i++)
        unnamed_answered(statements, false);
    for (uint32_t i = 0; i < outstanding->unnamed_failed; i++)
        unnamed_answered(statements, true);
    uint32_t provided = outstanding->provided_answered + outstanding->provided_undone;
    client->provided -= (uint16_t)(provided < client->provided ? provided : client->provided);
    if (outstanding->provided_undone > 0)
        client->has_own_unnamed = false;
    bool is_first = true;
    for (uint32_t i = 0; i < outstanding->unnamed_undone; i++) {
        bool was_there = unnamed_undone(statements);
        if (is_first)
            client->has_own_unnamed = was_there;
        is_first = false;
    }
}

void prepare_answered(struct server *server)
{
    struct outstanding *outstanding = &server->outstanding;
    struct statement_table *table = &server->proxy->statements;
    if (server->client)
        unnamed_events(server->client, outstanding);
    if (outstanding->undone > 0)
        expected_undo(table, &server->statements,
                      server->client ? &server->client->statements : NULL,
                      (int)outstanding->undone);
    for (; outstanding->confirmed > 0; outstanding->confirmed--)
        expected_confirm(table, &server->statements);
    outstanding->undone = 0;
    outstanding->unnamed_answered = outstanding->unnamed_failed = outstanding->unnamed_undone = 0;
    outstanding->provided_answered = outstanding->provided_undone = 0;
    outstanding->events = 0;
}

void prepare_all_gone(struct server *server)
{
    struct statement_table *table = &server->proxy->statements;
    backend_statements_clear(table, &server->statements);
    if (server->client)
        client_statements_clear(table, &server->client->statements);
}

/* The client's name where the server says ours. */
static void append_with_own_names(struct buffer *out, const struct client *client, const char *text)
{
    const char *prefix = client->proxy->statements.prefix;
    const char *found;
    while ((found = strstr(text, prefix))) {
        size_t length = strlen(prefix) + strspn(found + strlen(prefix), "0123456789abcdef");
        const char *name = client_statement_name(&client->statements, found, length);
        buffer_append(out, text, (size_t)(found - text));
        if (name)
            buffer_append(out, name, strlen(name));
        else
            buffer_append(out, found, length);
        text = found + length;
    }
    buffer_append(out, text, strlen(text) + 1);
}

/* A Bind with a format for each column that there were, of a statement that we have prepared anew since its table was
 * changed: on the client's own connection its plan could not be used, which is what drivers know how to heal. */
static bool translate_changed_result(struct client *client, const uint8_t *body, size_t length)
{
    const char *routine = error_field(body, length, 'R');
    if (!routine || strcmp(routine, "PortalSetResultFormat") != 0 || !client->statements.by_name)
        return false;
    struct buffer message = {0};
    size_t mark = build_begin(&message, 'E');
    build_text(&message, "SERROR");
    build_text(&message, "VERROR");
    build_text(&message, "C" SQLSTATE_FEATURE_NOT_SUPPORTED);
    build_text(&message, "Mcached plan must not change result type");
    build_text(&message, "RRevalidateCachedQuery");
    build_u8(&message, 0);
    build_end(&message, mark);
    stream_write(&client->stream, buffer_bytes(&message), buffer_length(&message));
    buffer_free(&message);
    return true;
}

bool prepare_translate_error(struct client *client, const uint8_t *body, size_t length)
{
    const char *prefix = client->proxy->statements.prefix;
    if (settle_is_shared(client) && translate_changed_result(client, body, length))
        return true;
    if (length == 0 || body[length - 1] != 0 || !memmem(body, length, prefix, strlen(prefix)))
        return false;
    struct buffer message = {0};
    size_t mark = build_begin(&message, 'E');
    for (size_t at = 0; at < length && body[at] != 0;) {
        const char *text = (const char *)body + at + 1;
        build_u8(&message, body[at]);
        append_with_own_names(&message, client, text);
        at += strlen(text) + 2;
    }
    build_u8(&message, 0);
    build_end(&message, mark);
    stream_write(&client->stream, buffer_bytes(&message), buffer_length(&message));
    buffer_free(&message);
    return true;
}
