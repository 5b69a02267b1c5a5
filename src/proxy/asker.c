/*
 * asker.c - the connection on which auth_query is asked.
 *
 * It is a lane of the pool whose client wants to know, with a backend like any other, so that all that holds for a backend
 * holds for it: the budget, the pool's queue and its timeout, pings before use, recycle, DISPOSE, an upgrade, and the server's
 * EOF before its place is free.  That pool pays, and no other: a crowd at one port must not use up what another
 * has reserved, and who may log in to a pool is asked for with a connection that is the pool's own.  In the pool's queue
 * stands one waiter for all its questions, so that there is one connection; between questions it is idle, gives way to
 * clients who need its place, and is closed after KEPT_US.
 *
 * libpq logs in, as auth_user and with settings of its own (server_login.c).  The questions then are the bytes of
 * PQsendQueryParams, written to the backend's stream and read by proto/auth_row.c, not by libpq: libpq would keep a row of
 * any length, and could not wait for the server's EOF when the connection goes.
 */
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "proto/auth_row.h"
#include "proto/build.h"
#include "proto/scram.h"
#include "proto/sqlstate.h"
#include "proxy/auth_query.h"
#include "proxy/cancel.h"
#include "proxy/events.h"

#define KEPT_US         (30 * CLOCK_S)
#define LONGEST_US      (15 * CLOCK_S) /* of a question, where login_timeout is off */
#define CANCEL_GRACE_US (3 * CLOCK_S)  /* what is cancelled should have ended by then */

struct asker *asker_new(struct lane *lane)
{
    struct asker *asker = memory_alloc(sizeof(*asker));
    asker->lane = lane;
    TAILQ_INIT(&asker->questions);
    return asker;
}

void asker_free(struct asker *asker)
{
    struct auth_question *question;
    if (!asker)
        return;
    if (asker->waiter.lane)
        pool_wait_end(&asker->waiter);
    while ((question = TAILQ_FIRST(&asker->questions))) {
        TAILQ_REMOVE(&asker->questions, question, link);
        auth_question_free(question);
    }
    free(asker);
}

bool asker_is_used(const struct asker *asker)
{
    return asker->server || asker->waiter.lane || !TAILQ_EMPTY(&asker->questions);
}

/* ---- the connection ---- */

static void fail_all(struct asker *asker, enum auth_failure failure, const char *why)
{
    struct auth_question *question;
    while ((question = TAILQ_FIRST(&asker->questions)))
        auth_question_failed(asker, question, failure, why);
}

/* Those whose clients have all gone need not be asked. */
static void drop_unwanted(struct asker *asker)
{
    struct auth_question *question;
    struct auth_question *next;
    for (question = TAILQ_FIRST(&asker->questions); question; question = next) {
        next = TAILQ_NEXT(question, link);
        if (!TAILQ_EMPTY(&question->lookups) || question->sent_us > 0)
            continue;
        TAILQ_REMOVE(&asker->questions, question, link);
        auth_question_free(question);
    }
}

static void wait_in_queue(struct asker *asker)
{
    drop_unwanted(asker);
    if (!TAILQ_EMPTY(&asker->questions) && !asker->server && !asker->waiter.lane)
        pool_wait(&asker->waiter, &asker->lane->lane, asker->lane->pool->proxy->now_us);
}

static void let_go(struct asker *asker)
{
    struct server *server = asker->server;
    asker->server = NULL;
    server->asker = NULL;
    if (server->outstanding.is_confused || server->said_fatal) {
        server_close(server, "its answer to auth_query cannot be read");
        return;
    }
    server->is_dirty |= server->status != 'I';
    server_release(server);
}

static void ask(struct asker *asker, struct auth_question *question)
{
    static const char sent[] = "PBDES";
    struct proxy *proxy = asker->lane->pool->proxy;
    struct server *server = asker->server;
    struct buffer message = {0};
    question->sent_us = proxy->now_us;
    asker->is_asking = true;
    asker->was_cancelled = false;
    server->request_us = proxy->now_us;
    auth_row_question(&message, proxy->config->auth_query, question->name);
    for (const char *type = sent; *type; type++)
        outstanding_sent(&server->outstanding, (uint8_t)*type);
    stream_write_buffer(&server->stream, &message);
}

static void ask_next(struct asker *asker)
{
    drop_unwanted(asker);
    if (!asker->lane->pool->proxy->config->auth_query)
        fail_all(asker, AUTH_FAILURE_QUERY, "a reload has taken auth_query away");
    struct auth_question *question = TAILQ_FIRST(&asker->questions);
    if (question)
        ask(asker, question);
    else
        let_go(asker);
}

void asker_granted(struct asker *asker, struct server *server)
{
    asker->server = server;
    server->asker = asker;
    ask_next(asker);
}

void asker_wake(struct asker *asker)
{
    struct lane *lane = asker->lane;
    if (asker->server || asker->waiter.lane || TAILQ_EMPTY(&asker->questions))
        return;
    struct pool_backend *backend = pool_acquire(&lane->lane, lane->pool->proxy->now_us);
    if (backend) {
        asker_granted(asker, (struct server *)backend);
        return;
    }
    wait_in_queue(asker);
    proxy_run_pool(lane->pool);
}

void asker_timed_out(struct asker *asker)
{
    fail_all(asker, AUTH_FAILURE_FULL, "no connection was free within the pool's timeout");
}

void asker_upstream_failed(struct asker *asker)
{
    fail_all(asker, AUTH_FAILURE_UPSTREAM,
             asker->lane->error ? asker->lane->error : "no connection to the upstream");
}

static void forget_answer(struct auth_question *question)
{
    question->sent_us = 0;
    question->has_columns = false;
    question->rows = 0;
    free(question->failure);
    question->failure = NULL;
    memory_free_secret(question->secret);
    question->secret = NULL;
}

/* What it was asked is asked once more on another connection: it may have been dead before. */
void asker_lost(struct server *server)
{
    struct asker *asker = server->asker;
    struct auth_question *question = TAILQ_FIRST(&asker->questions);
    asker->server = NULL;
    server->asker = NULL;
    if (asker->is_asking && question) {
        asker->is_asking = false;
        forget_answer(question);
        if (question->was_retried || asker->was_cancelled)
            auth_question_failed(asker, question, AUTH_FAILURE_UPSTREAM,
                                 "the connection was lost while it was asked");
        else
            question->was_retried = true;
    }
    wait_in_queue(asker);
}

/* ---- the answer ---- */

static void note_failure(struct auth_question *question, char *failure)
{
    if (question->failure)
        free(failure); /* the first says most */
    else
        question->failure = failure;
}

/* The server's words may quote what it stumbled over, and that may be a password (class 22: data exceptions). */
static void take_error(struct auth_question *question, const uint8_t *body, size_t length)
{
    const char *sqlstate = error_field(body, length, 'C');
    const char *message = error_field(body, length, 'M');
    bool may_quote = !sqlstate || strncmp(sqlstate, "22", 2) == 0;
    if (sqlstate && strcmp(sqlstate, SQLSTATE_CHARACTER_NOT_IN_REPERTOIRE) == 0) {
        question->has_columns = true; /* the name is no text: no role has it */
        return;
    }
    note_failure(question, memory_printf("%s (SQLSTATE %.5s)",
                                         !may_quote && message ? message : "an error while it ran",
                                         sqlstate ? sqlstate : "?????"));
}

static void warn(const struct auth_question *question, const char *what)
{
    log_event(LOG_LEVEL_WARNING, "auth_query: nobody is let in by this answer",
              LOG_FIELD_TEXT("user", question->name), LOG_FIELD_KIND("reason", what));
}

static void take_row(struct auth_question *question, const uint8_t *body, size_t length)
{
    char secret[AUTH_ROW_SECRET_MAX + 1];
    struct scram_verifier verifier;
    if (++question->rows > 1) {
        note_failure(question, memory_strdup("it gives more than one row"));
        return;
    }
    switch (auth_row_take(body, length, question->name, secret)) {
    case AUTH_ROW_BAD:
        note_failure(question, memory_strdup("its row cannot be read, or is too long"));
        break;
    case AUTH_ROW_OTHER:
        warn(question, "it is another user's");
        break;
    case AUTH_ROW_NULL:
        break;
    case AUTH_ROW_SECRET:
        if (scram_is_secret(secret) && !scram_verifier_parse(&verifier, secret))
            warn(question, "its SCRAM verifier is malformed");
        else
            question->secret = memory_strdup(secret);
        explicit_bzero(secret, sizeof(secret));
        explicit_bzero(&verifier, sizeof(verifier));
        break;
    }
}

void asker_message(struct server *server, uint8_t type, uint8_t *body, size_t length)
{
    struct asker *asker = server->asker;
    struct auth_question *question = TAILQ_FIRST(&asker->questions);
    const char *reason;
    if (!asker->is_asking || !question)
        return;
    switch (type) {
    case 'T':
        question->has_columns = true;
        reason = auth_row_columns(body, length);
        if (reason)
            note_failure(question, memory_strdup(reason));
        break;
    case 'D':
        take_row(question, body, length);
        explicit_bzero(body, length); /* or the buffer would keep it */
        break;
    case 'E':
        take_error(question, body, length);
        break;
    default:
        break;
    }
}

void asker_settled(struct server *server)
{
    struct asker *asker = server->asker;
    struct auth_question *question = TAILQ_FIRST(&asker->questions);
    if (!asker->is_asking || !question)
        return;
    asker->is_asking = false;
    if (!question->has_columns)
        note_failure(question, memory_strdup("it gives no result"));
    if (question->failure) {
        char *why = question->failure;
        question->failure = NULL;
        auth_question_failed(asker, question, AUTH_FAILURE_QUERY,
                             asker->was_cancelled ? NULL : why);
        free(why);
    } else {
        auth_question_answered(asker, question);
    }
    if (asker->server != server)
        return;
    if (server->cancels > 0 || server->status != 'I' || server->outstanding.is_confused ||
        server->said_fatal || asker->lane->lane.generation != server->backend.generation) {
        let_go(asker);
        asker_wake(asker);
    } else {
        ask_next(asker);
    }
}

/* ---- time ---- */

static int64_t longest_us(const struct asker *asker)
{
    const struct config_pool *pool = asker->lane->pool->config;
    return pool && pool->login_timeout_us > 0 ? pool->login_timeout_us : LONGEST_US;
}

static void close_unused(struct asker *asker)
{
    int64_t now_us = asker->lane->pool->proxy->now_us;
    struct pool_backend *backend;
    struct pool_backend *next;
    for (backend = TAILQ_FIRST(&asker->lane->lane.backends[BACKEND_IDLE]); backend;
         backend = next) {
        next = TAILQ_NEXT(backend, link);
        if (now_us - backend->used_us > KEPT_US)
            server_close((struct server *)backend, "auth_query is not asked any more");
    }
}

void asker_tick(struct asker *asker)
{
    drop_unwanted(asker);
    struct auth_question *question = TAILQ_FIRST(&asker->questions);
    int64_t asked_us =
        question && asker->is_asking ? asker->lane->pool->proxy->now_us - question->sent_us : 0;
    if (asker->waiter.lane && TAILQ_EMPTY(&asker->questions))
        pool_wait_end(&asker->waiter);
    if (!asker->server) {
        close_unused(asker);
    } else if (asker->was_cancelled) {
        if (asked_us > longest_us(asker) + CANCEL_GRACE_US)
            server_close(asker->server, "auth_query does not end");
    } else if (asked_us > longest_us(asker)) {
        asker->was_cancelled = true;
        cancel_server(asker->server);
        auth_question_give_up(asker, question, AUTH_FAILURE_TIME,
                              "it takes longer than login_timeout");
    }
}
