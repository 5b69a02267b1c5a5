/*
 * fuzz_conversation.c - whole conversations of several clients with a misbehaving upstream, played against the real proxy.
 *
 * An input is a program: each step is a byte that says what happens, and bytes that say to whom and how.  After each,
 * unless the step's high bit holds it back so that several things happen in one turn of the loop, everything runs until it
 * rests and world_check() looks at it; world_end() claims that nobody hangs and nothing is left.
 */
#include "fuzz.h"
#include "proto/build.h"
#include "world.h"

#define STEPS_MOST 120

#define COUNT(table) ((uint8_t)(sizeof(table) / sizeof((table)[0])))

/* ---- clients ---- */

static int pick_client(struct fuzz_input *input)
{
    return fuzz_below(input, WORLD_CLIENTS);
}

static void connect_step(struct world *world, struct fuzz_input *input)
{
    static const char *const databases[] = {"app", "dev"};
    int number = pick_client(input);
    uint8_t how = fuzz_byte(input);
    enum world_door door = how % 8 == 7 ? DOOR_ADMIN : how % 8 < 5 ? DOOR_AUTOMATION : DOOR_ADHOC;
    if (!world_connect(world, number, door))
        return;
    world->clients[number].is_wild = world->server.is_lenient;
    world_log_in(world, number, door == DOOR_ADMIN ? "pgreserve" : databases[how >> 3 & 1],
                 how & 16 ? "other" : "fuzz");
}

static void query_step(struct world *world, struct fuzz_input *input)
{
    static const char *const texts[] = {"SELECT 'm%d.%d'",
                                        "BEGIN",
                                        "COMMIT",
                                        "ROLLBACK",
                                        "SELECT FAIL 'm%d.%d'",
                                        "SELECT SLEEP 'm%d.%d'",
                                        "COPY t FROM STDIN",
                                        "COPY t TO STDOUT",
                                        "LISTEN news",
                                        "SET work_mem = '1MB'",
                                        "RESET ALL",
                                        "DISCARD ALL",
                                        "",
                                        "SELECT BIG 'm%d.%d'",
                                        "DEALLOCATE ALL",
                                        "UNLISTEN *",
                                        "SELECT pg_advisory_lock(1), 'm%d.%d'",
                                        "CREATE TEMP TABLE t (a int)",
                                        "SELECT nextval('s'), 'm%d.%d'",
                                        "INSERT INTO t VALUES (1)",
                                        "DROP DATABASE dev"};
    char text[FAKE_TEXT];
    int number = pick_client(input);
    const char *format = texts[fuzz_below(input, COUNT(texts))];
    if (strchr(format, '%'))
        snprintf(text, sizeof(text), format, number, world->clients[number].next_mark++);
    else
        snprintf(text, sizeof(text), "%s", format);
    world_query(world, number, text);
}

static void console_step(struct world *world, struct fuzz_input *input)
{
    static const char *const commands[] = {"SHOW POOLS",
                                           "SHOW HOLDERS",
                                           "RECONNECT",
                                           "PAUSE",
                                           "RESUME",
                                           "DISPOSE",
                                           "SHOW STATUS",
                                           "SHOW CLIENTS; SHOW SERVERS",
                                           "KILL",
                                           "DISABLE app",
                                           "ENABLE app",
                                           "SUSPEND",
                                           "WAIT_CLOSE",
                                           "SHOW ADVICE",
                                           "SET pool:automation.size = 3",
                                           "SHOW WAITERS"};
    int number = pick_client(input);
    const char *command = commands[fuzz_below(input, COUNT(commands))];
    if (world->clients[number].door == DOOR_ADMIN)
        world_query(world, number, command);
}

static const char *const names[] = {"", "s1", "s2", "pgreserve_0"};

static void add_text_of(struct buffer *message, const struct world_client *client, uint8_t which)
{
    static const char *const texts[] = {"SELECT $1 /* shared */",
                                        "SELECT $1, 'c%d'",
                                        "BEGIN",
                                        "COMMIT",
                                        "SELECT FAIL",
                                        "SELECT FAIL PARSE",
                                        "SELECT SLEEP",
                                        "COPY t FROM STDIN",
                                        "SET x.y = 'c%d'",
                                        "",
                                        "SELECT BIG $1, 'c%d'"};
    char text[FAKE_TEXT];
    const char *format = texts[which % COUNT(texts)];
    if (strchr(format, '%'))
        snprintf(text, sizeof(text), format, client->number);
    else
        snprintf(text, sizeof(text), "%s", format);
    build_text(message, text);
}

static void add_parse(struct buffer *message, const struct world_client *client,
                      struct fuzz_input *input)
{
    size_t mark = build_begin(message, 'P');
    build_text(message, names[fuzz_below(input, COUNT(names))]);
    add_text_of(message, client, fuzz_byte(input));
    build_u16(message, 0);
    build_end(message, mark);
}

static void add_bind(struct buffer *message, struct world_client *client, struct fuzz_input *input)
{
    char value[FAKE_MARK];
    size_t mark = build_begin(message, 'B');
    int length = snprintf(value, sizeof(value), "m%d.%d", client->number, client->next_mark++);
    build_text(message, "");
    build_text(message, names[fuzz_below(input, COUNT(names))]);
    build_u16(message, 0);
    build_u16(message, 1);
    build_u32(message, (uint32_t)length);
    buffer_append(message, value, (size_t)length);
    build_u16(message, 0);
    build_end(message, mark);
}

static void add_named(struct buffer *message, char type, uint8_t what, const char *name)
{
    size_t mark = build_begin(message, type);
    build_u8(message, what);
    build_text(message, name);
    build_end(message, mark);
}

static void add_execute(struct buffer *message)
{
    size_t mark = build_begin(message, 'E');
    build_text(message, "");
    build_u32(message, 0);
    build_end(message, mark);
}

/* One message, or a few, of the extended protocol or of COPY. */
static void extended_step(struct world *world, struct fuzz_input *input)
{
    int number = pick_client(input);
    struct world_client *client = &world->clients[number];
    struct buffer message = {0};
    uint8_t kind = fuzz_below(input, 14);
    size_t mark;
    switch (kind) {
    case 0:
    case 1:
        add_parse(&message, client, input);
        if (kind == 0)
            break;
        add_bind(&message, client, input);
        add_named(&message, 'D', 'P', "");
        add_execute(&message);
        build_empty(&message, 'S');
        break;
    case 2:
        add_bind(&message, client, input);
        break;
    case 3:
        add_named(&message, 'D', 'S', names[fuzz_below(input, COUNT(names))]);
        break;
    case 4:
        add_execute(&message);
        break;
    case 5:
        add_named(&message, 'C', 'S', names[fuzz_below(input, COUNT(names))]);
        break;
    case 6:
    case 7:
        build_empty(&message, 'S');
        break;
    case 8:
        build_empty(&message, 'H');
        break;
    case 9:
        mark = build_begin(&message, 'd');
        build_text(&message, "row");
        build_end(&message, mark);
        break;
    case 10:
        build_empty(&message, 'c');
        break;
    case 11:
        mark = build_begin(&message, 'f');
        build_text(&message, "no");
        build_end(&message, mark);
        break;
    case 12:
        add_bind(&message, client, input);
        add_execute(&message);
        build_empty(&message, 'S');
        break;
    default:
        add_named(&message, 'D', 'P', "");
        break;
    }
    world_send(world, number, buffer_bytes(&message), buffer_length(&message));
    buffer_free(&message);
}

static void client_step(struct world *world, struct fuzz_input *input)
{
    int number = pick_client(input);
    struct world_client *client = &world->clients[number];
    uint8_t what = fuzz_byte(input);
    switch (what % 6) {
    case 0:
        world_leave(world, number);
        break;
    case 1:
        world_send(world, number, "X\0\0\0\4", 5);
        break;
    case 2:
        if (client->fd >= 0)
            shutdown(client->fd, SHUT_WR);
        break;
    case 3:
        client->chunk = 1 + (size_t)(what >> 4);
        break;
    case 4:
        client->is_deaf = !client->is_deaf;
        break;
    default:
        world_cancel(world, number);
        break;
    }
}

/* ---- the upstream ---- */

static void say_aside(struct fake_backend *backend, uint8_t kind)
{
    struct buffer message = {0};
    if (!backend->is_in)
        return;
    if (kind == 0) {
        build_parameter_status(&message, "TimeZone", "Europe/Berlin");
    } else if (kind == 1) {
        build_error(&message, 'N',
                    &(struct error_fields){"NOTICE", "00000", "something happens", NULL, NULL});
    } else {
        size_t mark = build_begin(&message, 'A');
        build_u32(&message, 1);
        build_text(&message, "news");
        build_text(&message, "payload");
        build_end(&message, mark);
    }
    fake_server_say(backend, buffer_bytes(&message), buffer_length(&message));
    buffer_free(&message);
}

static void server_step(struct world *world, struct fuzz_input *input)
{
    uint8_t who = fuzz_byte(input);
    uint8_t what = fuzz_byte(input);
    struct fake_backend *backend = fake_server_pick(&world->server, who);
    if (!backend)
        return;
    switch (what % 10) {
    case 0:
        fake_server_kill(&world->server, backend, NULL);
        break;
    case 1:
        fake_server_kill(&world->server, backend, "57P01");
        break;
    case 2:
        backend->is_stalled = !backend->is_stalled;
        break;
    case 3:
    case 4:
        fake_server_wake(backend, false);
        break;
    case 5:
        backend->fails_next = true;
        break;
    default:
        say_aside(backend, what % 10 - 6);
        break;
    }
}

/* ---- what is nobody's doing ---- */

static void world_step(struct world *world, struct fuzz_input *input)
{
    static const int64_t times[] = {10 * CLOCK_MS, 150 * CLOCK_MS, CLOCK_S,       6 * CLOCK_S,
                                    11 * CLOCK_S,  35 * CLOCK_S,   2000 * CLOCK_S};
    uint8_t what = fuzz_byte(input);
    uint8_t how = what >> 3;
    switch (what % 8) {
    case 0:
    case 1:
    case 2:
    case 3:
        world_pass_time(world, times[how % COUNT(times)]);
        break;
    case 4:
        world->server.login = (enum fake_login)(how % FAKE_LOGINS);
        break;
    case 5:
        world->server.chunk = how;
        break;
    case 6:
        world->holds_cancels = !world->holds_cancels;
        break;
    default:
        world_reload(world, how % 3 + 1, how / 3 % 3);
        break;
    }
}

static void (*const steps[])(struct world *, struct fuzz_input *) = {
    connect_step, query_step,  extended_step, extended_step, query_step,
    client_step,  server_step, world_step,    console_step};

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t length)
{
    struct fuzz_input input = {bytes, length};
    struct world *world = world_new();
    for (int step = 0; input.left > 0 && step < STEPS_MOST; step++) {
        uint8_t what = fuzz_byte(&input);
        steps[(what & 0x7f) % COUNT(steps)](world, &input);
        if (!(what & 0x80))
            world_turn(world);
    }
    world_end(world);
    return 0;
}
