/*
 * command.c - one command of the console: see command.h.
 *
 * A table of verbs says what each does, who may, and how it is used; HELP is made from it and from the list of SHOW tables.
 * What every driver says to every server (SET of its parameters, BEGIN and COMMIT, SELECT 1) is understood, so that
 * drivers need not know where they are.
 */
#include "admin/command.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "admin/settings.h"
#include "base/memory.h"
#include "proto/build.h"
#include "proto/sqlstate.h"

void command_fail(struct command *command, const char *sqlstate, const char *message,
                  const char *hint)
{
    build_error(command->out, 'E', &(struct error_fields){"ERROR", sqlstate, message, NULL, hint});
    command->has_failed = true;
}

/* ---- verbs: what they are about ---- */

/* The pool, database or both that the second word names; all without one.  False after an error. */
static bool read_target(struct command *command, bool is_required, struct control_target *target)
{
    *target = (struct control_target){0};
    if (command->count < 2 && !is_required)
        return true;
    if (command->count != 2) {
        command_fail(command, SQLSTATE_SYNTAX_ERROR,
                     command->count < 2 ? "a database or a pool is required"
                                        : "one database or pool is enough",
                     NULL);
        return false;
    }
    char *word = memory_strdup(command->words[1]);
    bool is_found = control_find(command->client->proxy, command->words[1], target);
    if (is_found)
        command->wait_word = word;
    if (is_found)
        return true;
    char *text = memory_printf("there is no database or pool \"%s\"", word);
    command_fail(command, SQLSTATE_UNDEFINED_OBJECT, text, "SHOW DATABASES lists them.");
    free(text);
    free(word);
    return false;
}

static bool takes_no_words(struct command *command)
{
    if (command->count == 1)
        return true;
    command_fail(command, SQLSTATE_SYNTAX_ERROR, "the command takes no argument", NULL);
    return false;
}

/* ---- verbs: pools ---- */

static void do_pause(struct command *command)
{
    struct control_target target;
    if (!read_target(command, false, &target))
        return;
    control_pause(command->client->proxy, &target);
    command->wait = WAIT_EMPTY;
}

static void held_by_wider(struct command *command, const char *verb)
{
    char *text = memory_printf("it stays as it is: a wider %s is in force", verb);
    command_fail(command, SQLSTATE_INVALID_PARAMETER, text, "Say it without a name, for all.");
    free(text);
}

static void do_resume(struct command *command)
{
    struct control_target target;
    if (read_target(command, false, &target) && !control_resume(command->client->proxy, &target))
        held_by_wider(command, "PAUSE or SUSPEND");
}

static void do_disable(struct command *command)
{
    struct control_target target;
    if (read_target(command, true, &target))
        control_disable(command->client->proxy, &target, true);
}

static void do_enable(struct command *command)
{
    struct control_target target;
    if (read_target(command, true, &target) &&
        !control_disable(command->client->proxy, &target, false))
        held_by_wider(command, "DISABLE");
}

static void do_dispose(struct command *command)
{
    struct control_target target;
    if (read_target(command, false, &target))
        control_dispose(command->client->proxy, &target);
}

static void do_wait_close(struct command *command)
{
    struct control_target target;
    if (read_target(command, false, &target))
        command->wait = WAIT_RENEWED;
}

static void do_kill(struct command *command)
{
    struct control_target target;
    if (read_target(command, false, &target))
        control_kill(command->client->proxy, &target);
}

static void do_kill_client(struct command *command)
{
    char *end = NULL;
    unsigned long id = command->count == 2 ? strtoul(command->words[1], &end, 10) : 0;
    if (!end || end == command->words[1] || *end || id == 0 || id > INT32_MAX)
        command_fail(command, SQLSTATE_SYNTAX_ERROR, "a client's id is required",
                     "SHOW CLIENTS has it in its column \"id\", SHOW HOLDERS in \"client\".");
    else if (!control_kill_client(command->client->proxy, (uint32_t)id))
        command_fail(command, SQLSTATE_UNDEFINED_OBJECT, "no client has this id", NULL);
}

static void do_suspend(struct command *command)
{
    if (!takes_no_words(command))
        return;
    control_suspend(command->client->proxy);
    command->wait = WAIT_FLUSHED;
}

/* ---- verbs: the program ---- */

static void do_reload(struct command *command)
{
    char error[512];
    if (!takes_no_words(command) || proxy_reload(command->client->proxy, error, sizeof(error)))
        return;
    char *text = memory_printf("reload failed, the old configuration stays: %s", error);
    command_fail(command, SQLSTATE_INVALID_PARAMETER, text, "The log lists every mistake.");
    free(text);
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

/* After the answer has left: at once, when transactions are over, or when the clients have gone. */
static void do_shutdown(struct command *command)
{
    struct timeval soon = {0, 10000};
    struct proxy *proxy = command->client->proxy;
    if (command->count == 1)
        event_base_once(proxy->base, -1, EV_TIMEOUT, stop_at_once_later, proxy, &soon);
    else if (command->count == 2 && command_has_word(command, 1, "WAIT_FOR_SERVERS"))
        event_base_once(proxy->base, -1, EV_TIMEOUT, stop_later, proxy, &soon);
    else if (command->count == 2 && command_has_word(command, 1, "WAIT_FOR_CLIENTS"))
        control_drain(proxy);
    else
        command_fail(command, SQLSTATE_SYNTAX_ERROR, "SHUTDOWN waits for something else",
                     "SHUTDOWN, SHUTDOWN WAIT_FOR_SERVERS or SHUTDOWN WAIT_FOR_CLIENTS");
}

/* ---- SET ---- */

/* A setting of ours: for administrators. */
static void set_option(struct command *command, const char *key, const char *value)
{
    char error[512] = "";
    char *text = NULL;
    if (!command->client->is_administrator) {
        command_fail(command, SQLSTATE_INSUFFICIENT_PRIVILEGE, "administrator rights are needed",
                     "[admin] users names the administrators.");
        return;
    }
    switch (settings_set(command->client->proxy, key, value, error, sizeof(error))) {
    case SETTINGS_OK:
        return;
    case SETTINGS_UNKNOWN:
        text = memory_printf("unrecognized configuration parameter \"%s\"", key);
        command_fail(command, SQLSTATE_UNDEFINED_OBJECT, text, "SHOW CONFIG lists them.");
        break;
    case SETTINGS_FIXED:
        text = memory_printf("parameter \"%s\" cannot be changed at run time", key);
        command_fail(command, SQLSTATE_CANT_CHANGE_RUNTIME_PARAM, text,
                     "Change it in the file and restart.");
        break;
    case SETTINGS_REFUSED:
        text = memory_printf("%s is not set: %s", key, error);
        command_fail(command, SQLSTATE_INVALID_PARAMETER, text, NULL);
        break;
    }
    free(text);
}

/* SET [SESSION|LOCAL] key {=|TO} value.  What drivers set for their session is taken, and without effect here. */
static void do_set(struct command *command)
{
    const char *spelling;
    int at = 1;
    if (command_has_word(command, at, "SESSION") || command_has_word(command, at, "LOCAL"))
        at++;
    if (command_has_word(command, at, "TRANSACTION") ||
        command_has_word(command, at, "CHARACTERISTICS") ||
        (command_has_word(command, at, "TIME") && command_has_word(command, at + 1, "ZONE")) ||
        command_has_word(command, at, "NAMES"))
        return;
    bool is_whole = command->count >= at + 3 && (command_has_word(command, at + 1, "=") ||
                                                 command_has_word(command, at + 1, "TO"));
    if (!is_whole) {
        command_fail(command, SQLSTATE_SYNTAX_ERROR, "SET takes a key and a value",
                     "SET key = value");
        return;
    }
    const char *key = command->words[at];
    if (strcasecmp(key, "application_name") == 0) {
        client_set_application_name(command->client, command->words[at + 2]);
        return;
    }
    if (settings_session(command->client, key, &spelling))
        return;
    if (command->count > at + 3)
        command_fail(command, SQLSTATE_SYNTAX_ERROR, "put a value of several words into quotes",
                     NULL);
    else
        set_option(command, key, command->words[at + 2]);
}

static void do_nothing(struct command *command)
{
    (void)command;
}

/* ---- SHOW ---- */

static char *help_text(void);

static void show_help(struct command *command)
{
    char *text = help_text();
    build_error(command->out, 'N',
                &(struct error_fields){"NOTICE", SQLSTATE_SUCCESS, "Console usage", text, NULL});
    free(text);
}

/* Only what has no rows comes here: HELP, and what there is not. */
static void do_show(struct command *command)
{
    if (command_has_word(command, 1, "HELP") && command->count == 2) {
        show_help(command);
        return;
    }
    char *text = command->count == 2
                     ? memory_printf("there is nothing called \"%s\" to show", command->words[1])
                     : memory_strdup("SHOW takes one name");
    command_fail(command, SQLSTATE_SYNTAX_ERROR, text, "SHOW HELP lists what there is.");
    free(text);
}

static void do_select(struct command *command)
{
    command_fail(command, SQLSTATE_SYNTAX_ERROR, "the admin console has no tables to select from",
                 "SHOW HELP lists what there is.");
}

/* ---- the table ---- */

static const struct verb {
    const char *word;
    void (*run)(struct command *command);
    bool needs_administrator;
    const char *tag;   /* when it is not the word itself */
    const char *usage; /* NULL: understood for drivers' sake, not worth a line of HELP */
} verbs[] = {
    {"SHOW", do_show, false, NULL, NULL},
    {"SET", do_set, false, NULL, "SET key = arg"},
    {"RELOAD", do_reload, true, NULL, "RELOAD"},
    {"PAUSE", do_pause, true, NULL, "PAUSE [<db>]"},
    {"RESUME", do_resume, true, NULL, "RESUME [<db>]"},
    {"DISABLE", do_disable, true, NULL, "DISABLE <db>"},
    {"ENABLE", do_enable, true, NULL, "ENABLE <db>"},
    {"RECONNECT", do_dispose, true, NULL, "RECONNECT [<db>]"},
    {"DISPOSE", do_dispose, true, NULL, "DISPOSE [<db>]"},
    {"KILL", do_kill, true, NULL, "KILL [<db>]"},
    {"KILL_CLIENT", do_kill_client, true, NULL, "KILL_CLIENT <client_id>"},
    {"SUSPEND", do_suspend, true, NULL, "SUSPEND"},
    {"SHUTDOWN", do_shutdown, true, NULL, "SHUTDOWN [WAIT_FOR_SERVERS|WAIT_FOR_CLIENTS]"},
    {"WAIT_CLOSE", do_wait_close, true, NULL, "WAIT_CLOSE [<db>]"},
    {"SELECT", do_select, false, "SELECT 1", NULL},
    {"BEGIN", do_nothing, false, NULL, NULL},
    {"START", do_nothing, false, "START TRANSACTION", NULL},
    {"COMMIT", do_nothing, false, NULL, NULL},
    {"END", do_nothing, false, "COMMIT", NULL},
    {"ROLLBACK", do_nothing, false, NULL, NULL},
    {"ABORT", do_nothing, false, "ROLLBACK", NULL},
    {"RESET", do_nothing, false, NULL, NULL},
    {"UNLISTEN", do_nothing, false, NULL, NULL},
    {"CLOSE", do_nothing, false, "CLOSE CURSOR ALL", NULL},
    {"DISCARD", do_nothing, false, "DISCARD ALL", NULL},
    {"DEALLOCATE", do_nothing, false, "DEALLOCATE ALL", NULL},
};

static char *append(char *text, const char *between, const char *more)
{
    char *longer = memory_printf("%s%s%s", text, between, more);
    free(text);
    return longer;
}

static char *help_text(void)
{
    const struct show_table *table;
    char *text = memory_strdup("\n\tSHOW HELP");
    for (size_t i = 0; (table = show_at(i)); i++) {
        if (!table->help)
            text = append(text, i % 8 == 7 ? "\n\tSHOW " : "|", table->name);
    }
    for (size_t i = 0; (table = show_at(i)); i++) {
        if (table->help) {
            text = append(text, "\n\tSHOW ", table->name);
            text = append(text, "\t", table->help);
        }
    }
    for (size_t i = 0; i < sizeof(verbs) / sizeof(verbs[0]); i++) {
        if (verbs[i].usage)
            text = append(text, "\n\t", verbs[i].usage);
    }
    return append(text, "\n\t", "<db> is a database, a pool, or database@pool");
}

static const struct verb *find_verb(const struct command *command)
{
    for (size_t i = 0; i < sizeof(verbs) / sizeof(verbs[0]); i++) {
        if (command_has_word(command, 0, verbs[i].word))
            return &verbs[i];
    }
    return NULL;
}

static void refuse_verb(struct command *command)
{
    char *text =
        memory_printf("\"%.40s\" is not a command of the admin console", command->words[0]);
    command_fail(command, SQLSTATE_SYNTAX_ERROR, text, "SHOW HELP lists them.");
    free(text);
}

uint32_t command_run(struct command *command, const struct wire_formats *formats, uint32_t skip,
                     uint32_t limit)
{
    struct command_result result;
    const struct verb *verb = find_verb(command);
    if (command->is_unbalanced)
        command_fail(command, SQLSTATE_SYNTAX_ERROR, "unterminated quoted string", NULL);
    else if (!verb)
        refuse_verb(command);
    else if (verb->needs_administrator && !command->client->is_administrator)
        command_fail(command, SQLSTATE_INSUFFICIENT_PRIVILEGE, "administrator rights are needed",
                     "[admin] users names the administrators.");
    if (command->has_failed)
        return 0;
    command->tag = verb->tag ? verb->tag : verb->word;
    if (command_result(command, &result))
        return command_send_rows(command, &result, formats, skip, limit);
    verb->run(command);
    return 0;
}
