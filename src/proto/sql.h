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
    /* SET (not LOCAL, TRANSACTION, CONSTRAINTS), RESET, setseed(), UPDATE pg_settings */
    SQL_SIGN_SET = 1 << 0,
    SQL_SIGN_LISTEN = 1 << 1,
    SQL_SIGN_PREPARE = 1 << 2, /* not PREPARE TRANSACTION */
    SQL_SIGN_TEMP = 1 << 3,    /* CREATE [..] TEMP, SELECT INTO TEMP, anything naming pg_temp */
    SQL_SIGN_LOCK = 1 << 4,    /* pg_advisory_lock*, pg_try_advisory_lock* (not _xact_) */
    SQL_SIGN_HOLD = 1 << 5,    /* DECLARE ... WITH HOLD */
    SQL_SIGN_LOAD = 1 << 6,
    SQL_SIGN_SEQUENCE = 1 << 7, /* nextval, setval, currval, lastval */
    SQL_SIGN_CODE = 1 << 8,     /* DO, CALL: code that may do any of it */
    SQL_SIGN_DISCARD = 1 << 9,
    SQL_SIGN_OTHER = 1 << 10,       /* whatever else ties, and what could not be read */
    SQL_SIGN_TRANSACTION = 1 << 11, /* BEGIN, START, COMMIT AND CHAIN */
    SQL_SIGN_DEALLOCATE = 1 << 12,
    /* Finer ones, beside those above. */
    SQL_SIGN_ROLE = 1 << 13, /* SET or RESET of ROLE or SESSION AUTHORIZATION */
    SQL_SIGN_RESET =
        1 << 14, /* RESET, SET ... TO DEFAULT, DISCARD: settings as they were at login */
    SQL_SIGN_CONFIG = 1 << 15, /* set_config(): sql_names.h tells of which setting */
    SQL_SIGN_SPOIL =
        1 << 16, /* what DISCARD ALL leaves: setseed(), SET seed, dblink_connect() .. */
    SQL_SIGN_FUNCTION =
        1 << 17,             /* a call of a function that is not known to leave nothing behind */
    SQL_SIGN_UNDO = 1 << 18, /* UNLISTEN, CLOSE, DROP, DEALLOCATE, an unlock: state may be gone */
    SQL_SIGN_LOOK = 1 << 19, /* a look at pg_prepared_statements */
    SQL_SIGN_DATABASE = 1 << 20, /* CREATE, ALTER or DROP DATABASE */
    SQL_SIGN_NAMES = 1 << 21,    /* current_setting(): names of settings may be learned from it */
    SQL_SIGN_CURRVAL = 1 << 22,  /* currval, lastval */
    SQL_SIGN_INSERT = 1 << 23,   /* INSERT, COPY, MERGE: may draw from a sequence */
    SQL_SIGN_WRITE = 1 << 24, /* INSERT, UPDATE, DELETE, MERGE, COPY, TRUNCATE: may fire triggers */
    SQL_SIGN_TRIGGER = 1 << 25,     /* the word itself: one may have been made */
    SQL_SIGN_STATEMENT = 1 << 26,   /* PREPARE, EXECUTE, DEALLOCATE: sql_names.h tells of which */
    SQL_SIGN_LOCAL_RESET = 1 << 27, /* SET LOCAL ... TO DEFAULT */
    SQL_SIGN_DEFAULTS = 1 << 28,    /* ALTER ROLE or DATABASE .. SET: what logins bring changes */
    SQL_SIGN_LOCAL = 1 << 29,       /* SET LOCAL */
    SQL_SIGN_EXECUTE = 1 << 30,     /* EXECUTE: what was prepared tells of what it does */
    SQL_SIGN_CREATE = 1u << 31      /* CREATE, SELECT INTO: temporary if the search_path says so */
};

/* Lexer state between two pieces.  Opaque by custom: only sql.c looks inside. */
struct sql_scan {
    uint32_t signs;
    uint32_t comment_depth;
    uint8_t state;       /* where in the lexical structure the last piece ended */
    uint8_t statement;   /* what began this statement, as far as that still matters */
    uint8_t previous;    /* the word before this one, where it matters */
    uint8_t escape;      /* what the literal's last byte may do to the quote after it */
    uint8_t word_length; /* of the word being read, cut at the buffer's size */
    uint8_t tag_length;  /* of the dollar quote's tag */
    uint8_t tag_matched; /* how much of it the text has repeated */
    uint8_t
        relation; /* whether the name before a parenthesis is a table's or an alias: enum relation */
    uint8_t qualifier;  /* what stood before the dot: enum qualifier */
    bool is_after_name; /* a word or a quoted name was the last thing read */
    bool is_after_dot;
    bool is_quoted_name;   /* and it was quoted */
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
