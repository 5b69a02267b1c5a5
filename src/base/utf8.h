/*
 * utf8.h - text of unknown origin made fit for formats that take nothing but UTF-8 (JSON, Prometheus).
 */
#ifndef BASE_UTF8_H
#define BASE_UTF8_H

#include <stddef.h>

/* How many bytes the character at the front of this zero-terminated text has; 0 when it is none or the text is at its
 * end.  Overlong forms and surrogates are none. */
size_t utf8_character_bytes(const char *text);
/* A copy of at most `bytes` of the text, cut between characters, with `?` for each byte that belongs to none.  free() it. */
char *utf8_clean(const char *text, size_t bytes);

#endif
