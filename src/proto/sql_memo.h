/*
 * sql_memo.h - the signs of texts that come again and again.
 *
 * Programs say the same few statements for ever, and each reading costs some ten instructions a byte.  So texts that have
 * come twice are kept, with their signs; a text is known again by comparing all of it but the values of its numbers, which
 * mean nothing here.  Small, of a fixed size, and the newest text takes the place of an older one with the same key.  Pure.
 */
#ifndef PROTO_SQL_MEMO_H
#define PROTO_SQL_MEMO_H

#include <stddef.h>
#include <stdint.h>

#define SQL_MEMO_ENTRIES 64
#define SQL_MEMO_BYTES                                                                             \
    500 /* longer texts are read each time: they are rare, and cost the server more */

struct sql_memo {
    uint32_t seen[1024]; /* keys of texts that have come once */
    struct sql_memo_entry {
        uint32_t signs;
        uint16_t length;
        char text[SQL_MEMO_BYTES];
    } entries[SQL_MEMO_ENTRIES];
};

/* The same as sql_signs(). */
uint32_t sql_memo_signs(struct sql_memo *memo, const char *text, size_t length);

#endif
