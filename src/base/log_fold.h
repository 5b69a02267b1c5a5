/*
 * log_fold.h - repeated events of one kind become one line with a count (contract 10).
 *
 * The first of a kind is written at once.  Those that follow within FOLD_WINDOW_US are only counted; when the window
 * is over, the last of them is written with how many there were, and the next window begins.  A kind is the level, the event's
 * name and the fields that say so (LOG_FIELD_KIND), so that a hundred clients with a hundred user names are one story.
 * Memory is bounded: FOLD_KINDS at once; for a new one the one that was quiet longest gives way, its count written first.
 * Pure: time is an argument, writing is the caller's.
 */
#ifndef BASE_LOG_FOLD_H
#define BASE_LOG_FOLD_H

#include <stdbool.h>
#include <stdint.h>

#define FOLD_KINDS      48
#define FOLD_KIND_BYTES 320
#define FOLD_BODY_BYTES 2048
#define FOLD_WINDOW_US  10000000LL

struct log_fold_entry {
    char kind[FOLD_KIND_BYTES]; /* "" is a free place */
    char body[FOLD_BODY_BYTES]; /* the last one held back, as it would have been written */
    int level;
    unsigned count; /* held back in this window */
    int64_t since_us;
    int64_t last_us;
};

struct log_fold {
    struct log_fold_entry entries[FOLD_KINDS];
};

/* Takes what has been held back out: `body` is the last of `count`, which came within `seconds`. */
typedef void (*log_fold_writer)(void *arg, int level, const char *body, unsigned count,
                                double seconds);

/* True when the event is to be written now; else it has been counted.  A body that does not fit is kept cut. */
bool log_fold_take(struct log_fold *fold, int level, const char *kind, const char *body,
                   int64_t now_us, log_fold_writer writer, void *arg);
/* Writes what is due: windows that are over, or everything. */
void log_fold_flush(struct log_fold *fold, int64_t now_us, bool everything, log_fold_writer writer,
                    void *arg);

#endif
