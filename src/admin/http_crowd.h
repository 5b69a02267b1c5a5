/*
 * http_crowd.h - who is connected to the HTTP listener: how many there may be, and for how long without asking.
 */
#ifndef ADMIN_HTTP_CROWD_H
#define ADMIN_HTTP_CROWD_H

#include <stdbool.h>
#include <stdint.h>

#include <event2/event.h>
#include <event2/http.h>

struct http_crowd;

/* Never NULL; http_crowd_free() it after the last evhttp that it counts for.  There are `most` at once,
 * at least 1.  A connection's next request must be whole, and its answer taken, `patience_us` after the last one came.
 * `doors_changed(arg)` is called when http_crowd_admits() says something else than before. */
struct http_crowd *http_crowd_new(struct event_base *base, int most, int64_t patience_us,
                                  void (*doors_changed)(void *), void *arg);
/* Counts the connections of this server, which has none yet. */
void http_crowd_watch(struct http_crowd *crowd, struct evhttp *server);
/* Whether one more may be accepted. */
bool http_crowd_admits(const struct http_crowd *crowd);
/* It has asked for something, whole. */
void http_crowd_note_request(struct http_crowd *crowd, struct evhttp_request *request);
/* NULL does nothing. */
void http_crowd_free(struct http_crowd *crowd);

#endif
