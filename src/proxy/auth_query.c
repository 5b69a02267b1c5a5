/*
 * auth_query.c - whom the users file does not know, the upstream is asked for: the questions, and who waits for them.
 *
 * PgBouncer's auth_query: a query that gives the password of a name, run as auth_user.  One question a name at a time in
 * each pool: clients who ask for the same share it.  There are as many questions as there are clients at the door at most
 * (max_logins); they are asked one after another on one connection (asker.c).
 *
 * Each login asks, for a login to PostgreSQL itself sees a changed password, a dropped role, an expired password at once too.
 * What was answered last stands in only for who has waited PATIENCE_US, and not for long (policy/auth_cache.h); a proof that
 * fails against such an answer is not the last word: md5 and clear responses are held against a fresh one, and SCRAM's, which
 * is bound to the salt that it was asked with, takes the answer out of the cache, so that the next try meets a fresh one.
 *
 * Who is nobody there (no such role, no password, expired) goes through the same exchange as whom the users file does not know
 * when there is no auth_query.  What went wrong stands in the log alone; the client is told only that it could not be asked.
 */
#include "proxy/auth_query.h"

#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "policy/auth_cache.h"
#include "proto/sqlstate.h"
#include "proxy/events.h"
#include "proxy/login.h"

#define PATIENCE_US CLOCK_S /* more than a login and a question to a far upstream take */

/* ---- where to ask ---- */

bool auth_query_is_needed(const struct client *client)
{
    const struct proxy *proxy = client->proxy;
    const struct config_database *database = client->pool ? auth_database(client) : NULL;
    if (!proxy->config->auth_query || !database || !client->pool->config)
        return false; /* the console's users are the users file's: it needs no backend */
    return proxy->users ? !users_has(proxy->users, client->user)
                        : !auth_own_password(database, client->user);
}

static struct asker *asker_of(const struct client *client)
{
    const struct proxy *proxy = client->proxy;
    const struct config *config = proxy->config;
    const struct config_database *database = auth_database(client);
    const char *name = config->auth_dbname ? config->auth_dbname : database->dbname;
    const char *password = auth_own_password(database, config->auth_user);
    if (!name)
        name = strcmp(database->name, "*") == 0 ? "postgres" : database->name;
    if (!password)
        password = auth_plain_password(proxy, config->auth_user);
    return proxy_asking_lane(client->pool, database, name, config->auth_user, password)->asker;
}

/* ---- questions ---- */

static struct auth_question *question_of(struct asker *asker, const struct client *client)
{
    struct auth_question *question;
    TAILQ_FOREACH (question, &asker->questions, link) {
        if (!question->is_outdated && strcmp(question->name, client->user) == 0)
            return question;
    }
    question = memory_alloc(sizeof(*question));
    TAILQ_INIT(&question->lookups);
    question->name = memory_strdup(client->user);
    question->key = memory_printf("%s\n%s", asker->lane->section, client->user);
    question->since_us = client->proxy->now_us;
    TAILQ_INSERT_TAIL(&asker->questions, question, link);
    return question;
}

void auth_question_free(struct auth_question *question)
{
    free(question->name);
    free(question->key);
    free(question->failure);
    memory_free_secret(question->secret);
    free(question);
}

static void join(struct auth_lookup *lookup)
{
    struct asker *asker = asker_of(lookup->client);
    lookup->question = question_of(asker, lookup->client);
    free(lookup->key);
    lookup->key = memory_strdup(lookup->question->key);
    TAILQ_INSERT_TAIL(&lookup->question->lookups, lookup, link);
    asker_wake(asker);
}

static void part(struct auth_lookup *lookup)
{
    if (lookup->question)
        TAILQ_REMOVE(&lookup->question->lookups, lookup, link);
    lookup->question = NULL;
}

void auth_query_begin(struct client *client, enum auth_method method)
{
    struct auth_lookup *lookup = memory_alloc(sizeof(*lookup));
    lookup->client = client;
    lookup->method = (uint8_t)method;
    client->lookup = lookup;
    join(lookup);
}

bool auth_query_is_open(const struct client *client)
{
    return client->lookup && client->lookup->question;
}

bool auth_query_ask_anew(struct client *client, uint8_t step, const char *response)
{
    struct auth_lookup *lookup = client->lookup;
    if (!lookup || !lookup->is_from_cache || !client->proxy->config->auth_query ||
        !client->pool->config)
        return false;
    lookup->is_from_cache = false;
    lookup->wants_fresh = true;
    lookup->step = step;
    lookup->response = memory_strdup(response);
    memory_free_secret(lookup->secret);
    lookup->secret = NULL;
    join(lookup);
    return true;
}

void auth_query_distrust(struct client *client)
{
    if (client->lookup && client->lookup->is_from_cache)
        auth_cache_forget(client->proxy->auth_cache, client->lookup->key);
}

void auth_query_leave(struct client *client)
{
    struct auth_lookup *lookup = client->lookup;
    if (!lookup)
        return;
    client->lookup = NULL;
    part(lookup);
    memory_free_secret(lookup->secret);
    memory_free_secret(lookup->response);
    free(lookup->key);
    free(lookup);
}

/* ---- answers ---- */

static void answer(struct auth_lookup *lookup, const char *secret, bool is_from_cache)
{
    part(lookup);
    lookup->secret = memory_strdup(secret);
    lookup->is_from_cache = is_from_cache;
    auth_answered(lookup->client);
}

void auth_question_answered(struct asker *asker, struct auth_question *question)
{
    struct auth_lookup *lookup;
    TAILQ_REMOVE(&asker->questions, question, link);
    if (!question->is_outdated)
        auth_cache_put(asker->lane->pool->proxy->auth_cache, question->key, question->secret,
                       question->sent_us);
    while ((lookup = TAILQ_FIRST(&question->lookups)))
        answer(lookup, question->secret, false);
    auth_question_free(question);
}

static void tell_failure(struct client *client, enum auth_failure failure)
{
    static const struct {
        const char *sqlstate;
        const char *reason;
    } words[] = {
        [AUTH_FAILURE_UPSTREAM] = {SQLSTATE_CANNOT_CONNECT, "no connection to the upstream"},
        [AUTH_FAILURE_FULL] = {SQLSTATE_TOO_MANY_CONNECTIONS, "no connection was free in time"},
        [AUTH_FAILURE_QUERY] = {SQLSTATE_CONFIG_FILE_ERROR, "auth_query failed"},
        [AUTH_FAILURE_TIME] = {SQLSTATE_QUERY_CANCELED, "auth_query took too long"},
    };
    char *text =
        memory_printf("could not look up user \"%s\": %s", client->user, words[failure].reason);
    client_fatal(client, words[failure].sqlstate, text, NULL, "The log of pgreserve says why.");
    free(text);
}

void auth_question_give_up(struct asker *asker, struct auth_question *question,
                           enum auth_failure failure, const char *why)
{
    struct auth_lookup *lookup;
    question->is_outdated = true;
    if (why)
        log_event(LOG_LEVEL_WARNING, "auth_query failed",
                  LOG_FIELD_TEXT("pool", asker->lane->pool->name),
                  LOG_FIELD_TEXT("database", asker->lane->database),
                  LOG_FIELD_TEXT("auth_user", asker->lane->user),
                  LOG_FIELD_TEXT("user", question->name), LOG_FIELD_KIND("reason", why));
    while ((lookup = TAILQ_FIRST(&question->lookups))) {
        part(lookup);
        tell_failure(lookup->client, failure);
    }
}

void auth_question_failed(struct asker *asker, struct auth_question *question,
                          enum auth_failure failure, const char *why)
{
    TAILQ_REMOVE(&asker->questions, question, link);
    auth_question_give_up(asker, question, failure, why);
    auth_question_free(question);
}

/* ---- time ---- */

/* Who has waited long enough gets what was answered last, if that is not too old. */
static void answer_from_cache(struct proxy *proxy, struct auth_question *question)
{
    struct auth_lookup *next;
    const char *secret;
    if (proxy->now_us - question->since_us < PATIENCE_US)
        return;
    if (!question->is_late) {
        question->is_late =
            true; /* after a pause of the whole process its answer may be there to be read */
        return;
    }
    for (struct auth_lookup *lookup = TAILQ_FIRST(&question->lookups); lookup; lookup = next) {
        next = TAILQ_NEXT(lookup, link);
        if (lookup->wants_fresh)
            continue;
        if (auth_cache_find(proxy->auth_cache, question->key, proxy->now_us, &secret) ==
            AUTH_CACHE_NOTHING)
            return;
        answer(lookup, secret, true);
    }
}

void auth_query_tick(struct proxy *proxy)
{
    for (struct lane *lane = proxy->lanes; lane; lane = lane->hh.next) {
        struct auth_question *question;
        if (!lane->asker)
            continue;
        TAILQ_FOREACH (question, &lane->asker->questions, link) {
            if (!question->is_outdated)
                answer_from_cache(proxy, question);
        }
        asker_tick(lane->asker);
    }
}

void auth_query_reloaded(struct proxy *proxy)
{
    auth_cache_clear(proxy->auth_cache);
    for (struct lane *lane = proxy->lanes; lane; lane = lane->hh.next) {
        struct auth_question *question;
        if (!lane->asker)
            continue;
        TAILQ_FOREACH (question, &lane->asker->questions, link)
            question->is_outdated = true;
    }
}

const struct client *auth_query_first_client(const struct asker *asker)
{
    const struct auth_question *question;
    TAILQ_FOREACH (question, &asker->questions, link) {
        if (!TAILQ_EMPTY(&question->lookups))
            return TAILQ_FIRST(&question->lookups)->client;
    }
    return NULL;
}

bool auth_query_waits_in_vain(const struct client *client)
{
    if (!auth_query_is_open(client))
        return false;
    for (const struct lane *lane = client->proxy->lanes; lane; lane = lane->hh.next) {
        const struct auth_question *question;
        if (!lane->asker || lane->pool != client->pool || !pool_lane_is_dead(&lane->lane))
            continue;
        TAILQ_FOREACH (question, &lane->asker->questions, link) {
            if (question == client->lookup->question)
                return true;
        }
    }
    return false;
}
