/*
 * memory.h - allocation that does not fail.
 *
 * Out of memory ends the process after a log line, and the service manager starts it anew: half a daemon would keep
 * everybody's connections and serve nobody.  Sizes that a client chose never come here unchecked; what is kept of a
 * message is bounded (PROXY_HELD_MAX).  libevent, jansson and uthash allocate in the same way, for they would go on without
 * what they could not have; libpq's and OpenSSL's failures end one connection, and are left to them, except where they would
 * decide whether a proof is right.
 */
#ifndef BASE_MEMORY_H
#define BASE_MEMORY_H

#include <stdbool.h>
#include <stddef.h>

void *memory_alloc(size_t size);             /* zeroed; free() it */
void *memory_resize(void *old, size_t size); /* realloc; new bytes are not zeroed */
/* For what fails only where memory does, and leaves bytes that nobody may take for its result. */
void memory_require(bool worked);
void *memory_take(size_t size);        /* malloc, for libraries that want their own */
char *memory_strdup(const char *text); /* NULL gives NULL */
char *memory_strndup(const char *text, size_t length);
char *memory_printf(const char *format, ...) __attribute__((format(printf, 1, 2)));
/* Overwrites and frees; for passwords.  NULL is fine. */
void memory_free_secret(char *text);
/* Overwrites what calls that have returned left on the stack, as far as 16 kB: a worker that waits for its next job leaves it there.
 * Not only variables: the dynamic linker saves vector registers, and with them what a strlen() has loaded. */
void memory_wipe_stack(void);

#endif
