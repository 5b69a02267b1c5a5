/*
 * http_crowd.c - bounds the connections to the HTTP listener: see http_crowd.h.
 *
 * evhttp (libevent 2.1) accepts without end, drops who has said nothing at all for a while, and has no word for "a connection
 * has come" or "has gone".  What it does have is enough:
 *
 *   - it asks for a bufferevent for each connection that it accepts, and sets the descriptor in it (evhttp_set_bevcb);
 *   - its connection lives exactly as long as that descriptor is open: so whether it has gone is asked of the kernel, by the
 *     inode of the socket, for the number of a descriptor is soon another's;
 *   - a socket that is shut down looks to evhttp like a client that has left, and it does the rest.
 *
 * So nothing of evhttp's is touched, and no pointer to what it may free is kept beyond the turn of the loop.
 *
 * When the last place is taken, the one that has been silent for longest gives way, once that is a quarter of a second:
 * whoever has a question sends it with the connection.  Until then others wait in the kernel's queue.  So a crowd that says
 * nothing, or half of something, keeps nobody out, nor does one that never stops asking, for while it is full each answer is
 * the last of its connection (http.c).  A browser that keeps its connection for its next question makes a new one if it must.
 */
#include "admin/http_crowd.h"

#include <stdlib.h>
#include <sys/queue.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include <event2/bufferevent.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/memory.h"
#include "net/timer.h"

#define SILENCE_US (CLOCK_S / 4) /* then it gives way to somebody else */
#define SWEEP_US   (CLOCK_S / 2)
#define FULL_US    (5 * CLOCK_MS) /* the same while somebody may be waiting for a place */

struct guest {
    TAILQ_ENTRY(guest) link;
    struct bufferevent *newcomer; /* until its descriptor is known, in the same turn of the loop */
    int fd;
    ino_t inode;
    int64_t since_us; /* it has come, or has asked for something */
};

TAILQ_HEAD(guest_list, guest);

struct http_crowd {
    struct event *meet_event;
    struct timer *timer;
    struct guest_list guests; /* who has been silent for longest stands first, newcomers last */
    int count, most;
    int64_t patience_us;
    bool admitted; /* what `doors_changed` was told last */
    void (*doors_changed)(void *);
    void *arg;
};

bool http_crowd_admits(const struct http_crowd *crowd)
{
    return crowd->count < crowd->most;
}

static void tell_doors(struct http_crowd *crowd)
{
    if (crowd->admitted == http_crowd_admits(crowd))
        return;
    crowd->admitted = !crowd->admitted;
    crowd->doors_changed(crowd->arg);
}

static void forget(struct http_crowd *crowd, struct guest *guest)
{
    TAILQ_REMOVE(&crowd->guests, guest, link);
    crowd->count--;
    free(guest);
}

static bool is_there(const struct guest *guest)
{
    struct stat about;
    return guest->newcomer || (fstat(guest->fd, &about) == 0 && about.st_ino == guest->inode);
}

/* Again, if it is still there at the next look: that costs nothing. */
static void tell_to_go(const struct guest *guest)
{
    (void)shutdown(guest->fd, SHUT_RDWR);
}

/* ---- coming ---- */

/* Those that have just been accepted: evhttp has set their descriptors meanwhile, and has not heard of them yet. */
static void meet_newcomers(evutil_socket_t fd, short what, void *arg)
{
    struct http_crowd *crowd = arg;
    struct stat about;
    (void)fd;
    (void)what;
    for (struct guest *next, *guest = TAILQ_FIRST(&crowd->guests); guest; guest = next) {
        next = TAILQ_NEXT(guest, link);
        if (!guest->newcomer)
            continue;
        guest->fd = bufferevent_getfd(guest->newcomer);
        guest->newcomer = NULL;
        if (fstat(guest->fd, &about) == 0)
            guest->inode = about.st_ino;
        else
            forget(crowd, guest);
    }
    tell_doors(crowd);
}

static struct bufferevent *welcome(struct event_base *base, void *arg)
{
    struct http_crowd *crowd = arg;
    struct bufferevent *newcomer = bufferevent_socket_new(base, -1, 0);
    if (!newcomer)
        return NULL; /* evhttp asks for the same itself, and drops the connection when that fails */
    struct guest *guest = memory_alloc(sizeof(*guest));
    *guest = (struct guest){.newcomer = newcomer, .fd = -1, .since_us = clock_now_us()};
    TAILQ_INSERT_TAIL(&crowd->guests, guest, link);
    event_active(crowd->meet_event, EV_TIMEOUT, 0);
    if (crowd->count++ == 0)
        timer_set(crowd->timer, SWEEP_US);
    if (http_crowd_admits(crowd))
        return newcomer;
    log_event(LOG_LEVEL_WARNING, "all places are taken: who is silent gives way",
              LOG_FIELD_TEXT("protocol", "http"), LOG_FIELD_NUMBER("connections", crowd->count));
    timer_set(crowd->timer, FULL_US);
    tell_doors(crowd);
    return newcomer;
}

void http_crowd_note_request(struct http_crowd *crowd, struct evhttp_request *request)
{
    struct evhttp_connection *connection = evhttp_request_get_connection(request);
    int fd = bufferevent_getfd(evhttp_connection_get_bufferevent(connection));
    struct guest *guest;
    TAILQ_FOREACH (guest, &crowd->guests, link) {
        if (guest->fd == fd && is_there(guest))
            break;
    }
    if (!guest)
        return;
    guest->since_us = clock_now_us();
    TAILQ_REMOVE(&crowd->guests, guest, link);
    TAILQ_INSERT_TAIL(&crowd->guests, guest, link);
}

/* ---- going ---- */

static void sweep(void *arg)
{
    struct http_crowd *crowd = arg;
    int64_t now_us = clock_now_us();
    for (struct guest *next, *guest = TAILQ_FIRST(&crowd->guests); guest; guest = next) {
        next = TAILQ_NEXT(guest, link);
        if (!is_there(guest))
            forget(crowd, guest);
        else if (!guest->newcomer && now_us - guest->since_us >= crowd->patience_us)
            tell_to_go(guest);
    }
    struct guest *first = TAILQ_FIRST(&crowd->guests);
    if (crowd->count >= crowd->most && !first->newcomer && now_us - first->since_us >= SILENCE_US)
        tell_to_go(first);
    tell_doors(crowd);
    if (crowd->count > 0)
        timer_set(crowd->timer, http_crowd_admits(crowd) ? SWEEP_US : FULL_US);
}

/* ---- the whole ---- */

struct http_crowd *http_crowd_new(struct event_base *base, int most, int64_t patience_us,
                                  void (*doors_changed)(void *), void *arg)
{
    struct http_crowd *crowd = memory_alloc(sizeof(*crowd));
    *crowd = (struct http_crowd){.most = most,
                                 .patience_us = patience_us,
                                 .admitted = true,
                                 .doors_changed = doors_changed,
                                 .arg = arg};
    TAILQ_INIT(&crowd->guests);
    crowd->meet_event = event_new(base, -1, 0, meet_newcomers, crowd);
    crowd->timer = timer_new(base, sweep, crowd);
    return crowd;
}

void http_crowd_watch(struct http_crowd *crowd, struct evhttp *server)
{
    evhttp_set_bevcb(server, welcome, crowd);
}

void http_crowd_free(struct http_crowd *crowd)
{
    if (!crowd)
        return;
    while (!TAILQ_EMPTY(&crowd->guests))
        forget(crowd, TAILQ_FIRST(&crowd->guests));
    event_free(crowd->meet_event);
    timer_free(crowd->timer);
    free(crowd);
}
