/*
 * console.c - the admin console: SHOW and the verbs, over the simple and the extended protocol.
 *
 * A command is split into words; a table of verbs says what it does and who may.  In the extended protocol Parse keeps the
 * text, Bind and Describe look it up, Execute runs it: commands have no parameters, so that there is nothing
 * else to keep.  The console needs no backend and answers whatever the pools are doing.  PAUSE answers when the
 * last busy connection has come back; a timer looks for that while somebody waits.
 */
#include "admin/console.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "admin/show.h"
#include "base/memory.h"
#include "proto/build.h"
#include "proto/sqlstate.h"

#define WORDS_MAX 8

struct console {
    char *statement;  /* the last Parse */
    char *portal;     /* the last Bind */
    bool is_skipping; /* an error in the extended protocol: up to Sync */
    bool is_waiting;  /* for PAUSE to be complete */
    bool is_simple;   /* and by which protocol it was asked */
    struct proxy_pool *paused;
    struct event *timer;
};

struct command {
    struct client *client;
    struct buffer *out;
    char *words[WORDS_MAX];
    int count;
    bool has_failed;
    bool is_waiting;
    bool is_unbalanced;  /* a quote is open */
    bool describes_only; /* Describe: columns, no rows */
};

static void fail(struct command *command, const char *sqlstate, const char *message,
                 const char *hint)
{
    build_error(command->out, 'E', &(struct error_fields){"ERROR", sqlstate, message, NULL, hint});
    command->has_failed = true;
}

/* ---- the verbs ---- */

/* The pool that the second word names; NULL with `*all` for none. */
static struct proxy_pool *pool_word(struct command *command, bool *all)
{
    *all = command->count < 2;
    if (*all)
        return NULL;
    struct proxy_pool *pool = proxy_find_pool(command->client->proxy, command->words[1]);
    if (!pool) {
        char *text = memory_printf("there is no pool \"%s\"", command->words[1]);
        fail(command, SQLSTATE_UNDEFINED_OBJECT, text, "SHOW STATUS lists the pools.");
        free(text);
    }
    return pool;
}

static void do_pause(struct command *command)
{
    bool all;
    struct proxy_pool *pool = pool_word(command, &all);
    struct console *console = command->client->console;
    if (!pool && !all)
        return;
    proxy_pause(command->client->proxy, pool, true);
    console->paused = pool;
    command->is_waiting = true;
}

static void do_resume(struct command *command)
{
    bool all;
    struct proxy_pool *pool = pool_word(command, &all);
    if (pool || all)
        proxy_pause(command->client->proxy, pool, false);
}

static void do_dispose(struct command *command)
{
    bool all;
    struct proxy_pool *pool = pool_word(command, &all);
    if (pool || all)
        proxy_dispose(command->client->proxy, pool);
}

static void do_reload(struct command *command)
{
    char error[512];
    if (!proxy_reload(command->client->proxy, error, sizeof(error))) {
        char *text = memory_printf("reload failed, the old configuration stays: %s", error);
        fail(command, SQLSTATE_INVALID_PARAMETER, text, "The log lists every mistake.");
        free(text);
    }
}

static void stop_later(evutil_socket_t fd, short what, void *arg)
{
    (void)fd;
    (void)what;
    proxy_stop(arg, false);
}

static void stop_at_once_later(evutil_socket_t fd, short what, void *arg)
{
    (void)fd;
    (void)what;
    proxy_stop(arg, true);
}

/* After the answer has left: plain SHUTDOWN at once, with WAIT_FOR_... when transactions are over. */
static void do_shutdown(struct command *command)
{
    struct timeval soon = {0, 10000};
    struct proxy *proxy = command->client->proxy;
    bool is_graceful = command->count > 1;
    event_base_once(proxy->base, -1, EV_TIMEOUT, is_graceful ? stop_later : stop_at_once_later,
                    proxy, &soon);
}

static void do_show(struct command *command)
{
    if (command->count > 2) {
        fail(command, SQLSTATE_SYNTAX_ERROR, "SHOW takes one name", NULL);
        return;
    }
    const char *name = command->count > 1 ? command->words[1] : "HELP";
    const struct show_table *table = show_find(name);
    if (table) {
        if (command->describes_only) {
            show_describe(table, command->out);
            return;
        }
        int rows = table->rows(command->client->proxy, command->out);
        char tag[32];
        (void)rows;
        snprintf(tag, sizeof(tag), "SHOW");
        build_command_complete(command->out, tag);
        return;
    }
    char *text = memory_printf("there is nothing called \"%s\" to show", name);
    char *hint = memory_strdup("SHOW");
    for (size_t i = 0; show_name(i); i++) {
        char *longer = memory_printf("%s%s %s", hint, i ? " |" : "", show_name(i));
        free(hint);
        hint = longer;
    }
    fail(command, SQLSTATE_SYNTAX_ERROR, text, hint);
    free(text);
    free(hint);
}

/* What drivers say to every server when they connect: taken, and without effect. */
static void do_nothing(struct command *command)
{
    (void)command;
}

static const struct verb {
    const char *word;
    void (*run)(struct command *command);
    bool needs_administrator;
} verbs[] = {
    {"SHOW", do_show, false},        {"PAUSE", do_pause, true},       {"RESUME", do_resume, true},
    {"RECONNECT", do_dispose, true}, {"DISPOSE", do_dispose, true},   {"RELOAD", do_reload, true},
    {"SHUTDOWN", do_shutdown, true}, {"SET", do_nothing, false},      {"BEGIN", do_nothing, false},
    {"COMMIT", do_nothing, false},   {"ROLLBACK", do_nothing, false},
};

static const struct verb *find_verb(const struct command *command)
{
    for (size_t i = 0; command->count > 0 && i < sizeof(verbs) / sizeof(verbs[0]); i++) {
        if (strcasecmp(verbs[i].word, command->words[0]) == 0)
            return &verbs[i];
    }
    return NULL;
}

/* ---- commands ---- */

/* Comments become blanks, `;` ends the command, quotes around words go; the text is changed in place. */
static void split_words(struct command *command, char *text)
{
    for (char *at = text; *at; at++) {
        if (at[0] == '-' && at[1] == '-') {
            while (*at && *at != '\n')
                *at++ = ' ';
            if (!*at)
                break;
        }
        if (at[0] == '/' && at[1] == '*') {
            char *end = strstr(at + 2, "*/");
            size_t length = end ? (size_t)(end - at) + 2 : strlen(at);
            memset(at, ' ', length);
        }
        command->is_unbalanced ^= *at == '"' || *at == '\'';
        if (*at == ';' || *at == '"' || *at == '\'')
            *at = ' ';
    }
    for (char *word; (word = strsep(&text, " \t\r\n")) && command->count < WORDS_MAX;) {
        if (*word)
            command->words[command->count++] = word;
    }
}

static void run(struct command *command)
{
    const struct verb *verb = find_verb(command);
    if (command->is_unbalanced) {
        fail(command, SQLSTATE_SYNTAX_ERROR, "unterminated quoted string", NULL);
        return;
    }
    if (command->count == 0) {
        build_empty(command->out, 'I');
        return;
    }
    if (!verb) {
        char *text =
            memory_printf("\"%s\" is not a command of the admin console", command->words[0]);
        fail(command, SQLSTATE_SYNTAX_ERROR, text,
             "There are SHOW, PAUSE, RESUME, RECONNECT, DISPOSE, RELOAD and SHUTDOWN.");
        free(text);
        return;
    }
    if (verb->needs_administrator && !command->client->is_administrator) {
        fail(command, SQLSTATE_INSUFFICIENT_PRIVILEGE, "administrator rights are needed",
             "[admin] users names the administrators.");
        return;
    }
    verb->run(command);
    if (!command->has_failed && !command->is_waiting && verb->run != do_show)
        build_command_complete(command->out, verb->word);
}

static void send_out(struct client *client, struct buffer *out)
{
    if (buffer_length(out) > 0)
        stream_write(&client->stream, buffer_bytes(out), buffer_length(out));
    buffer_free(out);
}

/* ---- PAUSE ---- */

static bool is_quiet(const struct proxy *proxy, const struct proxy_pool *pool)
{
    for (size_t i = 0; i < proxy->pool_count; i++) {
        const int *counts = proxy->pools[i]->pool.counts;
        if ((!pool || pool == proxy->pools[i]) &&
            counts[BACKEND_BUSY] + counts[BACKEND_CLEANING] > 0)
            return false;
    }
    return true;
}

static void look_again(evutil_socket_t fd, short what, void *arg)
{
    struct client *client = arg;
    struct console *console = client->console;
    struct timeval moment = {0, 20000};
    struct buffer out = {0};
    (void)fd;
    (void)what;
    if (!is_quiet(client->proxy, console->paused)) {
        event_add(console->timer, &moment);
        return;
    }
    console->is_waiting = false;
    build_command_complete(&out, "PAUSE");
    if (console->is_simple)
        build_ready(&out, 'I');
    send_out(client, &out);
}

static void wait_for_quiet(struct client *client, bool is_simple)
{
    struct console *console = client->console;
    console->is_waiting = true;
    console->is_simple = is_simple;
    if (!console->timer)
        console->timer = evtimer_new(client->proxy->base, look_again, client);
    look_again(-1, 0, client);
}

/* ---- the protocol ---- */

static void simple_query(struct client *client, const uint8_t *body, size_t length)
{
    struct buffer out = {0};
    char *text = memory_strndup((const char *)body, length);
    struct command command = {.client = client, .out = &out};
    split_words(&command, text);
    const struct verb *verb = find_verb(&command);
    if (verb && verb->run == do_show) {
        const struct show_table *table = command.count > 1 ? show_find(command.words[1]) : NULL;
        if (table)
            show_describe(table, &out);
    }
    run(&command);
    if (!command.is_waiting)
        build_ready(&out, 'I');
    free(text);
    send_out(client, &out);
    if (command.is_waiting)
        wait_for_quiet(client, true);
}

static void execute(struct client *client, const char *sql, bool describes_only)
{
    struct buffer out = {0};
    struct console *console = client->console;
    char *text = memory_strdup(sql ? sql : "");
    struct command command = {.client = client, .out = &out, .describes_only = describes_only};
    split_words(&command, text);
    const struct verb *verb = find_verb(&command);
    if (!describes_only)
        run(&command);
    else if (verb && verb->run == do_show && command.count > 1 && show_find(command.words[1]))
        do_show(&command);
    else
        build_empty(&out, 'n');
    console->is_skipping |= command.has_failed;
    free(text);
    send_out(client, &out);
    if (command.is_waiting)
        wait_for_quiet(client, false);
}

static void replace(char **where, const char *text)
{
    free(*where);
    *where = memory_strdup(text);
}

static void parse(struct client *client, const uint8_t *body, size_t length, struct buffer *out)
{
    struct console *console = client->console;
    const uint8_t *end = memchr(body, 0, length);
    const uint8_t *sql = end ? end + 1 : NULL;
    if (!sql || !memchr(sql, 0, length - (size_t)(sql - body)))
        return;
    replace(&console->statement, (const char *)sql);
    build_empty(out, '1');
}

static void describe(struct client *client, const uint8_t *body, size_t length)
{
    struct console *console = client->console;
    bool is_statement = length > 0 && body[0] == 'S';
    if (is_statement) {
        struct buffer out = {0};
        size_t mark = build_begin(&out, 't');
        build_u16(&out, 0);
        build_end(&out, mark);
        send_out(client, &out);
    }
    execute(client, is_statement ? console->statement : console->portal, true);
}

static void on_message(struct client *client, uint8_t type, const uint8_t *body, size_t length)
{
    struct buffer out = {0};
    if (!client->console)
        client->console = memory_alloc(sizeof(struct console));
    struct console *console = client->console;
    if (console->is_skipping && type != 'S')
        return;
    switch (type) {
    case 'Q':
        simple_query(client, body, length);
        return;
    case 'P':
        parse(client, body, length, &out);
        break;
    case 'B':
        replace(&console->portal, console->statement);
        build_empty(&out, '2');
        break;
    case 'D':
        describe(client, body, length);
        return;
    case 'E':
        execute(client, console->portal, false);
        return;
    case 'C':
        build_empty(&out, '3');
        break;
    case 'S':
        console->is_skipping = false;
        build_ready(&out, 'I');
        break;
    case 'H':
        break;
    default:
        client_fatal(client, SQLSTATE_PROTOCOL_VIOLATION,
                     "unexpected message type on the admin console", NULL, NULL);
        return;
    }
    send_out(client, &out);
}

static void free_console(struct client *client)
{
    struct console *console = client->console;
    client->console = NULL;
    if (!console)
        return;
    if (console->timer)
        event_free(console->timer);
    free(console->statement);
    free(console->portal);
    free(console);
}

void console_install(struct proxy *proxy)
{
    proxy->console_message = on_message;
    proxy->console_free = free_console;
}
