/*
 * settings.h - SET and SHOW of settings: ours by their own or PgBouncer's names, and those that drivers ask for.
 */
#ifndef ADMIN_SETTINGS_H
#define ADMIN_SETTINGS_H

#include <stdbool.h>
#include <stddef.h>

#include "proxy/proxy.h"

#define SETTINGS_VERSION "PgBouncer 1.25.2 compatible (pgreserve " PGRESERVE_VERSION ")"

/* Walks PgBouncer's keys with the values of our options that mean the same: times in seconds, of pools the first one's. */
void settings_visit_pgbouncer(const struct config *config, config_visitor visitor, void *arg);

enum settings_result {
    SETTINGS_OK,
    SETTINGS_UNKNOWN, /* no such key */
    SETTINGS_FIXED,   /* it needs a restart */
    SETTINGS_REFUSED  /* the value cannot be: why stands in `error` */
};
/* Changes an option at run time, until the next reload.  `key` is ours as SHOW CONFIG spells it (`log_level`,
 * `pool:automation.size`), `automation.size`, a pool's key alone (every pool's), or PgBouncer's. */
enum settings_result settings_set(struct proxy *proxy, const char *key, const char *value,
                                  char *error, size_t error_bytes);

/* A parameter of the session that drivers ask every server for, any case: its value and its spelling, or NULL. */
const char *settings_session(const struct client *client, const char *name, const char **spelling);

#endif
