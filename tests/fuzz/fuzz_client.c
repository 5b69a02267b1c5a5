/*
 * fuzz_client.c - any bytes from a client in every state that a client can be in, start-up and the console among them.
 *
 * The first byte says which state, the second in how small pieces the rest arrives.  Others share its pool, and must get
 * their own answers whatever it does.
 */
#include "fuzz.h"
#include "proto/build.h"
#include "world.h"

#define CULPRIT   0
#define BYSTANDER 1

enum state {
    STATE_START,
    STATE_START_ADMIN,
    STATE_IDLE,
    STATE_TRANSACTION,
    STATE_FAILED,
    STATE_COPY_IN,
    STATE_RUNNING,
    STATE_PIPELINE,
    STATE_SKIPPING,
    STATE_PINNED,
    STATE_WAITING,
    STATE_CONSOLE,
    STATES
};

/* Everybody else takes a backend of the pool for good. */
static void fill_pool(struct world *world)
{
    for (int i = BYSTANDER; i < WORLD_CLIENTS; i++) {
        world_enter(world, i, DOOR_AUTOMATION, "app", "fuzz");
        world_query(world, i, "BEGIN");
    }
    world_turn(world);
}

static void bring_about(struct world *world, enum state state)
{
    static const char *const queries[STATES] = {[STATE_TRANSACTION] = "BEGIN",
                                                [STATE_FAILED] = "BEGIN",
                                                [STATE_COPY_IN] = "COPY t FROM x",
                                                [STATE_RUNNING] = "SELECT SLEEP 'm0.1'",
                                                [STATE_PINNED] = "LISTEN something"};
    if (state == STATE_WAITING)
        fill_pool(world);
    if (state == STATE_START || state == STATE_START_ADMIN) {
        world_connect(world, CULPRIT, state == STATE_START ? DOOR_AUTOMATION : DOOR_ADMIN);
        return;
    }
    world_enter(world, CULPRIT, state == STATE_CONSOLE ? DOOR_ADMIN : DOOR_AUTOMATION,
                state == STATE_CONSOLE ? "pgreserve" : "app", "fuzz");
    if (queries[state])
        world_query(world, CULPRIT, queries[state]);
    if (state == STATE_FAILED)
        world_query(world, CULPRIT, "FAIL");
    if (state == STATE_PIPELINE || state == STATE_SKIPPING) {
        struct buffer message = {0};
        build_parse(&message, "s1", state == STATE_PIPELINE ? "SELECT $1" : "FAIL PARSE");
        build_empty(&message, 'H');
        world_send(world, CULPRIT, buffer_bytes(&message), buffer_length(&message));
        buffer_free(&message);
    }
    if (state == STATE_WAITING)
        world_query(world, CULPRIT, "SELECT 'm0.1'");
    world_turn(world);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t length)
{
    struct fuzz_input input = {bytes, length};
    struct world *world = world_new();
    enum state state = (enum state)fuzz_below(&input, STATES);
    size_t piece = fuzz_byte(&input);
    world->server.is_lenient = true;
    world->may_cancel = true;
    bring_about(world, state);
    world->clients[CULPRIT].is_wild = true;
    if (world->clients[BYSTANDER].fd < 0)
        world_enter(world, BYSTANDER, DOOR_ADHOC, "app", "fuzz");
    world->clients[CULPRIT].chunk = piece;
    world_send(world, CULPRIT, input.bytes, input.left);
    world_query(world, BYSTANDER, "SELECT 'm1.1'");
    world_turn(world);
    if (length & 1)
        world_leave(world, CULPRIT);
    world_pass_time(world, CLOCK_S);
    world_end(world);
    return 0;
}
