/*
 * log.h - one line an event, to stderr.
 *
 * Text format: `2026-01-31T12:00:00.000Z INFO  message key=value ...`; json: one object a line; under
 * systemd (JOURNAL_STREAM names our stderr) a `<N>` priority prefix instead of the time.  A full disk or
 * a closed stderr loses lines, never the daemon.  Equal messages that repeat within a second are folded
 * into one line with a count (contract 10).
 */
#ifndef BASE_LOG_H
#define BASE_LOG_H

#include <stdbool.h>

enum log_level { LOG_LEVEL_DEBUG, LOG_LEVEL_INFO, LOG_LEVEL_WARNING, LOG_LEVEL_ERROR };

extern enum log_level log_threshold;

void log_setup(enum log_level level, bool as_json);
/* True when a line of this level would be written: ask before any costly formatting. */
static inline bool log_wants(enum log_level level)
{
    return level >= log_threshold;
}
void log_write(enum log_level level, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* Flushes what folding holds back; called from the sweep and before exit. */
void log_flush_repeats(void);

#define log_debug(...)                                                                             \
    do {                                                                                           \
        if (log_wants(LOG_LEVEL_DEBUG))                                                            \
            log_write(LOG_LEVEL_DEBUG, __VA_ARGS__);                                               \
    } while (0)
#define log_info(...)    log_write(LOG_LEVEL_INFO, __VA_ARGS__)
#define log_warning(...) log_write(LOG_LEVEL_WARNING, __VA_ARGS__)
#define log_error(...)   log_write(LOG_LEVEL_ERROR, __VA_ARGS__)

#endif
