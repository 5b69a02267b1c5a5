/*
 * prepared.c - maps of prepared statements: see prepared.h.
 */
#include "policy/prepared.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "proto/sql_names.h"

#define FORMER_MAX 256 /* former names that errors may still speak of */

/* Of a name: longer ones that begin alike are one to the server. */
static size_t kept_length(size_t length)
{
    return length > SQL_IDENTIFIER_MAX ? SQL_IDENTIFIER_MAX : length;
}

/* ---- statements ---- */

void statement_table_init(struct statement_table *table, uint64_t random)
{
    *table = (struct statement_table){0};
    snprintf(table->prefix, sizeof(table->prefix), "pgreserve_%08x_", (unsigned)random);
}

struct statement *statement_intern(struct statement_table *table, const uint8_t *body,
                                   size_t length, const void *under, size_t under_length)
{
    struct statement *known;
    /* and a zero behind it: a client may have left out the text's own */
    struct statement *statement = memory_alloc(sizeof(*statement) + length + under_length + 1);
    statement->references = 1;
    statement->is_current = true;
    statement->length = length;
    statement->key_length = length + under_length;
    memcpy(statement->body, body, length);
    if (under_length > 0)
        memcpy(statement->body + length, under, under_length);
    HASH_FIND(hh, table->by_body, statement->body, statement->key_length, known);
    if (known) {
        free(statement);
        known->references++;
        return known;
    }
    snprintf(statement->name, sizeof(statement->name), "%s%llx", table->prefix,
             (unsigned long long)++table->last_number);
    HASH_ADD_KEYPTR(hh, table->by_body, statement->body, statement->key_length, statement);
    table->bytes += sizeof(*statement) + statement->key_length;
    return statement;
}

/* Its key is one of a kind. */
struct statement *statement_own(struct statement_table *table, const uint8_t *body, size_t length)
{
    char under[STATEMENT_NAME_BYTES];
    int bytes = snprintf(under, sizeof(under), "%s%llx", table->prefix,
                         (unsigned long long)table->last_number + 1);
    struct statement *statement = statement_intern(table, body, length, under, (size_t)bytes);
    statement->is_own = true;
    return statement;
}

struct statement *statement_renew(struct statement_table *table, struct statement *old)
{
    if (old->is_current) {
        HASH_DEL(table->by_body, old);
        old->is_current = false;
    }
    struct statement *other = statement_intern(
        table, old->body, old->length, old->body + old->length, old->key_length - old->length);
    other->is_own = old->is_own;
    return other;
}

void statement_drop(struct statement_table *table, struct statement *statement)
{
    if (--statement->references > 0)
        return;
    if (statement->is_current)
        HASH_DEL(table->by_body, statement);
    table->bytes -= sizeof(*statement) + statement->key_length;
    free(statement);
}

/* ---- a client's names ---- */

struct statement *client_statement_find(const struct client_statements *map, const char *name,
                                        size_t length)
{
    struct client_statement *found;
    HASH_FIND(hh, map->by_name, name, kept_length(length), found);
    return found ? found->statement : NULL;
}

const char *client_statement_name(const struct client_statements *map, const char *name,
                                  size_t length)
{
    const struct client_statement *lists[] = {map->by_name, map->former};
    for (size_t i = 0; i < sizeof(lists) / sizeof(lists[0]); i++) {
        for (const struct client_statement *each = lists[i]; each; each = each->hh.next) {
            if (strlen(each->statement->name) == length &&
                memcmp(each->statement->name, name, length) == 0)
                return each->name;
        }
    }
    return NULL;
}

void client_statement_add(struct statement_table *table, struct client_statements *map,
                          const char *name, size_t length, struct statement *statement)
{
    length = kept_length(length);
    struct client_statement *named = memory_alloc(sizeof(*named) + length + 1);
    memcpy(named->name, name, length);
    named->statement = statement;
    statement->references++;
    HASH_ADD_KEYPTR(hh, map->by_name, named->name, length, named);
    map->bytes += statement->length;
    table->bytes += sizeof(*named) + length;
}

static void forget_name(struct statement_table *table, struct client_statements *map,
                        struct client_statement *named)
{
    HASH_DEL(map->by_name, named);
    map->bytes -= named->statement->length;
    table->bytes -= sizeof(*named) + named->hh.keylen;
    statement_drop(table, named->statement);
    free(named);
}

static void remember_former(struct client_statements *map, struct statement *statement,
                            const char *name, size_t length)
{
    struct client_statement *former;
    HASH_FIND_PTR(map->former, &statement, former);
    if (former || HASH_COUNT(map->former) >= FORMER_MAX)
        return;
    former = memory_alloc(sizeof(*former) + length + 1);
    memcpy(former->name, name, length);
    former->statement = statement;
    statement->references++;
    HASH_ADD_PTR(map->former, statement, former);
}

void client_statement_remove(struct statement_table *table, struct client_statements *map,
                             const char *name, size_t length)
{
    struct client_statement *named;
    length = kept_length(length);
    HASH_FIND(hh, map->by_name, name, length, named);
    if (!named)
        return;
    remember_former(map, named->statement, name, length);
    forget_name(table, map, named);
}

void client_statements_forget_former(struct statement_table *table, struct client_statements *map)
{
    struct client_statement *named;
    struct client_statement *next;
    HASH_ITER (hh, map->former, named, next) {
        HASH_DEL(map->former, named);
        statement_drop(table, named->statement);
        free(named);
    }
}

/* ---- a client's unnamed statement ---- */

void client_statements_init(struct client_statements *map)
{
    *map = (struct client_statements){0};
    TAILQ_INIT(&map->pending);
}

static void unnamed_free(struct unnamed *unnamed)
{
    if (unnamed)
        free(unnamed->body);
    free(unnamed);
}

/* One is kept for the next message: a Parse per transaction must not cost an allocation. */
static void put_aside(struct client_statements *map, struct unnamed *unnamed)
{
    if (map->spare)
        unnamed_free(unnamed);
    else
        map->spare = unnamed;
}

void unnamed_sent(struct client_statements *map, const uint8_t *body, size_t length, uint32_t signs,
                  bool was_there)
{
    struct unnamed *unnamed = map->spare ? map->spare : memory_alloc(sizeof(*unnamed));
    map->spare = NULL;
    /* and a zero behind it: a client may have left out the text's own */
    if (length + 1 > unnamed->capacity) {
        unnamed->body = memory_resize(unnamed->body, length + 1);
        unnamed->capacity = length + 1;
    }
    if (length > 0)
        memcpy(unnamed->body, body, length);
    unnamed->body[length] = 0;
    unnamed->length = length;
    unnamed->signs = signs;
    unnamed->was_there = was_there;
    TAILQ_INSERT_TAIL(&map->pending, unnamed, link);
    map->pending_bytes += unnamed->capacity;
}

void unnamed_answered(struct client_statements *map, bool has_failed)
{
    struct unnamed *first = TAILQ_FIRST(&map->pending);
    if (!first)
        return;
    TAILQ_REMOVE(&map->pending, first, link);
    map->pending_bytes -= first->capacity;
    if (has_failed)
        first->length = 0;
    if (map->unnamed)
        put_aside(map, map->unnamed);
    map->unnamed = first;
}

bool unnamed_undone(struct client_statements *map)
{
    struct unnamed *first = TAILQ_FIRST(&map->pending);
    if (!first)
        return true;
    bool was_there = first->was_there;
    TAILQ_REMOVE(&map->pending, first, link);
    map->pending_bytes -= first->capacity;
    put_aside(map, first);
    return was_there;
}

void unnamed_dropped(struct client_statements *map)
{
    struct unnamed *each;
    if (map->unnamed)
        map->unnamed->length = 0;
    TAILQ_FOREACH (each, &map->pending, link)
        each->length = 0;
}

const struct unnamed *unnamed_current(const struct client_statements *map)
{
    const struct unnamed *last = TAILQ_LAST(&map->pending, unnamed_list);
    if (!last)
        last = map->unnamed;
    return last && last->length > 0 ? last : NULL;
}

static void unnamed_clear(struct client_statements *map)
{
    while (!TAILQ_EMPTY(&map->pending))
        unnamed_undone(map);
    unnamed_free(map->unnamed);
    unnamed_free(map->spare);
    map->unnamed = map->spare = NULL;
}

void client_statements_free(struct statement_table *table, struct client_statements *map)
{
    client_statements_clear(table, map);
    client_statements_forget_former(table, map);
    unnamed_clear(map);
}

void client_statements_clear(struct statement_table *table, struct client_statements *map)
{
    struct client_statement *named;
    struct client_statement *next;
    HASH_ITER (hh, map->by_name, named, next)
        forget_name(table, map, named);
}

/* ---- what is on a backend ---- */

void backend_statements_init(struct backend_statements *map)
{
    *map = (struct backend_statements){0};
    TAILQ_INIT(&map->used);
    TAILQ_INIT(&map->expected);
}

static struct backend_statement *find(const struct backend_statements *map,
                                      const struct statement *statement)
{
    struct backend_statement *found;
    HASH_FIND_PTR(map->by_statement, &statement, found);
    return found;
}

struct backend_statement *backend_statement_use(struct backend_statements *map,
                                                const struct statement *statement)
{
    struct backend_statement *there = find(map, statement);
    if (there && TAILQ_NEXT(there, link)) {
        TAILQ_REMOVE(&map->used, there, link);
        TAILQ_INSERT_TAIL(&map->used, there, link);
    }
    return there;
}

void backend_statement_add(const struct statement_table *table, struct backend_statements *map,
                           struct statement *statement)
{
    struct backend_statement *there = find(map, statement);
    if (there) {
        there->parsed = table->last_parse;
        return;
    }
    there = memory_alloc(sizeof(*there));
    there->statement = statement;
    there->parsed = table->last_parse;
    statement->references++;
    HASH_ADD_PTR(map->by_statement, statement, there);
    TAILQ_INSERT_TAIL(&map->used, there, link);
    map->count++;
}

static void forget_statement(struct statement_table *table, struct backend_statements *map,
                             struct backend_statement *there)
{
    HASH_DEL(map->by_statement, there);
    TAILQ_REMOVE(&map->used, there, link);
    map->count--;
    statement_drop(table, there->statement);
    free(there);
}

void backend_statement_remove(struct statement_table *table, struct backend_statements *map,
                              struct statement *statement)
{
    struct backend_statement *there = find(map, statement);
    if (there)
        forget_statement(table, map, there);
}

struct statement *backend_statement_oldest(const struct backend_statements *map)
{
    const struct backend_statement *first = TAILQ_FIRST(&map->used);
    return first ? first->statement : NULL;
}

void backend_statements_clear(struct statement_table *table, struct backend_statements *map)
{
    struct backend_statement *there;
    struct backend_statement *next;
    HASH_ITER (hh, map->by_statement, there, next)
        forget_statement(table, map, there);
    while (!TAILQ_EMPTY(&map->expected))
        expected_confirm(table, map);
}

static bool is_expected(const struct backend_statements *map, const struct statement *statement,
                        const char *name)
{
    const struct expected *expected;
    TAILQ_FOREACH (expected, &map->expected, link) {
        if (expected->statement == statement &&
            (expected->kind == EXPECT_CLIENT_PARSE || (expected->kind == EXPECT_PARSE && !name)) &&
            (!name || strcmp(expected->name, name) == 0))
            return true;
    }
    return false;
}

void backend_statements_deallocated(struct statement_table *table, struct backend_statements *map)
{
    struct backend_statement *there;
    struct backend_statement *next;
    HASH_ITER (hh, map->by_statement, there, next) {
        if (!is_expected(map, there->statement, NULL))
            forget_statement(table, map, there);
    }
}

void client_statements_deallocated(struct statement_table *table, struct client_statements *map,
                                   const struct backend_statements *backend)
{
    struct client_statement *named;
    struct client_statement *next;
    HASH_ITER (hh, map->by_name, named, next) {
        if (!is_expected(backend, named->statement, named->name))
            forget_name(table, map, named);
    }
}

/* ---- what was assumed ---- */

void expect_answer(struct backend_statements *map, enum expected_kind kind,
                   struct statement *statement, const char *name, size_t name_length)
{
    name_length = kept_length(name_length);
    struct expected *expected = memory_alloc(sizeof(*expected) + name_length + 1);
    const struct backend_statement *there = find(map, statement);
    expected->kind = kind;
    expected->statement = statement;
    expected->before = there ? there->parsed : 0;
    statement->references++;
    expected->name_length = name_length;
    if (name_length > 0)
        memcpy(expected->name, name, name_length);
    TAILQ_INSERT_TAIL(&map->expected, expected, link);
    if (kind == EXPECT_CLIENT_PARSE)
        map->parse_bytes += statement->length;
}

static void forget_expected(struct statement_table *table, struct backend_statements *map,
                            struct expected *expected)
{
    TAILQ_REMOVE(&map->expected, expected, link);
    if (expected->kind == EXPECT_CLIENT_PARSE)
        map->parse_bytes -= expected->statement->length;
    statement_drop(table, expected->statement);
    free(expected);
}

void expected_confirm(struct statement_table *table, struct backend_statements *map)
{
    if (!TAILQ_EMPTY(&map->expected))
        forget_expected(table, map, TAILQ_FIRST(&map->expected));
}

bool expected_decides_statement(const struct backend_statements *map,
                                const struct statement *statement)
{
    const struct expected *expected;
    TAILQ_FOREACH (expected, &map->expected, link) {
        if (expected->statement == statement && expected->kind == EXPECT_PARSE)
            return true;
    }
    return false;
}

/* The backend has it as it had it before, or not at all; a later message that prepares it again stands. */
static void undo_statement(struct statement_table *table, struct backend_statements *map,
                           const struct expected *expected, bool has_failed)
{
    uint64_t before = has_failed ? 0 : expected->before;
    struct expected *later = TAILQ_NEXT(expected, link);
    for (; later; later = TAILQ_NEXT(later, link)) {
        if (later->statement == expected->statement &&
            (later->kind == EXPECT_PARSE || later->kind == EXPECT_CLIENT_PARSE)) {
            later->before = before;
            return;
        }
    }
    struct backend_statement *there = find(map, expected->statement);
    if (there && before > 0)
        there->parsed = before;
    else if (there)
        forget_statement(table, map, there);
}

/* A Close on its way of a name that never was: nothing comes back when it is skipped too. */
static void undo_later_close(const struct expected *expected)
{
    struct expected *later = TAILQ_NEXT(expected, link);
    for (; later; later = TAILQ_NEXT(later, link)) {
        if (later->kind == EXPECT_CLIENT_CLOSE && later->statement == expected->statement &&
            later->name_length == expected->name_length &&
            memcmp(later->name, expected->name, expected->name_length) == 0)
            later->kind = EXPECT_ERROR;
    }
}

static void undo(struct statement_table *table, struct backend_statements *map,
                 struct client_statements *client, const struct expected *expected, bool has_failed)
{
    const char *name = expected->name;
    size_t length = expected->name_length;
    switch (expected->kind) {
    case EXPECT_CLIENT_PARSE:
        if (client && client_statement_find(client, name, length) == expected->statement)
            client_statement_remove(table, client, name, length);
        else if (client)
            remember_former(client, expected->statement, name, length);
        undo_statement(table, map, expected, has_failed);
        undo_later_close(expected);
        break;
    case EXPECT_PARSE:
        undo_statement(table, map, expected, has_failed);
        break;
    case EXPECT_CLIENT_CLOSE:
        if (client && !client_statement_find(client, name, length))
            client_statement_add(table, client, name, length, expected->statement);
        break;
    case EXPECT_EVICTION:
        backend_statement_add(table, map, expected->statement);
        find(map, expected->statement)->parsed = expected->before;
        break;
    case EXPECT_ERROR:
        break;
    }
}

void expected_undo(struct statement_table *table, struct backend_statements *map,
                   struct client_statements *client, int count, bool first_has_failed)
{
    struct expected *last = TAILQ_FIRST(&map->expected);
    for (int i = 1; i < count && last; i++)
        last = TAILQ_NEXT(last, link);
    while (last) {
        struct expected *before = TAILQ_PREV(last, expected_list, link);
        undo(table, map, client, last, first_has_failed && !before);
        forget_expected(table, map, last);
        last = before;
    }
}

bool expected_decides(const struct backend_statements *map, const char *name, size_t length,
                      bool only_close)
{
    const struct expected *expected;
    length = kept_length(length);
    TAILQ_FOREACH (expected, &map->expected, link) {
        if (only_close && expected->kind != EXPECT_CLIENT_CLOSE)
            continue;
        if (expected->name_length == length && memcmp(expected->name, name, length) == 0)
            return true;
    }
    return false;
}
