/*
 * draw.c - the status as a tree for a terminal: see draw.h.
 */
#include "cli/draw.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"

#define BAR_CELLS 24

/* Everything that is drawn with other characters in ASCII. */
struct glyphs {
    const char *branch;
    const char *last_branch;
    const char *trunk;
    const char *full;
    const char *free;
    const char *closed;
    const char *levels[8];
};

static const struct glyphs unicode = {
    .branch = "├─ ",
    .last_branch = "└─ ",
    .trunk = "│  ",
    .full = "█",
    .free = "▒",
    .closed = "·",
    .levels = {"▁", "▂", "▃", "▄", "▅", "▆", "▇", "█"},
};

static const struct glyphs ascii = {
    .branch = "|- ",
    .last_branch = "`- ",
    .trunk = "|  ",
    .full = "#",
    .free = "=",
    .closed = ".",
    .levels = {"_", ".", ":", "-", "=", "+", "*", "#"},
};

struct drawing {
    FILE *out;
    const struct glyphs *glyphs;
    bool is_ascii;
    bool has_colour;
};

static struct drawing begin(char **text, size_t *bytes, const struct draw_style *style)
{
    return (struct drawing){.out = open_memstream(text, bytes),
                            .glyphs = style->is_ascii ? &ascii : &unicode,
                            .is_ascii = style->is_ascii,
                            .has_colour = style->has_colour};
}

static char *end(struct drawing *drawing, char **text)
{
    fclose(drawing->out);
    return *text;
}

/* ---- values ---- */

static long long number(const json_t *figures, const char *key)
{
    const json_t *value = json_object_get(figures, key);
    return json_is_integer(value) ? json_integer_value(value) : 0;
}

static double seconds(const json_t *figures, const char *key)
{
    double value = json_number_value(json_object_get(figures, key));
    return isfinite(value) && value >= 0 ? value : 0;
}

/* A text of the daemon's: what is not plainly printable becomes a question mark. */
static void put_cut(const struct drawing *drawing, const json_t *value, size_t most)
{
    const char *text = json_string_value(value);
    for (size_t shown = 0; text && *text && shown < most; text++, shown++) {
        unsigned char c = (unsigned char)*text;
        fputc(c >= 0x20 && c < 0x7f ? c : '?', drawing->out);
    }
}

static void put_text(const struct drawing *drawing, const json_t *value)
{
    put_cut(drawing, value, 64);
}

static const char *colour_of(const char *state)
{
    if (strcmp(state, "healthy") == 0)
        return "\033[32m";
    return strcmp(state, "high_load") == 0 ? "\033[33m" : "\033[31m";
}

static const char *state_of(const json_t *figures)
{
    const char *state = json_string_value(json_object_get(figures, "state"));
    return state ? state : "unknown";
}

static void put_coloured(const struct drawing *drawing, const char *colour, const char *text)
{
    fprintf(drawing->out, "%s%s%s", drawing->has_colour ? colour : "", text,
            drawing->has_colour ? "\033[0m" : "");
}

static void put_state(const struct drawing *drawing, const json_t *figures)
{
    if (drawing->has_colour)
        fputs(colour_of(state_of(figures)), drawing->out);
    put_text(drawing, json_object_get(figures, "state"));
    if (drawing->has_colour)
        fputs("\033[0m", drawing->out);
}

static void put_span(const struct drawing *drawing, double span)
{
    if (span < 120)
        fprintf(drawing->out, "%.1f s", span);
    else if (span < 7200)
        fprintf(drawing->out, "%.0f min", span / 60);
    else if (span < 2 * 86400)
        fprintf(drawing->out, "%.1f h", span / 3600);
    else
        fprintf(drawing->out, "%.1f d", span / 86400);
}

/* ---- the tree ---- */

/* How many cells `part` of `whole` takes: none only for nothing. */
static int cells(long long part, long long whole, int most)
{
    if (part <= 0 || whole <= 0)
        return 0;
    double exact = (double)part * BAR_CELLS / (double)whole;
    int rounded = exact < 1 ? 1 : (exact > BAR_CELLS ? BAR_CELLS : (int)(exact + 0.5));
    return rounded < most ? rounded : most;
}

static void put_bar(const struct drawing *drawing, const json_t *figures)
{
    long long whole = number(figures, "total_possible");
    int full = cells(number(figures, "in_use"), whole, BAR_CELLS);
    int free_cells = cells(number(figures, "available"), whole, BAR_CELLS - full);
    if (drawing->has_colour)
        fputs(colour_of(state_of(figures)), drawing->out);
    for (int i = 0; i < full; i++)
        fputs(drawing->glyphs->full, drawing->out);
    for (int i = 0; i < free_cells; i++)
        fputs(drawing->glyphs->free, drawing->out);
    for (int i = full + free_cells; i < BAR_CELLS; i++)
        fputs(drawing->glyphs->closed, drawing->out);
    if (drawing->has_colour)
        fputs("\033[0m", drawing->out);
}

static void put_counts(const struct drawing *drawing, const json_t *figures,
                       const char *const *keys)
{
    for (const char *const *key = keys; *key; key++)
        fprintf(drawing->out, "%s%s %lld", key == keys ? "" : ", ", *key, number(figures, *key));
}

static void put_waits(const struct drawing *drawing, const json_t *figures)
{
    long long waiting = number(figures, "waiting");
    char text[64];
    snprintf(text, sizeof(text), "waiting %lld", waiting);
    put_coloured(drawing, waiting > 0 ? "\033[33m" : "", text);
    fputs(", longest_wait ", drawing->out);
    put_span(drawing, seconds(figures, "longest_wait"));
    fputs(", longest_hold ", drawing->out);
    put_span(drawing, seconds(figures, "longest_hold"));
    if (json_is_integer(json_object_get(figures, "ceiling"))) { /* else the upstream never was */
        snprintf(text, sizeof(text), ", ceiling %lld (upstream was full)",
                 number(figures, "ceiling"));
        put_coloured(drawing, "\033[31m", text);
    }
}

/* The applications that hold most of the pool's connections. */
static void put_owners(const struct drawing *drawing, const json_t *figures, const char *trunk)
{
    const json_t *owners = json_object_get(figures, "held_by");
    const char *text = json_string_value(owners);
    if (!text || !*text)
        return;
    fprintf(drawing->out, "\n%s%sheld by ", trunk, drawing->glyphs->branch);
    put_cut(drawing, owners, 400);
}

static void put_figures(const struct drawing *drawing, const json_t *figures, bool is_last)
{
    static const char *const places[] = {"in_use",         "available", "overflow",
                                         "total_possible", "reserved",  NULL};
    static const char *const clients[] = {"pinned", "closing", "clients", NULL};
    const struct glyphs *glyphs = drawing->glyphs;
    const char *trunk = is_last ? "   " : glyphs->trunk;
    fputs(is_last ? glyphs->last_branch : glyphs->branch, drawing->out);
    put_text(drawing, json_object_get(figures, "name"));
    fputs(": ", drawing->out);
    put_state(drawing, figures);
    fprintf(drawing->out, "\n%s%s", trunk, glyphs->branch);
    put_bar(drawing, figures);
    fputs("  ", drawing->out);
    put_counts(drawing, figures, places);
    put_owners(drawing, figures, trunk);
    fprintf(drawing->out, "\n%s%s", trunk, glyphs->branch);
    put_waits(drawing, figures);
    fprintf(drawing->out, "\n%s%s", trunk, glyphs->last_branch);
    put_counts(drawing, figures, clients);
    fprintf(drawing->out, ", is_healthy %s\n",
            json_is_true(json_object_get(figures, "is_healthy")) ? "true" : "false");
}

char *draw_status(const json_t *status, const struct draw_style *style)
{
    char *text = NULL;
    size_t bytes = 0;
    size_t i;
    const json_t *pool;
    struct drawing drawing = begin(&text, &bytes, style);
    fputs(json_object_get(status, "version") ? "pgreserve " : "pgreserve", drawing.out);
    put_text(&drawing, json_object_get(status, "version"));
    fputs(": ", drawing.out);
    put_state(&drawing, status);
    if (json_object_get(status, "uptime_seconds")) {
        fputs(", up ", drawing.out);
        put_span(&drawing, seconds(status, "uptime_seconds"));
    }
    fputc('\n', drawing.out);
    json_array_foreach(json_object_get(status, "pools"), i, pool)
    {
        put_figures(&drawing, pool, false);
    }
    put_figures(&drawing, json_object_get(status, "total"), true);
    return end(&drawing, &text);
}

/* ---- history ---- */

void draw_history_add(struct draw_history *history, const json_t *status)
{
    const json_t *total = json_object_get(status, "total");
    double whole = (double)number(total, "total_possible");
    double in_use = (double)number(total, "in_use");
    if (history->count == DRAW_HISTORY) {
        size_t kept = (DRAW_HISTORY - 1) * sizeof(double);
        memmove(history->in_use, history->in_use + 1, kept);
        memmove(history->waiting, history->waiting + 1, kept);
        history->count--;
    }
    double share = whole > 0 ? in_use / whole : 0;
    history->in_use[history->count] = share > 1 ? 1 : (share < 0 ? 0 : share);
    history->waiting[history->count] = (double)number(total, "waiting");
    history->count++;
}

static void put_chart(const struct drawing *drawing, const double *samples, int count, double most)
{
    for (int i = 0; i < count; i++) {
        double share = most > 0 ? samples[i] / most : 0;
        int level = share <= 0 ? 0 : (int)(share * 7 + 0.5);
        fputs(drawing->glyphs->levels[level < 1 && share > 0 ? 1 : level], drawing->out);
    }
}

char *draw_history(const struct draw_history *history, double interval,
                   const struct draw_style *style)
{
    char *text = NULL;
    size_t bytes = 0;
    double most = 0;
    struct drawing drawing = begin(&text, &bytes, style);
    for (int i = 0; i < history->count; i++)
        most = history->waiting[i] > most ? history->waiting[i] : most;
    fputs("in_use  ", drawing.out);
    put_chart(&drawing, history->in_use, history->count, 1);
    fputs("  last ", drawing.out);
    put_span(&drawing, interval * history->count);
    fputs(", of total_possible\nwaiting ", drawing.out);
    put_chart(&drawing, history->waiting, history->count, most);
    fprintf(drawing.out, "  most %.0f\n", most);
    return end(&drawing, &text);
}
