/*
 * prepared.h - whose prepared statement is where: protocol-level statements shared over backends (contract 5).
 *
 * A client names its statements as it likes; a backend knows them by names of ours.  A `statement` is one text with its
 * parameter types, whoever prepared it.  A client has a map of its names, a backend a list of what is prepared on
 * it, least recently used first.  Both are brought up to date when a message is sent, for a pipeline does not wait;
 * what was assumed stands in the backend's queue of `expected` answers, and is confirmed or undone in that
 * order: an error undoes all that the server then skips (protocol 55.2.3).
 *
 * Pure: no I/O, no clock.
 */
#ifndef POLICY_PREPARED_H
#define POLICY_PREPARED_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/queue.h>

#include "base/hash.h"

#define STATEMENT_NAME_BYTES 40

/* One text and its parameter types.  Counted references; freed with the last one. */
struct statement {
    UT_hash_handle hh; /* by body */
    int references;
    bool is_current; /* in the table: the one that a new Parse of this body means */
    bool is_own;     /* of one client alone: statement_own() */
    uint32_t signs;  /* of its text (proto/sql.h): they count whenever it is executed */
    uint64_t
        wanted; /* number of the newest Parse by a client: backends that prepared it earlier do so anew */
    size_t length;                   /* of the body */
    size_t key_length;               /* of the body and what stands behind it */
    char name[STATEMENT_NAME_BYTES]; /* on every backend */
    uint8_t body[];                  /* of Parse, behind the name: text, zero, types */
};

/* All statements of a process. */
struct statement_table {
    struct statement *by_body;
    size_t bytes; /* that the statements and the clients' names for them take */
    uint64_t last_number;
    uint64_t last_parse;
    uint64_t
        last_stale; /* what was prepared up to this Parse is not trusted: a plan's result type has changed */
    char prefix[20]; /* of our names: not to be guessed by clients */
};

/* Makes the prefix from random bytes that the caller has. */
void statement_table_init(struct statement_table *table, uint64_t random);
/* The statement of this body, with a reference for the caller.  `under` are the settings in force, as text: literals get
 * their meaning when they are parsed (a time without a zone), so a text under others is another statement. */
struct statement *statement_intern(struct statement_table *table, const uint8_t *body,
                                   size_t length, const void *under, size_t under_length);
/* One that nobody else will get, for it is read under settings that cannot be told; with a reference for the caller. */
struct statement *statement_own(struct statement_table *table, const uint8_t *body, size_t length);
/* The same body under a new name: the old one's plan may be in use. */
struct statement *statement_renew(struct statement_table *table, struct statement *old);
void statement_drop(struct statement_table *table, struct statement *statement);

/* One name of a client. */
struct client_statement {
    UT_hash_handle hh;
    struct statement *statement;
    char name[];
};

/* The client's unnamed statement as it is, or as a message on its way will make it. */
struct unnamed {
    TAILQ_ENTRY(unnamed) link;
    uint32_t signs;
    bool was_there; /* the backend had the one before it */
    size_t length;  /* 0: there is none */
    size_t capacity;
    uint8_t *body; /* of Parse, behind the name */
};
TAILQ_HEAD(unnamed_list, unnamed);

struct backend_statements;

/* A client's names.  Former ones are known a while longer, for errors that are on their way may speak of them. */
struct client_statements {
    struct client_statement *by_name;
    size_t bytes;                    /* of their texts */
    struct client_statement *former; /* the same, by the statement's address */
    struct unnamed *unnamed;         /* as the server has confirmed it; may be NULL */
    struct unnamed *spare;
    struct unnamed_list pending;
    size_t pending_bytes; /* that `pending` owns */
};

void client_statements_init(struct client_statements *map);
/* A Parse (with a body), or a Close (NULL), of the unnamed statement has been sent; `was_there`: the backend has the one
 * before it, should this one be skipped. */
void unnamed_sent(struct client_statements *map, const uint8_t *body, size_t length, uint32_t signs,
                  bool was_there);
/* The first of these has been answered: it holds, or, when it `failed`, there is none. */
void unnamed_answered(struct client_statements *map, bool has_failed);
/* The first of these was skipped.  Whether the backend has the one before it. */
bool unnamed_undone(struct client_statements *map);
/* A simple query drops it. */
void unnamed_dropped(struct client_statements *map);
/* What a message sent now would meet; NULL when there is none. */
const struct unnamed *unnamed_current(const struct client_statements *map);

/* NULL when the client has no such name. */
struct statement *client_statement_find(const struct client_statements *map, const char *name,
                                        size_t length);
/* The name by which the client knows the statement of this name of ours; NULL when it does not. */
const char *client_statement_name(const struct client_statements *map, const char *name,
                                  size_t length);
/* Takes a reference of its own. */
void client_statement_add(struct statement_table *table, struct client_statements *map,
                          const char *name, size_t length, struct statement *statement);
/* The name becomes a former one. */
void client_statement_remove(struct statement_table *table, struct client_statements *map,
                             const char *name, size_t length);
/* Nothing is on its way any more that may speak of former names. */
void client_statements_forget_former(struct statement_table *table, struct client_statements *map);
void client_statements_clear(struct statement_table *table, struct client_statements *map);
/* DEALLOCATE ALL: names go, but for those that a message behind it makes. */
void client_statements_deallocated(struct statement_table *table, struct client_statements *map,
                                   const struct backend_statements *backend);
void client_statements_free(struct statement_table *table, struct client_statements *map);

/* A statement on a backend. */
struct backend_statement {
    UT_hash_handle hh; /* by the statement's address */
    TAILQ_ENTRY(backend_statement) link;
    struct statement *statement;
    uint64_t parsed; /* the table's last_parse when it was prepared */
};
TAILQ_HEAD(backend_statement_list, backend_statement);

enum expected_kind {
    EXPECT_PARSE,        /* ours: the statement is on the backend, or not after all */
    EXPECT_CLIENT_PARSE, /* the client's: it also has a name for it */
    EXPECT_CLIENT_CLOSE, /* the client's name is gone, or still there after all */
    EXPECT_EVICTION,     /* ours: the statement is gone from the backend */
    EXPECT_ERROR         /* the client's Parse of a name that it has: the server will refuse it */
};

struct expected {
    TAILQ_ENTRY(expected) link;
    enum expected_kind kind;
    struct statement *statement;
    uint64_t before; /* when the backend had prepared it before; 0: it had not */
    size_t name_length;
    char name[]; /* the client's */
};
TAILQ_HEAD(expected_list, expected);

/* What is prepared on a backend. */
struct backend_statements {
    struct backend_statement *by_statement;
    struct backend_statement_list used; /* least recently used first */
    int count;
    struct expected_list expected;
    size_t
        parse_bytes; /* of the texts of clients' Parses in it: what else it holds others hold too */
};

void backend_statements_init(struct backend_statements *map);
/* The statement there, which becomes the most recently used; NULL when it is not. */
struct backend_statement *backend_statement_use(struct backend_statements *map,
                                                const struct statement *statement);
/* Whether it was prepared after every client's Parse of it: a table may have changed in between, and who prepares after
 * that must not meet the plan from before. */
static inline bool backend_statement_is_fresh(const struct backend_statement *there,
                                              const struct statement_table *table)
{
    return there->parsed >= there->statement->wanted && there->parsed >= table->last_stale;
}
/* It is prepared now, perhaps anew. */
void backend_statement_add(const struct statement_table *table, struct backend_statements *map,
                           struct statement *statement);
void backend_statement_remove(struct statement_table *table, struct backend_statements *map,
                              struct statement *statement);
/* The least recently used one, or NULL. */
struct statement *backend_statement_oldest(const struct backend_statements *map);
/* Everything is gone from the backend: DISCARD ALL, DEALLOCATE ALL, or its end. */
void backend_statements_clear(struct statement_table *table, struct backend_statements *map);

/* DEALLOCATE ALL: likewise. */
void backend_statements_deallocated(struct statement_table *table, struct backend_statements *map);

/* A message that was sent assumes this; `name` may be NULL. */
void expect_answer(struct backend_statements *map, enum expected_kind kind,
                   struct statement *statement, const char *name, size_t name_length);
/* The server has answered the first of what is expected as assumed. */
void expected_confirm(struct statement_table *table, struct backend_statements *map);
/* The server skips the first `count` of them (the first may have failed itself, then what it was to replace is gone): takes back what was assumed, the last one first.  `client` may be NULL: it
 * has left. */
void expected_undo(struct statement_table *table, struct backend_statements *map,
                   struct client_statements *client, int count, bool first_has_failed);
/* Whether an answer to a Parse of ours is still due that decides whether the backend has the statement. */
bool expected_decides_statement(const struct backend_statements *map,
                                const struct statement *statement);
/* Whether an answer is still due that decides about this name of the client's; with `only_close`, whether it is gone. */
bool expected_decides(const struct backend_statements *map, const char *name, size_t length,
                      bool only_close);

#endif
