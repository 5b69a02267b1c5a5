/*
 * live.c - the document behind the page at `/`: see live.h.
 *
 * The figures are /status.json's own (contract 8); what the page needs beside them is how a pool is set up, what its
 * slots are doing, and who holds and who waits.  All of it is counted when it is asked for: nobody looking costs
 * nothing, and a page that polls costs a walk over the servers.
 */
#include "admin/live.h"

#include <stdlib.h>

#include "admin/show.h"
#include "admin/slots.h"
#include "admin/status.h"
#include "base/memory.h"
#include "base/utf8.h"
#include "proxy/control.h"

static json_t *slots_json(const int counts[SLOT_COUNT])
{
    json_t *slots = json_object();
    for (int i = 0; i < SLOT_COUNT; i++)
        json_object_set_new(slots, slot_name((enum slot)i), json_integer(counts[i]));
    return slots;
}

static const char *mode_name(enum pool_mode mode)
{
    static const char *const names[] = {
        [POOL_MODE_SESSION] = "session",
        [POOL_MODE_TRANSACTION] = "transaction",
        [POOL_MODE_STATEMENT] = "statement",
    };
    return names[mode];
}

/* Where the pool's clients connect to, as in the configuration. */
static json_t *listen_json(const struct config_pool *config)
{
    json_t *listen = json_array();
    for (size_t i = 0; i < config->listen.count; i++) {
        const struct config_address *at = &config->listen.items[i];
        json_array_append_new(listen, json_sprintf(at->is_unix ? "unix:%s:%u" : "%s:%u",
                                                   at->is_unix ? at->path : at->host, at->port));
    }
    return listen;
}

/* What the upstream said when it last refused a login of this pool; null when it did not. */
static json_t *upstream_error_json(const struct proxy_pool *pool)
{
    const struct lane *lane;
    for (lane = pool->proxy->lanes; lane; lane = lane->hh.next) {
        if (lane->pool == pool && lane->error) {
            char *words = utf8_clean(lane->error, LIVE_CELL_BYTES);
            json_t *json = json_string(words);
            free(words);
            return json;
        }
    }
    return json_null();
}

static json_t *pool_json(const struct proxy_pool *pool, const int counts[SLOT_COUNT],
                         bool shows_clients)
{
    const struct config_pool *config = pool->config;
    json_t *root = status_pool_json(pool);
    json_t *more = json_pack(
        "{s:s, s:i, s:i, s:f, s:b, s:o, s:o, s:o}", "mode", mode_name(config->mode), "size",
        config->size, "max_overflow", config->max_overflow, "timeout",
        (double)config->timeout_us / (double)CLOCK_S, "is_paused", control_pool_is_paused(pool),
        "listen", listen_json(config), "slots", slots_json(counts), "upstream_error",
        shows_clients ? upstream_error_json(pool) : json_null());
    json_object_update(root, more);
    json_decref(more);
    return root;
}

/* ---- who holds, who waits: SHOW's tables, the first rows of them ---- */

struct table_walk {
    const struct show_table *table;
    enum show_privacy allowed;
    json_t *rows;
};

static bool is_shown(const struct table_walk *walk, size_t column)
{
    return walk->table->columns[column].privacy <= walk->allowed;
}

static bool add_row(void *arg, const char *const *cells, size_t count)
{
    struct table_walk *walk = arg;
    json_t *row = json_array();
    for (size_t i = 0; i < count; i++) {
        if (!is_shown(walk, i))
            continue;
        char *text = cells[i] ? utf8_clean(cells[i], LIVE_CELL_BYTES) : NULL;
        json_array_append_new(row, text ? json_string(text) : json_null());
        free(text);
    }
    json_array_append_new(walk->rows, row);
    return json_array_size(walk->rows) < LIVE_ROWS;
}

/* Columns that the reader may not see are not there at all. */
static json_t *table_json(const struct proxy *proxy, const char *name, bool shows_clients,
                          int count)
{
    struct table_walk walk = {.table = show_find(name),
                              .allowed = shows_clients ? SHOW_QUERIES : SHOW_PUBLIC,
                              .rows = json_array()};
    json_t *columns = json_array();
    for (size_t i = 0; i < show_column_count(walk.table); i++) {
        if (is_shown(&walk, i))
            json_array_append_new(columns, json_string(walk.table->columns[i].name));
    }
    show_walk(walk.table, proxy, walk.allowed, add_row, &walk);
    return json_pack("{s:o, s:o, s:i}", "columns", columns, "rows", walk.rows, "count", count);
}

char *live_json(const struct proxy *proxy, const struct history *history, uint64_t since,
                bool shows_clients)
{
    struct slots slots;
    struct status_figures total;
    json_t *pools = json_array();
    slots_count(proxy, &slots);
    for (size_t i = 0; i < proxy->pool_count; i++) {
        if (proxy->pools[i]->config)
            json_array_append_new(pools,
                                  pool_json(proxy->pools[i], slots.of_pool[i], shows_clients));
    }
    status_total(proxy, &total);
    json_t *root = json_pack("{s:s, s:s, s:I, s:f, s:b, s:i}", "version", PGRESERVE_VERSION,
                             "state", status_health_name(total.health), "now_ms",
                             (json_int_t)(clock_wall_us() / CLOCK_MS), "uptime_seconds",
                             (double)(clock_wall_us() - proxy->started_wall_us) / (double)CLOCK_S,
                             "shows_clients", shows_clients, "free", slots.free);
    json_object_set_new(root, "pools", pools);
    json_object_set_new(root, "total", status_figures_json(&total));
    json_object_set_new(root, "holders", table_json(proxy, "HOLDERS", shows_clients, total.in_use));
    json_object_set_new(root, "waiters",
                        table_json(proxy, "WAITERS", shows_clients, total.waiting));
    json_object_set_new(root, "history", history_json(history, since));
    char *text = json_dumps(root, JSON_COMPACT | JSON_REAL_PRECISION(6));
    json_decref(root);
    return text ? text : memory_strdup("{}");
}
