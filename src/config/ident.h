/*
 * ident.h - pg_ident.conf: which name of a system, or of a certificate, may be which user.
 *
 * A line is MAP SYSTEM-USER DATABASE-USER (PostgreSQL 17, 20.2).  A system user that begins with a slash is an expression, of
 * which \1 in the database user is the first part in parentheses; a database user is a name, `all`, or an expression of its
 * own.
 */
#ifndef CONFIG_IDENT_H
#define CONFIG_IDENT_H

#include <stdbool.h>
#include "config/rule_lines.h"

struct ident;

/* Reads and checks the file; NULL after filling `errors`. */
struct ident *ident_read(const char *path, const struct rule_source *source,
                         struct config_errors *errors);
void ident_free(struct ident *ident);
/* Whether `system_user` may be `user`: a line of the map says so; without a map (NULL) they must be the same. */
bool ident_allows(const struct ident *ident, const char *map, const char *system_user,
                  const char *user);

#endif
