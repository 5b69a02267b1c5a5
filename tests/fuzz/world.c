/*
 * world.c - a whole proxy in the fuzzer's process: see world.h.
 */
#include "world.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "admin/console.h"
#include "base/log.h"
#include "base/memory.h"
#include "fuzz.h"
#include "proto/build.h"
#include "proto/startup.h"
#include "proxy/control.h"

#define CAP        6
#define TURNS_MOST 2000 /* a world that does not come to rest is a loop without end */
#define START_US   (1000 * CLOCK_S)
#define REST_STEPS 8
#define REST_US    (10 * CLOCK_S)
#define JOBS       32

#define QUERY_TIMEOUT_S 20

static struct {
    int64_t now_us;
    uint64_t random;
    struct fake_server *server;
    struct world *world;
    struct {
        void (*work)(void *);
        void (*done)(void *);
        void *arg;
    } jobs[JOBS];
    int job_count;
} fate; /* what the functions below stand in for is global too */

/* ---- the clock, chance and threads: linked with --wrap ---- */

int __wrap_clock_gettime(clockid_t clock, struct timespec *time);
int __wrap_timerfd_create(int clock, int flags);
ssize_t __wrap_getrandom(void *out, size_t length, unsigned flags);
void __wrap_workers_submit(struct workers *workers, void (*work)(void *), void (*done)(void *),
                           void *arg);
PGcancel *__wrap_PQgetCancel(PGconn *conn);
void __wrap_PQfreeCancel(PGcancel *cancel);
int __wrap_PQcancel(PGcancel *cancel, char *error, int error_bytes);

int __wrap_clock_gettime(clockid_t clock, struct timespec *time)
{
    (void)clock;
    time->tv_sec = fate.now_us / CLOCK_S;
    time->tv_nsec = fate.now_us % CLOCK_S * 1000;
    return 0;
}

/* The kernel's timers have a clock of their own: libevent's take their place. */
int __wrap_timerfd_create(int clock, int flags)
{
    (void)clock;
    (void)flags;
    errno = EMFILE;
    return -1;
}

ssize_t __wrap_getrandom(void *out, size_t length, unsigned flags)
{
    uint8_t *at = out;
    (void)flags;
    for (size_t i = 0; i < length; i++) {
        fate.random = fate.random * 6364136223846793005u + 1442695040888963407u;
        at[i] = (uint8_t)(fate.random >> 56);
    }
    return (ssize_t)length;
}

void __wrap_workers_submit(struct workers *workers, void (*work)(void *), void (*done)(void *),
                           void *arg)
{
    (void)workers;
    fuzz_claim(fate.job_count < JOBS, "more than %d jobs wait", JOBS);
    fate.jobs[fate.job_count].work = work;
    fate.jobs[fate.job_count].done = done;
    fate.jobs[fate.job_count++].arg = arg;
}

PGcancel *__wrap_PQgetCancel(PGconn *conn)
{
    int *pid = malloc(sizeof(*pid));
    if (!pid)
        abort();
    *pid = PQbackendPID(conn);
    return (PGcancel *)pid;
}

void __wrap_PQfreeCancel(PGcancel *cancel)
{
    free(cancel);
}

int __wrap_PQcancel(PGcancel *cancel, char *error, int error_bytes)
{
    int pid;
    (void)error;
    (void)error_bytes;
    memcpy(&pid, cancel, sizeof(pid));
    fake_server_cancel(fate.server, pid);
    return 1;
}

static bool run_jobs(void)
{
    int count = fate.job_count;
    if (count == 0 || fate.world->holds_cancels)
        return false;
    for (int i = 0; i < count; i++) {
        fate.jobs[i].work(fate.jobs[i].arg);
        fate.jobs[i].done(fate.jobs[i].arg);
    }
    memmove(fate.jobs, fate.jobs + count, (size_t)(fate.job_count - count) * sizeof(fate.jobs[0]));
    fate.job_count -= count;
    return true;
}

/* ---- beginning ---- */

static char *write_config(const struct world *world, int size, int max_overflow)
{
    return memory_printf(
        "[pgreserve]\ntotal_connections = %d\nshutdown_timeout = 5\n"
        "[database:*]\nurl = host=%s port=5432 user=fuzz dbname=app\n"
        "[pool:automation]\nlisten = unix:%s:6432\nsize = %d\nmax_overflow = %d\ntimeout = 4\n"
        "recycle = 60\nconnect_timeout = 5\nquery_timeout = %d\nidle_in_transaction_timeout = 25\n"
        "[pool:adhoc]\nlisten = unix:%s:6433\nsize = 2\nmax_overflow = 0\nreserved = 2\n"
        "timeout = 4\n"
        "[admin]\nlisten = unix:%s:6434\nhttp =\nusers = fuzz\n[auth]\nmethod = trust\n",
        CAP, world->server.name, world->directory, size, max_overflow, QUERY_TIMEOUT_S,
        world->directory, world->directory);
}

static struct config *make_config(const struct world *world, int size, int max_overflow)
{
    struct config_errors errors = {0};
    char *text = write_config(world, size, max_overflow);
    struct config *config = config_parse("fuzz.ini", text, &errors);
    for (size_t i = 0; i < errors.count; i++)
        fprintf(stderr, "%s\n", errors.items[i]);
    fuzz_claim(config != NULL, "the world's configuration is good");
    config_errors_free(&errors);
    free(text);
    return config;
}

static int lowest_free_fd(void)
{
    int fd = dup(0);
    close(fd);
    return fd;
}

static char directory[64];

static void remove_directory(void)
{
    rmdir(directory);
}

/* Once in the process: what is made then stays (OpenSSL's and libpq's own descriptors and memory). */
static void prepare(struct world *world)
{
    static bool is_prepared;
    /* sockets are made ten times faster in memory */
    snprintf(world->directory, sizeof(world->directory), "%s/pgreserve-fuzz-%d",
             access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp", (int)getpid());
    if (is_prepared)
        return;
    is_prepared = true;
    memcpy(directory, world->directory, sizeof(directory));
    if (open("/dev/null", O_RDWR) == 0) /* a descriptor 0, should it be missing */
        fprintf(stderr, "descriptor 0 was closed\n");
    log_setup((enum log_level)(getenv("FUZZ_LOG") ? LOG_LEVEL_DEBUG : LOG_LEVEL_ERROR + 1), false);
    atexit(remove_directory);
    if (mkdir(world->directory, 0700) < 0 && errno != EEXIST) {
        perror(world->directory);
        abort();
    }
}

struct world *world_new(void)
{
    struct world *world = memory_alloc(sizeof(*world));
    memset(&fate, 0, sizeof(fate));
    fate.now_us = START_US;
    fate.world = world;
    fate.server = &world->server;
    prepare(world);
    world->first_fd = lowest_free_fd();
    for (int i = 0; i < WORLD_CLIENTS; i++) {
        world->clients[i].fd = -1;
        world->clients[i].number = i;
    }
    fake_server_start(&world->server);
    struct event_config *choice = event_config_new();
    event_config_set_flag(choice, EVENT_BASE_FLAG_NOLOCK);
    world->base = event_base_new_with_config(choice);
    event_config_free(choice);
    world->proxy = proxy_new(make_config(world, 2, 2), world->base);
    console_install(world->proxy);
    log_setup((enum log_level)(getenv("FUZZ_LOG") ? LOG_LEVEL_DEBUG : LOG_LEVEL_ERROR + 1), false);
    fuzz_claim(proxy_start(world->proxy), "the proxy starts");
    world_pass_time(world, 0);
    return world;
}

/* ---- clients ---- */

bool world_connect(struct world *world, int number, enum world_door door)
{
    struct world_client *client = &world->clients[number];
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    if (client->fd >= 0)
        return false;
    snprintf(address.sun_path, sizeof(address.sun_path), "%s/.s.PGSQL.%d", world->directory,
             6432 + (int)door);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (connect(fd, (struct sockaddr *)&address, sizeof(address)) < 0) {
        close(fd); /* the proxy is stopping */
        return false;
    }
    int next_mark = client->next_mark;
    *client = (struct world_client){
        .fd = fd, .number = number, .door = door, .next_mark = next_mark, .last_mark = -1};
    return true;
}

void world_send(struct world *world, int number, const void *bytes, size_t length)
{
    if (world->clients[number].fd >= 0)
        buffer_append(&world->clients[number].out, bytes, length);
}

void world_log_in(struct world *world, int number, const char *database, const char *application)
{
    struct buffer packet = {0};
    const char *pairs[] = {"user", "fuzz", "database", database, "application_name", application};
    build_u32(&packet, 0);
    build_u32(&packet, 3 << 16);
    for (size_t i = 0; i < sizeof(pairs) / sizeof(pairs[0]); i++)
        build_text(&packet, pairs[i]);
    build_u8(&packet, 0);
    uint8_t *bytes = buffer_bytes(&packet);
    bytes[3] = (uint8_t)buffer_length(&packet);
    world_send(world, number, bytes, buffer_length(&packet));
    buffer_free(&packet);
}

void world_enter(struct world *world, int number, enum world_door door, const char *database,
                 const char *application)
{
    world_connect(world, number, door);
    world_log_in(world, number, database, application);
    world_turn(world);
}

void world_query(struct world *world, int number, const char *sql)
{
    struct buffer message = {0};
    build_query(&message, sql);
    world_send(world, number, buffer_bytes(&message), buffer_length(&message));
    buffer_free(&message);
}

void world_leave(struct world *world, int number)
{
    struct world_client *client = &world->clients[number];
    if (client->fd < 0)
        return;
    close(client->fd);
    client->fd = -1;
    buffer_free(&client->in);
    buffer_free(&client->out);
}

void world_cancel(struct world *world, int number)
{
    struct world_client *client = &world->clients[number];
    struct buffer packet = {0};
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    if (client->fd < 0 || !client->has_key)
        return;
    client->asked_cancel = true;
    snprintf(address.sun_path, sizeof(address.sun_path), "%s/.s.PGSQL.6432", world->directory);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    build_u32(&packet, (uint32_t)(12 + client->key_bytes));
    build_u32(&packet, STARTUP_CANCEL_REQUEST);
    build_u32(&packet, client->key_pid);
    buffer_append(&packet, client->key_secret, client->key_bytes);
    if (connect(fd, (struct sockaddr *)&address, sizeof(address)) == 0 &&
        send(fd, buffer_bytes(&packet), buffer_length(&packet), MSG_NOSIGNAL) < 0)
        perror("a cancel could not be sent");
    buffer_free(&packet);
    event_base_loop(world->base, EVLOOP_NONBLOCK);
    close(fd);
}

/* A row's first column is a mark and must be the client's own, newer than the last; the second is the text that ran, which
 * names whose it is unless it is everybody's: 'c<client>'. */
static void take_row(struct world_client *client, const uint8_t *body, size_t length)
{
    char mark[FAKE_MARK] = "";
    char text[FAKE_TEXT] = "";
    int owner;
    int number;
    if (length < 6)
        return;
    size_t first = read_u32(body + 2);
    if (first >= sizeof(mark) || first + 10 > length)
        return;
    memcpy(mark, body + 6, first);
    size_t second = read_u32(body + 6 + first);
    if (second < sizeof(text) && second + first + 10 <= length)
        memcpy(text, body + 10 + first, second);
    if (sscanf(mark, "m%d.%d", &owner, &number) != 2)
        return;
    fuzz_claim(owner == client->number, "client %d gets the answer %s", client->number, mark);
    fuzz_claim(number >= client->last_mark, "client %d gets %s after %d", client->number, mark,
               client->last_mark);
    client->last_mark = number;
    const char *named = strstr(text, "'c");
    fuzz_claim(!named || sscanf(named, "'c%d'", &owner) != 1 || owner == client->number,
               "client %d ran %s", client->number, text);
}

static void take_answer(struct world *world, struct world_client *client, uint8_t type,
                        const uint8_t *body, size_t length)
{
    const char *sqlstate = type == 'E' ? error_field(body, length, 'C') : NULL;
    if (type == 'Z') {
        fuzz_claim(length == 1 && strchr("ITE", body[0]) != NULL, "a ReadyForQuery is whole");
        client->ready_count++;
        client->is_ready = true;
    } else if (type == 'K' && length >= 8 && length - 4 <= sizeof(client->key_secret)) {
        client->key_pid = read_u32(body);
        client->key_bytes = length - 4;
        memcpy(client->key_secret, body + 4, client->key_bytes);
        client->has_key = true;
    } else if (type == 'D' && client->door != DOOR_ADMIN) {
        take_row(client, body, length);
    } else if (sqlstate && strcmp(sqlstate, "57014") == 0) {
        fuzz_claim(client->asked_cancel || world->may_cancel ||
                       !client->has_key, /* login_timeout */
                   "client %d is told of a cancel that it did not ask for", client->number);
    }
}

static void take_answers(struct world *world, struct world_client *client)
{
    while (buffer_length(&client->in) >= 5) {
        const uint8_t *bytes = buffer_bytes(&client->in);
        size_t length = read_u32(bytes + 1);
        fuzz_claim(length >= 4 && length < (1u << 20), "client %d is sent a length of %zu",
                   client->number, length);
        fuzz_claim(strchr("RSKZTDCIE123nstGHWdcNAVv", bytes[0]) != NULL,
                   "client %d is sent a type %u", client->number, bytes[0]);
        if (buffer_length(&client->in) < length + 1)
            return;
        take_answer(world, client, bytes[0], bytes + 5, length - 4);
        buffer_consume(&client->in, length + 1);
    }
}

static bool client_turn(struct world *world, struct world_client *client)
{
    uint8_t bytes[65536];
    bool has_moved = false;
    size_t left = buffer_length(&client->out);
    if (client->fd < 0)
        return false;
    if (client->chunk && left > client->chunk && left < FAKE_CHUNKED)
        left = client->chunk;
    ssize_t sent = left ? send(client->fd, buffer_bytes(&client->out), left, MSG_NOSIGNAL) : 0;
    if (sent > 0) {
        buffer_consume(&client->out, (size_t)sent);
        has_moved = true;
    } else if (sent < 0 && errno != EAGAIN) {
        buffer_free(&client->out);
    }
    ssize_t got = client->is_deaf ? -1 : recv(client->fd, bytes, sizeof(bytes), 0);
    if (got > 0) {
        if (!client->is_wild) {
            buffer_append(&client->in, bytes, (size_t)got);
            take_answers(world, client);
        }
        return true;
    }
    if (!client->is_deaf && (got == 0 || errno != EAGAIN)) {
        client->is_closed = true;
        world_leave(world, client->number);
        return true;
    }
    return has_moved;
}

/* ---- turns ---- */

void world_turn(struct world *world)
{
    int turns = 0;
    for (bool has_moved = true; has_moved; turns++) {
        event_base_loop(world->base, EVLOOP_NONBLOCK);
        has_moved = fake_server_turn(&world->server);
        for (int i = 0; i < WORLD_CLIENTS; i++)
            has_moved |= client_turn(world, &world->clients[i]);
        has_moved |= run_jobs();
        fuzz_claim(turns < TURNS_MOST, "the world comes to rest");
    }
    world_check(world);
}

void world_pass_time(struct world *world, int64_t us)
{
    fate.now_us += us;
    if (fate.now_us >= START_US + QUERY_TIMEOUT_S * CLOCK_S)
        world->may_cancel = true;
    world_turn(world);
}

void world_release_cancels(struct world *world)
{
    world->holds_cancels = false;
    world_turn(world);
}

void world_reload(struct world *world, int size, int max_overflow)
{
    char error[256];
    if (world->proxy->state != PROXY_RUNNING)
        return;
    proxy_adopt(world->proxy, make_config(world, size, max_overflow), error, sizeof(error));
    log_setup((enum log_level)(getenv("FUZZ_LOG") ? LOG_LEVEL_DEBUG : LOG_LEVEL_ERROR + 1), false);
}

/* ---- claims ---- */

static void check_pool(const struct proxy_pool *pool)
{
    int counted[BACKEND_STATE_COUNT] = {0};
    int waiting = 0;
    const struct server *server;
    const struct client *client;
    TAILQ_FOREACH (server, &pool->proxy->servers, link) {
        if (server->lane->pool == pool)
            counted[server->backend.state]++;
    }
    TAILQ_FOREACH (client, &pool->proxy->clients, link)
        waiting += client->pool == pool && client->waiter.lane != NULL;
    int sum = 0;
    for (int state = 0; state < BACKEND_STATE_COUNT; state++) {
        fuzz_claim(counted[state] == pool->pool.counts[state],
                   "pool %s: %d backends in state %d, counted as %d", pool->name, counted[state],
                   state, pool->pool.counts[state]);
        sum += counted[state];
    }
    fuzz_claim(sum == pool->proxy->budget.pools[pool->index].open,
               "pool %s: %d connections, %d in the budget", pool->name, sum,
               pool->proxy->budget.pools[pool->index].open);
    fuzz_claim(waiting == pool->pool.waiting, "pool %s: %d wait, counted as %d", pool->name,
               waiting, pool->pool.waiting);
}

void world_check(struct world *world)
{
    const struct proxy *proxy = world->proxy;
    const struct client *client;
    const struct server *server;
    int clients = 0;
    int servers = 0;
    TAILQ_FOREACH (client, &proxy->clients, link) {
        clients++;
        fuzz_claim(!client->server || client->server->client == client,
                   "a client's backend is its own");
        fuzz_claim((client->state == CLIENT_LINKED) <= (client->server != NULL),
                   "a linked client has a backend");
    }
    TAILQ_FOREACH (server, &proxy->servers, link) {
        servers++;
        fuzz_claim(!server->client || server->client->server == server,
                   "a backend's client is its own");
        fuzz_claim(!server->client || server->backend.state == BACKEND_BUSY,
                   "a backend with a client is busy");
    }
    fuzz_claim(clients == proxy->client_count, "%d clients, counted as %d", clients,
               proxy->client_count);
    fuzz_claim(servers == proxy->open_server_count, "%d connections, counted as %d", servers,
               proxy->open_server_count);
    fuzz_claim(servers <= CAP && world->server.most <= CAP, "%d connections, %d at the upstream",
               servers, world->server.most);
    for (size_t i = 0; i < proxy->pool_count; i++)
        check_pool(proxy->pools[i]);
}

static bool is_at_rest(const struct proxy *proxy)
{
    bool is = proxy->client_count == 0;
    for (size_t i = 0; i < proxy->pool_count; i++)
        is &= proxy->pools[i]->pool.counts[BACKEND_BUSY] == 0 &&
              proxy->pools[i]->pool.counts[BACKEND_CLEANING] == 0;
    return is;
}

static void check_rest(const struct world *world)
{
    const struct proxy *proxy = world->proxy;
    fuzz_claim(proxy->client_count == 0, "%d clients are left", proxy->client_count);
    for (size_t i = 0; i < proxy->pool_count; i++) {
        const struct proxy_pool *pool = proxy->pools[i];
        fuzz_claim(pool->clients == 0, "pool %s counts %d clients", pool->name, pool->clients);
        fuzz_claim(pool->pinned == 0, "pool %s counts %d pinned", pool->name, pool->pinned);
        fuzz_claim(pool->pool.counts[BACKEND_BUSY] == 0, "pool %s: a backend is busy", pool->name);
        fuzz_claim(pool->pool.counts[BACKEND_CLEANING] == 0, "pool %s: a backend is being cleaned",
                   pool->name);
    }
}

/* ---- the end ---- */

/* The upstream behaves again, and everybody who is still there asks for a ReadyForQuery: nobody may hang (contract 1.4). */
static void nobody_hangs(struct world *world)
{
    static const uint8_t last_words[] = {'f', 0, 0, 0, 5, 0, 'S', 0, 0, 0, 4};
    unsigned before[WORLD_CLIENTS];
    for (int i = 0; i < WORLD_CLIENTS; i++) {
        struct world_client *client = &world->clients[i];
        client->is_deaf = false;
        client->chunk = 0;
        world_send(world, i, last_words, sizeof(last_words));
    }
    world_turn(world);
    for (int i = 0; i < WORLD_CLIENTS; i++)
        before[i] = world->clients[i].ready_count;
    for (int i = 0; i < WORLD_CLIENTS; i++)
        world_send(world, i, last_words, sizeof(last_words));
    int hangs = -1;
    for (int step = 0; step < REST_STEPS && (step == 0 || hangs >= 0); step++) {
        world_pass_time(world, step == 0 ? 0 : REST_US);
        hangs = -1;
        for (int i = 0; i < WORLD_CLIENTS; i++) {
            const struct world_client *client = &world->clients[i];
            if (client->fd >= 0 && !client->is_wild && client->door != DOOR_ADMIN &&
                client->ready_count <= before[i])
                hangs = i;
        }
    }
    fuzz_claim(hangs < 0, "client %d hangs", hangs);
}

void world_end(struct world *world)
{
    struct proxy *proxy = world->proxy;
    world->may_cancel = true;
    world->holds_cancels = false;
    world->server.login = FAKE_LOGIN_OK;
    world->server.chunk = 0;
    world->server.never_sleeps = true;
    for (int i = 0; i < FAKE_BACKENDS; i++) {
        world->server.backends[i].is_stalled = false;
        fake_server_wake(&world->server.backends[i], false);
    }
    for (int i = 0; i < WORLD_CLIENTS; i++) {
        if (world->clients[i].fd >= 0 && world->clients[i].door == DOOR_ADMIN)
            shutdown(world->clients[i].fd, SHUT_WR);
    }
    world_turn(world);
    /* a PAUSE or SUSPEND ends as an operator ends it */
    control_resume(proxy, &(struct control_target){0});
    nobody_hangs(world);
    for (int i = 0; i < WORLD_CLIENTS; i++)
        world_leave(world, i);
    world_turn(world);
    for (int i = 0; i < REST_STEPS && !is_at_rest(proxy); i++)
        world_pass_time(world, REST_US);
    check_rest(world);
    proxy_stop(proxy, true);
    for (int i = 0; i < REST_STEPS && !TAILQ_EMPTY(&proxy->servers); i++)
        world_pass_time(world, CLOCK_S);
    fuzz_claim(TAILQ_EMPTY(&proxy->servers), "a connection outlives the proxy's stop");
    fuzz_claim(world->server.open == 0, "the upstream still has %d", world->server.open);
    proxy_free(proxy);
    event_base_free(world->base);
    fake_server_end(&world->server);
    fuzz_claim(lowest_free_fd() == world->first_fd, "a descriptor is left: %d, not %d",
               lowest_free_fd(), world->first_fd);
    free(world);
}
