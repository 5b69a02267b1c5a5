/*
 * console.c - the admin console: its protocol, simple and extended.
 *
 * What a command does stands in command.c; here its text comes in and its answer goes out.  A Query may hold several
 * commands; in the extended protocol statements and portals have names, results may be asked for in binary, and rows
 * a few at a time.  Commands have no parameters, and there are no transactions.  The console needs no backend and answers
 * whatever the pools are doing.
 *
 * PAUSE, SUSPEND and WAIT_CLOSE answer when they are complete: a timer looks for that, and until then nothing more is
 * taken from this client (is_busy), so that answers come in order.  Ctrl-C ends the waiting, and takes back the PAUSE, as
 * PgBouncer does.
 */
#include "admin/console.h"

#include <stdlib.h>
#include <string.h>

#include "admin/console_inside.h"
#include "admin/watch.h"
#include "base/memory.h"
#include "proto/build.h"
#include "proto/sqlstate.h"

#define SUSPEND_TIMEOUT_US (10 * CLOCK_S) /* a reader so slow does not keep SUSPEND waiting */
#define LOOK_AGAIN         ((struct timeval){0, 20000})

void console_send(struct client *client, struct buffer *out)
{
    if (buffer_length(out) > 0 && client->state == CLIENT_CONSOLE)
        stream_write(&client->stream, buffer_bytes(out), buffer_length(out));
    buffer_free(out);
}

/* ---- waiting ---- */

static bool is_complete(struct console *console)
{
    struct proxy *proxy = console->client->proxy;
    struct control_target target = {0};
    char *word = memory_strdup(console->wait_word);
    bool is_done = true;
    if (!word || control_find(proxy, word, &target)) {
        switch (console->wait) {
        case WAIT_EMPTY:
            is_done = control_is_empty(proxy, &target);
            break;
        case WAIT_RENEWED:
            is_done = control_is_renewed(proxy, &target);
            break;
        case WAIT_FLUSHED:
            is_done = control_is_flushed(proxy) ||
                      proxy->now_us - console->wait_since_us > SUSPEND_TIMEOUT_US;
            break;
        case WAIT_NOTHING:
            break;
        }
    }
    free(word);
    return is_done;
}

static void end_waiting(struct console *console, struct buffer *out)
{
    struct client *client = console->client;
    console->wait = WAIT_NOTHING;
    free(console->wait_word);
    console->wait_word = NULL;
    if (console->is_simple)
        build_ready(out, 'I');
    console_send(client, out);
    client->is_busy = false;
    proxy_read_later(client);
}

static void look_again(evutil_socket_t fd, short what, void *arg)
{
    struct console *console = arg;
    struct client *client = console->client;
    struct buffer out = {0};
    (void)fd;
    (void)what;
    if (client->state != CLIENT_CONSOLE)
        return;
    if (client->stream.saw_close || client->stream.is_broken || stream_is_dead(&client->stream)) {
        client_close(client); /* what it has paused stays so */
        return;
    }
    if (!is_complete(console)) {
        event_add(console->timer, &LOOK_AGAIN);
        return;
    }
    build_command_complete(&out, console->wait_tag);
    end_waiting(console, &out);
}

void console_wait(struct console *console, struct command *command, bool is_simple)
{
    struct client *client = console->client;
    console->wait = command->wait;
    console->wait_word = command->wait_word;
    command->wait_word = NULL;
    console->wait_tag = command->tag;
    console->is_simple = is_simple;
    console->wait_since_us = client->proxy->now_us;
    client->is_busy = true;
    if (!console->timer)
        console->timer = evtimer_new(client->proxy->base, look_again, console);
    look_again(-1, 0, console);
}

/* Ctrl-C. */
static void on_cancel(struct client *client)
{
    struct console *console = client->console;
    struct control_target target = {0};
    struct buffer out = {0};
    if (!console || console->wait == WAIT_NOTHING)
        return;
    event_del(console->timer);
    char *word = memory_strdup(console->wait_word);
    if (console->wait != WAIT_RENEWED && (!word || control_find(client->proxy, word, &target)))
        control_resume(client->proxy, &target);
    free(word);
    build_error(&out, 'E',
                &(struct error_fields){"ERROR", SQLSTATE_QUERY_CANCELED,
                                       "canceling statement due to user request", NULL, NULL});
    console->is_skipping = !console->is_simple;
    end_waiting(console, &out);
}

/* ---- commands ---- */

void console_count_command(struct proxy *proxy)
{
    proxy->console_stats.total[STAT_TRANSACTIONS]++;
    proxy->console_stats.total[STAT_QUERIES]++;
}

/* One command of a Query.  False when the next one must not run. */
static bool run_simple(struct console *console, struct command *command)
{
    struct command_result result;
    bool has_rows = !command->is_unbalanced && command_result(command, &result);
    console_count_command(console->client->proxy);
    if (has_rows)
        wire_describe(command_columns(&result), NULL, command->out);
    command_run(command, NULL, 0, 0);
    if (command->has_failed)
        return false;
    if (command->wait == WAIT_NOTHING)
        build_command_complete(command->out, command->tag);
    return command->wait == WAIT_NOTHING;
}

/* All words of a command are in one piece of memory. */
void console_forget_words(struct command *command)
{
    if (command->count > 0)
        free(command->words[0]);
    free(command->wait_word);
}

static void simple_query(struct console *console, const uint8_t *body, size_t length)
{
    struct client *client = console->client;
    struct buffer out = {0};
    char *text = memory_strndup((const char *)body, length);
    char *at = text;
    int commands = 0;
    bool goes_on = true;
    bool has_waited = false;
    while (goes_on && *at && client->state == CLIENT_CONSOLE) {
        struct command command = {.client = client, .out = &out};
        command_read(&command, &at);
        if (command.count > 0) {
            commands++;
            goes_on = run_simple(console, &command);
        }
        if (command.wait != WAIT_NOTHING) { /* what follows it in the text is not run */
            has_waited = true;
            console_send(client, &out);
            console_wait(console, &command, true);
        }
        console_forget_words(&command);
    }
    free(text);
    if (has_waited)
        return; /* the end of the waiting makes the client ready */
    if (commands == 0)
        build_empty(&out, 'I');
    if (client->state == CLIENT_CONSOLE)
        build_ready(&out, 'I');
    console_send(client, &out);
}

/* ---- messages ---- */

static struct console *console_of(struct client *client)
{
    if (!client->console) {
        struct console *console = memory_alloc(sizeof(*console));
        console->client = client;
        TAILQ_INIT(&console->statements);
        TAILQ_INIT(&console->portals);
        client->console = console;
    }
    return client->console;
}

static void on_message(struct client *client, uint8_t type, const uint8_t *bytes, size_t length)
{
    struct console *console = console_of(client);
    struct buffer out = {0};
    char text[64];
    if (console->is_skipping && type != 'S')
        return;
    switch (type) {
    case 'Q':
        simple_query(console, bytes, length);
        break;
    case 'H':
        break;
    default:
        if (extended_message(console, type, bytes, length, &out))
            break;
        snprintf(text, sizeof(text), "unexpected message type %u on the admin console", type);
        client_protocol_error(client, text, length + 4);
        return;
    }
    console_send(client, &out);
}

static void free_console(struct client *client)
{
    struct console *console = client->console;
    client->console = NULL;
    if (!console)
        return;
    if (console->timer)
        event_free(console->timer);
    extended_free(console);
    free(console->wait_word);
    free(console);
}

void console_install(struct proxy *proxy)
{
    proxy->console_message = on_message;
    proxy->console_cancel = on_cancel;
    proxy->console_free = free_console;
    watch_install(proxy);
}
