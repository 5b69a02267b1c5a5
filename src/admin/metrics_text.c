/*
 * metrics_text.c - Prometheus' text format: see metrics_text.h.
 *
 * One bad byte fails a whole scrape, and names of databases and users are the clients' choice: so label values are
 * checked byte by byte.
 */
#include "admin/metrics_text.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/utf8.h"

static void add(struct buffer *out, const char *text)
{
    buffer_append(out, text, strlen(text));
}

void metrics_text_family(struct buffer *out, const char *name, const char *type, const char *help)
{
    const char *const parts[] = {"# HELP ", name, " ", help, "\n# TYPE ", name, " ", type, "\n"};
    for (size_t i = 0; i < sizeof(parts) / sizeof(parts[0]); i++)
        add(out, parts[i]);
}

static void add_value(struct buffer *out, const char *value)
{
    for (const char *at = value; *at;) {
        size_t bytes = utf8_character_bytes(at);
        if (bytes == 0)
            add(out, "?");
        else if (*at == '\\' || *at == '"')
            add(out, *at == '"' ? "\\\"" : "\\\\");
        else if (*at == '\n')
            add(out, "\\n");
        else
            buffer_append(out, at, bytes);
        at += bytes > 0 ? bytes : 1;
    }
}

static void add_labels(struct buffer *out, const struct metrics_labels *labels,
                       const struct metrics_label *more)
{
    size_t count = labels->count + (more ? 1 : 0);
    for (size_t i = 0; i < count; i++) {
        const struct metrics_label *label = i < labels->count ? &labels->items[i] : more;
        add(out, i == 0 ? "{" : ",");
        add(out, label->name);
        add(out, "=\"");
        add_value(out, label->value);
        add(out, "\"");
    }
    if (count > 0)
        add(out, "}");
}

static void add_sample(struct buffer *out, const char *name, const char *suffix,
                       const struct metrics_labels *labels, const struct metrics_label *more,
                       const char *value)
{
    add(out, name);
    add(out, suffix);
    add_labels(out, labels, more);
    add(out, " ");
    add(out, value);
    add(out, "\n");
}

void metrics_text_count(struct buffer *out, const char *name, const struct metrics_labels *labels,
                        uint64_t value)
{
    char text[24];
    snprintf(text, sizeof(text), "%" PRIu64, value);
    add_sample(out, name, "", labels, NULL, text);
}

void metrics_text_number(struct buffer *out, const char *name, const struct metrics_labels *labels,
                         double value)
{
    char text[40];
    snprintf(text, sizeof(text), "%.15g", value);
    add_sample(out, name, "", labels, NULL, text);
}

void metrics_text_histogram(struct buffer *out, const char *name,
                            const struct metrics_labels *labels, const struct histogram *histogram)
{
    uint64_t below = 0;
    char bound[32];
    char text[40];
    for (size_t i = 0; i < HISTOGRAM_BUCKETS; i++) {
        below += histogram->buckets[i];
        if (i < HISTOGRAM_BOUNDS)
            snprintf(bound, sizeof(bound), "%g", (double)histogram_bounds_us[i] / 1e6);
        else
            snprintf(bound, sizeof(bound), "+Inf");
        snprintf(text, sizeof(text), "%" PRIu64, below);
        add_sample(out, name, "_bucket", labels, &(struct metrics_label){"le", bound}, text);
    }
    snprintf(text, sizeof(text), "%.15g", (double)histogram->sum_us / 1e6);
    add_sample(out, name, "_sum", labels, NULL, text);
    snprintf(text, sizeof(text), "%" PRIu64, below);
    add_sample(out, name, "_count", labels, NULL, text);
}
