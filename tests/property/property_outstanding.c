/*
 * property_outstanding.c - a backend is handed on when the server owes it nothing, and only then (contract 5).
 *
 * Beside the code under test runs a model of PostgreSQL's own message loop: errors in the extended protocol set
 * ignore_till_sync, COPY from the client reads (and ignores) Sync and Flush, CopyData outside a COPY is ignored,
 * Query and FunctionCall end with ReadyForQuery, Sync does too.  A client sends random messages, most of them as
 * drivers do, some as nobody would; the server reads them late and its answers arrive later still.  Each
 * message carries its fate (the error that it will meet) from the start, so that the truth is known at
 * every instant: a copy of the server is run to its end, and whatever it would still send is owed.
 *
 * outstanding_is_empty must agree with that truth after every message and answer, and say whose each
 * answer is, unless is_confused; and it may only be confused when the client has left the protocol, or a COPY
 * has failed with a Sync on its way.
 */
#include "proto/outstanding.h"

#include <string.h>

#include "random.h"

#define CONNECTIONS 6000
#define STEPS       60
#define QUEUE       512

struct message {
    uint8_t type;
    bool is_ours;    /* injected */
    bool will_fail;  /* its command meets an error; in a COPY, this CopyData does */
    uint8_t copies;  /* COPY FROM STDINs in it: at most 1 in an Execute, 2 in a Query */
    bool fails_late; /* fails behind its CopyInResponse, before the COPY reads anything */
    uint8_t answer;  /* of an Execute: C, s or I */
};

struct answer {
    uint8_t type;
    bool is_ours;
};

struct server {
    struct message input[QUEUE];
    size_t read, written;
    struct answer output[2 * QUEUE];
    size_t delivered, answered;
    bool is_ignoring;       /* ignore_till_sync */
    bool is_open;           /* extended messages since the last Sync or Query */
    struct message command; /* that runs the COPY */
    int copies_left;        /* this COPY and those behind it in the same Query; 0: none runs */
    bool has_broken;        /* FATAL: a message that a COPY cannot take */
};

static struct server server;
static struct server future;
static struct outstanding outstanding;
static bool may_confuse;
static int copies_expected; /* COPYs that the client has begun and not ended */
static bool sync_in_copy;
static long confused, copied, pipelined;

/* ---- the model ---- */

static void say(struct server *s, uint8_t type, bool is_ours)
{
    s->output[s->answered++] = (struct answer){type, is_ours};
}

static void fail(struct server *s, const struct message *m)
{
    say(s, 'E', m->is_ours);
    s->copies_left = 0;
    if (strchr("PBDEC", m->type))
        s->is_ignoring = true;
    else
        say(s, 'Z', m->is_ours);
}

/* The statement, or what is left of it behind a COPY, has come to its end. */
static void complete(struct server *s, const struct message *m)
{
    if (m->type == 'E') {
        say(s, m->answer, m->is_ours);
        return;
    }
    say(s, m->type == 'F' ? 'V' : 'C', m->is_ours);
    say(s, 'Z', m->is_ours);
}

static void begin_copy(struct server *s)
{
    say(s, 'G', false);
    if (s->command.fails_late)
        fail(s, &s->command);
}

static void run_command(struct server *s, const struct message *m)
{
    if (m->will_fail) {
        fail(s, m);
        return;
    }
    if (m->type == 'Q')
        say(s, 'T', m->is_ours);
    if (m->copies > 0) {
        s->command = *m;
        s->copies_left = m->copies;
        begin_copy(s);
        return;
    }
    if (m->type == 'Q' && m->is_ours)
        say(s, 'S', true);
    complete(s, m);
}

static void read_in_copy(struct server *s, const struct message *m)
{
    switch (m->type) {
    case 'd':
        if (m->will_fail)
            fail(s, &s->command);
        break;
    case 'f':
        fail(s, &s->command);
        break;
    case 'c':
        s->copies_left--;
        if (s->copies_left > 0) {
            say(s, 'C', false);
            begin_copy(s);
        } else {
            s->command.answer = 'C';
            complete(s, &s->command);
        }
        break;
    case 'S':
    case 'H':
        break;
    default:
        s->has_broken = true;
        break;
    }
}

static void read_at_top(struct server *s, const struct message *m)
{
    if (m->type == 'S')
        s->is_ignoring = false;
    if (s->is_ignoring)
        return;
    if (strchr("PBDEC", m->type))
        s->is_open = true;
    else if (strchr("SQF", m->type))
        s->is_open = false;
    switch (m->type) {
    case 'P':
    case 'B':
    case 'C':
        if (m->will_fail)
            fail(s, m);
        else
            say(s, m->type == 'P' ? '1' : m->type == 'B' ? '2' : '3', false);
        break;
    case 'D':
        if (m->will_fail) {
            fail(s, m);
            break;
        }
        if (m->fails_late)
            say(s, 't', false);
        say(s, m->answer == 'C' ? 'T' : 'n', false);
        break;
    case 'E':
    case 'Q':
    case 'F':
        run_command(s, m);
        break;
    case 'S':
        if (m->will_fail)
            fail(s, m); /* a deferred constraint */
        else
            say(s, 'Z', m->is_ours);
        break;
    default:
        break; /* CopyData, CopyDone, CopyFail outside a COPY, Flush */
    }
}

static void read_one(struct server *s)
{
    const struct message *m = &s->input[s->read++];
    if (s->copies_left > 0)
        read_in_copy(s, m);
    else
        read_at_top(s, m);
}

/* What is true at this instant, whatever has been read and delivered so far. */
static bool owes_nothing(void)
{
    memcpy(&future, &server, sizeof(server));
    while (future.read < future.written && !future.has_broken)
        read_one(&future);
    return future.delivered == future.answered && !future.is_ignoring && !future.is_open &&
           future.copies_left == 0 && !future.has_broken;
}

/* ---- the client ---- */

static void send_message(struct message m)
{
    if (server.written == QUEUE)
        return;
    if (copies_expected > 0 && !strchr("dcfH", m.type)) {
        sync_in_copy = true;
        if (m.type != 'S')
            may_confuse = true; /* perhaps in mid-COPY */
    }
    if (m.type == 'c' || m.type == 'f') {
        copies_expected -= copies_expected > 0;
    } else if (m.copies > 0) {
        copies_expected += m.copies;
        copied++;
    }
    server.input[server.written++] = m;
    if (m.is_ours)
        outstanding_injected(&outstanding, INJECTION_CLEAN);
    else
        outstanding_sent(&outstanding, m.type);
}

static struct message any_message(uint8_t type, int failures)
{
    struct message m = {.type = type, .answer = (uint8_t) "CCCsI"[random_below(5)]};
    m.will_fail = strchr("PBDECQFSd", type) && random_chance(failures);
    m.fails_late = random_chance(failures);
    return m;
}

static void send_copy_data(int failures)
{
    for (int i = random_below(4); i > 0; i--)
        send_message(any_message('d', failures));
    if (random_chance(10))
        send_message(any_message('H', 0));
    if (random_chance(10))
        send_message(any_message('S', 0));
    send_message(any_message(random_chance(80) ? 'c' : 'f', 0));
}

static void send_extended(int failures)
{
    int rounds = random_chance(20) ? random_below(12) : 1;
    pipelined += rounds > 1;
    for (int i = 0; i < rounds; i++) {
        for (const char *type = random_chance(70) ? "PBDE" : "PDBEECE"; *type; type++)
            send_message(any_message((uint8_t)*type, failures));
        if (random_chance(30))
            send_message(any_message('H', 0));
        if (random_chance(30))
            send_message(any_message('S', failures));
    }
    if (random_chance(90))
        send_message(any_message('S', failures));
}

static void send_copy(int failures)
{
    struct message copy = any_message(random_chance(50) ? 'Q' : 'E', failures);
    copy.copies = copy.type == 'Q' && random_chance(20) ? 2 : 1;
    send_message(copy);
    if (copy.type == 'E' && random_chance(60))
        send_message(any_message('S', 0)); /* as libpq does: the COPY will ignore it */
    if (random_chance(40))
        return; /* its data comes another time, after CopyInResponse or never */
    for (int i = 0; i < copy.copies; i++)
        send_copy_data(failures);
    if (copy.type == 'E')
        send_message(any_message('S', 0));
}

static void client_does_something(int failures)
{
    if (copies_expected > 0 && random_chance(90)) {
        send_copy_data(failures);
        if (random_chance(50))
            send_message(any_message('S', 0));
        return;
    }
    switch (random_below(10)) {
    case 0:
    case 1:
        send_message(any_message('Q', failures));
        break;
    case 2:
        send_message(any_message('F', failures));
        break;
    case 3:
    case 4:
    case 5:
        send_extended(failures);
        break;
    case 6:
    case 7:
        send_copy(failures);
        break;
    case 8:
        send_message(any_message((uint8_t) "PBDECSHQFdcf"[random_below(12)], failures));
        break;
    default:
        if (outstanding_is_empty(&outstanding)) { /* as the proxy does: a setting, then the query */
            struct message ours = any_message(random_chance(50) ? 'Q' : 'S', 0);
            ours.is_ours = true;
            ours.answer = 'C';
            send_message(ours);
        } else if (outstanding.is_open && copies_expected == 0) {
            struct message ours = any_message('S', 0);
            ours.is_ours = true;
            send_message(ours);
        }
        break;
    }
}

/* ---- one connection's life ---- */

static void deliver_one(void)
{
    struct answer answer = server.output[server.delivered++];
    if (random_chance(3))
        CHECK(outstanding_answered(&outstanding, 'A') == REPLY_FORWARD, "a lost notification");
    enum reply reply = outstanding_answered(&outstanding, answer.type);
    if (answer.type == 'E' && sync_in_copy)
        may_confuse = true;
    if (!outstanding.is_confused)
        CHECK((reply == REPLY_SWALLOW) == answer.is_ours, "%c goes to the wrong one", answer.type);
}

/* False when it has come to a state that nobody will reuse. */
static bool check(void)
{
    if (outstanding.is_confused) {
        CHECK(may_confuse, "confused by a client that kept to the protocol");
        confused++;
        return false;
    }
    bool is_free = owes_nothing();
    CHECK(outstanding_is_empty(&outstanding) == is_free, "the server owes %s, %u queued, open %d",
          is_free ? "nothing" : "something", outstanding.count, outstanding.is_open);
    return !server.has_broken;
}

static void live(uint64_t seed)
{
    random_start(seed);
    memset(&server, 0, sizeof(server));
    may_confuse = sync_in_copy = false;
    copies_expected = 0;
    int failures = random_chance(30) ? 0 : random_below(20);
    int eagerness = 5 + random_below(60); /* of the client, against the server's and the line's */
    for (; random_step < STEPS && server.written < QUEUE - 128; random_step++) {
        if (random_chance(eagerness))
            client_does_something(failures);
        for (int i = random_below(6); i > 0 && server.read < server.written; i--) {
            if (!server.has_broken)
                read_one(&server);
        }
        for (int i = random_below(6); i > 0 && server.delivered < server.answered; i--) {
            deliver_one();
            if (!check())
                return;
        }
        if (!check())
            return;
        if (copies_expected == 0 && owes_nothing())
            sync_in_copy = false;
    }
    while (server.read < server.written && !server.has_broken)
        read_one(&server);
    while (server.delivered < server.answered) {
        deliver_one();
        if (!check())
            return;
    }
    check();
}

int main(int argc, char **argv)
{
    uint64_t seed = seed_from(argc, argv, 20240701);
    printf("property_outstanding: seed %llu\n", (unsigned long long)seed);
    for (uint64_t run = 0; run < CONNECTIONS; run++) {
        live(seed + run);
        outstanding_free(&outstanding);
    }
    CHECK(confused < CONNECTIONS / 2, "nearly always confused");
    printf("%d connections, %ld confused, %ld copies, %ld pipelines\n", CONNECTIONS, confused,
           copied, pipelined);
    printf("%ld checks passed\n", checks_passed);
    return 0;
}
