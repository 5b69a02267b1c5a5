/*
 * session.c - settings that travel: see session.h.
 *
 * A list is one piece of text, sorted, and the key of a hash table: making one costs a sort, comparing two costs
 * nothing.  Lists are short (a driver sets three or four things), so looking a name up is a walk.
 */
#include "policy/session.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/memory.h"
#include "proto/build.h"

/* ---- making ---- */

void settings_draft_add(struct settings_draft *draft, const char *name, const char *value)
{
    buffer_append(&draft->text, name, strlen(name) + 1);
    buffer_append(&draft->text, value, strlen(value) + 1);
}

void settings_draft_free(struct settings_draft *draft)
{
    buffer_free(&draft->text);
}

struct entry {
    const char *name;
    const char *value;
    size_t at; /* its place in the draft */
};

static int compare_entries(const void *a, const void *b)
{
    const struct entry *first = a;
    const struct entry *second = b;
    int order = strcasecmp(first->name, second->name);
    return order ? order : (first->at > second->at) - (first->at < second->at);
}

static size_t count_entries(const char *text, size_t length)
{
    size_t zeros = 0;
    for (size_t i = 0; i < length; i++)
        zeros += text[i] == '\0';
    return zeros / 2;
}

static struct entry *sorted_entries(const char *text, size_t length, size_t *count)
{
    *count = count_entries(text, length);
    struct entry *entries = memory_alloc((*count + 1) * sizeof(*entries));
    for (size_t i = 0; i < *count; i++) {
        entries[i].name = text;
        entries[i].value = text + strlen(text) + 1;
        entries[i].at = i;
        text = entries[i].value + strlen(entries[i].value) + 1;
    }
    qsort(entries, *count, sizeof(*entries), compare_entries);
    return entries;
}

static struct settings *intern_text(struct settings_table *table, const char *text, size_t length,
                                    size_t count)
{
    struct settings *settings = NULL;
    HASH_FIND(hh, table->by_text, text, length, settings);
    if (settings)
        return settings_hold(settings);
    settings = memory_alloc(sizeof(*settings) + length + 1);
    settings->references = 1;
    settings->count = count;
    settings->length = length;
    if (length > 0)
        memcpy(settings->text, text, length);
    const char *idle =
        settings_get(settings, "idle_session_timeout"); /* in ms, as pg_settings has it */
    long long idle_ms = idle ? strtoll(idle, NULL, 10) : 0;
    settings->idle_session_us = idle_ms > 0 && idle_ms <= INT32_MAX ? idle_ms * 1000 : 0;
    HASH_ADD_KEYPTR(hh, table->by_text, settings->text, settings->length, settings);
    return settings;
}

struct settings *settings_intern(struct settings_table *table, struct settings_draft *draft)
{
    size_t count;
    struct entry *entries = sorted_entries((const char *)buffer_bytes(&draft->text),
                                           buffer_length(&draft->text), &count);
    struct settings_draft sorted = {0};
    size_t kept = 0;
    for (size_t i = 0; i < count; i++) {
        if (i + 1 < count && strcasecmp(entries[i].name, entries[i + 1].name) == 0)
            continue; /* a later value of the same name counts */
        settings_draft_add(&sorted, entries[i].name, entries[i].value);
        kept++;
    }
    size_t length = buffer_length(&sorted.text);
    struct settings *settings = intern_text(
        table, length > 0 ? (const char *)buffer_bytes(&sorted.text) : "", length, kept);
    settings_draft_free(&sorted);
    settings_draft_free(draft);
    free(entries);
    return settings;
}

struct settings *settings_with(struct settings_table *table, const struct settings *settings,
                               const char *name, const char *value)
{
    struct settings_draft draft = {0};
    buffer_append(&draft.text, settings->text, settings->length);
    settings_draft_add(&draft, name, value);
    return settings_intern(table, &draft);
}

struct settings *settings_hold(struct settings *settings)
{
    settings->references++;
    return settings;
}

void settings_drop(struct settings_table *table, struct settings *settings)
{
    if (!settings || --settings->references > 0)
        return;
    HASH_DEL(table->by_text, settings);
    free(settings);
}

void settings_replace(struct settings_table *table, struct settings **place, struct settings *by)
{
    struct settings *old = *place;
    *place = by;
    settings_drop(table, old);
}

/* ---- looking ---- */

const char *settings_next(const struct settings *settings, const char *after, const char **value)
{
    const char *name = settings->text;
    if (after) {
        const char *old = after + strlen(after) + 1;
        name = old + strlen(old) + 1;
    }
    if (name >= settings->text + settings->length)
        return NULL;
    *value = name + strlen(name) + 1;
    return name;
}

const char *settings_get(const struct settings *settings, const char *name)
{
    const char *value;
    for (const char *at = NULL; (at = settings_next(settings, at, &value));) {
        if (strcasecmp(at, name) == 0)
            return value;
    }
    return NULL;
}

bool setting_is_custom(const char *name)
{
    return strchr(name, '.') != NULL;
}

/* ---- writing ---- */

static void append(struct buffer *sql, const char *text)
{
    buffer_append(sql, text, strlen(text));
}

static void append_literal(struct buffer *sql, const char *text)
{
    char *literal = build_quote_literal(text);
    append(sql, literal);
    free(literal);
}

/* RESET "my"."tenant": each part quoted by itself. */
static void append_name(struct buffer *sql, const char *name)
{
    append(sql, "\"");
    for (; *name; name++) {
        if (*name == '.')
            append(sql, "\".\"");
        else if (*name == '"')
            append(sql, "\"\"");
        else
            buffer_append(sql, name, 1);
    }
    append(sql, "\"");
}

/* Modules that come with the server, or often: once loaded, which may be when they are first used, they keep their names to
 * themselves, and refuse what was set before. */
static bool is_of_module(const char *name)
{
    static const char *const modules[] = {"plpgsql.",
                                          "plperl.",
                                          "pltcl.",
                                          "plpython3.",
                                          "auto_explain.",
                                          "pg_stat_statements.",
                                          "pg_trgm.",
                                          "postgres_fdw.",
                                          "pgcrypto.",
                                          "pgaudit.",
                                          NULL};
    for (size_t i = 0; modules[i]; i++) {
        if (strncasecmp(name, modules[i], strlen(modules[i])) == 0)
            return true;
    }
    return false;
}

static void append_set(struct buffer *sql, const char *name, const char *value)
{
    append(sql, "pg_catalog.set_config(");
    append_literal(sql, name);
    append(sql, ",");
    if (value)
        append_literal(sql, value);
    else
        append(sql, "NULL");
    append(sql, ",false)");
}

/* Unless the module is there and knows nothing of it: on a connection of one's own its loading would have taken it away. */
static void append_set_of_module(struct buffer *sql, const char *name, const char *value)
{
    static const char among[] =
        "EXISTS (SELECT FROM pg_catalog.pg_settings AS s WHERE"
        " pg_catalog.lower(s.name) OPERATOR(pg_catalog.=) pg_catalog.lower(";
    append(sql, "CASE WHEN ");
    append(sql, among);
    append_literal(sql, name);
    append(sql,
           ")) OR NOT EXISTS (SELECT FROM pg_catalog.pg_settings AS s WHERE"
           " pg_catalog.strpos(pg_catalog.lower(s.name), pg_catalog.lower(pg_catalog.split_part(");
    append_literal(sql, name);
    append(sql, ",'.',1)) OPERATOR(pg_catalog.||) '.') OPERATOR(pg_catalog.=) 1) THEN ");
    append_set(sql, name, value);
    append(sql, " END");
}

static void append_reset(struct buffer *sql, const char *name)
{
    if (is_of_module(name))
        return; /* it might be refused: set_config() does it */
    append(sql, "RESET ");
    append_name(sql, name);
    append(sql, ";");
}

static void append_resets(struct buffer *sql, const struct settings *from,
                          const struct settings *to)
{
    const char *value;
    for (const char *name = NULL; (name = settings_next(from, name, &value));) {
        if (settings_get(to, name))
            continue;
        append_reset(sql, name);
    }
}

/* A custom setting that was reset is empty, which set_config() might be refused where an extension has one of that name. */
static bool is_reset(const char *name, const char *value)
{
    return *value == '\0' && setting_is_custom(name);
}

static bool has_value(const struct settings *settings, const char *name, const char *value)
{
    const char *has = settings_get(settings, name);
    return has && strcmp(has, value) == 0;
}

void session_difference(struct buffer *sql, const struct settings *from, const struct settings *to,
                        bool is_unknown)
{
    const char *value;
    bool is_first = true;
    if (from == to && !is_unknown)
        return;
    if (is_unknown)
        append(sql, "RESET ALL;");
    else
        append_resets(sql, from, to);
    for (const char *name = NULL; (name = settings_next(to, name, &value));)
        if (is_reset(name, value) && (is_unknown || !has_value(from, name, value)))
            append_reset(sql, name);
    for (const char *name = NULL; (name = settings_next(to, name, &value));) {
        if ((!is_unknown && has_value(from, name, value)) || is_reset(name, value))
            continue;
        append(sql, is_first ? "SELECT " : ",");
        if (is_of_module(name))
            append_set_of_module(sql, name, value);
        else
            append_set(sql, name, value);
        is_first = false;
    }
    for (const char *name = NULL; !is_unknown && (name = settings_next(from, name, &value));) {
        const char *wanted = settings_get(to, name);
        if (!is_of_module(name) || (wanted && !is_reset(name, wanted)))
            continue;
        append(sql, is_first ? "SELECT " : ",");
        append_set_of_module(sql, name, NULL);
        is_first = false;
    }
}

/* Settings that take a value which they have taken before, whoever sets it and whatever has gone since. */
static bool is_safe(const char *name)
{
    static const char *const safe[] = {"application_name",
                                       "search_path",
                                       "timezone",
                                       "datestyle",
                                       "intervalstyle",
                                       "client_encoding",
                                       "client_min_messages",
                                       "extra_float_digits",
                                       "bytea_output",
                                       "statement_timeout",
                                       "lock_timeout",
                                       "idle_in_transaction_session_timeout",
                                       "idle_session_timeout",
                                       "transaction_timeout",
                                       "standard_conforming_strings",
                                       "escape_string_warning",
                                       "backslash_quote",
                                       "array_nulls",
                                       "xmlbinary",
                                       "xmloption",
                                       "default_transaction_isolation",
                                       "default_transaction_read_only",
                                       "default_transaction_deferrable",
                                       "work_mem",
                                       "maintenance_work_mem",
                                       "row_security",
                                       "synchronous_commit",
                                       "check_function_bodies",
                                       "plan_cache_mode",
                                       "jit",
                                       "quote_all_identifiers",
                                       "random_page_cost",
                                       "seq_page_cost",
                                       "effective_cache_size",
                                       "default_statistics_target",
                                       "constraint_exclusion",
                                       "lc_messages",
                                       "lc_monetary",
                                       "lc_numeric",
                                       "lc_time",
                                       NULL};
    for (size_t i = 0; safe[i]; i++) {
        if (strcasecmp(safe[i], name) == 0)
            return true;
    }
    return strncasecmp(name, "enable_", 7) == 0 || strncasecmp(name, "geqo", 4) == 0 ||
           setting_is_custom(name);
}

bool session_may_fail(const struct settings *from, const struct settings *to, bool is_unknown)
{
    const char *value;
    for (const char *name = NULL; (name = settings_next(to, name, &value));) {
        const char *old = settings_get(from, name);
        if ((is_unknown || !old || strcmp(old, value) != 0) && !is_safe(name))
            return true;
    }
    for (const char *name = NULL; (name = settings_next(from, name, &value));) {
        if (!settings_get(to, name) && !is_safe(name))
            return true;
    }
    return false;
}

void session_restore(struct buffer *sql, const struct settings *base, bool is_local)
{
    const char *value;
    bool is_first = true;
    append(sql, is_local ? "SELECT pg_catalog.set_config(b.n, b.v, true) FROM (VALUES "
                         : "SELECT pg_catalog.set_config(b.n, b.v, false) FROM (VALUES ");
    for (const char *name = NULL; (name = settings_next(base, name, &value));) {
        append(sql, is_first ? "(" : ",(");
        append_literal(sql, name);
        append(sql, ",");
        append_literal(sql, value);
        append(sql, setting_is_custom(name) ? ",true)" : ",false)");
        is_first = false;
    }
    append(sql,
           ") AS b(n, v, is_custom) WHERE CASE WHEN b.is_custom"
           " THEN COALESCE(pg_catalog.current_setting(b.n, true), '') OPERATOR(pg_catalog.=) ''"
           " ELSE NOT EXISTS (SELECT FROM pg_catalog.pg_settings AS s"
           " WHERE pg_catalog.lower(s.name) OPERATOR(pg_catalog.=) pg_catalog.lower(b.n)"
           " AND s.source OPERATOR(pg_catalog.=) 'session') END");
}

/* SET takes a list of names for these, and would take its literal for one name. */
static bool is_list_of_names(const char *name)
{
    static const char libraries[] = "_preload_libraries";
    size_t length = strlen(name);
    return strcasecmp(name, "search_path") == 0 || strcasecmp(name, "temp_tablespaces") == 0 ||
           (length >= strlen(libraries) &&
            strcasecmp(name + length - strlen(libraries), libraries) == 0);
}

bool session_restore_one(struct buffer *sql, const struct settings *base, size_t which,
                         bool is_local)
{
    const char *value;
    const char *name = settings_next(base, NULL, &value);
    for (; name && which > 0; which--)
        name = settings_next(base, name, &value);
    if (!name || is_list_of_names(name))
        return false;
    append(sql, is_local ? "SET LOCAL " : "SET ");
    append_name(sql, name);
    append(sql, " TO ");
    append_literal(sql, value);
    buffer_append(sql, "", 1);
    return true;
}
