/*
 * log.c - one line an event, to stderr: see log.h.
 *
 * log_line.c makes the text, log_fold.c decides whether it is a repeat; here it gets its time, level and priority and leaves
 * in one write(2).  When that fails, the line is lost and nothing else.  A lock guards the folding, because a worker
 * thread may have something to say too.
 */
#include "base/log.h"

#include <errno.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log_fold.h"

enum log_level log_threshold = LOG_LEVEL_INFO;

static bool is_json;
static bool is_journal;
static struct log_fold fold;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

static const struct {
    const char *name;
    int priority; /* syslog's, for the journal */
} levels[] = {
    [LOG_LEVEL_DEBUG] = {"DEBUG", 7},
    [LOG_LEVEL_INFO] = {"INFO", 6},
    [LOG_LEVEL_WARNING] = {"WARNING", 4},
    [LOG_LEVEL_ERROR] = {"ERROR", 3},
};

/* systemd tells in JOURNAL_STREAM which device and inode lead to the journal. */
static bool stderr_is_journal(void)
{
    const char *stream = getenv("JOURNAL_STREAM");
    unsigned long device;
    unsigned long inode;
    struct stat at;
    return stream && sscanf(stream, "%lu:%lu", &device, &inode) == 2 && fstat(2, &at) == 0 &&
           at.st_dev == device && at.st_ino == inode;
}

void log_setup(enum log_level level, bool as_json)
{
    log_finish(); /* what is held back is in the old format */
    log_threshold = level;
    is_json = as_json;
    is_journal = stderr_is_journal();
}

static void stamp(char *out, size_t bytes)
{
    int64_t now = clock_wall_us();
    time_t seconds = (time_t)(now / 1000000);
    struct tm utc;
    gmtime_r(&seconds, &utc);
    size_t length = strftime(out, bytes, "%Y-%m-%dT%H:%M:%S", &utc);
    snprintf(out + length, bytes - length, ".%03dZ", (int)(now / 1000 % 1000));
}

/* ---- from a body to a line ---- */

/* `body` is the fields as log_line made them, without braces; `extra` comes behind it. */
static void emit(enum log_level level, const char *body, const char *extra)
{
    char line[LOG_LINE_BYTES + 256];
    char when[40];
    size_t used = 0;
    int length;
    if (is_journal)
        used = (size_t)snprintf(line, sizeof(line), "<%d>", levels[level].priority);
    char *at = line + used;
    size_t left = sizeof(line) - used;
    stamp(when, sizeof(when));
    if (is_json)
        length = snprintf(at, left, "{\"time\":\"%s\",\"level\":\"%s\",%s%s}\n", when,
                          levels[level].name, body, extra);
    else if (is_journal)
        length = snprintf(at, left, "%s%s\n", body, extra);
    else
        length = snprintf(at, left, "%s %s %s%s\n", when, levels[level].name, body, extra);
    if (length > 0 && write(2, line, used + (size_t)length) < 0)
        errno = 0; /* a full disk loses lines, never the daemon */
}

static void emit_held(void *arg, int level, const char *body, unsigned count, double seconds)
{
    char extra[96];
    (void)arg;
    snprintf(extra, sizeof(extra),
             is_json ? ",\"repeated\":%u,\"within\":%.3f" : " repeated=%u within=%.3f", count,
             seconds);
    emit((enum log_level)level, body, extra);
}

void log_flush_repeats(void)
{
    pthread_mutex_lock(&lock);
    log_fold_flush(&fold, clock_now_us(), false, emit_held, NULL);
    pthread_mutex_unlock(&lock);
}

void log_finish(void)
{
    pthread_mutex_lock(&lock);
    log_fold_flush(&fold, clock_now_us(), true, emit_held, NULL);
    memset(&fold, 0, sizeof(fold));
    pthread_mutex_unlock(&lock);
}

/* ---- events ---- */

/* The name and the fields that say of which kind it is; false when repeats are of no concern. */
static bool kind_of(char *out, size_t bytes, enum log_level level, const char *event,
                    const struct log_field *fields)
{
    size_t used = (size_t)snprintf(out, bytes, "%s", event);
    bool has_kind = level >= LOG_LEVEL_WARNING;
    for (; fields->type != LOG_FIELD_END; fields++) {
        if (!fields->is_kind || used >= bytes)
            continue;
        has_kind = true;
        used +=
            (size_t)snprintf(out + used, bytes - used, "\n%s", fields->text ? fields->text : "");
    }
    return has_kind;
}

void log_write_event(enum log_level level, const char *event, const struct log_field *fields)
{
    struct log_line line;
    char kind[FOLD_KIND_BYTES];
    if (!log_wants(level))
        return;
    log_line_begin(&line, is_json);
    log_line_add(&line, &LOG_FIELD_TEXT("event", event));
    for (const struct log_field *field = fields; field->type != LOG_FIELD_END; field++)
        log_line_add(&line, field);
    bool may_fold = kind_of(kind, sizeof(kind), level, event, fields);
    pthread_mutex_lock(&lock);
    /* a body cut in the middle of its quotes would spoil the folded line: such a long one is written each time */
    if (!may_fold || line.used >= FOLD_BODY_BYTES ||
        log_fold_take(&fold, (int)level, kind, line.bytes, clock_now_us(), emit_held, NULL))
        emit(level, line.bytes, "");
    pthread_mutex_unlock(&lock);
}

void log_write(enum log_level level, const char *format, ...)
{
    char text[LOG_VALUE_BYTES];
    va_list args;
    if (!log_wants(level))
        return;
    va_start(args, format);
    vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    log_write_event(level, text, (const struct log_field[]){LOG_FIELD_LAST});
}
