/*
 * pin.c - what ties a client to its backend: see pin.h.
 *
 * One table says for each reason its name, the signs that raise the question, and the part of the query that answers
 * it.  The parts are joined by UNION ALL; names of functions and operators are given with their schema, so that the
 * client's own search_path has no say.
 */
#include "policy/pin.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proto/build.h"
#include "proto/sql.h"

static const struct {
    const char *name;
    uint32_t asked_for; /* signs that raise the question */
    uint32_t at_once;   /* signs that pin without one */
    const char *part;   /* of the question; NULL: written by a function below, or not askable */
} reasons[PIN_COUNT] = {
    [PIN_SETTING] = {"setting", SQL_SIGN_SET, 0, NULL},
    [PIN_LISTEN] =
        {"listen", SQL_SIGN_LISTEN, 0,
         "SELECT 'l','','' WHERE EXISTS (SELECT FROM pg_catalog.pg_listening_channels())"},
    [PIN_PREPARE] = {"prepare", SQL_SIGN_PREPARE, 0,
                     "SELECT 'p','','' WHERE EXISTS"
                     " (SELECT FROM pg_catalog.pg_prepared_statements WHERE from_sql)"},
    [PIN_TEMP] = {"temp table", SQL_SIGN_TEMP | SQL_SIGN_CREATE, 0,
                  "SELECT 't','','' WHERE EXISTS (SELECT FROM pg_catalog.pg_depend"
                  " WHERE refclassid OPERATOR(pg_catalog.=) 2615"
                  " AND refobjid OPERATOR(pg_catalog.=) pg_catalog.pg_my_temp_schema())"},
    [PIN_LOCK] = {"lock", SQL_SIGN_LOCK, 0,
                  "SELECT 'k','','' WHERE EXISTS (SELECT FROM pg_catalog.pg_locks"
                  " WHERE locktype OPERATOR(pg_catalog.=) 'advisory'"
                  " AND pid OPERATOR(pg_catalog.=) pg_catalog.pg_backend_pid())"},
    [PIN_HOLD] = {"cursor", SQL_SIGN_HOLD, 0,
                  "SELECT 'h','','' WHERE EXISTS"
                  " (SELECT FROM pg_catalog.pg_cursors WHERE is_holdable)"},
    [PIN_LOAD] = {"load", 0, SQL_SIGN_LOAD, NULL},
    [PIN_SEQUENCE] = {"sequence", 0, SQL_SIGN_SEQUENCE, NULL},
    [PIN_ROLE] = {"role", SQL_SIGN_SET | SQL_SIGN_ROLE, 0, NULL},
    [PIN_REQUEST] = {"requested", SQL_SIGN_SET, 0,
                     "SELECT 'q','','' WHERE pg_catalog.lower(pg_catalog.current_setting"
                     "('pgreserve.pin', true)) OPERATOR(pg_catalog.=)"
                     " ANY ('{on,true,yes,1}'::pg_catalog.text[])"},
    [PIN_STATEMENTS] = {"statements", 0, 0, NULL},
    [PIN_COPY_BOTH] = {"replication", 0, 0, NULL},
    [PIN_OTHER] = {"other", 0, SQL_SIGN_OTHER | SQL_SIGN_SPOIL, NULL},
};

const char *pin_name(enum pin pin)
{
    return reasons[pin].name;
}

void pin_names(uint32_t pins, char *out, size_t bytes)
{
    size_t used = 0;
    out[0] = '\0';
    for (unsigned i = 0; i < PIN_COUNT && used < bytes; i++) {
        if (pins & PIN_BIT(i))
            used += (size_t)snprintf(out + used, bytes - used, "%s%s", used ? ", " : "",
                                     reasons[i].name);
    }
}

/* ---- signs ---- */

struct pin_verdict pin_judge(uint32_t signs, uint32_t pins, bool asks_functions)
{
    struct pin_verdict verdict = {0};
    for (unsigned i = 0; i < PIN_COUNT; i++) {
        if (signs & reasons[i].asked_for)
            verdict.asks |= PIN_BIT(i);
        if (signs & reasons[i].at_once)
            verdict.pins |= PIN_BIT(i);
    }
    if ((signs & (SQL_SIGN_CODE | SQL_SIGN_DISCARD)) ||
        ((signs & SQL_SIGN_FUNCTION) && asks_functions))
        verdict.asks |= PINS_ASKABLE;
    if (signs & SQL_SIGN_UNDO)
        verdict.asks |= pins & PINS_ASKABLE;
    return verdict;
}

uint32_t pin_denied(uint32_t signs)
{
    if (signs & SQL_SIGN_RESET)
        signs &= ~(uint32_t)SQL_SIGN_ROLE; /* back to one's own: RESET ROLE, a driver's clean-up */
    return signs & (SQL_SIGN_LISTEN | SQL_SIGN_PREPARE | SQL_SIGN_TEMP | SQL_SIGN_LOCK |
                    SQL_SIGN_HOLD | SQL_SIGN_LOAD | SQL_SIGN_SEQUENCE | SQL_SIGN_ROLE);
}

/* ---- the question ---- */

static void append(struct buffer *sql, const char *text)
{
    buffer_append(sql, text, strlen(text));
}

static void append_part(struct buffer *sql, const char *text, bool *is_first)
{
    if (!*is_first)
        append(sql, " UNION ALL ");
    append(sql, text);
    *is_first = false;
}

static void append_settings(struct buffer *sql, const char *customs, bool *is_first)
{
    append_part(sql,
                "SELECT 's', name, setting FROM pg_catalog.pg_settings"
                " WHERE source OPERATOR(pg_catalog.=) 'session'"
                " AND name OPERATOR(pg_catalog.!~) '^transaction_(iso|read|def)'",
                is_first);
    if (!customs || !*customs)
        return;
    append_part(sql,
                "SELECT 's', c.n, pg_catalog.current_setting(c.n, true)"
                " FROM pg_catalog.unnest(ARRAY[",
                is_first);
    for (const char *name = customs; *name; name += strlen(name) + 1) {
        char *literal = build_quote_literal(name);
        append(sql, name == customs ? "" : ",");
        append(sql, literal);
        free(literal);
    }
    /* an extension's own are settings like any other */
    append(sql, "]::pg_catalog.text[]) AS c(n) WHERE c.n OPERATOR(pg_catalog.<>) ALL"
                " (SELECT pg_catalog.lower(name) FROM pg_catalog.pg_settings"
                " WHERE pg_catalog.strpos(name, '.') OPERATOR(pg_catalog.>) 0)");
}

static void append_role(struct buffer *sql, const char *login_user, bool *is_first)
{
    char *literal = build_quote_literal(login_user);
    append_part(sql,
                "SELECT 'r','','' WHERE pg_catalog.current_setting('role')"
                " OPERATOR(pg_catalog.<>) 'none' OR session_user::pg_catalog.text"
                " OPERATOR(pg_catalog.<>)",
                is_first);
    append(sql, literal);
    free(literal);
}

void pin_question(struct buffer *sql, uint32_t asks, const char *login_user, const char *customs)
{
    bool is_first = true;
    for (unsigned i = 0; i < PIN_COUNT; i++) {
        if (!(asks & PIN_BIT(i)))
            continue;
        if (i == PIN_SETTING)
            append_settings(sql, customs, &is_first);
        else if (i == PIN_ROLE)
            append_role(sql, login_user, &is_first);
        else if (reasons[i].part)
            append_part(sql, reasons[i].part, &is_first);
    }
}

/* ---- the answer ---- */

/* The next column's text, copied with a zero behind it; false at the end or for NULL. */
static bool read_column(const uint8_t **at, const uint8_t *end, char **copy, const char **text)
{
    if (end - *at < 4)
        return false;
    uint32_t length = read_u32(*at);
    *at += 4;
    if (length > (size_t)(end - *at))
        return false;
    memcpy(*copy, *at, length);
    (*copy)[length] = '\0';
    *text = *copy;
    *copy += length + 1;
    *at += length;
    return true;
}

enum pin_row pin_read_row(const uint8_t *body, size_t length, char *copy, const char **name,
                          const char **value, enum pin *pin)
{
    static const char letters[PIN_COUNT + 1] = "slptkh..rq...";
    const uint8_t *at = body + 2;
    const uint8_t *end = body + length;
    const char *kind;
    if (length < 2 || read_u16(body) != 3 || !read_column(&at, end, &copy, &kind) ||
        !read_column(&at, end, &copy, name) || !read_column(&at, end, &copy, value))
        return PIN_ROW_NONE;
    if (strcmp(kind, "s") == 0)
        return PIN_ROW_SETTING;
    const char *letter = *kind && *kind != '.' ? strchr(letters, *kind) : NULL;
    if (!letter)
        return PIN_ROW_NONE;
    *pin = (enum pin)(letter - letters);
    return PIN_ROW_PIN;
}
