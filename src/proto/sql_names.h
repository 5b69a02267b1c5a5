/*
 * sql_names.h - the settings that a statement names: SET my.tenant, set_config('x', ...), current_setting('my.x'); and the
 * prepared statements.
 *
 * Most settings need no name here, for the server lists those that a session changed.  Two things it does not list: custom
 * settings (a name with a dot), which must be asked for by name; and what a call of set_config() is about,
 * which decides whether anything has to be asked at all (PostgREST and RLS code call it for the transaction alone).
 *
 * Pure.
 */
#ifndef PROTO_SQL_NAMES_H
#define PROTO_SQL_NAMES_H

#include <stddef.h>
#include <stdint.h>

#define SQL_NAME_MAX       128 /* longer names are not learned */
#define SQL_IDENTIFIER_MAX 63  /* bytes that the server keeps of an identifier: NAMEDATALEN - 1 */

/* What calls of set_config() set beyond their transaction. */
enum sql_config {
    SQL_CONFIG_SETTING = 1, /* a setting whose name is known */
    SQL_CONFIG_ROLE = 2,    /* role or session_authorization */
    SQL_CONFIG_UNKNOWN = 4, /* one whose name is computed */
    SQL_CONFIG_SEED = 16,   /* seed, which outlives the transaction in any case */
    SQL_CONFIG_SEEN =
        8, /* there was a call at all; if the caller knows of one, none seen means that it was misread */
    SQL_CONFIG_READING =
        32 /* one by SET or set_config(), LOCAL too, that may change how texts are read: no custom one */
};

/* `name` is NULL for one that is not told: it is too long, or not ASCII. */
typedef void (*sql_name_callback)(void *arg, const char *name);

/* Reads a whole text; calls back for each custom setting that it names.  Returns a mask of enum sql_config.  May name
 * what is no setting (UPDATE t SET a.b = ...): that costs a look and no more. */
uint32_t sql_names(const char *text, size_t length, sql_name_callback named, void *arg);

/* `name`, of `length` bytes and without a zero, is NULL for one that is spelt with escapes. */
typedef void (*sql_statement_callback)(void *arg, const char *name, size_t length);

/* Calls back for each prepared statement that PREPARE, EXECUTE or DEALLOCATE names, in small letters unless it is quoted;
 * for words too that only look like it (GRANT EXECUTE ON). */
void sql_statement_names(const char *text, size_t length, sql_statement_callback named, void *arg);

#endif
