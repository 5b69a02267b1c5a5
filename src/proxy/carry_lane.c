/*
 * carry_lane.c - what a lane has learned of its upstream, between two processes of an upgrade.
 *
 * The parameters that a login reported, and what start-up settings came to: with them a client that comes to the new process
 * opens its session at once, though the old one still holds every connection.  Only where the new process's
 * configuration leads to the same place; elsewhere it finds out by itself.
 */
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "proto/record.h"
#include "proxy/carry.h"
#include "proxy/login.h"

#define PARAMETERS_MAX 64

enum lane_field {
    LANE_POOL = 1,
    LANE_SECTION,
    LANE_DATABASE,
    LANE_USER,
    LANE_UPSTREAM,  /* where it leads */
    LANE_PARAMETER, /* record of LANE_NAME, LANE_VALUE */
    LANE_START,     /* record of LANE_NAME, LANE_SETTINGS, LANE_TOLD */
    LANE_TRIGGERS,
    LANE_NAME,
    LANE_VALUE,
    LANE_SETTINGS,
    LANE_TOLD
};

/* Where the database's section leads, as text that can be compared; free() it. */
static char *upstream_text(const struct config_database *database)
{
    return memory_printf("%s|%s|%s", database->hosts ? database->hosts : "",
                         database->hostaddrs ? database->hostaddrs : "",
                         database->ports ? database->ports : "");
}

bool carry_write_lane(const struct lane *lane, struct buffer *record)
{
    const struct config_database *database =
        config_find_database(lane->pool->proxy->config, lane->section);
    if (!lane->parameters || lane->is_replication || lane->asker || !database)
        return false;
    char *upstream = upstream_text(database);
    record_put_text(record, LANE_POOL, lane->pool->name);
    record_put_text(record, LANE_SECTION, lane->section);
    record_put_text(record, LANE_DATABASE, lane->database);
    record_put_text(record, LANE_USER, lane->user);
    record_put_text(record, LANE_UPSTREAM, upstream);
    record_put_number(record, LANE_TRIGGERS, lane->has_triggers);
    free(upstream);
    for (size_t i = 0; i < lane->parameter_count; i++)
        record_put_pair(record, LANE_PARAMETER, LANE_NAME, lane->parameters[i].name, LANE_VALUE,
                        lane->parameters[i].value);
    for (const struct start_memory *start = lane->starts; start; start = start->hh.next) {
        struct buffer one = {0};
        record_put_text(&one, LANE_NAME, start->key);
        record_put_bytes(&one, LANE_SETTINGS, start->settings->text, start->settings->length);
        if (start->told)
            record_put_bytes(&one, LANE_TOLD, start->told->text, start->told->length);
        record_put_record(record, LANE_START, &one);
    }
    return true;
}

/* What tells which lane it is. */
struct lane_name {
    char *pool;
    char *section;
    char *database;
    char *user;
    char *upstream;
    bool has_triggers;
};

static void read_name(struct lane_name *name, struct record_reader *reader)
{
    struct record_field field;
    *name = (struct lane_name){0};
    while (record_next(reader, &field)) {
        char **place = field.tag == LANE_POOL       ? &name->pool
                       : field.tag == LANE_SECTION  ? &name->section
                       : field.tag == LANE_DATABASE ? &name->database
                       : field.tag == LANE_USER     ? &name->user
                       : field.tag == LANE_UPSTREAM ? &name->upstream
                                                    : NULL;
        if (place && !*place)
            *place = record_text(reader, &field);
        else if (field.tag == LANE_TRIGGERS)
            name->has_triggers = record_number_within(reader, &field, 0, 1) == 1;
    }
}

static void free_name(struct lane_name *name)
{
    free(name->pool);
    free(name->section);
    free(name->database);
    free(name->user);
    free(name->upstream);
}

/* The same lane in this process; NULL when it would be another. */
static struct lane *find_lane(struct proxy *proxy, const struct lane_name *name)
{
    if (!name->pool || !name->section || !name->database || !name->upstream)
        return NULL;
    struct proxy_pool *pool = proxy_find_pool(proxy, name->pool);
    const struct config_database *database = config_find_database(proxy->config, name->section);
    if (!pool || !pool->config || !database || strcmp(database->name, name->section) != 0)
        return NULL;
    const char *asked = strcmp(name->section, "*") == 0 ? name->database : name->section;
    char *upstream = upstream_text(database);
    const char *user = database->user ? database->user : name->user;
    bool is_same = strcmp(upstream, name->upstream) == 0 && user && name->user &&
                   strcmp(user, name->user) == 0;
    free(upstream);
    if (!is_same)
        return NULL;
    struct lane *lane = proxy_lane(pool, database, asked, user,
                                   auth_upstream_password(proxy, database, user), NULL);
    return strcmp(lane->database, name->database) == 0 && !lane->parameters ? lane : NULL;
}

static void read_parameter(struct lane *lane, const struct record_field *whole)
{
    struct parameter parameter;
    if (lane->parameter_count >= PARAMETERS_MAX ||
        !record_pair(whole, LANE_NAME, &parameter.name, &parameter.value))
        return;
    lane->parameters =
        memory_resize(lane->parameters, (lane->parameter_count + 1) * sizeof(*lane->parameters));
    lane->parameters[lane->parameter_count++] = parameter;
}

static void read_start(struct proxy *proxy, struct lane *lane, const struct record_field *whole)
{
    struct start_memory *start = memory_alloc(sizeof(*start));
    struct start_memory *other = NULL;
    struct record_reader reader;
    struct record_field field;
    record_read(&reader, whole->bytes, whole->length);
    while (record_next(&reader, &field)) {
        if (field.tag == LANE_NAME && !start->key)
            start->key = record_text(&reader, &field);
        else if (field.tag == LANE_SETTINGS && !start->settings)
            start->settings = carry_settings(proxy, &reader, &field);
        else if (field.tag == LANE_TOLD && !start->told)
            start->told = carry_settings(proxy, &reader, &field);
    }
    if (start->key)
        HASH_FIND_STR(lane->starts, start->key, other);
    if (start->key && start->settings && !other && HASH_COUNT(lane->starts) < OPEN_STARTS_MAX) {
        HASH_ADD_KEYPTR(hh, lane->starts, start->key, strlen(start->key), start);
        return;
    }
    settings_drop(&proxy->settings, start->settings);
    settings_drop(&proxy->settings, start->told);
    free(start->key);
    free(start);
}

void carry_read_lane(struct proxy *proxy, const void *record, size_t length)
{
    struct record_reader reader;
    struct record_field field;
    struct lane_name name;
    record_read(&reader, record, length);
    read_name(&name, &reader);
    struct lane *lane = reader.is_malformed ? NULL : find_lane(proxy, &name);
    if (lane)
        lane->has_triggers |= name.has_triggers;
    free_name(&name);
    record_read(&reader, record, length);
    while (lane && record_next(&reader, &field)) {
        if (field.tag == LANE_PARAMETER)
            read_parameter(lane, &field);
        else if (field.tag == LANE_START)
            read_start(proxy, lane, &field);
    }
}
