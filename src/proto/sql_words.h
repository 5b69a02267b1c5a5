/*
 * sql_words.h - from the words of a statement to its signs.
 *
 * Between sql.c, which splits SQL text into words and marks, and the tables of what they mean.  Nobody else
 * calls these; both files share struct sql_scan, of which `statement`, `previous` and `signs` are moved
 * here.
 */
#ifndef PROTO_SQL_WORDS_H
#define PROTO_SQL_WORDS_H

#include "proto/sql.h"

/* The buffer holds a whole word (small letters), or the inside of a quoted name (as written). */
void sql_word_ended(struct sql_scan *scan, bool is_quoted);
/* A byte that is part of no word, literal, number or comment. */
void sql_mark_read(struct sql_scan *scan, uint8_t mark);
/* Keywords, types, and functions that leave nothing behind in a session (sql_functions.c). */
bool sql_is_known_function(const char *name, size_t length);
/* A semicolon, or the beginning of the text. */
void sql_statement_ended(struct sql_scan *scan);

#endif
