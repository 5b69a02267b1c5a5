/*
 * session.h - a session's settings, as values that can be compared by their address.
 *
 * What a client needs and what a backend has in force are both a `struct settings`: a sorted list of names and values,
 * held once however many have it.  Two sides that need nothing from each other hold the same pointer: that is the
 * stamp which the query's way looks at (contract 5).  When they differ, session_difference writes the statements
 * that turn the one into the other.  Values are what pg_settings shows, and go back through set_config(), which takes
 * them as they are.  Names are compared as PostgreSQL compares them, without regard to case.
 *
 * Pure: no I/O, no clock.
 */
#ifndef POLICY_SESSION_H
#define POLICY_SESSION_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buffer.h"
#include "base/hash.h"

/* Immutable; counted references. */
struct settings {
    UT_hash_handle hh; /* by text */
    int references;
    size_t count;
    size_t length;
    int64_t idle_session_us; /* idle_session_timeout; 0: off, or the server's own */
    char text[];             /* name, zero, value, zero, ...; by name */
};

/* All of a process. */
struct settings_table {
    struct settings *by_text;
};

/* Collects names and values, the last value of a name counts; then settings_intern. */
struct settings_draft {
    struct buffer text;
};

void settings_draft_add(struct settings_draft *draft, const char *name, const char *value);
void settings_draft_free(struct settings_draft *draft);
/* The settings that the draft holds, with a reference for the caller; the draft is empty afterwards. */
struct settings *settings_intern(struct settings_table *table, struct settings_draft *draft);
/* The same with one value changed or added. */
struct settings *settings_with(struct settings_table *table, const struct settings *settings,
                               const char *name, const char *value);
struct settings *settings_hold(struct settings *settings);
/* NULL is fine. */
void settings_drop(struct settings_table *table, struct settings *settings);
/* Puts `by`, which is handed over and may be NULL, in the place of what is there, which is dropped. */
void settings_replace(struct settings_table *table, struct settings **place, struct settings *by);
/* The value, or NULL. */
const char *settings_get(const struct settings *settings, const char *name);
/* Walks the list: start with NULL; returns the next name, or NULL, and its value. */
const char *settings_next(const struct settings *settings, const char *after, const char **value);

/* True for a name with a dot, which the server keeps for anyone (SET my.tenant): pg_settings does not show it. */
bool setting_is_custom(const char *name);

/* Appends SQL that makes of a session with `from` in force one with `to`; nothing when that is the same.  When
 * `is_unknown`, more may be in force than `from` says: everything is reset first. */
void session_difference(struct buffer *sql, const struct settings *from, const struct settings *to,
                        bool is_unknown);
/* Whether what session_difference writes might be refused by the server: settings whose values stand for things that may
 * be gone or need a right, unlike the common ones. */
bool session_may_fail(const struct settings *from, const struct settings *to, bool is_unknown);
/* Appends a query that puts those of `base` in force again that a RESET has just undone: RESET on a connection of the
 * client's own goes back to its start-up packet (protocol 55.2.1).  When `is_local`, for this transaction: after SET LOCAL .. TO DEFAULT. */
void session_restore(struct buffer *sql, const struct settings *base, bool is_local);
/* Appends a statement that puts one of `base`, its number `which`, in force again, and a zero.  False, and nothing is appended,
 * when there is none, or SET does not take such a value as it is shown. */
bool session_restore_one(struct buffer *sql, const struct settings *base, size_t which,
                         bool is_local);

#endif
