/*
 * defaults.c - what a session of the upstream begins with, and which of it a client has been told.
 *
 * Encoding, date formats, time zone and quoting are told at the login (ParameterStatus), and drivers read and write by
 * them from then on.  Who has not set them has what the server, its database or role say, and that may change while clients are
 * connected (ALTER ROLE ... SET, pg_reload_conf, another host after a failover): then a backend that is opened later is not
 * what its next client was told.  On a connection of its own a client would keep what it began with.  So a
 * backend's defaults are known, and where they differ from what its client was told, that is set for it, and is what RESET goes
 * back to.  Only a running session's own change, which the server tells, is passed on.
 *
 * Nothing is compared in a lane where no such change has been seen.
 */
#include "proxy/defaults.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/memory.h"
#include "proxy/login.h"

/* What decides how bytes are to be understood: those that PgBouncer tracks. */
static const char *const names[] = {"client_encoding", "DateStyle", "IntervalStyle", "TimeZone",
                                    "standard_conforming_strings"};

#define NAME_COUNT (sizeof(names) / sizeof(names[0]))

static bool is_known(const char *name)
{
    for (size_t i = 0; i < NAME_COUNT; i++) {
        if (strcasecmp(names[i], name) == 0)
            return true;
    }
    return false;
}

struct parameter *defaults_find(const struct lane *lane, const char *name)
{
    for (size_t i = 0; i < lane->parameter_count; i++) {
        if (strcasecmp(lane->parameters[i].name, name) == 0)
            return &lane->parameters[i];
    }
    return NULL;
}

void defaults_tell(struct server *server, const char *name, const char *value)
{
    struct parameter *parameter = defaults_find(server->lane, name);
    if (!parameter || strcmp(parameter->value, value) == 0)
        return;
    free(parameter->value);
    parameter->value = memory_strdup(value);
    open_forget_starts(server->proxy, server->lane);
}

void defaults_lane_free(struct lane *lane)
{
    for (size_t i = 0; i < lane->parameter_count; i++) {
        free(lane->parameters[i].name);
        free(lane->parameters[i].value);
    }
    free(lane->parameters);
    lane->parameters = NULL;
    lane->parameter_count = 0;
}

/* Compares the lane's parameters with those of this login: start-up settings may come to something else now. */
static void compare(struct server *server)
{
    struct lane *lane = server->lane;
    bool is_same = true;
    for (size_t i = 0; i < lane->parameter_count; i++) {
        const struct parameter *parameter = &lane->parameters[i];
        const char *value = PQparameterStatus(server->conn, parameter->name);
        if (value && strcmp(value, parameter->value) == 0)
            continue;
        is_same = false;
        lane->has_changed |= is_known(parameter->name);
    }
    if (!is_same)
        open_forget_starts(server->proxy, lane);
}

void defaults_login(struct server *server)
{
    static const char *const reported[] = {"server_version",
                                           "server_encoding",
                                           "client_encoding",
                                           "application_name",
                                           "default_transaction_read_only",
                                           "in_hot_standby",
                                           "is_superuser",
                                           "session_authorization",
                                           "DateStyle",
                                           "IntervalStyle",
                                           "TimeZone",
                                           "integer_datetimes",
                                           "standard_conforming_strings",
                                           "scram_iterations",
                                           "search_path"};
    static const size_t reported_count = sizeof(reported) / sizeof(reported[0]);
    struct lane *lane = server->lane;
    struct settings_draft draft = {0};
    compare(server);
    defaults_lane_free(lane);
    lane->parameters = memory_alloc(reported_count * sizeof(*lane->parameters));
    for (size_t i = 0; i < reported_count; i++) {
        const char *value = PQparameterStatus(server->conn, reported[i]);
        if (!value)
            continue;
        lane->parameters[lane->parameter_count++] =
            (struct parameter){memory_strdup(reported[i]), memory_strdup(value)};
        if (is_known(reported[i]))
            settings_draft_add(&draft, reported[i], value);
    }
    settings_replace(&server->proxy->settings, &server->defaults,
                     settings_intern(&server->proxy->settings, &draft));
}

void defaults_begin(struct client *client)
{
    struct settings_draft draft = {0};
    const char *value;
    for (size_t i = 0; i < NAME_COUNT; i++) {
        const struct parameter *parameter = defaults_find(client->lane, names[i]);
        if (parameter)
            settings_draft_add(&draft, parameter->name, parameter->value);
    }
    for (const char *name = NULL;
         client->told && (name = settings_next(client->told, name, &value));)
        settings_draft_add(&draft, name, value); /* its own settings: the later one counts */
    settings_replace(&client->proxy->settings, &client->told,
                     settings_intern(&client->proxy->settings, &draft));
}

void defaults_link(struct client *client, const struct server *server)
{
    struct settings_table *table = &client->proxy->settings;
    if (!client->lane->has_changed || !client->told || !server->defaults)
        return;
    for (size_t i = 0; i < NAME_COUNT; i++) {
        const char *told = settings_get(client->told, names[i]);
        const char *there = settings_get(server->defaults, names[i]);
        if (!told || !there || strcmp(told, there) == 0 || settings_get(client->settings, names[i]))
            continue;
        if (!settings_get(client->base, names[i]))
            settings_replace(table, &client->base,
                             settings_with(table, client->base, names[i], told));
        settings_replace(table, &client->settings,
                         settings_with(table, client->settings, names[i], told));
    }
}

static bool differs(const struct server *server, const char *name, const char *value)
{
    const char *old = server->defaults ? settings_get(server->defaults, name) : NULL;
    return old && is_known(name) && strcmp(old, value) != 0;
}

static void note(struct server *server, const char *name, const char *value)
{
    server->lane->has_changed = true;
    settings_replace(&server->proxy->settings, &server->defaults,
                     settings_with(&server->proxy->settings, server->defaults, name, value));
}

bool defaults_changed(struct server *server, const char *name, const char *value)
{
    if (!differs(server, name, value) ||
        (server->client && settings_get(server->client->settings, name)))
        return false;
    note(server, name, value);
    defaults_tell(server, name, value);
    return true;
}

void defaults_reported(struct server *server, const char *name, const char *value)
{
    if (differs(server, name, value))
        note(server, name, value);
}

void defaults_asked(const struct client *client, struct server *server)
{
    for (size_t i = 0; client->told && i < NAME_COUNT; i++) {
        const char *told = settings_get(client->told, names[i]);
        if (told)
            defaults_changed(server, names[i], told);
    }
}
