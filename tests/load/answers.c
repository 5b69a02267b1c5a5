/*
 * answers.c - hundreds of connections that ask at once, and look whether each gets its own answers.
 *
 *     answers --port 6432 [--host 127.0.0.1] [--user app] [--database app] [--clients 200] [--seconds 10] [--answers N] [--seed 1]
 *
 * One loop, sockets that do not block.  What is asked, and what must come, is questions.c's.  Meanwhile connections go away in
 * the middle of an answer, politely or not, and cancel what they have asked; only who has cancelled may be told so.
 * Connections that end because somebody kills backends are counted and made anew; so are logins that are refused.
 *
 * It runs for so many seconds, and on until so many answers have come.  The login must ask for nothing (trust).  A line of
 * counts goes to stderr each 10 s; the last one, as JSON, to stdout.  Status 1 when one answer was wrong or never came.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "proto/build.h"
#include "questions.h"

#define PATIENCE_S 90   /* an answer that takes longer will never come */
#define RETRY_S    0.05 /* between two logins of one client */
#define READ_BYTES 65536u
#define EVENTS     256
#define KEY_BYTES  8

enum state { AWAY, OPENING, ASKING };

struct client {
    struct asker asker; /* first: what an event points to is a client, or a cancel */
    int id;
    int fd;
    enum state state;
    double since;      /* the last byte, or when it went away */
    long vanish_after; /* so many bytes of the answer; -1: it stays */
    int cancels;       /* that are on their way */
    int pardons;       /* questions that a cancel which has arrived may still hit */
    uint8_t key[KEY_BYTES];
    struct buffer in;
    struct buffer out;
};

/* A CancelRequest's connection, until the other side has closed it. */
struct cancel {
    int fd;
    struct client *client; /* NULL: it has gone away, and what comes after it must not be hit */
    struct cancel *next;
};

static struct {
    long questions, wrong, never, connects, disconnects, cancels, cancelled, lost, refused;
} counts;

static struct {
    const char *host, *user, *database;
    long port, clients, answers, seed;
    double seconds;
} options = {"127.0.0.1", "app", "app", 6432, 200, 0, 1, 10};

static int epoll;
static double now;
static struct sockaddr_in address;
static struct client *clients;
static struct cancel *cancels;
static volatile sig_atomic_t must_end;

static void look_at_clock(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    now = (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

/* ---- connections ---- */

static int open_socket(void)
{
    int on = 1;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    if (connect(fd, (struct sockaddr *)&address, sizeof(address)) < 0 && errno != EINPROGRESS) {
        close(fd);
        return -1;
    }
    return fd;
}

static void watch(int fd, int how, uint32_t events, void *what)
{
    struct epoll_event event = {.events = events, .data.ptr = what};
    epoll_ctl(epoll, how, fd, &event);
}

static void go_away(struct client *client)
{
    for (struct cancel *cancel = cancels; cancel; cancel = cancel->next) {
        if (cancel->client == client)
            cancel->client = NULL;
    }
    close(client->fd);
    buffer_free(&client->in);
    buffer_free(&client->out);
    client->fd = -1;
    client->state = AWAY;
    client->since = now;
}

static void come(struct client *client)
{
    client->since = now;
    client->fd = open_socket();
    if (client->fd < 0) {
        counts.refused++;
        return;
    }
    questions_begin(&client->asker, client->id);
    client->cancels = client->pardons = 0;
    client->vanish_after = -1;
    client->state = OPENING;
    char name[32];
    snprintf(name, sizeof(name), "answers %d", client->id);
    const char *parameters[] = {"user",           options.user,       "database",
                                options.database, "application_name", name};
    size_t length = 9;
    for (size_t i = 0; i < sizeof(parameters) / sizeof(parameters[0]); i++)
        length += strlen(parameters[i]) + 1;
    build_u32(&client->out, (uint32_t)length);
    build_u32(&client->out, 3u << 16);
    for (size_t i = 0; i < sizeof(parameters) / sizeof(parameters[0]); i++)
        build_text(&client->out, parameters[i]);
    build_u8(&client->out, 0);
    watch(client->fd, EPOLL_CTL_ADD, EPOLLIN | EPOLLOUT, client);
    counts.connects++;
}

/* As a program that is killed, one whose host is reset, or one that says goodbye in the middle. */
static void vanish(struct client *client)
{
    static const uint8_t goodbye[] = {'X', 0, 0, 0, 4};
    struct linger reset = {1, 0};
    switch (questions_below(3)) {
    case 0:
        setsockopt(client->fd, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset));
        break;
    case 1:
        if (send(client->fd, goodbye, sizeof(goodbye), MSG_NOSIGNAL) < 0)
            break;
        break;
    default:
        break;
    }
    counts.disconnects++;
    go_away(client);
}

static void send_cancel(struct client *client)
{
    struct buffer request = {0};
    int fd = open_socket();
    if (fd < 0)
        return;
    build_u32(&request, 8 + KEY_BYTES);
    build_u32(&request, 80877102);
    buffer_append(&request, client->key, KEY_BYTES);
    struct cancel *cancel = calloc(1, sizeof(*cancel));
    *cancel = (struct cancel){fd, client, cancels};
    if (send(fd, buffer_bytes(&request), buffer_length(&request), MSG_NOSIGNAL) < 0) {
        close(fd); /* it was not connected at once: no harm */
        free(cancel);
    } else {
        cancels = cancel;
        client->cancels++;
        client->asker.may_be_hit = true;
        counts.cancels++;
        watch(fd, EPOLL_CTL_ADD, EPOLLIN, NULL);
    }
    buffer_free(&request);
}

/* Those that the other side has closed: from now on only what is on its way may still be hit. */
static void sweep_cancels(void)
{
    char byte;
    for (struct cancel **place = &cancels; *place;) {
        struct cancel *cancel = *place;
        ssize_t got = recv(cancel->fd, &byte, 1, MSG_DONTWAIT);
        if (got < 0 && (errno == EAGAIN || errno == EINTR)) {
            place = &cancel->next;
            continue;
        }
        if (cancel->client) {
            cancel->client->cancels--;
            cancel->client->pardons = 2;
        }
        *place = cancel->next;
        close(cancel->fd);
        free(cancel);
    }
}

/* ---- asking ---- */

static void ask(struct client *client)
{
    if (client->cancels == 0 && client->pardons > 0 && --client->pardons == 0)
        client->asker.may_be_hit = false;
    bool is_slow = questions_ask(&client->asker, &client->out);
    counts.questions++;
    if (is_slow || questions_chance(3))
        send_cancel(client);
    client->vanish_after = questions_chance(15) ? questions_below(300) : -1;
    client->state = ASKING;
}

static void flush(struct client *client)
{
    while (buffer_length(&client->out) > 0) {
        ssize_t sent =
            send(client->fd, buffer_bytes(&client->out), buffer_length(&client->out), MSG_NOSIGNAL);
        if (sent <= 0)
            break; /* an error shows when it is read */
        buffer_consume(&client->out, (size_t)sent);
    }
    watch(client->fd, EPOLL_CTL_MOD,
          EPOLLIN | (buffer_length(&client->out) > 0 ? (uint32_t)EPOLLOUT : 0), client);
    if (client->vanish_after == 0)
        vanish(client);
}

/* False when the connection has gone away. */
static bool take_login(struct client *client, char kind, const uint8_t *body, size_t length)
{
    if (kind == 'K' && length == KEY_BYTES) {
        memcpy(client->key, body, KEY_BYTES);
    } else if (kind == 'Z') {
        ask(client);
        flush(client);
        return client->state != AWAY;
    } else if (kind == 'E') {
        counts.refused++;
        go_away(client);
        return false;
    }
    return true;
}

static bool take(struct client *client, char kind, const uint8_t *body, size_t length)
{
    if (client->state == OPENING)
        return take_login(client, kind, body, length);
    switch (questions_check(&client->asker, kind, body, length)) {
    case ANSWER_RIGHT:
        return true;
    case ANSWER_CANCELLED:
        counts.cancelled++;
        return true;
    case ANSWER_COMPLETE:
        ask(client);
        flush(client);
        return client->state != AWAY;
    case ANSWER_WRONG:
        counts.wrong++;
        break;
    case ANSWER_REFUSED:
        counts.refused++;
        break;
    case ANSWER_LOST:
        counts.lost++;
        break;
    }
    go_away(client);
    return false;
}

static void read_answers(struct client *client)
{
    ssize_t got = recv(client->fd, buffer_reserve(&client->in, READ_BYTES), READ_BYTES, 0);
    if (got < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (got <= 0) { /* backends are killed, and pgreserve replaced: never for more */
        counts.lost++;
        go_away(client);
        return;
    }
    buffer_added(&client->in, (size_t)got);
    client->since = now;
    while (buffer_length(&client->in) >= 5) {
        const uint8_t *bytes = buffer_bytes(&client->in);
        size_t whole = (size_t)read_u32(bytes + 1) + 1;
        if (buffer_length(&client->in) < whole)
            break;
        if (!take(client, (char)bytes[0], bytes + 5, whole - 5))
            return;
        buffer_consume(&client->in, whole);
    }
    if (client->vanish_after > 0 && (client->vanish_after -= got) <= 0)
        vanish(client);
}

/* ---- the loop ---- */

static void sweep_clients(void)
{
    for (long i = 0; i < options.clients; i++) {
        struct client *client = &clients[i];
        if (client->state == AWAY && now - client->since > RETRY_S)
            come(client);
        if (client->state != AWAY && now - client->since > PATIENCE_S) {
            fprintf(stderr, "never: connection %d has waited for %d s\n", client->id, PATIENCE_S);
            counts.never++;
            go_away(client);
        }
    }
}

static void report(FILE *file)
{
    fprintf(
        file,
        "{\"answers\": %ld, \"wrong\": %ld, \"never\": %ld, \"questions\": %ld, \"transactions\": "
        "%ld, \"connects\": %ld, \"disconnects\": %ld, \"cancels\": %ld, \"cancelled\": %ld, "
        "\"lost\": %ld, \"refused\": %ld}\n",
        questions_answered, counts.wrong, counts.never, counts.questions, questions_transactions,
        counts.connects, counts.disconnects, counts.cancels, counts.cancelled, counts.lost,
        counts.refused);
    fflush(file);
}

static void run(void)
{
    struct epoll_event events[EVENTS];
    look_at_clock();
    double started = now;
    double shown = now;
    double swept = 0;
    while (!must_end && (now - started < options.seconds || questions_answered < options.answers)) {
        int count = epoll_wait(epoll, events, EVENTS, 20);
        look_at_clock();
        for (int i = 0; i < count; i++) {
            struct client *client = events[i].data.ptr;
            if (!client || client->state == AWAY)
                continue;
            if (events[i].events & EPOLLOUT)
                flush(client);
            if (client->state != AWAY && (events[i].events & (EPOLLIN | EPOLLERR | EPOLLHUP)))
                read_answers(client);
        }
        sweep_cancels();
        if (now - swept > RETRY_S)
            sweep_clients();
        swept = now - swept > RETRY_S ? now : swept;
        if (now - shown > 10)
            report(stderr);
        shown = now - shown > 10 ? now : shown;
    }
}

static void on_signal(int number)
{
    (void)number;
    must_end = 1;
}

static void read_options(int argc, char **argv)
{
    for (int i = 1; i + 1 < argc; i += 2) {
        const char *value = argv[i + 1];
        if (strcmp(argv[i], "--host") == 0)
            options.host = value;
        else if (strcmp(argv[i], "--user") == 0)
            options.user = value;
        else if (strcmp(argv[i], "--database") == 0)
            options.database = value;
        else if (strcmp(argv[i], "--port") == 0)
            options.port = atol(value);
        else if (strcmp(argv[i], "--clients") == 0)
            options.clients = atol(value);
        else if (strcmp(argv[i], "--seconds") == 0)
            options.seconds = atof(value);
        else if (strcmp(argv[i], "--answers") == 0)
            options.answers = atol(value);
        else if (strcmp(argv[i], "--seed") == 0)
            options.seed = atol(value);
        else
            argc = -1;
    }
    if (argc % 2 == 1 && options.clients > 0)
        return;
    fprintf(stderr, "usage: answers --port PORT [--OPTION VALUE]..., see the head of answers.c\n");
    exit(2);
}

int main(int argc, char **argv)
{
    read_options(argc, argv);
    questions_seed((uint64_t)options.seed);
    address.sin_family = AF_INET;
    address.sin_port = htons((uint16_t)options.port);
    if (inet_pton(AF_INET, options.host, &address.sin_addr) != 1)
        return 2;
    signal(SIGTERM, on_signal);
    signal(SIGINT, on_signal);
    epoll = epoll_create1(EPOLL_CLOEXEC);
    clients = calloc((size_t)options.clients, sizeof(*clients));
    for (long i = 0; i < options.clients; i++) {
        clients[i].id = (int)i;
        clients[i].fd = -1;
    }
    run();
    report(stdout);
    return counts.wrong > 0 || counts.never > 0;
}
