/*
 * metrics_text.h - Prometheus' text format, version 0.0.4: one sample a line, families with their HELP and TYPE.
 *
 * Pure: appends to a buffer.
 */
#ifndef ADMIN_METRICS_TEXT_H
#define ADMIN_METRICS_TEXT_H

#include <stddef.h>
#include <stdint.h>

#include "base/buffer.h"
#include "base/histogram.h"

#define METRICS_TEXT_TYPE "text/plain; version=0.0.4; charset=utf-8"

/* A label's value may hold any bytes: what the format gives a meaning to is escaped, what is not UTF-8 becomes `?`. */
struct metrics_label {
    const char *name;
    const char *value;
};

struct metrics_labels {
    struct metrics_label items[5];
    size_t count;
};

/* The head of a family; its samples follow at once. */
void metrics_text_family(struct buffer *out, const char *name, const char *type, const char *help);
void metrics_text_count(struct buffer *out, const char *name, const struct metrics_labels *labels,
                        uint64_t value);
void metrics_text_number(struct buffer *out, const char *name, const struct metrics_labels *labels,
                         double value);
/* The samples of a histogram: cumulative buckets in seconds, sum and count. */
void metrics_text_histogram(struct buffer *out, const char *name,
                            const struct metrics_labels *labels, const struct histogram *histogram);

#endif
