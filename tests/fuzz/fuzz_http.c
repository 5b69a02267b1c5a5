/*
 * fuzz_http.c - requests to the HTTP listener, which anybody on the machine may send, and the Host header's check.
 *
 * One proxy serves all inputs: what it answers must be HTTP, whatever was asked.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <sys/socket.h>
#include <unistd.h>

#include "admin/http.h"
#include "admin/http_host.h"
#include "base/memory.h"
#include "fuzz.h"
#include "world.h"

#define TURNS 200

static struct world *world;
static struct sockaddr_in address;

/* A port that is free now; between this and the listener's bind nobody else is likely to take it. */
static void choose_port(void)
{
    socklen_t length = sizeof(address);
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (bind(fd, (struct sockaddr *)&address, length) < 0 ||
        getsockname(fd, (struct sockaddr *)&address, &length) < 0)
        abort();
    close(fd);
}

static void end_world(void)
{
    http_stop(world->proxy);
    world_end(world);
}

static void begin_world(void)
{
    struct config_address *at = memory_alloc(sizeof(*at));
    choose_port();
    world = world_new();
    at->host = memory_strdup("127.0.0.1");
    at->port = ntohs(address.sin_port);
    world->proxy->config->admin_http = (struct config_address_list){at, 1};
    fuzz_claim(http_start(world->proxy), "the HTTP listener is there");
    atexit(end_world);
}

static void request(const uint8_t *bytes, size_t length)
{
    char answer[65536];
    size_t have = 0;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    const struct linger reset = {1, 0}; /* thousands a second would use up every port of ours */
    int connected;
    do /* the fuzzer's alarm interrupts it, and it goes on all the same */
        connected = connect(fd, (struct sockaddr *)&address, sizeof(address));
    while (connected < 0 && (errno == EINTR || errno == EALREADY));
    fuzz_claim(connected == 0 || errno == EISCONN, "the listener answers: %s", strerror(errno));
    setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset));
    ssize_t sent = send(fd, bytes, length, MSG_NOSIGNAL | MSG_DONTWAIT);
    shutdown(fd, SHUT_WR);
    for (int turn = 0; turn < TURNS && sent >= 0; turn++) {
        event_base_loop(world->base, EVLOOP_NONBLOCK);
        ssize_t got = recv(fd, answer + have, sizeof(answer) - have, MSG_DONTWAIT);
        if (got == 0 || (got < 0 && errno != EAGAIN))
            break;
        have += got > 0 ? (size_t)got : 0;
        if (have == sizeof(answer))
            have = 16; /* its beginning is enough */
    }
    fuzz_claim(have < 5 || memcmp(answer, "HTTP/", 5) == 0, "an answer is HTTP");
    close(fd);
    /* who has gone is noticed now and then, before there are too many */
    world_pass_time(world, 50 * CLOCK_MS);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t length)
{
    struct fuzz_input input = {bytes, length};
    uint8_t what = fuzz_byte(&input);
    if (!world)
        begin_world();
    if (what & 1) {
        char *host = fuzz_text(input.bytes, input.left);
        http_host_is_ours(host, "127.0.0.1");
        fuzz_claim(!http_host_is_ours(host, "pgreserve.example") || strlen(host) < 300,
                   "a long name is ours");
        free(host);
    } else {
        request(input.bytes, input.left);
    }
    return 0;
}
