/*
 * sql.h - signs in a statement's text that it makes session state.
 *
 * The scanner is fed the text as it streams by, in pieces of any size, so that a 100 MB INSERT needs no
 * buffer; it skips literals, quoted identifiers' insides are read as words, comments (nested) are skipped.
 * It is a lexer, not a parser: when in doubt it sets a sign, for a sign only costs sharing, a missed one
 * costs correctness (contract 5).
 */
#ifndef PROTO_SQL_H
#define PROTO_SQL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum sql_sign {
    SQL_SIGN_SET =
        1 << 0, /* SET (not LOCAL, TRANSACTION, CONSTRAINTS), RESET, set_config(), setseed() */
    SQL_SIGN_LISTEN = 1 << 1,  /* LISTEN */
    SQL_SIGN_PREPARE = 1 << 2, /* PREPARE (not PREPARE TRANSACTION) */
    SQL_SIGN_TEMP =
        1 << 3, /* CREATE [..] TEMP/TEMPORARY, SELECT INTO TEMP, anything naming pg_temp */
    SQL_SIGN_LOCK =
        1
        << 4, /* session-level advisory locks: pg_advisory_lock*, pg_try_advisory_lock* (not _xact_) */
    SQL_SIGN_HOLD = 1 << 5,     /* DECLARE ... WITH HOLD */
    SQL_SIGN_LOAD = 1 << 6,     /* LOAD */
    SQL_SIGN_SEQUENCE = 1 << 7, /* nextval, setval, currval, lastval */
    SQL_SIGN_CODE = 1 << 8,     /* DO, CALL: code that may do any of it */
    SQL_SIGN_DISCARD = 1 << 9,  /* DISCARD */
    SQL_SIGN_OTHER =
        1
        << 10, /* whatever else ties: dblink_connect*, pg_create_*_replication_slot, lo_* needs none */
    SQL_SIGN_TRANSACTION =
        1 << 11 /* BEGIN, START, and other openings of a transaction block: for statement mode */
};
/* The signs that tie a backend to its client. */
#define SQL_SIGNS_PINNING (0x7ff)

/* Lexer state between two pieces.  Opaque by custom: only sql.c looks inside. */
struct sql_scan {
    uint32_t signs;
    uint32_t comment_depth;
    uint8_t state;         /* where in the lexical structure the last piece ended */
    uint8_t statement;     /* what began this statement, as far as that still matters */
    uint8_t previous;      /* the word before this one, where it matters */
    uint8_t escape;        /* what the literal's last byte may do to the quote after it */
    uint8_t word_length;   /* of the word being read, cut at the buffer's size */
    uint8_t tag_length;    /* of the dollar quote's tag */
    uint8_t tag_matched;   /* how much of it the text has repeated */
    bool is_unicode_name;  /* U&"..." is being read */
    bool has_unicode_name; /* one was read in this text */
    char word[48];
    char tag[64];
};

void sql_scan_start(struct sql_scan *scan);
/* Reads the next piece of the text (without the terminating zero). */
void sql_scan_feed(struct sql_scan *scan, const uint8_t *bytes, size_t length);
/* The text has ended: closes the last word.  Returns the signs seen, a mask of enum sql_sign. */
uint32_t sql_scan_finish(struct sql_scan *scan);
/* The whole of a text that is at hand. */
uint32_t sql_signs(const char *text, size_t length);

#endif
