/*
 * takeover.c - the new process of an upgrade: see upgrade.h.
 *
 * Before there is a loop it receives the listening sockets (net/inherit.h), which are then found where they would be opened.
 * Then it says that it could serve, and does nothing until the old process gives way: neither accepts nor opens a
 * connection.  From then on each of its pools counts what the old process has open of the cap.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "base/memory.h"
#include "base/process.h"
#include "proto/record.h"
#include "proxy/carry.h"
#include "proxy/listener.h"
#include "proxy/upgrade.h"
#include "proxy/upgrade_inside.h"

#define HELLO_US (10 * CLOCK_S)

struct takeover {
    struct proxy *proxy;
    struct channel *channel;
    pid_t old_pid;
    bool is_serving; /* the old process has given way */
    int carried;
    int refused;
};

struct channel *takeover_channel(const struct proxy *proxy)
{
    return proxy->takeover && proxy->takeover->is_serving ? proxy->takeover->channel : NULL;
}

/* ---- the listening sockets ---- */

static void take_socket(struct proxy *proxy, const struct channel_message *message)
{
    struct record_reader reader;
    struct record_field field;
    char *name = NULL;
    char *path = NULL;
    record_read(&reader, message->bytes, message->length);
    while (record_next(&reader, &field)) {
        char **place = field.tag == WORD_NAME ? &name : field.tag == WORD_PATH ? &path : NULL;
        if (place && !*place)
            *place = record_text(&reader, &field);
    }
    if (message->fd >= 0)
        inherit_add(&proxy->inherited, message->fd, name, path);
    free(name);
    free(path);
}

/* Everything up to "those were all"; false when it does not come, or is not what we know. */
static bool receive_offer(struct takeover *takeover)
{
    struct channel_message message;
    bool is_greeted = false;
    while (channel_wait(takeover->channel, HELLO_US, &message)) {
        if (message.type == MESSAGE_SOCKET) {
            take_socket(takeover->proxy, &message);
            continue;
        }
        if (message.fd >= 0)
            close(message.fd);
        if (message.type == MESSAGE_HELLO)
            is_greeted = words_read_greeting(&message, &takeover->old_pid);
        else if (message.type == MESSAGE_OFFERED)
            return is_greeted;
        if (!is_greeted)
            return false;
    }
    return false;
}

bool takeover_begin(struct proxy *proxy)
{
    if (!getenv(UPGRADE_VARIABLE))
        return true;
    int64_t fd = process_variable(UPGRADE_VARIABLE);
    unsetenv(UPGRADE_VARIABLE);
    struct channel *channel = fd > 2 && fd < INT32_MAX ? channel_open((int)fd) : NULL;
    if (!channel) {
        log_event(LOG_LEVEL_ERROR, "cannot take over",
                  LOG_FIELD_KIND("reason", UPGRADE_VARIABLE " names no channel"));
        return false;
    }
    struct takeover *takeover = memory_alloc(sizeof(*takeover));
    takeover->proxy = proxy;
    takeover->channel = channel;
    proxy->takeover = takeover;
    if (!receive_offer(takeover)) {
        log_event(LOG_LEVEL_ERROR, "cannot take over",
                  LOG_FIELD_KIND("reason", "the old process is gone, or hands over in another way: "
                                           "stop it and start this one"));
        return false;
    }
    proxy->is_accepting_held = true;
    log_event(LOG_LEVEL_INFO, "taking over", LOG_FIELD_NUMBER("old_pid", takeover->old_pid),
              LOG_FIELD_NUMBER("sockets", proxy->inherited.count));
    return true;
}

/* ---- serving ---- */

static void serve(struct takeover *takeover)
{
    struct proxy *proxy = takeover->proxy;
    takeover->is_serving = true;
    if (proxy->state != PROXY_RUNNING)
        return;
    proxy_stop_opening(proxy, false);
    listener_hold_all(proxy, false);
    notify_open(&proxy->notify, true);
    notify_send(&proxy->notify, "MAINPID=%ld\nREADY=1\nWATCHDOG=1", (long)getpid());
    log_event(LOG_LEVEL_INFO, "took over", LOG_FIELD_NUMBER("old_pid", takeover->old_pid));
    proxy_run_pools(proxy);
}

static void refuse(struct takeover *takeover, const char *reason)
{
    struct buffer record = {0};
    takeover->refused++;
    record_put_text(&record, WORD_REASON, reason);
    channel_send(takeover->channel, MESSAGE_REFUSED, buffer_bytes(&record), buffer_length(&record),
                 -1);
    buffer_free(&record);
}

static void take_client(struct takeover *takeover, const struct channel_message *message)
{
    struct proxy *proxy = takeover->proxy;
    const char *why = "the new process stops";
    struct client *client = NULL;
    if (proxy->state == PROXY_RUNNING)
        client = carry_read(proxy, message->bytes, message->length, message->fd, &why);
    else if (message->fd >= 0)
        close(message->fd);
    if (!client) {
        refuse(takeover, why);
        return;
    }
    takeover->carried++;
    channel_send(takeover->channel, MESSAGE_TAKEN, NULL, 0, -1);
    carry_resume(client);
}

static void on_message(void *arg, const struct channel_message *message)
{
    struct takeover *takeover = arg;
    struct proxy *proxy = takeover->proxy;
    proxy->now_us = clock_now_us();
    switch ((enum upgrade_message)message->type) {
    case MESSAGE_CLIENT:
        take_client(takeover, message);
        return;
    case MESSAGE_LANE:
        carry_read_lane(proxy, message->bytes, message->length);
        break;
    case MESSAGE_PLACES:
        if (words_read_places(proxy, message)) {
            if (!takeover->is_serving)
                serve(takeover);
            proxy_run_pools(proxy);
        }
        break;
    case MESSAGE_CANCEL:
        words_take_cancel(proxy, message, NULL);
        break;
    default:
        break;
    }
    if (message->fd >= 0)
        close(message->fd);
}

/* The old process has gone, or has given us up: which of the two, our parent says.  (It may have died before we could look who
 * that is, so the number is its own word.) */
static void on_end(void *arg)
{
    struct takeover *takeover = arg;
    struct proxy *proxy = takeover->proxy;
    proxy->now_us = clock_now_us();
    if (!takeover->is_serving && getppid() == takeover->old_pid) {
        log_event(LOG_LEVEL_ERROR, "cannot take over",
                  LOG_FIELD_KIND("reason", "the old process serves on"));
        proxy->exit_status = 1;
        proxy_stop(proxy, true);
    } else if (!takeover->is_serving) {
        serve(takeover);
    }
    log_event(LOG_LEVEL_INFO, "the old process has gone",
              LOG_FIELD_NUMBER("old_pid", takeover->old_pid),
              LOG_FIELD_NUMBER("carried_over", takeover->carried),
              LOG_FIELD_NUMBER("refused", takeover->refused));
    words_places_lost(proxy);
    takeover_free(proxy);
}

void takeover_ready(struct proxy *proxy)
{
    struct takeover *takeover = proxy->takeover;
    size_t unused = inherit_free(&proxy->inherited);
    if (unused > 0)
        log_event(LOG_LEVEL_WARNING, "listening sockets that no address of the configuration names",
                  LOG_FIELD_NUMBER("closed", unused));
    if (!takeover) {
        notify_send(&proxy->notify, "READY=1");
        return;
    }
    proxy_stop_opening(proxy, true);
    channel_listen(takeover->channel, proxy->base, on_message, on_end, takeover);
    words_send_greeting(takeover->channel, MESSAGE_READY);
}

void takeover_stopping(struct proxy *proxy)
{
    if (!proxy->takeover)
        return;
    if (!proxy->takeover->is_serving)
        listener_leave_files(proxy);
    channel_send(proxy->takeover->channel, MESSAGE_STOPPING, NULL, 0, -1);
}

void takeover_free(struct proxy *proxy)
{
    struct takeover *takeover = proxy->takeover;
    if (!takeover)
        return;
    proxy->takeover = NULL;
    if (!takeover->is_serving)
        listener_leave_files(proxy); /* they are the old process's still */
    channel_free(takeover->channel);
    free(takeover);
    buffer_free(&proxy->said_places);
}
