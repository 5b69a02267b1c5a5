/*
 * metrics.h - /metrics: every figure and counter for Prometheus (contract 9).
 */
#ifndef ADMIN_METRICS_H
#define ADMIN_METRICS_H

#include "proxy/proxy.h"

/* The whole document, in the format of metrics_text.h; free() it. */
char *metrics_text(const struct proxy *proxy);

#endif
