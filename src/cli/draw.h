/*
 * draw.h - the status as a tree for a terminal (contract 8).
 *
 *     pgreserve 0.1.0: high_load, up 3 d 4 h
 *     ├─ automation: high_load
 *     │  ├─ ████████████████████▒▒··  in_use 52, available 3, overflow 2, total_possible 55, reserved 0
 *     ...
 *
 * The names of the figures are the contract's, so that one word finds them everywhere.  In plain ASCII when asked to or when
 * the locale is not UTF-8.  What the JSON says is not trusted: missing figures are 0, and no text of it reaches the
 * terminal with anything but printable characters.  Pure: text in, text out.
 */
#ifndef CLI_DRAW_H
#define CLI_DRAW_H

#include <stdbool.h>
#include <stddef.h>

#include <jansson.h>

#define DRAW_HISTORY 60 /* samples */

struct draw_style {
    bool is_ascii;
    bool has_colour;
};

/* What the whole looked like over the last samples, the newest last. */
struct draw_history {
    int count;
    double in_use[DRAW_HISTORY]; /* of total_possible, 0 to 1 */
    double waiting[DRAW_HISTORY];
};

/* The tree, each line with its newline; free() it. */
char *draw_status(const json_t *status, const struct draw_style *style);
void draw_history_add(struct draw_history *history, const json_t *status);
/* Two lines of small charts; free() it.  `interval` is the time between two samples in seconds. */
char *draw_history(const struct draw_history *history, double interval,
                   const struct draw_style *style);

#endif
