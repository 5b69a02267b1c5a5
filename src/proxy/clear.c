/*
 * clear.c - databases that must be left alone for a while.
 *
 * DROP DATABASE and its like wait for everybody else to leave the database, for 5 s.  On a connection of the client's own nobody
 * of us would be there: so, when such a command does not come to its end at once, our free connections to what it
 * names are closed, and no new ones are opened meanwhile (contract 5).
 *
 * And what ALTER ROLE or DATABASE .. SET has changed is in force for whoever logs in afterwards, on a connection of the client's
 * own.  So all connections are replaced then, busy ones when they come free.
 */
#include <ctype.h>
#include <string.h>

#include "proxy/clear.h"
#include "proxy/client_query.h"
#include "proxy/proxy.h"

#define CLEARED_US       (6 * CLOCK_S) /* PostgreSQL waits 5 s for others to leave a database */
#define COMMAND_STUCK_US (250 * CLOCK_MS)

static bool is_name_byte(char c)
{
    return c == '_' || isalnum((unsigned char)c) || (unsigned char)c >= 0x80;
}

/* Whether the text has the name as a word. */
static bool names_database(const char *text, const char *name)
{
    size_t length = strlen(name);
    for (const char *at = text; (at = strcasestr(at, name)); at++) {
        if ((at == text || !is_name_byte(at[-1])) && !is_name_byte(at[length]))
            return true;
    }
    return false;
}

static void clear_lane(struct lane *lane, int64_t now_us)
{
    struct pool_backend *backend;
    pool_lane_hold_off(&lane->lane, now_us + CLEARED_US);
    for (int state = BACKEND_IDLE; state <= BACKEND_CHECKING; state++) {
        while ((backend = TAILQ_FIRST(&lane->lane.backends[state])))
            server_close((struct server *)backend, "in the way of a command on its database");
    }
}

/* Others' reserved connections stay: they are replaced in their time, at nobody's bidding but their own clients'. */
static void replace_all(const struct client *client)
{
    struct proxy *proxy = client->proxy;
    struct lane *lane;
    struct lane *next;
    HASH_ITER (hh, proxy->lanes, lane, next) {
        const struct config_pool *config = lane->pool->config;
        if (lane->pool == client->pool || !config || config->reserved == 0)
            pool_lane_dispose(&lane->lane);
    }
}

void proxy_clear_databases(struct client *client)
{
    struct proxy *proxy = client->proxy;
    const struct server *server = client->server;
    bool is_running = server && server->outstanding.count > 0;
    bool is_stuck = is_running && proxy->now_us - client->request_us > COMMAND_STUCK_US;
    struct lane *lane;
    struct lane *next;
    if (client->changes_defaults && !is_running && (!server || server->status == 'I')) {
        client->changes_defaults = false;
        replace_all(client);
    }
    if (client->database_step == DATABASE_NO_COMMAND)
        return;
    char text[CLIENT_QUERY_BYTES];
    const char *query = client_query_text(client, text);
    if (!query)
        return;
    HASH_ITER (hh, proxy->lanes, lane, next) {
        bool is_named =
            names_database(query, lane->database) || strncmp(lane->database, "template", 8) == 0;
        if (is_named && client->database_step == DATABASE_COMMAND_SENT && is_stuck)
            clear_lane(lane, proxy->now_us);
        else if (is_named && client->database_step == DATABASE_CLEARED && !is_running)
            pool_lane_retry_now(&lane->lane, proxy->now_us);
    }
    if (!is_running)
        client->database_step = DATABASE_NO_COMMAND;
    else if (is_stuck)
        client->database_step = DATABASE_CLEARED;
}
