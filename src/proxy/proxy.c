/*
 * proxy.c - the whole: pools made from the configuration, the tick, signals, reload and stop.
 *
 * What a pool should do is decided in policy/pool.c; here it is done.  Time that matters to the millisecond (waiters,
 * overflow) and time that does not (recycle, pings, timeouts) are both looked at by one tick of 100 ms, which
 * becomes 20 ms while somebody waits.  It does not look at everybody: idle clients take turns.
 */
#include "proxy/listener.h"
#include "proxy/login.h"
#include "proxy/proxy.h"
#include "proxy/upstream.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "base/log.h"
#include "base/memory.h"
#include "policy/auth_cache.h"
#include "proto/sqlstate.h"
#include "proxy/auth_query.h"
#include "proxy/client_query.h"
#include "proxy/control.h"
#include "proxy/upgrade.h"

#define TICK_US         (100 * CLOCK_MS)
#define TICK_WAITING_US (20 * CLOCK_MS)
#define LAST_EOF_US     (2 * CLOCK_S)
#define SWEEP_LEAST     256 /* clients without a backend that a tick looks at */

struct grave {
    struct grave *next;
    void *object;
    void (*bury)(void *object);
};

/* ---- pools ---- */

static struct proxy_pool *pool_new(struct proxy *proxy, const struct config_pool *config)
{
    uint64_t seed = 0;
    if (proxy->pool_count >= BUDGET_POOLS_MAX)
        return NULL;
    if (getrandom(&seed, sizeof(seed), GRND_NONBLOCK) < 0)
        seed = (uint64_t)clock_now_us();
    struct proxy_pool *pool = memory_alloc(sizeof(*pool));
    pool->proxy = proxy;
    pool->index = proxy->pool_count;
    pool->config = config;
    pool->ceiling = UPSTREAM_NO_CEILING;
    pool->name = memory_strdup(config->name);
    struct pool_settings settings = reload_settings(config);
    pool_init(&pool->pool, &proxy->budget, pool->index, &settings, seed);
    pool_configure(&pool->pool, &settings, config->reserved);
    door_init(&pool->door, 2 + (unsigned)pool->index);
    proxy->pools[proxy->pool_count++] = pool;
    return pool;
}

struct proxy_pool *proxy_find_pool(struct proxy *proxy, const char *name)
{
    for (size_t i = 0; i < proxy->pool_count; i++) {
        if (strcmp(proxy->pools[i]->name, name) == 0)
            return proxy->pools[i];
    }
    return NULL;
}

/* ---- doing what the rules say ---- */

void proxy_granted(struct pool_waiter *waiter, struct server *server)
{
    if (server->lane->asker)
        asker_granted(server->lane->asker, server);
    else
        client_granted((struct client *)waiter, server);
}

/* Who waits, where it is no client. */
static struct asker *asker_of_lane(const struct pool_action *action)
{
    const struct lane *lane = action->lane->owner;
    return lane->asker;
}

static void perform(const struct pool_action *action)
{
    struct server *server = (struct server *)action->backend;
    struct client *client = (struct client *)action->waiter; /* unless an asker waits there */
    switch (action->kind) {
    case POOL_GRANT:
        proxy_granted(action->waiter, server);
        break;
    case POOL_PING:
        stats_count(server->lane->pool->stats.total, POOL_STAT_PINGS);
        server_ping(server);
        break;
    case POOL_OPEN:
        server_open(action->lane->owner);
        break;
    case POOL_CLOSE:
        server_close(server, action->reason);
        break;
    case POOL_TIMEOUT:
        if (asker_of_lane(action))
            asker_timed_out(asker_of_lane(action));
        else
            client_wait_timed_out(client);
        break;
    case POOL_NOTICE:
        if (!asker_of_lane(action))
            client_wait_notice(client, action->before);
        break;
    case POOL_NOTHING:
        break;
    }
}

void proxy_run_pool(struct proxy_pool *pool)
{
    struct pool_action action;
    if (pool->proxy->probes_held_count > 0 && pool->pool.waiting > 0)
        probe_release(pool->proxy);
    pool->runs_again = true;
    if (pool->is_running)
        return;
    pool->is_running = true;
    while (pool->runs_again) {
        pool->runs_again = false;
        while ((action = pool_next(&pool->pool, pool->proxy->now_us)).kind != POOL_NOTHING)
            perform(&action);
    }
    pool->is_running = false;
}

void proxy_stop_opening(struct proxy *proxy, bool is_stopping)
{
    for (size_t i = 0; i < proxy->pool_count; i++)
        proxy->pools[i]->pool.is_stopping = is_stopping;
}

void proxy_run_pools(struct proxy *proxy)
{
    /* reserved pools first: what has come free is theirs before anyone else's */
    for (size_t i = 0; i < proxy->pool_count; i++) {
        if (proxy_pool_is_reserved(proxy->pools[i]))
            proxy_run_pool(proxy->pools[i]);
    }
    for (size_t i = 0; i < proxy->pool_count; i++)
        proxy_run_pool(proxy->pools[i]);
}

/* ---- the end of a turn ---- */

void proxy_bury(struct proxy *proxy, void *object, void (*bury)(void *object))
{
    struct grave *grave = memory_alloc(sizeof(*grave));
    *grave = (struct grave){proxy->graves, object, bury};
    proxy->graves = grave;
    event_active(proxy->later_event, 0, 0);
}

void proxy_read_later(struct client *client)
{
    if (client->may_read_later || client->state == CLIENT_GONE || client->state == CLIENT_LEAVING)
        return;
    client->may_read_later = true;
    client->later_turn = client->proxy->later_turn;
    TAILQ_INSERT_TAIL(&client->proxy->later, client, later_link);
    event_active(client->proxy->later_event, 0, 0);
}

static void empty_graves(struct proxy *proxy)
{
    struct grave *grave;
    while ((grave = proxy->graves)) {
        proxy->graves = grave->next;
        grave->bury(grave->object);
        free(grave);
    }
}

/* Those put into the list meanwhile have to wait for the next turn.  Any of them may be gone before it is reached. */
static void on_later(evutil_socket_t fd, short what, void *arg)
{
    struct proxy *proxy = arg;
    struct client *client;
    uint32_t turn = proxy->later_turn++;
    (void)fd;
    (void)what;
    proxy->now_us = clock_now_us();
    while ((client = TAILQ_FIRST(&proxy->later)) && client->later_turn == turn) {
        TAILQ_REMOVE(&proxy->later, client, later_link);
        client->may_read_later = false;
        client_pump(client);
    }
    empty_graves(proxy);
}

/* ---- time ---- */

static void finish_stop(struct proxy *proxy)
{
    struct server *server;
    struct server *next;
    if (proxy->state == PROXY_STOPPING && proxy->now_us >= proxy->stop_us)
        proxy_stop(proxy, true);
    if (proxy->client_count > 0 && proxy->now_us < proxy->stop_us + LAST_EOF_US)
        return;
    for (server = TAILQ_FIRST(&proxy->servers); server; server = next) {
        next = TAILQ_NEXT(server, link);
        server_close(server, "shutdown");
    }
    if (TAILQ_EMPTY(&proxy->servers) || proxy->now_us >= proxy->stop_us + 2 * LAST_EOF_US)
        event_base_loopbreak(proxy->base);
}

/* Those who have a backend, of whom there are as many as the cap says, are looked at in every tick. */
static void sweep_holders(struct proxy *proxy)
{
    for (struct server *next, *server = TAILQ_FIRST(&proxy->servers); server; server = next) {
        next = TAILQ_NEXT(server, link);
        if (server->client)
            auth_sweep(server->client);
    }
}

/* Of the others, of whom there may be ten thousand that do nothing, a slice: each of them about once a second, and in every
 * tick while they are few.  With 9,000 idle clients the daemon takes 0.13 % of a core instead of 0.33 %, and 0.4 % instead
 * of 1.6 % while somebody waits. */
static void sweep_slice(struct proxy *proxy)
{
    int64_t since_us = proxy->now_us - proxy->swept_us;
    int64_t share =
        since_us >= CLOCK_S ? proxy->client_count : proxy->client_count * since_us / CLOCK_S + 1;
    int64_t left = share > SWEEP_LEAST ? share : SWEEP_LEAST;
    proxy->swept_us = proxy->now_us;
    if (left > proxy->client_count)
        left = proxy->client_count;
    for (; left > 0; left--) {
        struct client *client =
            proxy->sweep_next ? proxy->sweep_next : TAILQ_FIRST(&proxy->clients);
        if (!client)
            break;
        proxy->sweep_next = TAILQ_NEXT(client, link);
        if (client->state != CLIENT_LINKED)
            auth_sweep(client);
        client_sweep(client);
    }
}

static void tell_manager(struct proxy *proxy)
{
    char status[128];
    if (!notify_is_on(&proxy->notify))
        return;
    notify_tick(&proxy->notify, proxy->now_us);
    snprintf(status, sizeof(status), "%d clients, %d of %d connections open%s", proxy->client_count,
             budget_open(&proxy->budget), proxy->budget.total,
             proxy->state == PROXY_RUNNING ? "" : ", stopping");
    notify_status(&proxy->notify, proxy->now_us, status);
}

static void on_tick(void *arg)
{
    struct proxy *proxy = arg;
    struct pool_action action;
    bool anyone_waits = false;
    proxy->now_us = clock_now_us();
    for (struct server *next, *server = TAILQ_FIRST(&proxy->servers); server; server = next) {
        next = TAILQ_NEXT(server, link);
        server_sweep(server);
    }
    for (size_t i = 0; i < proxy->pool_count; i++) {
        struct proxy_pool *pool = proxy->pools[i];
        while ((action = pool_sweep(&pool->pool, proxy->now_us)).kind != POOL_NOTHING)
            perform(&action);
    }
    sweep_holders(proxy);
    sweep_slice(proxy);
    door_tick(proxy);
    upstream_settle(proxy);
    probe_release(proxy);
    proxy_run_pools(proxy);
    for (size_t i = 0; i < proxy->pool_count; i++)
        anyone_waits |= proxy->pools[i]->pool.waiting > 0;
    auth_query_tick(proxy);
    lane_sweep(proxy);
    stats_tick(proxy);
    control_tick(proxy);
    upgrade_tick(proxy);
    tell_manager(proxy);
    if (proxy->watch_tick)
        proxy->watch_tick(proxy);
    log_flush_repeats();
    if (proxy->state != PROXY_RUNNING)
        finish_stop(proxy);
    timer_set(proxy->tick,
              anyone_waits || proxy->state != PROXY_RUNNING ? TICK_WAITING_US : TICK_US);
}

/* ---- stop ---- */

static void dismiss(struct client *client, bool at_once)
{
    bool is_at_work =
        client->state == CLIENT_LINKED && client->server &&
        (client->server->status != 'I' || !outstanding_is_empty(&client->server->outstanding));
    if (!at_once && is_at_work)
        return;
    client_shut_down(client, NULL);
}

void proxy_stop(struct proxy *proxy, bool at_once)
{
    if (proxy->state == PROXY_STOPPED)
        return;
    if (proxy->state == PROXY_STOPPING)
        at_once = true;
    log_event(LOG_LEVEL_INFO, "stopping",
              LOG_FIELD_TEXT("how", at_once ? "at once" : "transactions may finish"),
              LOG_FIELD_NUMBER("clients", proxy->client_count));
    proxy->now_us = clock_now_us();
    proxy->state = at_once ? PROXY_STOPPED : PROXY_STOPPING;
    notify_send(&proxy->notify, "STOPPING=1");
    upgrade_stopping(proxy);
    takeover_stopping(proxy);
    proxy->stop_us = proxy->now_us + (at_once ? 0 : proxy->config->shutdown_timeout_us);
    listener_close_all(proxy);
    proxy_stop_opening(proxy, true);
    for (struct client *next, *client = TAILQ_FIRST(&proxy->clients); client; client = next) {
        next = TAILQ_NEXT(client, link);
        dismiss(client, at_once);
    }
    timer_set(proxy->tick, 0);
}

/* ---- beginning and end ---- */

static void on_signal(evutil_socket_t number, short what, void *arg)
{
    struct proxy *proxy = arg;
    char error[512];
    (void)what;
    proxy->now_us = clock_now_us();
    if (number == SIGHUP && upgrade_is_handing_over(proxy))
        log_event(LOG_LEVEL_WARNING, "no reload",
                  LOG_FIELD_KIND("reason", "this process hands over: reload the new one"));
    else if (number == SIGHUP)
        proxy_reload(proxy, error, sizeof(error));
    else if (number == SIGUSR2)
        upgrade_start(proxy);
    else if (number == SIGCHLD)
        upgrade_reap(proxy);
    else if (number != SIGTERM || !upgrade_knows_stop(proxy))
        proxy_stop(proxy, number != SIGTERM);
}

struct proxy *proxy_new(struct config *config, struct event_base *base)
{
    struct proxy *proxy = memory_alloc(sizeof(*proxy));
    proxy->base = base;
    proxy->config = config;
    proxy->spare_fd = -1;
    proxy->notify.fd = -1;
    proxy->now_us = clock_now_us();
    proxy->stats_newer_us = proxy->stats_older_us = proxy->now_us;
    proxy->started_wall_us = clock_wall_us();
    TAILQ_INIT(&proxy->clients);
    TAILQ_INIT(&proxy->servers);
    TAILQ_INIT(&proxy->listeners);
    TAILQ_INIT(&proxy->later);
    proxy->budget.total = config->total_connections;
    proxy->workers = workers_new(base, 8);
    proxy->failures = failures_new();
    proxy->auth_cache = auth_cache_new();
    door_init(&proxy->shared_door, 0);
    door_init(&proxy->admin_door, 1);
    proxy->later_event = event_new(base, -1, 0, on_later, proxy);
    proxy->tick = timer_new(base, on_tick, proxy);
    if (getrandom(proxy->secret, sizeof(proxy->secret), 0) < 0)
        log_event(LOG_LEVEL_WARNING, "no random bytes for the secret of mock salts");
    uint64_t random = 0;
    if (getrandom(&random, sizeof(random), 0) < 0)
        random = (uint64_t)proxy->now_us;
    statement_table_init(&proxy->statements, random);
    return proxy;
}

static bool load_files(struct proxy *proxy)
{
    struct config_errors errors = {0};
    char reason[256] = "";
    if (proxy->config->users_file)
        proxy->users = users_load(proxy->config->users_file, true, &errors);
    proxy->rules = rules_load(proxy->config, &errors);
    for (size_t i = 0; i < errors.count; i++)
        log_event(LOG_LEVEL_ERROR, "bad configuration", LOG_FIELD_KIND("reason", errors.items[i]));
    bool ok = errors.count == 0 && (!proxy->config->users_file || proxy->users);
    config_errors_free(&errors);
    if (proxy->config->tls_client_mode != TLS_CLIENT_DISABLE) {
        proxy->tls = tls_context_new(proxy->config, reason, sizeof(reason));
        if (!proxy->tls) {
            log_event(LOG_LEVEL_ERROR, "bad configuration", LOG_FIELD_TEXT("of", "TLS for clients"),
                      LOG_FIELD_KIND("reason", reason));
            ok = false;
        }
    }
    if (!ok)
        proxy->exit_status = 2;
    return ok;
}

bool proxy_start(struct proxy *proxy)
{
    static const int signals[] = {SIGHUP, SIGTERM, SIGINT, SIGQUIT, SIGUSR2, SIGCHLD};
    if (!load_files(proxy))
        return false;
    for (size_t i = 0; i < proxy->config->pool_count; i++) {
        struct proxy_pool *pool = pool_new(proxy, &proxy->config->pools[i]);
        if (!pool) {
            log_event(LOG_LEVEL_ERROR, "too many pools",
                      LOG_FIELD_NUMBER("most", BUDGET_POOLS_MAX));
            proxy->exit_status = 2;
            return false;
        }
        reload_choose_primary(pool);
    }
    listener_check_descriptors(proxy);
    if (!listener_open_all(proxy)) {
        proxy->exit_status = 1;
        return false;
    }
    for (size_t i = 0; i < sizeof(signals) / sizeof(signals[0]); i++) {
        proxy->signal_events[i] = evsignal_new(proxy->base, signals[i], on_signal, proxy);
        event_add(proxy->signal_events[i], NULL);
    }
    verifiers_refresh(proxy);
    timer_set(proxy->tick, 0);
    return true;
}

static void free_pools(struct proxy *proxy)
{
    struct lane *lane;
    struct lane *next;
    HASH_ITER (hh, proxy->lanes, lane, next)
        lane_free(proxy, lane);
    for (size_t i = 0; i < proxy->pool_count; i++) {
        free(proxy->pools[i]->name);
        free(proxy->pools[i]);
    }
    upstream_free_all(proxy);
}

void proxy_free(struct proxy *proxy)
{
    upgrade_free(proxy);
    takeover_free(proxy);
    notify_close(&proxy->notify);
    inherit_free(&proxy->inherited);
    listener_close_all(proxy);
    proxy->state = PROXY_STOPPED;
    proxy_stop_opening(proxy, true);
    for (struct client *client; (client = TAILQ_FIRST(&proxy->clients));) {
        client->stream.is_broken = true;
        client_close(client);
        client_pump(client);
    }
    verifiers_stop(proxy);
    workers_free(proxy->workers);
    asides_free(proxy);
    for (struct server *server; (server = TAILQ_FIRST(&proxy->servers));)
        server_forget(server);
    empty_graves(proxy);
    free_pools(proxy);
    control_free(proxy);
    if (proxy->watch_free)
        proxy->watch_free(proxy);
    for (size_t i = 0; i < sizeof(proxy->signal_events) / sizeof(proxy->signal_events[0]); i++) {
        if (proxy->signal_events[i])
            event_free(proxy->signal_events[i]);
    }
    event_free(proxy->later_event);
    timer_free(proxy->tick);
    verifiers_free(proxy);
    failures_free(proxy->failures);
    auth_cache_free(proxy->auth_cache);
    if (proxy->users)
        users_free(proxy->users);
    rules_free(proxy->rules);
    if (proxy->tls)
        tls_context_free(proxy->tls);
    config_free(proxy->config);
    buffer_free(&proxy->customs);
    client_query_free_all(proxy);
    free(proxy);
    buffer_free_list_empty();
}
