/*
 * metrics_text.c - Prometheus' text format: see metrics_text.h.
 *
 * One bad byte fails a whole scrape, and names of databases and users are the clients' choice: so label values are
 * checked byte by byte.
 */
#include "admin/metrics_text.h"

#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

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

/* How many bytes the UTF-8 character at `text` has; 0 when it is none (overlong forms and surrogates are none). */
static size_t character_bytes(const unsigned char *text)
{
    static const struct {
        unsigned char first_low, first_high; /* of the first byte */
        unsigned char second_low, second_high;
        size_t bytes;
    } forms[] = {
        {0x01, 0x7f, 0x00, 0x00, 1}, {0xc2, 0xdf, 0x80, 0xbf, 2}, {0xe0, 0xe0, 0xa0, 0xbf, 3},
        {0xe1, 0xec, 0x80, 0xbf, 3}, {0xed, 0xed, 0x80, 0x9f, 3}, {0xee, 0xef, 0x80, 0xbf, 3},
        {0xf0, 0xf0, 0x90, 0xbf, 4}, {0xf1, 0xf3, 0x80, 0xbf, 4}, {0xf4, 0xf4, 0x80, 0x8f, 4},
    };
    for (size_t i = 0; i < sizeof(forms) / sizeof(forms[0]); i++) {
        if (text[0] < forms[i].first_low || text[0] > forms[i].first_high)
            continue;
        if (forms[i].bytes > 1 && (text[1] < forms[i].second_low || text[1] > forms[i].second_high))
            return 0;
        for (size_t j = 2; j < forms[i].bytes; j++) {
            if ((text[j] & 0xc0) != 0x80)
                return 0;
        }
        return forms[i].bytes;
    }
    return 0;
}

static void add_value(struct buffer *out, const char *value)
{
    const unsigned char *at = (const unsigned char *)value;
    while (*at) {
        size_t bytes = character_bytes(at);
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
