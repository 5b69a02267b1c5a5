/*
 * show_row.c - how a row is filled: see show_row.h.
 *
 * What a cell says is made in the row's own space, or points to where it lives already; a row that does not fit is cut,
 * never longer.  Nothing is allocated for a row, so that ten thousand of them cost no more than their bytes.
 */
#include "admin/show_row.h"
#include "proxy/settle.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/memory.h"
#include "base/utf8.h"

static bool is_utf8(const char *text)
{
    while (*text) {
        size_t length = utf8_character_bytes(text);
        if (length == 0)
            return false;
        text += length;
    }
    return true;
}

/* Names and statements are clients' bytes, cut anywhere and in any encoding, but whoever reads us expects UTF-8: one stray
 * byte would cost a monitor the whole table. */
static const char *in_utf8(struct show_row *row, const char *text)
{
    char *clean = row->text + row->used;
    size_t left = sizeof(row->text) - row->used;
    size_t used = 0;
    if (is_utf8(text))
        return text;
    while (*text && used + 5 < left) {
        size_t length = utf8_character_bytes(text);
        if (length == 0)
            clean[used++] = '?';
        else
            memcpy(clean + used, text, length);
        used += length;
        text += length > 0 ? length : 1;
    }
    if (left == 0)
        return "";
    clean[used] = '\0';
    row->used += used + 1;
    return clean;
}

void row_text(struct show_row *row, const char *text)
{
    if (row->count >= SHOW_COLUMNS_MAX)
        return;
    if (row->table->columns[row->count].privacy > row->allowed)
        text = NULL;
    row->cells[row->count++] = text ? in_utf8(row, text) : NULL;
}

void row_format(struct show_row *row, const char *format, ...)
{
    char *at = row->text + row->used;
    size_t left = sizeof(row->text) - row->used;
    va_list args;
    va_start(args, format);
    int length = vsnprintf(at, left, format, args);
    va_end(args);
    if (length < 0 || left == 0) {
        row_text(row, "");
        return;
    }
    row->used += (size_t)length < left ? (size_t)length + 1 : left;
    row_text(row, at);
}

void row_number(struct show_row *row, int64_t number)
{
    row_format(row, "%lld", (long long)number);
}

void row_unsigned(struct show_row *row, uint64_t number)
{
    row_format(row, "%llu", (unsigned long long)number);
}

void row_natural(struct show_row *row, int64_t number)
{
    if (number >= 0)
        row_number(row, number);
    else
        row_text(row, NULL);
}

void row_seconds(struct show_row *row, int64_t us)
{
    row_format(row, "%.3f", (double)us / (double)CLOCK_S);
}

void row_time(struct show_row *row, int64_t wall_us)
{
    char text[64];
    time_t seconds = (time_t)(wall_us / CLOCK_S);
    struct tm local;
    if (wall_us <= 0) {
        row_text(row, NULL);
        return;
    }
    localtime_r(&seconds, &local);
    strftime(text, sizeof(text), "%Y-%m-%d %H:%M:%S %Z", &local);
    row_format(row, "%s", text);
}

void row_bool(struct show_row *row, bool value)
{
    row_text(row, value ? "t" : "f");
}

bool row_end(struct show_row *row)
{
    if (!row->is_over)
        row->is_over = !row->visitor(row->arg, row->cells, row->count);
    row->count = 0;
    row->used = 0;
    return !row->is_over;
}

/* ---- lanes ---- */

const char *lane_database(const struct lane *lane)
{
    return strcmp(lane->section, "*") == 0 ? lane->database : lane->section;
}

const char *lane_user(const struct lane *lane)
{
    return lane->user ? lane->user : "";
}

void row_pins(struct show_row *row, const struct client *client)
{
    char pins[160];
    pin_names(client->pins, pins, sizeof(pins));
    if (!*pins && client->server && !settle_is_shared(client))
        row_text(row, client->lane->is_replication ? "replication" : "session mode");
    else
        row_format(row, "%s", pins);
}

void row_lane_name(struct show_row *row, const struct lane *lane)
{
    row_format(row, "%s@%s", lane_database(lane), lane->pool->name);
}

const char *pool_mode_name(const struct proxy_pool *pool)
{
    static const char *const names[] = {"session", "transaction", "statement"};
    return pool->config ? names[pool->config->mode] : "transaction";
}

static int compare_database(const struct lane *a, const struct lane *b)
{
    if (a->pool != b->pool)
        return a->pool->index < b->pool->index ? -1 : 1;
    return strcmp(lane_database(a), lane_database(b));
}

bool lanes_same_database(const struct lane *a, const struct lane *b)
{
    return compare_database(a, b) == 0;
}

static int compare_lanes(const void *left, const void *right)
{
    const struct lane *a = *(const struct lane *const *)left;
    const struct lane *b = *(const struct lane *const *)right;
    int order = compare_database(a, b);
    return order != 0 ? order : strcmp(lane_user(a), lane_user(b));
}

const struct lane **lanes_sorted(const struct proxy *proxy, size_t *count)
{
    size_t all = HASH_COUNT(proxy->lanes);
    const struct lane **lanes = memory_alloc((all + 1) * sizeof(*lanes));
    *count = 0;
    for (const struct lane *lane = proxy->lanes; lane; lane = lane->hh.next)
        lanes[(*count)++] = lane;
    qsort(lanes, *count, sizeof(*lanes), compare_lanes);
    return lanes;
}
