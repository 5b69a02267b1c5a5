/*
 * stream_set.h - many streams' descriptors in one epoll instance, which is one descriptor to libevent.
 *
 * Of all that the loop waits for, only streams are many and busy.  In a set each costs its 16 bytes here and the kernel's
 * registration, where an event of libevent's is 128 bytes of every idle client, and a look-up and two queues of every
 * message.  libevent keeps what is rare: timers, signals, listeners, logins, HTTP.
 *
 * A callback may close any stream of the set, but their memory must stay until the loop's turn is over.
 */
#ifndef NET_STREAM_SET_H
#define NET_STREAM_SET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <event2/event.h>
#include <event2/event_struct.h>

struct stream;

struct stream_set {
    int fd; /* of the epoll instance; -1: none */
    struct event event;
    struct stream **due; /* those to be called without an event of the kernel's */
    size_t due_count;
    size_t due_capacity;
};

/* Makes an empty set that the loop watches; false with errno when there is no descriptor for it. */
bool stream_set_open(struct stream_set *set, struct event_base *base);
/* Closes it; its streams must be closed or elsewhere. */
void stream_set_close(struct stream_set *set);

/* ---- for stream.c ---- */

/* What epoll is to report of `fd` for the stream: `operation` as in epoll_ctl(2).  False with errno. */
bool stream_set_control(struct stream_set *set, int operation, int fd, uint32_t events,
                        struct stream *stream);
/* The stream's callback comes in the loop's next turn though no event may. */
void stream_set_call(struct stream_set *set, struct stream *stream);
/* Not any more. */
void stream_set_forget(struct stream_set *set, const struct stream *stream);

#endif
