/*
 * stream_set.c - see stream_set.h.
 *
 * The inner epoll instance is registered edge-triggered with the outer one: a turn that finds the inner one empty costs
 * nothing, and whatever comes later makes an edge of its own.
 */
#include "net/stream_set.h"

#include <stdlib.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "base/memory.h"
#include "net/stream.h"

#define TURN_EVENTS 64 /* as many are taken before the loop's other events have their turn */

/* Those who are put into the list meanwhile have to wait for the next turn. */
static void call_due(struct stream_set *set)
{
    for (size_t left = set->due_count; left > 0 && set->due_count > 0; left--) {
        struct stream *stream = set->due[0];
        stream_set_forget(set, stream);
        stream_happened(stream, 0);
    }
}

static void on_set(evutil_socket_t fd, short what, void *arg)
{
    struct stream_set *set = arg;
    struct epoll_event events[TURN_EVENTS];
    int count = epoll_wait(set->fd, events, TURN_EVENTS, 0);
    (void)fd;
    (void)what;
    for (int i = 0; i < count; i++)
        stream_happened(events[i].data.ptr, events[i].events);
    if (set->due_count > 0)
        call_due(set);
    if (count == TURN_EVENTS || set->due_count > 0) /* the others' turn comes first */
        event_active(&set->event, EV_READ, 0);
}

bool stream_set_open(struct stream_set *set, struct event_base *base)
{
    *set = (struct stream_set){.fd = epoll_create1(EPOLL_CLOEXEC)};
    if (set->fd < 0)
        return false;
    event_assign(&set->event, base, set->fd, EV_READ | EV_ET | EV_PERSIST, on_set, set);
    if (event_add(&set->event, NULL) == 0)
        return true;
    close(set->fd);
    set->fd = -1;
    return false;
}

void stream_set_close(struct stream_set *set)
{
    if (set->fd < 0)
        return;
    event_del(&set->event);
    close(set->fd);
    free(set->due);
    *set = (struct stream_set){.fd = -1};
}

bool stream_set_control(struct stream_set *set, int operation, int fd, uint32_t events,
                        struct stream *stream)
{
    struct epoll_event event = {.events = events, .data.ptr = stream};
    return epoll_ctl(set->fd, operation, fd, &event) == 0;
}

void stream_set_call(struct stream_set *set, struct stream *stream)
{
    if (stream->is_due)
        return;
    if (set->due_count == set->due_capacity) {
        set->due_capacity = set->due_capacity ? 2 * set->due_capacity : 8;
        set->due = memory_resize(set->due, set->due_capacity * sizeof(*set->due));
    }
    set->due[set->due_count++] = stream;
    stream->is_due = true;
    event_active(&set->event, EV_READ, 0);
}

void stream_set_forget(struct stream_set *set, const struct stream *stream)
{
    size_t kept = 0;
    for (size_t i = 0; i < set->due_count; i++) {
        if (set->due[i] == stream)
            set->due[i]->is_due = false;
        else
            set->due[kept++] = set->due[i];
    }
    set->due_count = kept;
}
