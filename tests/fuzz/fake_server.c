/*
 * fake_server.c - an upstream inside the fuzzer's process: see fake_server.h.
 */
#include "fake_server.h"

#include <errno.h>
#include <stddef.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "fuzz.h"
#include "proto/build.h"

#define BIG_ROWS  4
#define BIG_BYTES 60000

/* ---- answers ---- */

static void say_error(struct fake_backend *backend, const char *severity, const char *sqlstate,
                      const char *message)
{
    build_error(&backend->out, 'E',
                &(struct error_fields){severity, sqlstate, message, NULL, NULL});
}

static void say_row(struct fake_backend *backend, const char *first, const char *second,
                    size_t filling)
{
    size_t mark = build_begin(&backend->out, 'D');
    build_u16(&backend->out, filling ? 3 : 2);
    const char *columns[] = {first, second};
    for (int i = 0; i < 2; i++) {
        build_u32(&backend->out, (uint32_t)strlen(columns[i]));
        buffer_append(&backend->out, columns[i], strlen(columns[i]));
    }
    if (filling) {
        build_u32(&backend->out, (uint32_t)filling);
        memset(buffer_reserve(&backend->out, filling), 'x', filling);
        buffer_added(&backend->out, filling);
    }
    build_end(&backend->out, mark);
}

static void say_columns(struct fake_backend *backend)
{
    size_t mark = build_begin(&backend->out, 'T');
    build_u16(&backend->out, 2);
    for (int i = 0; i < 2; i++) {
        build_text(&backend->out, "column");
        build_u32(&backend->out, 0);
        build_u16(&backend->out, 0);
        build_u32(&backend->out, 25);
        build_u16(&backend->out, 0xffff);
        build_u32(&backend->out, 0xffffffff);
        build_u16(&backend->out, 0);
    }
    build_end(&backend->out, mark);
}

static void say_copy(struct fake_backend *backend, char type)
{
    size_t mark = build_begin(&backend->out, type);
    build_u8(&backend->out, 0);
    build_u16(&backend->out, 0);
    build_end(&backend->out, mark);
}

/* An error ends a transaction, and in the extended protocol what follows up to the Sync. */
static void fail(struct fake_backend *backend, bool is_extended, const char *sqlstate)
{
    say_error(backend, "ERROR", sqlstate, "as asked for");
    if (backend->status == 'T')
        backend->status = 'E';
    backend->is_copying_in = false;
    if (is_extended)
        backend->is_skipping = true;
    else
        build_ready(&backend->out, backend->status);
}

/* ---- statements ---- */

/* The first m<client>.<number> in the text; "" when it has none. */
static void find_mark(const char *text, char mark[FAKE_MARK])
{
    int client;
    int number;
    mark[0] = '\0';
    for (const char *at = text; (at = strchr(at, 'm')); at++) {
        if (sscanf(at, "m%2d.%6d", &client, &number) == 2) {
            snprintf(mark, FAKE_MARK, "m%d.%d", client, number);
            return;
        }
    }
}

static void end_portals(struct fake_backend *backend)
{
    for (int i = 0; i < FAKE_PORTALS; i++)
        backend->portals[i].is_there = false;
}

static void forget_statements(struct fake_backend *backend)
{
    for (int i = 0; i < FAKE_STATEMENTS; i++)
        backend->statements[i].is_there = false;
}

static void answer_rows(struct fake_backend *backend, const char *text, const char *mark)
{
    char seed[32] = "0";
    char pid[16];
    bool is_probe = strstr(text, "geqo_seed") != NULL;
    snprintf(pid, sizeof(pid), "%d", backend->pid);
    const char *quoted = strstr(text, "'0.");
    if (is_probe && quoted)
        backend->probe_seed = strtod(quoted + 1, NULL);
    snprintf(seed, sizeof(seed), "%.5f", backend->probe_seed);
    bool is_big = strstr(text, "BIG") != NULL;
    if (is_probe)
        say_row(backend, pid, seed, 0);
    for (int i = 0; *mark && i < (is_big ? BIG_ROWS : 1); i++)
        say_row(backend, mark, text, is_big ? BIG_BYTES : 0);
}

static bool begins(const char *text, const char *word)
{
    return strncmp(text, word, strlen(word)) == 0;
}

/* Runs it; false when it does not come to its end now: it failed, sleeps, or waits for data. */
static bool run(struct fake_server *server, struct fake_backend *backend, const char *text,
                const char *mark, bool is_extended)
{
    bool ends = begins(text, "COMMIT") || begins(text, "ROLLBACK");
    backend->is_extended = is_extended;
    if (*text == '\0') {
        build_empty(&backend->out, 'I');
        return true;
    }
    if (backend->fails_next || strstr(text, "FAIL") || (backend->status == 'E' && !ends)) {
        backend->fails_next = false;
        fail(backend, is_extended, backend->status == 'E' ? "25P02" : "22012");
        return false;
    }
    if (strstr(text, "SLEEP")) {
        backend->is_asleep = true;
        snprintf(backend->sleeper, FAKE_MARK, "%s", mark);
        if (server->never_sleeps)
            fake_server_wake(backend, false);
        return false;
    }
    if (begins(text, "COPY t FROM")) {
        say_copy(backend, 'G');
        backend->is_copying_in = true;
        return false;
    }
    if (begins(text, "COPY t TO")) {
        say_copy(backend, 'H');
        for (int i = 0; i < 2; i++) {
            size_t at = build_begin(&backend->out, 'd');
            buffer_append(&backend->out, "row\n", 4);
            build_end(&backend->out, at);
        }
        build_empty(&backend->out, 'c');
    } else if (begins(text, "SELECT")) {
        if (!is_extended)
            say_columns(backend);
        answer_rows(backend, text, mark);
    } else if (begins(text, "BEGIN") && backend->status == 'I') {
        backend->status = 'T';
    } else if (ends) {
        backend->status = 'I';
    } else if (begins(text, "DISCARD ALL") || begins(text, "DEALLOCATE ALL")) {
        forget_statements(backend);
    }
    char tag[FAKE_NAME] = "";
    sscanf(text, "%20[A-Z]", tag);
    if (begins(text, "DISCARD ALL") || begins(text, "DEALLOCATE ALL"))
        snprintf(tag, sizeof(tag), "%.14s", text);
    build_command_complete(&backend->out, tag);
    return true;
}

void fake_server_wake(struct fake_backend *backend, bool is_cancelled)
{
    if (!backend->is_asleep)
        return;
    backend->is_asleep = false;
    if (is_cancelled) {
        fail(backend, backend->is_extended, "57014");
        return;
    }
    if (*backend->sleeper)
        say_row(backend, backend->sleeper, "SELECT", 0);
    build_command_complete(&backend->out, "SELECT 1");
    if (!backend->is_extended)
        build_ready(&backend->out, backend->status);
}

static struct fake_statement *find_statement(struct fake_backend *backend, const char *name,
                                             bool may_make)
{
    struct fake_statement *spare = NULL;
    for (int i = 0; i < FAKE_STATEMENTS; i++) {
        struct fake_statement *statement = &backend->statements[i];
        if (statement->is_there && strcmp(statement->name, name) == 0)
            return statement;
        if (!statement->is_there && !spare)
            spare = statement;
    }
    return may_make ? spare : NULL;
}

static struct fake_portal *find_portal(struct fake_backend *backend, const char *name,
                                       bool may_make)
{
    struct fake_portal *spare = NULL;
    for (int i = 0; i < FAKE_PORTALS; i++) {
        struct fake_portal *portal = &backend->portals[i];
        if (portal->is_there && strcmp(portal->name, name) == 0)
            return portal;
        if (!portal->is_there && !spare)
            spare = portal;
    }
    return may_make ? spare : NULL;
}

/* Takes a zero-terminated text off the front, cut to what there is room for; false when it has no end. */
static bool take_text(struct fuzz_input *body, char *out, size_t room)
{
    const uint8_t *end = body->left ? memchr(body->bytes, 0, body->left) : NULL;
    if (!end)
        return false;
    snprintf(out, room, "%s", (const char *)body->bytes);
    body->left -= (size_t)(end - body->bytes) + 1;
    body->bytes = end + 1;
    return true;
}

static void take_parse(struct fake_backend *backend, struct fuzz_input *body)
{
    char name[FAKE_NAME];
    char text[FAKE_TEXT];
    if (!take_text(body, name, sizeof(name)) || !take_text(body, text, sizeof(text))) {
        fail(backend, true, "08P01");
        return;
    }
    struct fake_statement *statement = find_statement(backend, name, true);
    if (!statement || (statement->is_there && *name)) {
        fail(backend, true, "42P05");
        return;
    }
    if (strstr(text, "FAIL") && strstr(text, "PARSE")) {
        statement->is_there = false;
        fail(backend, true, "42601");
        return;
    }
    snprintf(statement->name, FAKE_NAME, "%s", name);
    snprintf(statement->text, FAKE_TEXT, "%s", text);
    statement->is_there = true;
    build_empty(&backend->out, '1');
}

static void take_bind(struct fake_backend *backend, struct fuzz_input *body)
{
    char portal_name[FAKE_NAME];
    char name[FAKE_NAME];
    char value[FAKE_MARK] = "";
    if (!take_text(body, portal_name, sizeof(portal_name)) ||
        !take_text(body, name, sizeof(name))) {
        fail(backend, true, "08P01");
        return;
    }
    struct fake_statement *statement = find_statement(backend, name, false);
    struct fake_portal *portal = find_portal(backend, portal_name, true);
    if (!statement || !portal) {
        fail(backend, true, statement ? "54000" : "26000");
        return;
    }
    if (body->left >= 8 && read_u16(body->bytes) == 0 && read_u16(body->bytes + 2) == 1) {
        size_t length = read_u32(body->bytes + 4);
        if (length < sizeof(value) && length <= body->left - 8)
            memcpy(value, body->bytes + 8, length);
    }
    snprintf(portal->name, FAKE_NAME, "%s", portal_name);
    snprintf(portal->text, FAKE_TEXT, "%s", statement->text);
    find_mark(value, portal->mark);
    portal->is_there = true;
    build_empty(&backend->out, '2');
}

static void take_describe(struct fake_backend *backend, struct fuzz_input *body, bool is_close)
{
    char name[FAKE_NAME];
    uint8_t what = fuzz_byte(body);
    if (!take_text(body, name, sizeof(name)) || (what != 'S' && what != 'P')) {
        fail(backend, true, "08P01");
        return;
    }
    struct fake_statement *statement = what == 'S' ? find_statement(backend, name, false) : NULL;
    struct fake_portal *portal = what == 'P' ? find_portal(backend, name, false) : NULL;
    if (is_close) {
        if (statement)
            statement->is_there = false;
        if (portal)
            portal->is_there = false;
        build_empty(&backend->out, '3');
        return;
    }
    if (!statement && !portal) {
        fail(backend, true, what == 'S' ? "26000" : "34000");
        return;
    }
    if (statement) {
        size_t mark = build_begin(&backend->out, 't');
        build_u16(&backend->out, 0);
        build_end(&backend->out, mark);
    }
    if (begins(statement ? statement->text : portal->text, "SELECT"))
        say_columns(backend);
    else
        build_empty(&backend->out, 'n');
}

static void take_execute(struct fake_server *server, struct fake_backend *backend,
                         struct fuzz_input *body)
{
    char name[FAKE_NAME];
    struct fake_portal *portal = NULL;
    if (take_text(body, name, sizeof(name)))
        portal = find_portal(backend, name, false);
    if (!portal) {
        fail(backend, true, "34000");
        return;
    }
    run(server, backend, portal->text, portal->mark, true);
}

static void take_query(struct fake_server *server, struct fake_backend *backend,
                       struct fuzz_input *body)
{
    char text[FAKE_TEXT];
    char mark[FAKE_MARK];
    struct fake_statement *unnamed = find_statement(backend, "", false);
    if (unnamed)
        unnamed->is_there = false;
    end_portals(backend); /* the only one is unnamed too */
    if (!take_text(body, text, sizeof(text))) {
        fail(backend, false, "08P01");
        return;
    }
    find_mark(text, mark);
    if (run(server, backend, text, mark, false))
        build_ready(&backend->out, backend->status);
}

static void take_copy(struct fake_backend *backend, uint8_t type)
{
    if (type == 'f') {
        fail(backend, backend->is_extended,
             "22P04"); /* PostgreSQL's is a cancel's, to be told apart here */
    } else if (type == 'c') {
        backend->is_copying_in = false;
        build_command_complete(&backend->out, "COPY 0");
        if (!backend->is_extended)
            build_ready(&backend->out, backend->status);
    } else if (type != 'd' && type != 'S' && type != 'H') {
        fail(backend, backend->is_extended, "08P01");
    }
}

/* A whole message of a connection that is logged in. */
static void take_message(struct fake_server *server, struct fake_backend *backend, uint8_t type,
                         struct fuzz_input *body)
{
    if (type == 'X') {
        backend->is_ending = true;
    } else if (backend->is_copying_in) {
        take_copy(backend, type);
    } else if (type == 'S') {
        backend->is_skipping = false;
        if (backend->status == 'I')
            end_portals(backend);
        build_ready(&backend->out, backend->status);
    } else if (backend->is_skipping) {
        return;
    } else if (type == 'Q') {
        take_query(server, backend, body);
    } else if (type == 'P') {
        take_parse(backend, body);
    } else if (type == 'B') {
        take_bind(backend, body);
    } else if (type == 'D' || type == 'C') {
        take_describe(backend, body, type == 'C');
    } else if (type == 'E') {
        take_execute(server, backend, body);
    } else if (type == 'F') {
        fail(backend, false, "42883");
    }
}

/* ---- logins ---- */

static void say_welcome(struct fake_backend *backend)
{
    static const char *const parameters[][2] = {{"server_version", "15.4"},
                                                {"client_encoding", "UTF8"},
                                                {"application_name", "pgreserve"},
                                                {"standard_conforming_strings", "on"},
                                                {"TimeZone", "UTC"},
                                                {"DateStyle", "ISO, MDY"}};
    build_authentication(&backend->out, 0, NULL, 0);
    for (size_t i = 0; i < sizeof(parameters) / sizeof(parameters[0]); i++)
        build_parameter_status(&backend->out, parameters[i][0], parameters[i][1]);
    size_t mark = build_begin(&backend->out, 'K');
    build_u32(&backend->out, (uint32_t)backend->pid);
    build_u32(&backend->out, 0x5ec4e7);
    build_end(&backend->out, mark);
    build_ready(&backend->out, 'I');
    backend->is_in = true;
    backend->status = 'I';
}

/* A start-up packet has come in whole. */
static void take_login(struct fake_server *server, struct fake_backend *backend)
{
    switch (server->login) {
    case FAKE_LOGIN_FULL:
        say_error(backend, "FATAL", "53300", "sorry, too many clients already");
        backend->is_ending = true;
        break;
    case FAKE_LOGIN_DENIED:
        say_error(backend, "FATAL", "28P01", "password authentication failed for user \"fuzz\"");
        backend->is_ending = true;
        break;
    case FAKE_LOGIN_CLOSED:
        backend->is_ending = true;
        break;
    case FAKE_LOGIN_HANGS:
        break;
    default:
        say_welcome(backend);
        break;
    }
}

/* ---- bytes ---- */

static void forget(struct fake_server *server, struct fake_backend *backend)
{
    close(backend->fd);
    buffer_free(&backend->in);
    buffer_free(&backend->out);
    memset(backend, 0, sizeof(*backend));
    backend->fd = -1;
    server->open--;
}

static void take_input(struct fake_server *server, struct fake_backend *backend)
{
    while (backend->fd >= 0 && !backend->is_ending && !backend->is_asleep) {
        size_t length = buffer_length(&backend->in);
        const uint8_t *bytes = buffer_bytes(&backend->in);
        size_t head = backend->is_in ? 1 : 0;
        if (length < head + 4)
            return;
        size_t message = read_u32(bytes + head);
        fuzz_claim(server->is_lenient || (message >= 4 && message < (1u << 20)),
                   "a length of %zu came to the server", message);
        fuzz_claim(server->is_lenient || !head || strchr("QPBDCESHXdcfF", bytes[0]),
                   "a message of type %u came to the server", bytes[0]);
        if (message < 4) {
            backend->is_ending = true;
            return;
        }
        if (length < head + message)
            return;
        if (backend->is_in) {
            struct fuzz_input body = {bytes + 5, message - 4};
            take_message(server, backend, bytes[0], &body);
        } else {
            take_login(server, backend);
        }
        buffer_consume(&backend->in, head + message);
    }
}

static bool read_some(struct fake_server *server, struct fake_backend *backend)
{
    uint8_t bytes[65536];
    ssize_t got = recv(backend->fd, bytes, sizeof(bytes), MSG_DONTWAIT);
    if (got < 0 && errno == EAGAIN)
        return false;
    if (got <= 0) { /* the proxy has closed: nobody is there to hear */
        forget(server, backend);
        return true;
    }
    buffer_append(&backend->in, bytes, (size_t)got);
    return true;
}

static bool write_some(struct fake_server *server, struct fake_backend *backend)
{
    size_t length = buffer_length(&backend->out);
    if (server->chunk && length > server->chunk && length < FAKE_CHUNKED)
        length = server->chunk;
    if (length == 0)
        return false;
    ssize_t sent =
        send(backend->fd, buffer_bytes(&backend->out), length, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (sent < 0 && errno == EAGAIN)
        return false;
    if (sent < 0)
        buffer_free(&backend->out);
    else
        buffer_consume(&backend->out, (size_t)sent);
    return true;
}

static bool accept_all(struct fake_server *server)
{
    bool has_any = false;
    for (int i = 0; i < FAKE_BACKENDS; i++) {
        struct fake_backend *backend = &server->backends[i];
        if (backend->fd >= 0)
            continue;
        int fd = accept4(server->listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd < 0)
            break;
        backend->fd = fd;
        backend->pid = ++server->last_pid;
        if (++server->open > server->most)
            server->most = server->open;
        has_any = true;
    }
    return has_any;
}

bool fake_server_turn(struct fake_server *server)
{
    bool has_moved = accept_all(server);
    for (int i = 0; i < FAKE_BACKENDS; i++) {
        struct fake_backend *backend = &server->backends[i];
        if (backend->fd < 0 || backend->is_stalled)
            continue;
        has_moved |= read_some(server, backend);
        if (backend->fd < 0)
            continue;
        take_input(server, backend);
        has_moved |= write_some(server, backend);
        if (backend->is_ending && buffer_length(&backend->out) == 0) {
            forget(server, backend);
            has_moved = true;
        }
    }
    return has_moved;
}

/* ---- from outside ---- */

struct fake_backend *fake_server_pick(struct fake_server *server, unsigned nth)
{
    if (server->open == 0)
        return NULL;
    nth %= (unsigned)server->open;
    for (int i = 0; i < FAKE_BACKENDS; i++) {
        if (server->backends[i].fd >= 0 && nth-- == 0)
            return &server->backends[i];
    }
    return NULL;
}

void fake_server_kill(struct fake_server *server, struct fake_backend *backend,
                      const char *sqlstate)
{
    if (!sqlstate) {
        forget(server, backend);
        return;
    }
    say_error(backend, "FATAL", sqlstate, "terminating connection");
    backend->is_asleep = false;
    backend->is_stalled = false;
    backend->is_ending = true;
}

void fake_server_say(struct fake_backend *backend, const void *bytes, size_t length)
{
    buffer_append(&backend->out, bytes, length);
}

void fake_server_cancel(struct fake_server *server, int pid)
{
    for (int i = 0; i < FAKE_BACKENDS; i++) {
        if (server->backends[i].fd >= 0 && server->backends[i].pid == pid)
            fake_server_wake(&server->backends[i], true);
    }
}

void fake_server_start(struct fake_server *server)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    memset(server, 0, sizeof(*server));
    for (int i = 0; i < FAKE_BACKENDS; i++)
        server->backends[i].fd = -1;
    snprintf(server->name, sizeof(server->name), "@pgreserve-fuzz-%d", (int)getpid());
    /* libpq puts the port behind the directory's name */
    int length = snprintf(address.sun_path + 1, sizeof(address.sun_path) - 1, "%s/.s.PGSQL.5432",
                          server->name + 1);
    server->listener = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (bind(server->listener, (struct sockaddr *)&address,
             (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + (size_t)length)) < 0 ||
        listen(server->listener, 128) < 0) {
        perror("the fake server cannot listen");
        abort();
    }
}

void fake_server_end(struct fake_server *server)
{
    for (int i = 0; i < FAKE_BACKENDS; i++) {
        if (server->backends[i].fd >= 0)
            forget(server, &server->backends[i]);
    }
    close(server->listener);
}
