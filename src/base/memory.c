/*
 * memory.c - allocation that does not fail: see memory.h.
 */
#include "base/memory.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"

static _Noreturn void memory_exhausted(size_t size)
{
    log_error("out of memory (%zu bytes wanted)", size);
    abort();
}

void *memory_alloc(size_t size)
{
    void *p = calloc(1, size ? size : 1);
    if (!p)
        memory_exhausted(size);
    return p;
}

void *memory_resize(void *old, size_t size)
{
    void *p = realloc(old, size ? size : 1);
    if (!p)
        memory_exhausted(size);
    return p;
}

void memory_require(bool worked)
{
    if (!worked)
        memory_exhausted(0);
}

void *memory_take(size_t size)
{
    return memory_resize(NULL, size);
}

char *memory_strdup(const char *text)
{
    return text ? memory_strndup(text, strlen(text)) : NULL;
}

char *memory_strndup(const char *text, size_t length)
{
    char *copy = memory_alloc(length + 1);
    memcpy(copy, text, length);
    return copy;
}

char *memory_printf(const char *format, ...)
{
    va_list args;
    char *text = NULL;
    va_start(args, format);
    int length = vasprintf(&text, format, args);
    va_end(args);
    if (length < 0)
        memory_exhausted(0);
    return text;
}

__attribute__((noinline)) void memory_wipe_stack(void)
{
    char room[16384];
    explicit_bzero(room, sizeof(room));
}

void memory_free_secret(char *text)
{
    if (!text)
        return;
    explicit_bzero(text, strlen(text));
    free(text);
}
