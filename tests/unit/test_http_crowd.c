/*
 * Who is connected over HTTP: a user would lose health checks and metrics to whoever opens connections and says nothing,
 * or says something slowly.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include <event2/buffer.h>
#include <event2/event.h>
#include <event2/http.h>
#include <event2/listener.h>

#include "admin/http_crowd.h"
#include "base/clock.h"
#include "base/log.h"

#define MOST     4
#define PATIENCE (CLOCK_S / 2)

struct place {
    struct event_base *base;
    struct evhttp *server;
    struct evhttp_bound_socket *bound;
    struct http_crowd *crowd;
    struct sockaddr_in address;
};

static void set_door(void *arg)
{
    const struct place *place = arg;
    struct evconnlistener *door = evhttp_bound_socket_get_listener(place->bound);
    if (http_crowd_admits(place->crowd))
        evconnlistener_enable(door);
    else
        evconnlistener_disable(door);
}

static void on_request(struct evhttp_request *request, void *arg)
{
    const struct place *place = arg;
    http_crowd_note_request(place->crowd, request);
    evhttp_send_reply(request, 200, "OK", NULL);
}

static int begin(void **state)
{
    struct place *place = calloc(1, sizeof(*place));
    socklen_t length = sizeof(place->address);
    log_threshold = LOG_LEVEL_ERROR;
    place->base = event_base_new();
    place->server = evhttp_new(place->base);
    place->bound = evhttp_bind_socket_with_handle(place->server, "127.0.0.1", 0);
    place->crowd = http_crowd_new(place->base, MOST, PATIENCE, set_door, place);
    http_crowd_watch(place->crowd, place->server);
    evhttp_set_gencb(place->server, on_request, place);
    getsockname(evhttp_bound_socket_get_fd(place->bound), (struct sockaddr *)&place->address,
                &length);
    *state = place;
    return 0;
}

static int end(void **state)
{
    struct place *place = *state;
    evhttp_free(place->server);
    http_crowd_free(place->crowd);
    event_base_loop(place->base, EVLOOP_NONBLOCK);
    event_base_free(place->base);
    free(place);
    return 0;
}

static int connect_to(const struct place *place)
{
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(connect(fd, (const struct sockaddr *)&place->address, sizeof(place->address)),
                     0);
    return fd;
}

/* Whether its other end has been closed. */
static bool has_ended(int fd)
{
    char bytes[4096];
    for (;;) {
        ssize_t got = recv(fd, bytes, sizeof(bytes), MSG_DONTWAIT);
        if (got > 0)
            continue;
        return got == 0 || errno == ECONNRESET;
    }
}

static void say(int fd, const char *what)
{
    (void)send(fd, what, strlen(what), MSG_NOSIGNAL);
}

static void turn(const struct place *place)
{
    event_base_loop(place->base, EVLOOP_NONBLOCK);
    usleep(1000);
}

/* The request never ends, though it never stops either. */
static void test_slow_request_is_ended(void **state)
{
    const struct place *place = *state;
    int fd = connect_to(place);
    say(fd, "GET / HTTP/1.1\r\nX: ");
    for (int turns = 0; !has_ended(fd); turns++) {
        assert_in_range(turns, 0, 60000);
        say(fd, "x");
        turn(place);
    }
    close(fd);
}

/* A connection that is used is not ended, however long it lasts. */
static void test_who_asks_again_and_again_stays(void **state)
{
    const struct place *place = *state;
    char answer[1024];
    int fd = connect_to(place);
    int64_t end_us = clock_now_us() + 4 * PATIENCE;
    while (clock_now_us() < end_us) {
        say(fd, "GET / HTTP/1.1\r\n\r\n");
        for (int turns = 0; recv(fd, answer, sizeof(answer), MSG_DONTWAIT) <= 0; turns++) {
            assert_in_range(turns, 0, 10000);
            turn(place);
        }
    }
    close(fd);
}

static void test_silent_give_way_and_the_rest_stays(void **state)
{
    const struct place *place = *state;
    int crowd[3 * MOST];
    int left = 3 * MOST;
    for (int i = 0; i < 3 * MOST; i++)
        crowd[i] = connect_to(place);
    int fd = connect_to(place);
    char answer[1024];
    say(fd, "GET / HTTP/1.1\r\n\r\n");
    for (int turns = 0; recv(fd, answer, sizeof(answer), MSG_DONTWAIT) <= 0; turns++) {
        assert_in_range(turns, 0, 60000);
        assert_false(has_ended(fd));
        turn(place);
    }
    for (int i = 0; i < 3 * MOST; i++) {
        left -= has_ended(crowd[i]);
        close(crowd[i]);
    }
    assert_in_range(left, 0, MOST - 1);
    close(fd);
}

/* A number that has become another's: the one that had it before is not taken for it. */
static void test_places_come_free(void **state)
{
    const struct place *place = *state;
    for (int round = 0; round < 5 * MOST; round++) {
        int fd = connect_to(place);
        char answer[1024];
        say(fd, "GET / HTTP/1.1\r\nConnection: close\r\n\r\n");
        for (int turns = 0; recv(fd, answer, sizeof(answer), MSG_DONTWAIT) <= 0; turns++) {
            assert_in_range(turns, 0, 10000);
            turn(place);
        }
        close(fd);
    }
    for (int turns = 0; !http_crowd_admits(place->crowd); turns++) {
        assert_in_range(turns, 0, 10000);
        turn(place);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_slow_request_is_ended, begin, end),
        cmocka_unit_test_setup_teardown(test_who_asks_again_and_again_stays, begin, end),
        cmocka_unit_test_setup_teardown(test_silent_give_way_and_the_rest_stays, begin, end),
        cmocka_unit_test_setup_teardown(test_places_come_free, begin, end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
