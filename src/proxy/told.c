/*
 * told.c - what the server reports of its settings, and who is told: see settle.h.
 *
 * A ParameterStatus that answers a client's own statement is the client's, but for one that is about to be restored.  What our
 * own statements cause is nobody's: each client has been told its values.  What a free backend says by itself is what the next
 * login would be told.
 */
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "proto/build.h"
#include "proxy/defaults.h"
#include "proxy/login.h"
#include "proxy/proxy.h"
#include "proxy/settle.h"

#define TOLD_MAX 100 /* settings that a server reports: some 15 */

static struct settings_table *table_of(const struct client *client)
{
    return &client->proxy->settings;
}

static void note(struct client *client, struct settings **list, const char *name, const char *value)
{
    struct settings_draft draft = {0};
    if (*list && !settings_get(*list, name) &&
        ((*list)->count >= TOLD_MAX || (*list)->length >= SETTLE_SETTINGS_MAX))
        return; /* no PostgreSQL: passed on, and not remembered */
    if (*list) {
        settings_replace(table_of(client), list,
                         settings_with(table_of(client), *list, name, value));
        return;
    }
    settings_draft_add(&draft, name, value);
    *list = settings_intern(table_of(client), &draft);
}

static void tell(struct client *client, const char *name, const char *value)
{
    if (strcmp(name, "application_name") == 0)
        client_set_application_name(client, value);
    note(client, &client->told, name, value);
}

static const char *last_told(const struct client *client, const char *name)
{
    const char *value = client->told ? settings_get(client->told, name) : NULL;
    return value ? value : settings_get(client->base, name);
}

void settle_restored(struct server *server)
{
    struct client *client = server->client;
    struct buffer message = {0};
    const char *value;
    if (!client || !client->untold)
        return;
    for (const char *name = NULL; (name = settings_next(client->untold, name, &value));) {
        const char *before = last_told(client, name);
        if (before && strcmp(before, value) == 0)
            continue;
        build_parameter_status(&message, name, value);
        tell(client, name, value);
    }
    settings_replace(table_of(client), &client->untold, NULL);
    if (buffer_length(&message) > 0)
        stream_queue_buffer(&client->stream, &message);
}

static bool is_free(const struct server *server)
{
    return server->backend.state == BACKEND_IDLE || server->backend.state == BACKEND_CHECKING;
}

/* A free backend says that something else is in force where no session has a value of its own: the server's configuration
 * was read anew, or a standby promoted.  The next login would say the same. */
static void note_default(struct server *server, const char *name, const char *value)
{
    if (is_free(server) && !settings_get(server->settings, name) && !server->is_unknown &&
        server->hidden_by == 0)
        defaults_tell(server, name, value);
}

bool settle_parameter(struct server *server, enum outstanding_injection injection, const char *name,
                      const char *value)
{
    struct client *client = server->client;
    if (!client) {
        note_default(server, name, value);
        /* a client that has gone may have set it, by what it sent or what was sent for it; a ROLLBACK then reports it too */
        if ((is_free(server) || injection == INJECTION_CLEAN) && server->status == 'I')
            defaults_changed(server, name, value);
        return false;
    }
    switch (injection) {
    case INJECTION_LOGIN:
        note(client, &client->told, name, value); /* auth.c reports it when all is known */
        return false;
    case INJECTION_RESTORE:
    case INJECTION_REPAIR:
        note(client, &client->untold, name, value);
        return false;
    case INJECTION_NONE:
        if (settle_is_shared(client))
            client->asks |= PIN_BIT(PIN_SETTING);
        else
            defaults_reported(server, name, value);
        if (client->restores > 0 && settings_get(client->base, name)) {
            note(client, &client->untold, name, value);
            return false; /* what is true is told when it has been restored */
        }
        tell(client, name, value);
        return true;
    default:
        if (!defaults_changed(server, name, value))
            return false;
        tell(client, name, value);
        return true;
    }
}
