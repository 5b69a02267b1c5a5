/*
 * probe.c - what kind of upstream a fresh connection leads to (contract 12).
 *
 * A pooler in transaction mode breaks whatever outlives a transaction: settings, prepared statements, LISTEN.  The signs:
 *
 *   - the process that answers is not the one that the login announced: some pooler;
 *   - a setting made in one transaction is gone in the next, or another process answers: transaction mode;
 *   - two live connections of ours are answered by the same process, which neither login announced: transaction mode.
 *     This finds a pooler that is idle, and so gives us the same process again and again.  (Process numbers alone prove
 *     nothing: behind a load balancer two servers may use the same.)
 *   - DISTINCT live connections are answered by as many processes: session mode.  Two are not enough: a pooler that gets
 *     two logins at once may well start two processes for them, and let the second connection have the newer one.
 *
 * The questions are asked while the connection is still libpq's, at the end of its login, when no client waits for
 * it, and of each upstream only until the answer is known, at most PROBES_MAX times.  One connection after the other, or a
 * pooler would have opened more processes and the third sign would be left to chance: so the next logins of a start-up are
 * held until the first has its answers, unless a client wants them.  The setting, geqo_seed, is anybody's to set and
 * changes nothing by itself; it is put back.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "base/process.h"
#include "proxy/events.h"
#include "proxy/login_guard.h"
#include "proxy/upstream.h"

#define DISTINCT 3

enum probe_step { PROBE_SET, PROBE_LOOK, PROBE_RESET };

struct probe {
    enum probe_step step;
    double seed;
    int first_pid;
    int second_pid;
    double seen;
};

static void on_probe_event(evutil_socket_t fd, short what, void *arg);

static void forget_held(struct proxy *proxy, const struct server *server)
{
    size_t kept = 0;
    for (size_t i = 0; i < proxy->probes_held_count; i++) {
        if (proxy->probes_held[i] != server)
            proxy->probes_held[kept++] = proxy->probes_held[i];
    }
    proxy->probes_held_count = kept;
}

void probe_free(struct server *server)
{
    forget_held(server->proxy, server);
    if (!server->probe)
        return;
    upstream_of(server->proxy, server->lane->section)->is_being_probed = false;
    free(server->probe);
    server->probe = NULL;
}

static bool watch(struct server *server, short what)
{
    if (server->has_login_event)
        event_del(&server->login_event);
    event_assign(&server->login_event, server->proxy->base, PQsocket(server->conn), what,
                 on_probe_event, server);
    server->has_login_event = event_add(&server->login_event, NULL) == 0;
    return server->has_login_event;
}

static bool ask(struct server *server)
{
    struct probe *probe = server->probe;
    char sql[160];
    switch (probe->step) {
    case PROBE_SET:
        snprintf(sql, sizeof(sql),
                 "SELECT pg_catalog.pg_backend_pid(), "
                 "pg_catalog.set_config('geqo_seed', '%.5f', false)",
                 probe->seed);
        break;
    case PROBE_LOOK:
        snprintf(sql, sizeof(sql),
                 "SELECT pg_catalog.pg_backend_pid(), pg_catalog.current_setting('geqo_seed')");
        break;
    case PROBE_RESET:
        snprintf(sql, sizeof(sql), "RESET geqo_seed");
        break;
    }
    if (!PQsendQuery(server->conn, sql))
        return false;
    int left = PQflush(server->conn);
    return left >= 0 && watch(server, left > 0 ? EV_READ | EV_WRITE : EV_READ);
}

bool probe_start(struct server *server)
{
    struct proxy *proxy = server->proxy;
    struct upstream *upstream = upstream_of(proxy, server->lane->section);
    bool is_known = upstream->kind != UPSTREAM_UNKNOWN && upstream->kind != UPSTREAM_POOLER;
    if (is_known || upstream->probes >= PROBES_MAX || server->lane->lane.waiting > 0)
        return false;
    if (upstream->is_being_probed) {
        if (proxy->probes_held_count == PROBES_MAX)
            return false;
        proxy->probes_held[proxy->probes_held_count++] = server;
        return true;
    }
    if (PQsetnonblocking(server->conn, 1) != 0)
        return false;
    server->probe = memory_alloc(sizeof(*server->probe));
    server->probe->seed = (double)(1 + proxy->now_us % 99998) / 100000;
    upstream->is_being_probed = true;
    if (ask(server))
        return true;
    probe_free(server);
    return false;
}

static struct server *next_held(const struct proxy *proxy)
{
    for (size_t i = 0; i < proxy->probes_held_count; i++) {
        struct server *held = proxy->probes_held[i];
        if (held->lane->lane.waiting > 0 ||
            !upstream_of(held->proxy, held->lane->section)->is_being_probed)
            return held;
    }
    return NULL;
}

void probe_release(struct proxy *proxy)
{
    struct server *held;
    while ((held = next_held(proxy))) {
        forget_held(proxy, held);
        if (!probe_start(held))
            server_login_probed(held);
    }
}

/* ---- what the answers mean ---- */

static bool is_shared(const struct server *server)
{
    const struct server *other;
    TAILQ_FOREACH (other, &server->proxy->servers, link) {
        if (other != server && other->is_streaming && other->real_pid == server->real_pid &&
            strcmp(other->lane->section, server->lane->section) == 0)
            return true;
    }
    return false;
}

static int probed_siblings(const struct server *server)
{
    const struct server *other;
    int count = 0;
    TAILQ_FOREACH (other, &server->proxy->servers, link) {
        if (other != server && other->is_streaming && other->real_pid != 0 &&
            strcmp(other->lane->section, server->lane->section) == 0)
            count++;
    }
    return count;
}

static enum upstream_kind judge(const struct server *server)
{
    const struct probe *probe = server->probe;
    if (probe->first_pid != probe->second_pid || fabs(probe->seed - probe->seen) > 1e-6)
        return UPSTREAM_TRANSACTION_POOLER;
    if (probe->first_pid == PQbackendPID(server->conn))
        return UPSTREAM_SERVER;
    if (is_shared(server))
        return UPSTREAM_TRANSACTION_POOLER;
    return probed_siblings(server) + 1 >= DISTINCT ? UPSTREAM_SESSION_POOLER : UPSTREAM_POOLER;
}

static void report(const struct server *server, enum upstream_kind kind)
{
    if (kind == UPSTREAM_TRANSACTION_POOLER)
        log_server(LOG_LEVEL_WARNING, server, "upstream is a pooler in transaction mode",
                   LOG_FIELD_TEXT("consequence", "settings, prepared statements, LISTEN, temporary "
                                                 "tables and locks do not survive a transaction "
                                                 "there, whatever pgreserve does"),
                   LOG_FIELD_TEXT("hint", "connect to PostgreSQL itself, or to the pooler's "
                                          "session mode (Supabase: port 5432 instead of 6543)"));
    else if (kind == UPSTREAM_SESSION_POOLER)
        log_server(LOG_LEVEL_INFO, server, "upstream is a pooler in session mode",
                   LOG_FIELD_TEXT("hint", "its own limit for this role and database caps "
                                          "total_connections"));
}

static void finish(struct server *server, bool is_complete)
{
    struct upstream *upstream = upstream_of(server->proxy, server->lane->section);
    if (is_complete) {
        enum upstream_kind kind = judge(server);
        upstream->probes++;
        upstream->kind = kind;
        report(server, kind);
    }
    probe_free(server);
    event_del(&server->login_event);
    server->has_login_event = false;
    server_login_probed(server);
    probe_release(server->proxy);
}

static bool take_result(struct probe *probe, const PGresult *result)
{
    if (probe->step == PROBE_RESET)
        return PQresultStatus(result) == PGRES_COMMAND_OK;
    if (PQresultStatus(result) != PGRES_TUPLES_OK || PQntuples(result) != 1 ||
        PQnfields(result) != 2)
        return false;
    int pid = atoi(PQgetvalue(result, 0, 0));
    if (probe->step == PROBE_SET) {
        probe->first_pid = pid;
    } else {
        probe->second_pid = pid;
        probe->seen = strtod(PQgetvalue(result, 0, 1), NULL);
    }
    return true;
}

/* The answer to a step is in: the next one, unless it was refused or a client waits for the connection by now. */
static void advance(struct server *server, bool is_ok)
{
    struct probe *probe = server->probe;
    if (is_ok && probe->step == PROBE_SET)
        server->real_pid = probe->first_pid;
    if (!is_ok || probe->step == PROBE_RESET) {
        finish(server, is_ok);
        return;
    }
    probe->step++;
    if (server->lane->lane.waiting > 0) {
        server->is_dirty = true; /* reset after that client */
        finish(server, probe->step == PROBE_RESET);
    } else if (!ask(server)) {
        server_login_failed(server, PQerrorMessage(server->conn));
    }
}

enum answers { ANSWERS_FAILED, ANSWERS_AWAITED, ANSWERS_IN };

/* Reads what is there.  `left` is what PQflush() says, `is_ok` whether all that came was what was asked for. */
static enum answers read_answers(struct server *server, short what, int *left, bool *is_ok)
{
    PGresult *result;
    if ((what & EV_READ) && !PQconsumeInput(server->conn))
        return ANSWERS_FAILED;
    *left = PQflush(server->conn);
    if (*left < 0)
        return ANSWERS_FAILED;
    do {
        if (PQisBusy(server->conn))
            return ANSWERS_AWAITED;
        result = PQgetResult(server->conn);
        *is_ok = *is_ok && (!result || take_result(server->probe, result));
        PQclear(result);
    } while (result);
    return PQstatus(server->conn) == CONNECTION_BAD ? ANSWERS_FAILED : ANSWERS_IN;
}

static void on_probe_event(evutil_socket_t fd, short what, void *arg)
{
    struct server *server = arg;
    int left = 0;
    bool is_ok = true;
    (void)fd;
    server->proxy->now_us = clock_now_us();
    if (!login_guard_is_brief(server)) {
        server_login_failed(server, LOGIN_GUARD_TOO_MUCH);
        return;
    }
    struct rlimit before = process_may_grow(LOGIN_GUARD_GROWTH_MAX);
    enum answers answers = read_answers(server, what, &left, &is_ok);
    process_may_grow_freely(&before);
    if (answers == ANSWERS_FAILED)
        server_login_failed(server, PQerrorMessage(server->conn));
    else if (answers == ANSWERS_AWAITED)
        watch(server, left > 0 ? EV_READ | EV_WRITE : EV_READ);
    else
        advance(server, is_ok);
}
