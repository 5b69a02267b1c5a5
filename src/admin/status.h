/*
 * status.h - the figures of contract 8: how it stands with every pool, and with all together.
 */
#ifndef ADMIN_STATUS_H
#define ADMIN_STATUS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <jansson.h>

#include "proxy/proxy.h"

enum health { HEALTH_HEALTHY, HEALTH_HIGH_LOAD, HEALTH_EXHAUSTED, HEALTH_DOWN };

struct status_figures {
    char name[64];
    int in_use;
    int available;
    int overflow;
    int total_possible;
    int reserved;
    bool is_healthy;
    int waiting;
    double longest_wait; /* seconds */
    double longest_hold; /* seconds */
    int pinned;
    int closing;
    int clients;
    int ceiling; /* our connections when the upstream last said "full"; UPSTREAM_NO_CEILING */
    enum health health;
};

/* The lower of two ceilings, as far as there are any. */
int status_lower_ceiling(int one, int other);
/* The figures of one pool now. */
void status_of_pool(const struct proxy_pool *pool, struct status_figures *figures);
/* The sums over all pools; the worst health. */
void status_total(const struct proxy *proxy, struct status_figures *figures);
/* What a pool's numbers mean (contract 8). */
enum health status_health(int in_use, int total_possible, int waiting, int living,
                          bool login_failed);
const char *status_health_name(enum health health);
/* One set of figures as a JSON object, with the contract's names. */
json_t *status_figures_json(const struct status_figures *figures);
/* The figures of a pool, and who holds its connections. */
json_t *status_pool_json(const struct proxy_pool *pool);
/* The whole as JSON or as a text for people; free() it. */
char *status_json(const struct proxy *proxy);
char *status_text(const struct proxy *proxy);
/* Why a pool cannot hand out a connection, one line a pool; NULL when all can.  free() it. */
char *status_not_ready(const struct proxy *proxy);

#endif
