/*
 * upgrade.c - the old process of an upgrade: see upgrade.h.
 *
 * The next process is started as we were: the same program by its path, so that a new file there is what runs, the same
 * arguments, the same environment, and one more descriptor, the channel.  Once it says that it could serve, we stop
 * accepting and opening, and everybody who can go is sent over: at once who is idle or only waits for a connection, the
 * others when their transaction ends.
 *
 * Our free connections are closed as the new process opens its own, a few ahead of it, so that the places of a reserved
 * pool do not lie open for strangers meanwhile (contract 1.2).  Who cannot go (TLS, a session that is tied to its
 * connection) is served on here for as long as shutdown_timeout; for those without a connection of their own a quarter
 * of their pool's is kept.
 */
#include "proxy/upgrade.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/log.h"
#include "base/memory.h"
#include "proto/record.h"
#include "proto/sqlstate.h"
#include "proxy/auth_query.h"
#include "proxy/carry.h"
#include "proxy/listener.h"
#include "proxy/upgrade_inside.h"

#define BACKLOG_PIECES 64 /* that wait in the channel: no more clients are sent meanwhile */
#define STATUS_US      (CLOCK_S / 2) /* from a process's last word to its end */
#define FREE_KEPT_US   (5 * CLOCK_S) /* longest that free connections are held for the new process */

enum upgrade_stage { UPGRADE_STARTING, UPGRADE_HANDING_OVER, UPGRADE_LEAVING };

struct upgrade {
    struct proxy *proxy;
    struct channel *channel;
    struct event *look_event;
    struct client_list on_their_way; /* by later_link; answered in this order */
    struct buffer said_places;
    enum upgrade_stage stage;
    pid_t pid; /* 0: it has ended */
    int64_t began_us;
    int64_t answered_us; /* when the new process last said something, or had nothing to answer */
    int64_t handing_us;
    int64_t ended_us; /* when the channel ended before the new process did; 0: not */
    int carried;
    int refused;
    bool has_passed_on_stop; /* the new process was told to stop, and told us */
};

/* ---- the end, one way or the other ---- */

static void forget(struct upgrade *upgrade)
{
    upgrade->proxy->upgrade = NULL;
    channel_free(upgrade->channel);
    event_free(upgrade->look_event);
    buffer_free(&upgrade->said_places);
    free(upgrade);
}

/* It did not go: it is served here again, or told that we stop. */
static void take_back(struct upgrade *upgrade, struct client *client)
{
    TAILQ_REMOVE(&upgrade->on_their_way, client, later_link);
    carry_thaw(client);
    if (upgrade->proxy->state != PROXY_RUNNING)
        client_shut_down(client, NULL);
}

static void take_back_clients(struct upgrade *upgrade)
{
    while (!TAILQ_EMPTY(&upgrade->on_their_way))
        take_back(upgrade, TAILQ_FIRST(&upgrade->on_their_way));
}

static void serve_again(struct upgrade *upgrade)
{
    struct proxy *proxy = upgrade->proxy;
    proxy->upgrade = NULL; /* nobody is due to go any more */
    proxy_stop_opening(proxy, false);
    words_places_lost(proxy);
    take_back_clients(upgrade);
    listener_hold_all(proxy, false);
    notify_open(&proxy->notify, true);
    notify_send(&proxy->notify, "MAINPID=%ld\nREADY=1\nWATCHDOG=1", (long)getpid());
    proxy_run_pools(proxy);
}

/* The new process is no good: we go on. */
static void fail(struct upgrade *upgrade, const char *reason)
{
    struct proxy *proxy = upgrade->proxy;
    bool was_handing_over = upgrade->stage != UPGRADE_STARTING;
    log_event(LOG_LEVEL_ERROR, "upgrade failed", LOG_FIELD_KIND("reason", reason),
              LOG_FIELD_NUMBER("new_pid", upgrade->pid),
              LOG_FIELD_NUMBER("carried_over", upgrade->carried),
              LOG_FIELD_TEXT("now", proxy->state == PROXY_RUNNING ? "this process serves on"
                                                                  : "this process stops"));
    if (upgrade->pid > 0)
        kill(upgrade->pid, SIGKILL);
    if (was_handing_over && proxy->state == PROXY_RUNNING)
        serve_again(upgrade);
    else
        take_back_clients(upgrade);
    forget(upgrade);
}

void upgrade_reap(struct proxy *proxy)
{
    int status;
    for (pid_t pid; (pid = waitpid(-1, &status, WNOHANG)) > 0;) {
        char reason[96];
        if (!proxy->upgrade || proxy->upgrade->pid != pid)
            continue;
        proxy->upgrade->pid = 0;
        if (proxy->upgrade->stage != UPGRADE_STARTING)
            channel_hear(proxy->upgrade->channel); /* whom it had taken, or that both are to stop */
        if (!proxy->upgrade ||
            (proxy->state != PROXY_RUNNING && proxy->upgrade->stage != UPGRADE_STARTING))
            continue;
        if (WIFEXITED(status))
            snprintf(reason, sizeof(reason), "the new process ended with status %d",
                     WEXITSTATUS(status));
        else
            snprintf(reason, sizeof(reason), "the new process was ended by signal %d",
                     WTERMSIG(status));
        fail(proxy->upgrade, reason);
    }
}

static void on_end(void *arg)
{
    struct upgrade *upgrade = arg;
    struct proxy *proxy = upgrade->proxy;
    proxy->now_us = clock_now_us();
    upgrade_reap(proxy); /* its status says more */
    if (proxy->upgrade != upgrade)
        return;
    if (proxy->state != PROXY_RUNNING)
        take_back_clients(upgrade); /* both stop */
    else if (upgrade->stage == UPGRADE_STARTING)
        upgrade->ended_us = proxy->now_us; /* its status, in a moment, says why */
    else
        fail(upgrade, "the new process closed the channel");
}

/* ---- handing over ---- */

static void send_client(struct upgrade *upgrade, struct client *client)
{
    struct buffer record = {0};
    carry_write(client, &record);
    if (buffer_length(&record) > CHANNEL_MESSAGE_MAX / 2) {
        client->must_stay = true;
        buffer_free(&record);
        return;
    }
    carry_freeze(client);
    if (client->may_read_later)
        TAILQ_REMOVE(&client->proxy->later, client, later_link);
    client->may_read_later = false;
    if (TAILQ_EMPTY(&upgrade->on_their_way))
        upgrade->answered_us = upgrade->proxy->now_us;
    TAILQ_INSERT_TAIL(&upgrade->on_their_way, client, later_link);
    channel_send(upgrade->channel, MESSAGE_CLIENT, buffer_bytes(&record), buffer_length(&record),
                 client->stream.fd);
    buffer_free(&record);
}

/* Who has to stay, waits for a connection, and can get none: we open no more. */
static bool waits_in_vain(const struct client *client)
{
    return client->waiter.lane && pool_lane_is_dead(client->waiter.lane);
}

static void look_at_clients(struct upgrade *upgrade)
{
    struct proxy *proxy = upgrade->proxy;
    struct client *next;
    for (struct lane *lane = proxy->lanes; lane; lane = lane->hh.next)
        lane->staying = 0;
    for (struct client *client = TAILQ_FIRST(&proxy->clients); client; client = next) {
        next = TAILQ_NEXT(client, link);
        if (carry_can_go(client) && channel_backlog(upgrade->channel) < BACKLOG_PIECES)
            send_client(upgrade, client);
        if (auth_query_waits_in_vain(client)) {
            client_shut_down(client, NULL);
            continue;
        }
        if (client->lane && !client->server && client->state != CLIENT_CLOSING &&
            (client->state == CLIENT_LEAVING || !carry_goes(client))) {
            client->lane->staying++; /* who is on the way may be refused */
            if (waits_in_vain(client))
                client_shut_down(client, NULL);
        }
    }
}

/* How many of the pool's connections both processes have or are about to: as the new one opens, ours may go. */
static bool may_close_one(const struct upgrade *upgrade, const struct proxy_pool *pool)
{
    const struct budget_pool *places = &upgrade->proxy->budget.pools[pool->index];
    int size = pool_kept_open(&pool->pool);
    int ahead =
        size / 4 < pool->pool.settings.login_burst ? size / 4 : pool->pool.settings.login_burst;
    if (upgrade->proxy->now_us - upgrade->handing_us > FREE_KEPT_US)
        return true;
    return budget_used(places) - places->closing > size - (ahead > 0 ? ahead : 1);
}

static void look_at_connections(struct upgrade *upgrade)
{
    struct proxy *proxy = upgrade->proxy;
    for (struct lane *lane = proxy->lanes; lane; lane = lane->hh.next) {
        int quarter = (pool_kept_open(&lane->pool->pool) + 3) / 4;
        int kept = lane->staying < quarter ? lane->staying : quarter;
        struct pool_backend *backend;
        while (lane->lane.counts[BACKEND_IDLE] > kept && may_close_one(upgrade, lane->pool) &&
               (backend = TAILQ_LAST(&lane->lane.backends[BACKEND_IDLE], pool_backend_list)))
            server_close((struct server *)backend, "handed over");
    }
}

static void leave(struct upgrade *upgrade)
{
    struct proxy *proxy = upgrade->proxy;
    upgrade->stage = UPGRADE_LEAVING;
    log_event(LOG_LEVEL_INFO, "handed over", LOG_FIELD_NUMBER("new_pid", upgrade->pid),
              LOG_FIELD_NUMBER("carried_over", upgrade->carried),
              LOG_FIELD_NUMBER("refused", upgrade->refused),
              LOG_FIELD_NUMBER("ended", proxy->client_count));
    proxy_stop(proxy, true);
}

static void on_look(evutil_socket_t fd, short what, void *arg)
{
    struct upgrade *upgrade = arg;
    struct proxy *proxy = upgrade->proxy;
    (void)fd;
    (void)what;
    if (upgrade->stage == UPGRADE_STARTING)
        return;
    proxy->now_us = clock_now_us();
    if (upgrade->stage == UPGRADE_HANDING_OVER && proxy->state != PROXY_STOPPED) {
        look_at_clients(upgrade);
        look_at_connections(upgrade);
    }
    words_send_places(proxy, upgrade->channel, &upgrade->said_places);
    if (upgrade->stage == UPGRADE_HANDING_OVER && proxy->state == PROXY_RUNNING &&
        proxy->client_count == 0)
        leave(upgrade);
}

void upgrade_look(struct proxy *proxy)
{
    if (proxy->upgrade)
        event_active(proxy->upgrade->look_event, 0, 0);
}

static void send_lanes(struct upgrade *upgrade)
{
    for (const struct lane *lane = upgrade->proxy->lanes; lane; lane = lane->hh.next) {
        struct buffer record = {0};
        if (carry_write_lane(lane, &record))
            channel_send(upgrade->channel, MESSAGE_LANE, buffer_bytes(&record),
                         buffer_length(&record), -1);
        buffer_free(&record);
    }
}

static void hand_over(struct upgrade *upgrade)
{
    struct proxy *proxy = upgrade->proxy;
    struct client *next;
    upgrade->stage = UPGRADE_HANDING_OVER;
    upgrade->handing_us = upgrade->answered_us = proxy->now_us;
    log_event(LOG_LEVEL_INFO, "handing over", LOG_FIELD_NUMBER("new_pid", upgrade->pid),
              LOG_FIELD_NUMBER("clients", proxy->client_count),
              LOG_FIELD_NUMBER("connections", proxy->open_server_count));
    listener_hold_all(proxy, true);
    proxy_stop_opening(proxy, true);
    /* From us, whom the service manager listens to; the new process cannot be heard before. */
    notify_send(&proxy->notify, "MAINPID=%ld", (long)upgrade->pid);
    notify_close(&proxy->notify);
    for (struct client *client = TAILQ_FIRST(&proxy->clients); client; client = next) {
        next = TAILQ_NEXT(client, link);
        client->must_stay = false; /* an upgrade that failed may not have wanted it */
        if (!client->pool)
            client_shut_down(client,
                             "An upgrade has begun: connect again to reach the new process.");
    }
    send_lanes(upgrade);
    words_send_places(proxy, upgrade->channel, &upgrade->said_places);
    upgrade_look(proxy);
}

bool upgrade_is_handing_over(const struct proxy *proxy)
{
    return proxy->upgrade && proxy->upgrade->stage == UPGRADE_HANDING_OVER &&
           proxy->state == PROXY_RUNNING;
}

/* ---- what the new process says ---- */

static void take_answer(struct upgrade *upgrade, const struct channel_message *message)
{
    struct client *client = TAILQ_FIRST(&upgrade->on_their_way);
    struct record_reader reader;
    struct record_field field;
    char *reason = NULL;
    if (!client)
        return;
    upgrade->answered_us = upgrade->proxy->now_us;
    if (message->type == MESSAGE_TAKEN) {
        TAILQ_REMOVE(&upgrade->on_their_way, client, later_link);
        upgrade->carried++;
        carry_forget(client);
        return;
    }
    record_read(&reader, message->bytes, message->length);
    while (record_next(&reader, &field)) {
        if (field.tag == WORD_REASON && !reason)
            reason = record_text(&reader, &field);
    }
    log_event(LOG_LEVEL_WARNING, "a client stays with the old process",
              LOG_FIELD_TEXT("user", client->user),
              LOG_FIELD_KIND("reason", reason ? reason : "none given"));
    free(reason);
    upgrade->refused++;
    client->must_stay = true;
    take_back(upgrade, client);
}

/* What has been ordered on the console would not hold in the new process. */
static bool is_held_up(const struct proxy *proxy)
{
    return proxy->gates || proxy->is_suspended || proxy->is_draining;
}

static void take_ready(struct upgrade *upgrade, const struct channel_message *message)
{
    pid_t pid = 0;
    if (upgrade->stage != UPGRADE_STARTING)
        return;
    if (!words_read_greeting(message, &pid)) {
        fail(upgrade, "the new program hands over in another way: stop this one and start it");
        return;
    }
    if (is_held_up(upgrade->proxy)) {
        fail(upgrade, "something was paused or stopped on the console meanwhile");
        return;
    }
    hand_over(upgrade);
}

static void on_message(void *arg, const struct channel_message *message)
{
    struct upgrade *upgrade = arg;
    struct proxy *proxy = upgrade->proxy;
    proxy->now_us = clock_now_us();
    if (message->fd >= 0)
        close(message->fd); /* none is ever sent this way */
    switch ((enum upgrade_message)message->type) {
    case MESSAGE_READY:
        take_ready(upgrade, message);
        return;
    case MESSAGE_TAKEN:
    case MESSAGE_REFUSED:
        take_answer(upgrade, message);
        break;
    case MESSAGE_PLACES:
        words_read_places(proxy, message);
        break;
    case MESSAGE_CANCEL:
        words_take_cancel(proxy, message, upgrade->channel);
        break;
    case MESSAGE_STOPPING: /* whoever stops the new one means both, once there are two */
        if (upgrade->stage == UPGRADE_STARTING) {
            fail(upgrade, "the new process was told to stop");
            return;
        }
        if (proxy->state == PROXY_RUNNING) {
            upgrade->has_passed_on_stop = true;
            proxy_stop(proxy, false);
        }
        break;
    default:
        break;
    }
    upgrade_look(proxy);
}

/* ---- the beginning ---- */

static void offer_socket(struct upgrade *upgrade, int fd, const char *name, const char *unix_path)
{
    struct buffer record = {0};
    record_put_number(&record, WORD_VERSION, UPGRADE_VERSION); /* so that it is never empty */
    record_put_text(&record, WORD_NAME, name);
    record_put_text(&record, WORD_PATH, unix_path);
    channel_send(upgrade->channel, MESSAGE_SOCKET, buffer_bytes(&record), buffer_length(&record),
                 fd);
    buffer_free(&record);
}

static void offer_http(void *arg, int fd, const char *name)
{
    offer_socket(arg, fd, name, NULL);
}

static void offer_sockets(struct upgrade *upgrade)
{
    struct proxy *proxy = upgrade->proxy;
    const struct listener *listener;
    words_send_greeting(upgrade->channel, MESSAGE_HELLO);
    TAILQ_FOREACH (listener, &proxy->listeners, link)
        offer_socket(upgrade, listener->fd, listener->name, listener->unix_path);
    if (proxy->visit_http)
        proxy->visit_http(proxy, offer_http, upgrade);
    channel_send(upgrade->channel, MESSAGE_OFFERED, NULL, 0, -1);
}

/* Why there can be no upgrade now; NULL when there can. */
static const char *why_not(const struct proxy *proxy)
{
    if (proxy->upgrade)
        return "one goes on";
    if (proxy->takeover)
        return "the last one is not over: the process before this one has clients left";
    if (proxy->state != PROXY_RUNNING || proxy->is_draining)
        return "this process stops";
    if (is_held_up(proxy))
        return "something is paused, disabled or suspended on the console: RESUME or ENABLE first";
    if (words_are_places_missing(proxy))
        return "connections of the last process may not be gone yet: try again in 10 s";
    if (!proxy->program)
        return "the program that this process was started as is not to be found";
    return NULL;
}

void upgrade_start(struct proxy *proxy)
{
    const char *reason = why_not(proxy);
    int ends[2];
    int error = 0;
    if (!reason && !channel_pair(ends))
        reason = strerror(errno);
    if (reason) {
        log_event(LOG_LEVEL_ERROR, "no upgrade", LOG_FIELD_KIND("reason", reason));
        return;
    }
    struct upgrade *upgrade = memory_alloc(sizeof(*upgrade));
    upgrade->proxy = proxy;
    upgrade->channel = channel_open(ends[0]);
    upgrade->look_event = event_new(proxy->base, -1, 0, on_look, upgrade);
    upgrade->began_us = upgrade->answered_us = proxy->now_us;
    TAILQ_INIT(&upgrade->on_their_way);
    proxy->upgrade = upgrade;
    upgrade->pid = upgrade_spawn(proxy, ends[1], &error);
    close(ends[1]);
    if (error) {
        fail(upgrade, strerror(error));
        return;
    }
    log_event(LOG_LEVEL_INFO, "upgrade", LOG_FIELD_TEXT("program", proxy->program),
              LOG_FIELD_NUMBER("new_pid", upgrade->pid));
    channel_listen(upgrade->channel, proxy->base, on_message, on_end, upgrade);
    offer_sockets(upgrade);
}

/* ---- time ---- */

void upgrade_tick(struct proxy *proxy)
{
    struct upgrade *upgrade = proxy->upgrade;
    int64_t limit_us = proxy->config->upgrade_timeout_us;
    words_forget_places(proxy);
    if (!upgrade || upgrade->stage == UPGRADE_LEAVING)
        return;
    if (upgrade->stage == UPGRADE_STARTING) {
        if (upgrade->ended_us && proxy->now_us - upgrade->ended_us > STATUS_US)
            fail(upgrade, "the new process closed the channel");
        else if (proxy->now_us - upgrade->began_us > limit_us)
            fail(upgrade, "the new process was not ready within upgrade_timeout");
        return;
    }
    if (TAILQ_EMPTY(&upgrade->on_their_way))
        upgrade->answered_us = proxy->now_us;
    else if (proxy->now_us - upgrade->answered_us > limit_us) {
        fail(upgrade, "the new process does not answer");
        return;
    }
    if (proxy->state == PROXY_RUNNING &&
        proxy->now_us - upgrade->handing_us >= proxy->config->shutdown_timeout_us)
        leave(upgrade);
    else
        upgrade_look(proxy);
}

bool upgrade_knows_stop(struct proxy *proxy)
{
    bool knows = proxy->upgrade && proxy->upgrade->has_passed_on_stop;
    if (knows)
        proxy->upgrade->has_passed_on_stop = false;
    return knows;
}

void upgrade_stopping(struct proxy *proxy)
{
    struct upgrade *upgrade = proxy->upgrade;
    if (!upgrade)
        return;
    if (upgrade->stage == UPGRADE_STARTING)
        fail(upgrade, "this process was told to stop");
    else
        listener_leave_files(proxy);
}

void upgrade_free(struct proxy *proxy)
{
    free(proxy->program);
    if (!proxy->upgrade)
        return;
    words_send_places(proxy, proxy->upgrade->channel, &proxy->upgrade->said_places);
    forget(proxy->upgrade);
}

/* ---- both sides ---- */

void upgrade_places_changed(struct proxy *proxy)
{
    struct channel *to_old = takeover_channel(proxy);
    if (proxy->upgrade)
        upgrade_look(proxy);
    if (to_old)
        words_send_places(proxy, to_old, &proxy->said_places);
}

bool upgrade_forward_cancel(struct proxy *proxy, uint32_t pid, const uint8_t *secret,
                            size_t secret_bytes)
{
    struct channel *channel = takeover_channel(proxy);
    if (proxy->upgrade && proxy->upgrade->stage != UPGRADE_STARTING)
        channel = proxy->upgrade->channel;
    if (channel)
        words_send_cancel(channel, pid, secret, secret_bytes);
    return channel != NULL;
}
