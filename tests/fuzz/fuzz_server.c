/*
 * fuzz_server.c - any bytes from a backend in every state: idle, in the middle of an answer, in a COPY, while it answers
 * a question of ours, while nobody has it any more.
 *
 * An upstream that lies can fool its own client; it must not harm memory, counters, or clients on other backends.
 */
#include "fuzz.h"
#include "proto/build.h"
#include "world.h"

#define VICTIM    0
#define BYSTANDER 1

enum state {
    STATE_LOGIN,
    STATE_IDLE,
    STATE_RUNNING,
    STATE_TRANSACTION,
    STATE_COPY_IN,
    STATE_EXTENDED,
    STATE_SETTLING,
    STATE_ASKED,
    STATE_ABANDONED,
    STATE_PINGED,
    STATES
};

static void log_in(struct world *world, int number, enum world_door door)
{
    world_enter(world, number, door, "app", number == VICTIM ? "victim" : "fuzz");
}

static void send_extended(struct world *world)
{
    struct buffer message = {0};
    build_parse(&message, "s1", "SELECT $1");
    size_t mark = build_begin(&message, 'D');
    build_u8(&message, 'S');
    build_text(&message, "s1");
    build_end(&message, mark);
    build_empty(&message, 'S');
    world_send(world, VICTIM, buffer_bytes(&message), buffer_length(&message));
    buffer_free(&message);
}

static void hold_all(struct world *world)
{
    for (int i = 0; i < FAKE_BACKENDS; i++)
        world->server.backends[i].is_stalled = world->server.backends[i].fd >= 0;
}

/* After this the upstream has said nothing yet to what it was asked last. */
static void bring_about(struct world *world, enum state state)
{
    static const char *const queries[STATES] = {[STATE_RUNNING] = "SELECT 'm0.1'",
                                                [STATE_COPY_IN] = "COPY t FROM STDIN",
                                                [STATE_SETTLING] = "SELECT 'm0.1'",
                                                [STATE_ASKED] = "SET work_mem = '1MB'",
                                                [STATE_ABANDONED] = "SELECT SLEEP 'm0.1'"};
    if (state == STATE_LOGIN) {
        world->server.login = FAKE_LOGIN_HANGS;
        world_pass_time(world, 70 * CLOCK_S); /* the old ones are recycled */
        return;
    }
    log_in(world, VICTIM, DOOR_AUTOMATION);
    if (state == STATE_TRANSACTION)
        world_query(world, VICTIM, "BEGIN");
    if (state == STATE_COPY_IN)
        world_query(world, VICTIM, queries[state]);
    world_turn(world);
    if (state != STATE_ABANDONED)
        hold_all(world);
    if (state != STATE_COPY_IN && queries[state])
        world_query(world, VICTIM, queries[state]);
    if (state == STATE_EXTENDED)
        send_extended(world);
    world_turn(world);
    if (state == STATE_ABANDONED) {
        hold_all(world);
        world_leave(world, VICTIM);
        world_turn(world);
    }
    if (state == STATE_PINGED)
        world_pass_time(world, 6 * CLOCK_S);
}

/* The first message that the upstream had not answered is forgotten: the bytes are the answer to it. */
static void let_go(struct world *world)
{
    for (int i = 0; i < FAKE_BACKENDS; i++)
        world->server.backends[i].is_stalled = false;
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t length)
{
    struct fuzz_input input = {bytes, length};
    struct world *world = world_new();
    enum state state = (enum state)fuzz_below(&input, STATES);
    uint8_t who = fuzz_byte(&input);
    world->server.is_lenient = true;
    world->may_cancel = true;
    world->server.chunk = fuzz_byte(&input);
    bring_about(world, state);
    world->clients[VICTIM].is_wild = true;
    struct fake_backend *backend = fake_server_pick(&world->server, who);
    if (backend) {
        fake_server_say(backend, input.bytes, input.left);
        backend->is_stalled = false;
    }
    world_turn(world);
    world->server.login = FAKE_LOGIN_OK;
    let_go(world);
    world_turn(world);
    for (int i = 0; i < FAKE_BACKENDS; i++) { /* the liar is found out at last, or is gone */
        if (world->server.backends[i].fd >= 0 && &world->server.backends[i] == backend)
            fake_server_kill(&world->server, backend, NULL);
    }
    for (int i = 0; i < 10 && world->clients[BYSTANDER].last_mark < 1; i++) {
        if (world->clients[BYSTANDER].fd <
            0) /* at first, and when a login's failure has ended it */
            log_in(world, BYSTANDER, DOOR_AUTOMATION);
        world_query(world, BYSTANDER, "SELECT 'm1.1'"); /* again: the last may have met an error */
        world_pass_time(world, i * CLOCK_S);
    }
    fuzz_claim(world->clients[BYSTANDER].last_mark == 1, "another client has its answer");
    world_end(world);
    return 0;
}
