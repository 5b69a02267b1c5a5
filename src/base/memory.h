/*
 * memory.h - allocation that does not fail.
 *
 * Out of memory ends the process after a log line; sizes that a client chose never come here
 * unchecked (base/buffer.h refuses those instead).
 */
#ifndef BASE_MEMORY_H
#define BASE_MEMORY_H

#include <stddef.h>

void *memory_alloc(size_t size);             /* zeroed; free() it */
void *memory_resize(void *old, size_t size); /* realloc; new bytes are not zeroed */
char *memory_strdup(const char *text);       /* NULL gives NULL */
char *memory_strndup(const char *text, size_t length);
char *memory_printf(const char *format, ...) __attribute__((format(printf, 1, 2)));
/* Overwrites and frees; for passwords.  NULL is fine. */
void memory_free_secret(char *text);

#endif
