/*
 * prepare_sql.c - where SQL meets prepared statements, and session state that a pool does not want.
 *
 * DEALLOCATE of a statement that the client prepared by the protocol: others use what is there under our name, so a
 * sacrifice is prepared for the server to deallocate when it is run (a Query, or a Bind of the unnamed statement), and its
 * answer is the client's.  Whatever else names one (EXECUTE,
 * PREPARE, a DEALLOCATE among other statements) needs the names to be the client's own on its backend.  And `pin = deny`: a statement
 * that would tie its backend is replaced by one that raises an error which explains, so that the transaction
 * that it stands in fails as with any other error.
 */
#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "proto/build.h"
#include "proto/sql_names.h"
#include "proto/sqlstate.h"
#include "proxy/prepare_inside.h"
#include "proxy/settle.h"

#define DEALLOCATE_MAX       256u /* longer queries are no plain DEALLOCATE */
#define DEALLOCATE_TEXT_MAX  (DEALLOCATE_MAX - 2 * PREPARE_HEADER_BYTES)
#define DEALLOCATE_SQL_BYTES (STATEMENT_NAME_BYTES + 20)

/* ---- DEALLOCATE in SQL, which some drivers say for Close ---- */

static bool is_name_byte(char c)
{
    return c == '_' || c == '$' || isalnum((unsigned char)c) || (unsigned char)c >= 0x80;
}

/* Blanks and comments; one with another inside it is left, for who reads what is no plain DEALLOCATE. */
static const char *skip_blanks(const char *at)
{
    for (;;) {
        at += strspn(at, " \t\r\n\f");
        const char *close = strncmp(at, "/*", 2) == 0 ? strstr(at + 2, "*/") : NULL;
        if (close && !memmem(at + 2, (size_t)(close - at - 2), "/*", 2))
            at = close + 2;
        else if (strncmp(at, "--", 2) == 0)
            at += strcspn(at, "\r\n");
        else
            return at;
    }
}

static bool skip_word(const char **at, const char *word)
{
    size_t length = strlen(word);
    if (strncasecmp(*at, word, length) != 0 || is_name_byte((*at)[length]))
        return false;
    *at = skip_blanks(*at + length);
    return true;
}

/* The name in `DEALLOCATE [PREPARE] name`, and nothing else; false for anything more. */
static bool read_deallocate(const char *text, char *name, size_t *length)
{
    const char *at = skip_blanks(text);
    size_t count = 0;
    if (!skip_word(&at, "deallocate"))
        return false;
    const char *word = at;
    if (skip_word(&at, "prepare") && (*at == ';' || *at == '\0'))
        at = word; /* a statement of that name */
    if (*at == '"') {
        for (at++; *at && *at != '"'; at++)
            name[count++] = *at;
        if (*at++ != '"' || *at == '"')
            return false;
    } else {
        for (; is_name_byte(*at); at++)
            name[count++] = (char)tolower((unsigned char)*at);
        if (count == 3 && memcmp(name, "all", 3) == 0)
            return false; /* the tag of its answer tells */
    }
    while (*(at = skip_blanks(at)) == ';')
        at++;
    *length = count;
    return count > 0 && *at == '\0';
}

/* The statement of the protocol that the text deallocates, and its name; NULL when it does something else. */
static struct statement *find_deallocated(const struct client *client, const char *text,
                                          char name[DEALLOCATE_MAX], size_t *length)
{
    if (client->server->status == 'E' || strlen(text) >= DEALLOCATE_TEXT_MAX ||
        !read_deallocate(text, name, length))
        return NULL;
    return client_statement_find(&client->statements, name, *length);
}

/* Makes a statement for the server to deallocate by `sql`: the client's own stays for others.  What the server may not do,
 * because of an error before it or a failed transaction, it does not answer: then the client's name is still there.  The text is
 * one that needs no snapshot, for a transaction's first may have to come later. */
static void queue_sacrifice(struct client *client, struct server *server, const char *name,
                            size_t length, enum outstanding_entry parse,
                            char sql[DEALLOCATE_SQL_BYTES])
{
    static const uint8_t body[] = "SHOW role\0\0"; /* and no parameter types */
    struct statement *statement = client_statement_find(&client->statements, name, length);
    char victim[STATEMENT_NAME_BYTES];
    char none[STATEMENT_NAME_BYTES];
    snprintf(victim, sizeof(victim), "%sgone", client->proxy->statements.prefix);
    prepare_no_name(client, none);
    prepare_queue_close(server, victim);
    outstanding_sent_as(&server->outstanding, OUTSTANDING_UNTRACKED_CLOSE);
    prepare_queue_parse(server, victim, body, sizeof(body));
    outstanding_sent_as(&server->outstanding, parse);
    prepare_queue_close(server, none);
    outstanding_sent_as(&server->outstanding, OUTSTANDING_INJECTED_CLOSE);
    expect_answer(&server->statements, EXPECT_CLIENT_CLOSE, statement, name, length);
    client_statement_remove(prepare_table(client), &client->statements, name, length);
    snprintf(sql, DEALLOCATE_SQL_BYTES, "DEALLOCATE %s", victim);
}

/* What the server has not answered yet may have failed: then it does not take the sacrifice, and without a Sync behind that it
 * would not look at the Query either. */
struct prepared_head prepare_query_deallocate(struct client *client, const uint8_t *bytes,
                                              size_t at_hand, uint32_t message,
                                              const uint8_t *before, size_t before_length)
{
    struct server *server = client->server;
    bool was_open = server->outstanding.is_open;
    char name[DEALLOCATE_MAX];
    char sql[DEALLOCATE_SQL_BYTES];
    size_t length;
    if (at_hand != (size_t)message + 1 || at_hand > DEALLOCATE_MAX ||
        memchr(bytes + PREPARE_HEADER_BYTES, 0, message) != bytes + message ||
        !find_deallocated(client, (const char *)bytes + PREPARE_HEADER_BYTES, name, &length))
        return prepare_passes();
    stream_queue(&server->stream, before, before_length);
    queue_sacrifice(client, server, name, length,
                    was_open ? OUTSTANDING_UNTRACKED_PARSE : OUTSTANDING_QUIET_PARSE, sql);
    if (!was_open)
        prepare_queue_sync(server);
    struct buffer changed = {0};
    build_query(&changed, sql);
    stream_queue_buffer(&server->stream, &changed);
    return (struct prepared_head){.taken = at_hand, .is_changed = true};
}

bool prepare_bind_deallocate(struct client *client, const struct unnamed *unnamed,
                             const uint8_t *before, size_t before_length)
{
    struct server *server = client->server;
    const char *text = (const char *)unnamed->body;
    char name[DEALLOCATE_MAX];
    char sql[DEALLOCATE_SQL_BYTES];
    size_t length;
    if (!find_deallocated(client, text, name, &length))
        return false;
    stream_queue(&server->stream, before, before_length);
    queue_sacrifice(client, server, name, length, OUTSTANDING_UNTRACKED_PARSE, sql);
    struct buffer other = {0};
    size_t text_end = strlen(text) + 1;
    build_text(&other, sql);
    if (unnamed->length > text_end) /* parameter types, which nothing uses */
        buffer_append(&other, text + text_end, unnamed->length - text_end);
    prepare_queue_parse(server, "", buffer_bytes(&other), buffer_length(&other));
    buffer_free(&other);
    outstanding_sent_as(&server->outstanding, OUTSTANDING_PROVIDED_UNNAMED);
    client->provided++;
    client->has_own_unnamed = false; /* another Bind means what the client has said */
    return true;
}

/* ---- EXECUTE and its kin in SQL, of what was prepared by the protocol ---- */

struct search {
    const struct client_statements *statements;
    bool has_found;
};

static void look_up(void *arg, const char *name, size_t length)
{
    struct search *search = arg;
    search->has_found |= !name || client_statement_find(search->statements, name, length);
}

/* It is pinned already, or the pool lets it be. */
static bool may_pin(const struct client *client)
{
    const struct config_pool *config = client->pool->config;
    return config->pin_limit < 0 || client->pins != 0 || client->pool->pinned < config->pin_limit;
}

bool prepare_is_named_in(const struct client *client, bool is_kept, const char *text, size_t length)
{
    char name[DEALLOCATE_MAX];
    size_t name_length;
    struct search search = {.statements = &client->statements};
    bool is_translated =
        !is_kept && length < DEALLOCATE_TEXT_MAX && read_deallocate(text, name, &name_length);
    if (!client->statements.by_name || is_translated || !may_pin(client))
        return false;
    sql_statement_names(text, length, look_up, &search);
    return search.has_found;
}

void prepare_queue_probe(struct client *client, const char *name)
{
    static const uint8_t nothing[] = {0, 0, 0}; /* no text and no parameter types */
    struct server *server = client->server;
    prepare_queue_parse(server, name, nothing, sizeof(nothing));
    outstanding_sent_as(&server->outstanding, OUTSTANDING_UNTRACKED_PARSE);
    prepare_queue_close(server, name);
    outstanding_sent_as(&server->outstanding, OUTSTANDING_UNTRACKED_CLOSE);
}

/* ---- a client that looks ---- */

/* One that cannot be prepared any more (its table is gone) must take no other with it, nor the client's transaction. */
static void queue_quiet_parse(struct server *server, const char *name, const uint8_t *body,
                              size_t length, const char *rollback)
{
    prepare_queue_parse(server, name, body, length);
    outstanding_sent_as(&server->outstanding, OUTSTANDING_QUIET_PARSE);
    prepare_queue_sync(server);
    if (server->status == 'T')
        settle_queue_aside(server, rollback, INJECTION_CLEAN);
}

static void queue_private_parses(struct client *client, struct server *server)
{
    const struct client_statement *each;
    const struct unnamed *unnamed = unnamed_current(&client->statements);
    char sql[3][STATEMENT_NAME_BYTES + 30];
    const char *words[] = {"SAVEPOINT", "ROLLBACK TO SAVEPOINT", "RELEASE SAVEPOINT"};
    for (int i = 0; i < 3; i++)
        snprintf(sql[i], sizeof(sql[i]), "%s %slook", words[i], prepare_table(client)->prefix);
    if (server->status == 'T')
        settle_queue_aside(server, sql[0], INJECTION_CLEAN);
    for (each = client->statements.by_name; each; each = each->hh.next) {
        queue_quiet_parse(server, each->name, each->statement->body, each->statement->length,
                          sql[1]);
        settle_note_prepared(client, each->statement->signs);
    }
    if (unnamed)
        settle_note_prepared(client, unnamed->signs);
    if (unnamed && !client->has_own_unnamed)
        queue_quiet_parse(server, "", unnamed->body, unnamed->length, sql[1]);
    client->has_own_unnamed = true;
    if (server->status == 'T')
        settle_queue_aside(server, sql[2], INJECTION_CLEAN);
}

/* While anything is open, a Sync of ours would end it: then the view shows our names. */
void prepare_make_private(struct client *client, struct server *server)
{
    const struct backend_statement *there;
    if (!outstanding_is_ours(&server->outstanding) || server->status == 'E')
        return;
    TAILQ_FOREACH (there, &server->statements.used, link) {
        prepare_queue_close(server, there->statement->name);
        outstanding_sent_as(&server->outstanding, OUTSTANDING_UNTRACKED_CLOSE);
    }
    backend_statements_clear(prepare_table(client), &server->statements);
    prepare_queue_sync(server);
    queue_private_parses(client, server);
    client->has_private_names = true;
    settle_pin(client, PIN_BIT(PIN_STATEMENTS));
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
    prepare_no_name(client, none);
    for (const char *kind = "PS"; *kind; kind++) {
        build_close(out, *kind, none);
        outstanding_sent_as(outstanding, OUTSTANDING_UNTRACKED_CLOSE);
    }
    build_parse(out, none, statement);
    outstanding_sent_as(outstanding, OUTSTANDING_UNTRACKED_PARSE);
    build_bind(out, none);
    outstanding_sent_as(outstanding, OUTSTANDING_UNTRACKED_BIND);
    build_execute(out, none);
    outstanding_sent(outstanding, 'E');
}

struct prepared_head prepare_refusal(struct client *client, uint8_t type, uint32_t message,
                                     uint32_t signs, const uint8_t *before, size_t before_length)
{
    if (may_pin(client) || !pin_denied(signs) || client->server->outstanding.is_skipping)
        return prepare_passes();
    struct buffer other = {0};
    char *statement = refusal_statement(client, signs);
    stream_queue(&client->server->stream, before, before_length);
    if (type == 'P') {
        build_failing_parse(&other, client, statement);
    } else {
        size_t mark = build_begin(&other, 'Q');
        build_text(&other, statement);
        build_end(&other, mark);
    }
    stream_queue_buffer(&client->server->stream, &other);
    free(statement);
    return (struct prepared_head){
        .taken = (size_t)message + 1, .is_changed = true, .is_recorded = type == 'P'};
}
