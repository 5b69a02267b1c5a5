/*
 * log.h - one line an event, to stderr (contract 10).
 *
 *     2026-01-31T12:00:00.000Z WARNING event="login refused" reason="wrong user or password" user=alice ...
 *
 * Text is logfmt after the time and the level; json is one object a line, {"time", "level", "event", fields}.  Under systemd
 * (JOURNAL_STREAM names our stderr) a `<N>` priority stands before the line, and text leaves out time and level, which
 * the journal knows.  Repeats of one kind at WARNING and above, and of events that have a LOG_FIELD_KIND, are folded into
 * one line with a count (log_fold.h); `repeated` and `within` are its fields.  A full disk or a closed stderr loses
 * lines, never the daemon.
 *
 * Never a password; query text above debug only in leak_warning's line.  Values may be anybody's: they are escaped.
 */
#ifndef BASE_LOG_H
#define BASE_LOG_H

#include <stdbool.h>

#include "base/log_line.h"

enum log_level { LOG_LEVEL_DEBUG, LOG_LEVEL_INFO, LOG_LEVEL_WARNING, LOG_LEVEL_ERROR };

/* May be changed at any time; lines below it are not written. */
extern enum log_level log_threshold;

void log_setup(enum log_level level, bool as_json);
/* True when a line of this level would be written: ask before any costly formatting. */
static inline bool log_wants(enum log_level level)
{
    return level >= log_threshold;
}
/* One event; `fields` end with LOG_FIELD_LAST. */
void log_write_event(enum log_level level, const char *event, const struct log_field *fields);
/* An event whose whole story is one text. */
void log_write(enum log_level level, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* Writes the counts whose time has come; called from the sweep. */
void log_flush_repeats(void);
/* Writes every count that is held back, at the end of the process. */
void log_finish(void);

/* log_event(LOG_LEVEL_INFO, "reloaded", LOG_FIELD_TEXT("file", path), ...): the fields are not evaluated below the threshold. */
#define log_event(level, event, ...)                                                               \
    do {                                                                                           \
        if (log_wants(level))                                                                      \
            log_write_event(level, event,                                                          \
                            (const struct log_field[]){LOG_FIELD_TEXT("", NULL), ##__VA_ARGS__,    \
                                                       LOG_FIELD_LAST});                           \
    } while (0)

#define log_debug(...)                                                                             \
    do {                                                                                           \
        if (log_wants(LOG_LEVEL_DEBUG))                                                            \
            log_write(LOG_LEVEL_DEBUG, __VA_ARGS__);                                               \
    } while (0)
#define log_info(...)    log_write(LOG_LEVEL_INFO, __VA_ARGS__)
#define log_warning(...) log_write(LOG_LEVEL_WARNING, __VA_ARGS__)
#define log_error(...)   log_write(LOG_LEVEL_ERROR, __VA_ARGS__)

#endif
