/*
 * users.h - who may log in, and what proves it: PgBouncer's userlist.txt.
 *
 * A line is "name" "secret"; `""` inside quotes is one quote; `;` and `#` begin a comment line.  The
 * secret is a plain password, "md5" + 32 hex digits (md5 of password and name), or a SCRAM-SHA-256
 * verifier as in pg_authid.  Lines that are none of this are errors with their number.
 */
#ifndef CONFIG_USERS_H
#define CONFIG_USERS_H

#include <stdbool.h>
#include <stddef.h>
#include "config/config.h"

struct users;

/* Reads the file; NULL after filling `errors`.  Unless it may wait, a pipe is an error. */
struct users *users_load(const char *path, bool may_wait, struct config_errors *errors);
struct users *users_parse(const char *name, const char *text, struct config_errors *errors);
/* A list of one, for "the upstream's own user and password"; more may be added. */
struct users *users_new(void);
void users_add(struct users *users, const char *name, const char *secret);
void users_free(struct users *users);
/* The secret of `name`, owned by `users`; NULL for who is not there, and for an empty one, which proves nothing (PostgreSQL
 * and PgBouncer let nobody in with it either). */
const char *users_find(const struct users *users, const char *name);
/* Whether the list has that name, whatever its secret. */
bool users_has(const struct users *users, const char *name);
size_t users_count(const struct users *users);
typedef void (*users_visitor)(void *arg, const char *name, const char *secret);
void users_visit(const struct users *users, users_visitor visitor, void *arg);

#endif
