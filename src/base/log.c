/*
 * log.c - one line an event, to stderr: see log.h.
 *
 * A line is made in a buffer on the stack and leaves in one write(2); when that fails, the line is lost and
 * nothing else.  A message that comes again within a second is only counted.
 */
#include "base/log.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"

#define LINE_BYTES 4096

enum log_level log_threshold = LOG_LEVEL_INFO;

static bool is_json;
static bool is_journal;
static char last_message[1024];
static enum log_level last_level;
static int64_t last_us;
static unsigned repeats;

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

/* Control characters never reach the terminal; JSON's own two are escaped for JSON. */
static size_t escape(char *out, size_t bytes, const char *text)
{
    size_t used = 0;
    for (; *text && used + 7 < bytes; text++) {
        unsigned char c = (unsigned char)*text;
        if (c < 0x20 || c == 0x7f)
            used += (size_t)snprintf(out + used, bytes - used, is_json ? "\\u%04x" : "\\x%02x", c);
        else if (is_json && (c == '"' || c == '\\'))
            used += (size_t)snprintf(out + used, bytes - used, "\\%c", c);
        else
            out[used++] = (char)c;
    }
    out[used] = '\0';
    return used;
}

static void emit(enum log_level level, const char *message)
{
    static const char *const names[] = {"DEBUG", "INFO", "WARNING", "ERROR"};
    static const int priorities[] = {7, 6, 4, 3};
    char line[LINE_BYTES];
    char text[LINE_BYTES - 128];
    char when[40];
    int length;
    escape(text, sizeof(text), message);
    stamp(when, sizeof(when));
    if (is_json)
        length =
            snprintf(line, sizeof(line), "{\"time\":\"%s\",\"level\":\"%s\",\"message\":\"%s\"}\n",
                     when, names[level], text);
    else if (is_journal)
        length = snprintf(line, sizeof(line), "<%d>%s\n", priorities[level], text);
    else
        length = snprintf(line, sizeof(line), "%s %s %s\n", when, names[level], text);
    if (length > 0 && write(2, line, (size_t)length) < 0)
        errno = 0; /* a full disk loses lines, never the daemon */
}

void log_flush_repeats(void)
{
    char text[64];
    if (repeats == 0 || clock_now_us() - last_us < CLOCK_S)
        return;
    snprintf(text, sizeof(text), "last message repeated %u times", repeats);
    repeats = 0;
    last_message[0] = '\0';
    emit(last_level, text);
}

void log_write(enum log_level level, const char *format, ...)
{
    char message[LINE_BYTES - 256];
    va_list args;
    if (!log_wants(level))
        return;
    va_start(args, format);
    vsnprintf(message, sizeof(message), format, args);
    va_end(args);
    if (strncmp(message, last_message, sizeof(last_message) - 1) == 0 &&
        clock_now_us() - last_us < CLOCK_S) {
        repeats++;
        return;
    }
    if (repeats > 0) {
        last_us = 0;
        log_flush_repeats();
    }
    snprintf(last_message, sizeof(last_message), "%.1000s", message);
    last_level = level;
    last_us = clock_now_us();
    emit(level, message);
}
