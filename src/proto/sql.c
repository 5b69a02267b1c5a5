/*
 * sql.c - reads SQL text as PostgreSQL's own lexer would, looking for what makes session state.
 *
 * Each byte is looked at once.  A state says in which lexical structure the reader stands (a word, a
 * literal, a comment, a dollar quote), one function per state reads on from there and returns where it
 * stopped, so that a piece may end anywhere.  Words are folded to lower case into a small buffer as they
 * are read; when one ends, word_ended() asks what it means: as a function's or schema's name anywhere,
 * as a keyword at its place in the statement.
 *
 * What matters is text that the server would run.  A text that it refuses is refused whole, before any
 * of it runs, so the reader may be careless about what is an error to the server.  Where the text alone
 * cannot tell (a backslash before a quote depends on standard_conforming_strings; the last byte of a
 * character may look like a backslash in SJIS, BIG5, GBK) it sets SQL_SIGN_OTHER and reads on.
 *
 * The rules are scan.l's of PostgreSQL 15 (src/backend/parser), and its older releases' where they differ.
 */
#include "proto/sql.h"

#include <string.h>

enum state {
    STATE_BETWEEN, /* words, literals and comments */
    STATE_WORD,
    STATE_UNICODE_MARK, /* U& was read: a name, a literal, or an expression */
    STATE_NAME,         /* "..." */
    STATE_NAME_QUOTE,   /* a quote in it: its end, or the first of two */
    STATE_LITERAL,      /* '...', in which two quotes are as good as an end and a beginning */
    STATE_ESCAPE_LITERAL,
    STATE_ESCAPE_LITERAL_BACKSLASH,
    STATE_ESCAPE_LITERAL_QUOTE,
    STATE_DASH,
    STATE_LINE_COMMENT,
    STATE_SLASH,
    STATE_COMMENT,
    STATE_COMMENT_STAR,
    STATE_COMMENT_SLASH,
    STATE_DOLLAR, /* a parameter or the beginning of a dollar quote's tag */
    STATE_DOLLAR_TAG,
    STATE_DOLLAR_BODY,
    STATE_DOLLAR_END /* a dollar in the body: its end, if the tag follows */
};

enum statement {
    STATEMENT_EMPTY, /* nothing but parentheses yet */
    STATEMENT_SET,
    STATEMENT_SET_SCOPE, /* SET LOCAL, TRANSACTION, CONSTRAINTS: unless a dot follows, as in SET local.x */
    STATEMENT_PREPARE,
    STATEMENT_PREPARE_TRANSACTION, /* unless a word follows: then that is the statement's name */
    STATEMENT_DECLARE,
    STATEMENT_END,  /* COMMIT, END, ROLLBACK, ABORT */
    STATEMENT_OTHER /* only names matter from here */
};

enum previous {
    PREVIOUS_ANY,
    PREVIOUS_CREATE, /* CREATE, INTO and what may stand between them and TEMP */
    PREVIOUS_INSERT, /* INSERT, MERGE: their INTO makes no table */
    PREVIOUS_WITH,
    PREVIOUS_NO
};

enum escape {
    ESCAPE_NONE,
    ESCAPE_BACKSLASH, /* the last byte was a backslash (plain literals) */
    ESCAPE_HIGH,      /* the last byte was not ASCII (E'...') */
    ESCAPE_HIGH_RUN   /* backslashes after such a byte: the first may be half of a character */
};

enum word {
    WORD_ANY,
    WORD_ABORT,
    WORD_BEGIN,
    WORD_CALL,
    WORD_CHAIN,
    WORD_COMMIT,
    WORD_CONSTRAINTS,
    WORD_CREATE,
    WORD_DECLARE,
    WORD_DISCARD,
    WORD_DO,
    WORD_END,
    WORD_FOR,
    WORD_GLOBAL,
    WORD_HOLD,
    WORD_INSERT,
    WORD_INTO,
    WORD_LISTEN,
    WORD_LOAD,
    WORD_LOCAL,
    WORD_MERGE,
    WORD_NO,
    WORD_OR,
    WORD_PREPARE,
    WORD_REPLACE,
    WORD_RESET,
    WORD_ROLLBACK,
    WORD_SET,
    WORD_START,
    WORD_TEMP,
    WORD_TRANSACTION,
    WORD_UESCAPE,
    WORD_WITH
};

/* A byte's class: what it begins in the low four bits, and whether a word may go on with it. */
enum class {
    CLASS_OTHER,
    CLASS_SPACE,
    CLASS_LETTER,
    CLASS_DIGIT,
    CLASS_DOLLAR,
    CLASS_SEMICOLON,
    CLASS_QUOTE,
    CLASS_DOUBLE_QUOTE,
    CLASS_DASH,
    CLASS_SLASH,
    CLASS_DOT,
    CLASS_BEGINS = 0x0f,
    CLASS_IN_WORD = 0x10,
    CLASS_UPPER = 0x20 /* also the bit that makes the letter a small one */
};

static const uint8_t classes[256] = {
    [' '] = CLASS_SPACE,
    ['\t' ... '\r'] = CLASS_SPACE,
    ['A' ... 'Z'] = CLASS_LETTER | CLASS_IN_WORD | CLASS_UPPER,
    ['a' ... 'z'] = CLASS_LETTER | CLASS_IN_WORD,
    ['_'] = CLASS_LETTER | CLASS_IN_WORD,
    [0x80 ... 0xff] = CLASS_LETTER | CLASS_IN_WORD,
    ['0' ... '9'] = CLASS_DIGIT | CLASS_IN_WORD,
    ['$'] = CLASS_DOLLAR | CLASS_IN_WORD,
    [';'] = CLASS_SEMICOLON,
    ['\''] = CLASS_QUOTE,
    ['"'] = CLASS_DOUBLE_QUOTE,
    ['-'] = CLASS_DASH,
    ['/'] = CLASS_SLASH,
    ['.'] = CLASS_DOT,
};

/* Names by their beginning; name_signs() looks here for words in pg_, dbms_, dblink, hypopg, pgv_. */
static const struct {
    const char *begins;
    uint32_t sign;
} prefixes[] = {
    {"pg_temp", SQL_SIGN_TEMP},
    {"pg_advisory_lock", SQL_SIGN_LOCK},
    {"pg_try_advisory_lock", SQL_SIGN_LOCK},
    {"pg_create_logical_replication_slot", SQL_SIGN_OTHER},
    {"pg_create_physical_replication_slot", SQL_SIGN_OTHER},
    {"pg_copy_logical_replication_slot", SQL_SIGN_OTHER},
    {"pg_copy_physical_replication_slot", SQL_SIGN_OTHER},
    {"pg_replication_origin_session_setup", SQL_SIGN_OTHER},
    {"pg_backup_start", SQL_SIGN_OTHER}, /* the backup ends with the session */
    {"pg_start_backup", SQL_SIGN_OTHER}, /* its name before PostgreSQL 15 */
    {"dblink_connect", SQL_SIGN_OTHER},
    {"dbms_", SQL_SIGN_OTHER},   /* orafce: output buffers, pipes, alerts */
    {"hypopg_", SQL_SIGN_OTHER}, /* hypothetical indexes */
    {"pgv_", SQL_SIGN_OTHER},    /* pg_variables */
};

/* The word buffer against a text of known length: compilers turn this into one or two comparisons. */
#define IS(text) (memcmp(word, text, sizeof(text) - 1) == 0)

static uint32_t prefix_signs(const char *word, size_t length)
{
    for (size_t i = 0; i < sizeof(prefixes) / sizeof(prefixes[0]); i++) {
        size_t prefix_length = strlen(prefixes[i].begins);

        if (length >= prefix_length && memcmp(word, prefixes[i].begins, prefix_length) == 0)
            return prefixes[i].sign;
    }
    return 0;
}

/* What a name means wherever it stands, for functions count with and without a schema or a bracket. */
static uint32_t name_signs(const char *word, size_t length)
{
    if (length < 6)
        return 0;
    if (IS("pg_") || IS("dbms_") || IS("dblink") || IS("hypopg") || IS("pgv_"))
        return prefix_signs(word, length);
    switch (length) {
    case 6:
        return IS("setval") ? SQL_SIGN_SEQUENCE : 0;
    case 7:
        if (IS("nextval") || IS("currval") || IS("lastval"))
            return SQL_SIGN_SEQUENCE;
        return IS("setseed") ? SQL_SIGN_SET : 0;
    case 9:
        return IS("set_limit") ? SQL_SIGN_SET : 0; /* pg_trgm's threshold, a setting */
    case 10:
        return IS("set_config") ? SQL_SIGN_SET : 0;
    case 17:
        return IS("start_replication") ? SQL_SIGN_OTHER : 0;
    case 23:
        return IS("create_replication_slot") ? SQL_SIGN_OTHER : 0;
    default:
        return 0;
    }
}

static enum word keyword(const char *word, size_t length)
{
    switch (length) {
    case 2:
        return IS("do") ? WORD_DO : IS("or") ? WORD_OR : IS("no") ? WORD_NO : WORD_ANY;
    case 3:
        return IS("set") ? WORD_SET : IS("end") ? WORD_END : IS("for") ? WORD_FOR : WORD_ANY;
    case 4:
        if (IS("temp"))
            return WORD_TEMP;
        if (IS("into"))
            return WORD_INTO;
        if (IS("with"))
            return WORD_WITH;
        return IS("call") ? WORD_CALL : IS("load") ? WORD_LOAD : IS("hold") ? WORD_HOLD : WORD_ANY;
    case 5:
        if (IS("begin"))
            return WORD_BEGIN;
        if (IS("start"))
            return WORD_START;
        if (IS("reset"))
            return WORD_RESET;
        if (IS("local"))
            return WORD_LOCAL;
        return IS("merge")   ? WORD_MERGE
               : IS("abort") ? WORD_ABORT
               : IS("chain") ? WORD_CHAIN
                             : WORD_ANY;
    case 6:
        if (IS("insert"))
            return WORD_INSERT;
        if (IS("create"))
            return WORD_CREATE;
        if (IS("commit"))
            return WORD_COMMIT;
        return IS("listen") ? WORD_LISTEN : IS("global") ? WORD_GLOBAL : WORD_ANY;
    case 7:
        if (IS("prepare"))
            return WORD_PREPARE;
        if (IS("declare"))
            return WORD_DECLARE;
        if (IS("discard"))
            return WORD_DISCARD;
        return IS("replace") ? WORD_REPLACE : IS("uescape") ? WORD_UESCAPE : WORD_ANY;
    case 8:
        return IS("rollback") ? WORD_ROLLBACK : WORD_ANY;
    case 9:
        return IS("temporary") ? WORD_TEMP : WORD_ANY;
    case 11:
        if (IS("transaction"))
            return WORD_TRANSACTION;
        return IS("constraints") ? WORD_CONSTRAINTS : WORD_ANY;
    default:
        return WORD_ANY;
    }
}

/* The first word decides, or says that the next one does. */
static enum statement statement_begun(struct sql_scan *scan, enum word word)
{
    switch (word) {
    case WORD_SET:
        return STATEMENT_SET;
    case WORD_PREPARE:
        return STATEMENT_PREPARE;
    case WORD_DECLARE:
        return STATEMENT_DECLARE;
    case WORD_COMMIT:
    case WORD_END:
    case WORD_ROLLBACK:
    case WORD_ABORT:
        return STATEMENT_END;
    case WORD_RESET:
        scan->signs |= SQL_SIGN_SET;
        break;
    case WORD_LISTEN:
        scan->signs |= SQL_SIGN_LISTEN;
        break;
    case WORD_LOAD:
        scan->signs |= SQL_SIGN_LOAD;
        break;
    case WORD_DO:
    case WORD_CALL:
        scan->signs |= SQL_SIGN_CODE;
        break;
    case WORD_DISCARD:
        scan->signs |= SQL_SIGN_DISCARD;
        break;
    case WORD_BEGIN:
    case WORD_START:
        scan->signs |= SQL_SIGN_TRANSACTION;
        break;
    default:
        break;
    }
    return STATEMENT_OTHER;
}

/* Moves the statement on by one word. */
static enum statement statement_goes_on(struct sql_scan *scan, enum word word)
{
    switch ((enum statement)scan->statement) {
    case STATEMENT_EMPTY:
        return statement_begun(scan, word);
    case STATEMENT_SET:
        if (word == WORD_LOCAL || word == WORD_TRANSACTION || word == WORD_CONSTRAINTS)
            return STATEMENT_SET_SCOPE;
        scan->signs |= SQL_SIGN_SET;
        return STATEMENT_OTHER;
    case STATEMENT_PREPARE:
        if (word == WORD_TRANSACTION)
            return STATEMENT_PREPARE_TRANSACTION;
        scan->signs |= SQL_SIGN_PREPARE;
        return STATEMENT_OTHER;
    case STATEMENT_PREPARE_TRANSACTION:
        scan->signs |= SQL_SIGN_PREPARE;
        return STATEMENT_OTHER;
    case STATEMENT_DECLARE:
        if (word == WORD_HOLD && scan->previous == PREVIOUS_WITH)
            scan->signs |= SQL_SIGN_HOLD;
        return word == WORD_FOR ? STATEMENT_OTHER : STATEMENT_DECLARE;
    case STATEMENT_END: /* COMMIT AND CHAIN opens the next block */
        if (word == WORD_CHAIN && scan->previous != PREVIOUS_NO)
            scan->signs |= SQL_SIGN_TRANSACTION;
        return STATEMENT_END;
    default:
        return STATEMENT_OTHER;
    }
}

/* TEMP counts after CREATE [OR REPLACE] [LOCAL|GLOBAL] and INTO [LOCAL|GLOBAL]; else it is a name. */
static enum previous previous_after(const struct sql_scan *scan, enum word word)
{
    switch (word) {
    case WORD_CREATE:
        return PREVIOUS_CREATE;
    case WORD_INTO:
        return scan->previous == PREVIOUS_INSERT ? PREVIOUS_ANY : PREVIOUS_CREATE;
    case WORD_OR:
    case WORD_REPLACE:
    case WORD_LOCAL:
    case WORD_GLOBAL:
        return scan->previous == PREVIOUS_CREATE ? PREVIOUS_CREATE : PREVIOUS_ANY;
    case WORD_INSERT:
    case WORD_MERGE:
        return PREVIOUS_INSERT;
    case WORD_WITH:
        return PREVIOUS_WITH;
    case WORD_NO:
        return PREVIOUS_NO;
    default:
        return PREVIOUS_ANY;
    }
}

static void word_means(struct sql_scan *scan, enum word word)
{
    if (word == WORD_TEMP && scan->previous == PREVIOUS_CREATE)
        scan->signs |= SQL_SIGN_TEMP;
    else if (word == WORD_UESCAPE && scan->has_unicode_name)
        scan->signs |= SQL_SIGN_OTHER; /* the name was spelt with escapes unknown to us */
    if (scan->statement != STATEMENT_OTHER)
        scan->statement = (uint8_t)statement_goes_on(scan, word);
    scan->previous = (uint8_t)previous_after(scan, word);
}

static void word_ended(struct sql_scan *scan)
{
    scan->state = STATE_BETWEEN;
    scan->signs |= name_signs(scan->word, scan->word_length);
    word_means(scan, keyword(scan->word, scan->word_length));
}

/* A quoted name is never a keyword, and stands as it is written. */
static void name_ended(struct sql_scan *scan)
{
    scan->state = STATE_BETWEEN;
    scan->is_unicode_name = false;
    scan->signs |= name_signs(scan->word, scan->word_length);
    word_means(scan, WORD_ANY);
}

static void literal_begins(struct sql_scan *scan, enum state state)
{
    scan->state = (uint8_t)state;
    scan->escape = ESCAPE_NONE;
}

static void name_begins(struct sql_scan *scan, bool is_unicode)
{
    scan->state = STATE_NAME;
    scan->word_length = 0;
    scan->is_unicode_name = is_unicode;
    scan->has_unicode_name |= is_unicode;
}

/* A word of one letter before a quote or an ampersand: E'', N'', B'', X'', U&'', U&"". */
static bool is_literal_prefix(struct sql_scan *scan, uint8_t byte)
{
    char letter = scan->word[0];

    if (byte == '&' && letter == 'u') {
        scan->state = STATE_UNICODE_MARK;
        return true;
    }
    if (byte != '\'' || (letter != 'e' && letter != 'n' && letter != 'b' && letter != 'x'))
        return false;
    literal_begins(scan, letter == 'e' ? STATE_ESCAPE_LITERAL : STATE_LITERAL);
    return true;
}

static const uint8_t *read_word(struct sql_scan *scan, const uint8_t *at, const uint8_t *end)
{
    size_t length = scan->word_length;

    for (; at < end; at++) {
        uint8_t class = classes[*at];

        if (!(class & CLASS_IN_WORD))
            break;
        if (length < sizeof(scan->word))
            scan->word[length++] = (char)(*at | (class & CLASS_UPPER));
    }
    scan->word_length = (uint8_t)length;
    if (at == end)
        return at;
    if (length == 1 && is_literal_prefix(scan, *at))
        return at + 1;
    word_ended(scan);
    return at;
}

static const uint8_t *read_between(struct sql_scan *scan, const uint8_t *at, const uint8_t *end)
{
    while (at < end) {
        uint8_t begins = classes[*at] & CLASS_BEGINS;

        if (begins == CLASS_LETTER) {
            scan->state = STATE_WORD;
            scan->word_length = 0;
            return read_word(scan, at, end);
        }
        at++;
        switch (begins) {
        case CLASS_SPACE:
        case CLASS_DIGIT:
            continue;
        case CLASS_SEMICOLON:
            scan->statement = STATEMENT_EMPTY;
            scan->previous = PREVIOUS_ANY;
            continue;
        case CLASS_DOT:
            if (scan->statement == STATEMENT_SET_SCOPE)
                scan->signs |= SQL_SIGN_SET;
            scan->previous = PREVIOUS_ANY;
            continue;
        case CLASS_QUOTE:
            literal_begins(scan, STATE_LITERAL);
            return at;
        case CLASS_DOUBLE_QUOTE:
            name_begins(scan, false);
            return at;
        case CLASS_DOLLAR:
            scan->state = STATE_DOLLAR;
            return at;
        case CLASS_DASH:
            scan->state = STATE_DASH;
            return at;
        case CLASS_SLASH:
            scan->state = STATE_SLASH;
            return at;
        default: /* replace(temp, ...) must not look like REPLACE TEMP */
            scan->previous = PREVIOUS_ANY;
        }
    }
    return at;
}

static const uint8_t *read_unicode_mark(struct sql_scan *scan, const uint8_t *at)
{
    if (*at == '"') {
        name_begins(scan, true);
        return at + 1;
    }
    if (*at == '\'') { /* backslashes do not escape the quote in it, so it reads like a plain one */
        literal_begins(scan, STATE_LITERAL);
        return at + 1;
    }
    word_ended(scan);
    scan->previous = PREVIOUS_ANY;
    return at;
}

static void name_goes_on(struct sql_scan *scan, uint8_t byte)
{
    if (scan->word_length < sizeof(scan->word))
        scan->word[scan->word_length++] = (char)byte;
    if (byte == '\\' && scan->is_unicode_name)
        scan->signs |= SQL_SIGN_OTHER; /* an escape may spell any name */
}

static const uint8_t *read_name(struct sql_scan *scan, const uint8_t *at, const uint8_t *end)
{
    for (; at < end; at++) {
        if (*at == '"') {
            scan->state = STATE_NAME_QUOTE;
            return at + 1;
        }
        name_goes_on(scan, *at);
    }
    return at;
}

static const uint8_t *read_name_quote(struct sql_scan *scan, const uint8_t *at)
{
    if (*at != '"') {
        name_ended(scan);
        return at;
    }
    name_goes_on(scan, '"');
    scan->state = STATE_NAME;
    return at + 1;
}

/*
 * A backslash before the quote is in doubt: with standard_conforming_strings off it keeps the quote from
 * ending the literal, and so it does in the continuation of E'...' on a later line, which looks plain.
 */
static const uint8_t *read_literal(struct sql_scan *scan, const uint8_t *at, const uint8_t *end)
{
    const uint8_t *quote = memchr(at, '\'', (size_t)(end - at));
    const uint8_t *stop = quote != NULL ? quote : end;

    if (stop > at)
        scan->escape = stop[-1] == '\\' ? ESCAPE_BACKSLASH : ESCAPE_NONE;
    if (quote == NULL)
        return end;
    if (scan->escape == ESCAPE_BACKSLASH)
        scan->signs |= SQL_SIGN_OTHER;
    scan->state = STATE_BETWEEN;
    return quote + 1;
}

/* Keeps count of backslashes that may be the second half of a character, and doubts quotes after them. */
static void watch_half_characters(struct sql_scan *scan, uint8_t byte)
{
    if (byte == '\\') {
        if (scan->escape != ESCAPE_NONE)
            scan->escape = ESCAPE_HIGH_RUN;
        return;
    }
    if (byte == '\'' && scan->escape == ESCAPE_HIGH_RUN)
        scan->signs |= SQL_SIGN_OTHER;
    scan->escape = byte >= 0x80 ? ESCAPE_HIGH : ESCAPE_NONE;
}

static const uint8_t *read_escape_literal(struct sql_scan *scan, const uint8_t *at,
                                          const uint8_t *end)
{
    for (; at < end; at++) {
        watch_half_characters(scan, *at);
        if (*at == '\\' || *at == '\'') {
            scan->state = *at == '\'' ? STATE_ESCAPE_LITERAL_QUOTE : STATE_ESCAPE_LITERAL_BACKSLASH;
            return at + 1;
        }
    }
    return at;
}

static const uint8_t *read_escape_literal_backslash(struct sql_scan *scan, const uint8_t *at)
{
    watch_half_characters(scan, *at);
    scan->state = STATE_ESCAPE_LITERAL;
    return at + 1;
}

static const uint8_t *read_line_comment(struct sql_scan *scan, const uint8_t *at,
                                        const uint8_t *end)
{
    for (; at < end; at++) {
        if (*at == '\n' || *at == '\r') {
            scan->state = STATE_BETWEEN;
            return at + 1;
        }
    }
    return at;
}

static const uint8_t *read_comment(struct sql_scan *scan, const uint8_t *at, const uint8_t *end)
{
    for (; at < end; at++) {
        if (*at == '*' || *at == '/') {
            scan->state = *at == '*' ? STATE_COMMENT_STAR : STATE_COMMENT_SLASH;
            return at + 1;
        }
    }
    return at;
}

/* One byte after a star or a slash in a comment: its end, a deeper one's beginning, or neither. */
static const uint8_t *read_comment_mark(struct sql_scan *scan, const uint8_t *at)
{
    bool is_after_star = scan->state == STATE_COMMENT_STAR;

    if (is_after_star && *at == '/') {
        scan->comment_depth--;
        scan->state = scan->comment_depth > 0 ? STATE_COMMENT : STATE_BETWEEN;
        return at + 1;
    }
    if (!is_after_star && *at == '*') {
        scan->comment_depth++;
        scan->state = STATE_COMMENT;
        return at + 1;
    }
    scan->state = STATE_COMMENT;
    return at;
}

/* One byte after a dash or a slash: a comment, or an operator. */
static const uint8_t *read_operator(struct sql_scan *scan, const uint8_t *at)
{
    if (scan->state == STATE_DASH && *at == '-') {
        scan->state = STATE_LINE_COMMENT;
        return at + 1;
    }
    if (scan->state == STATE_SLASH && *at == '*') {
        scan->state = STATE_COMMENT;
        scan->comment_depth = 1;
        return at + 1;
    }
    scan->state = STATE_BETWEEN;
    scan->previous = PREVIOUS_ANY;
    return at;
}

/* After a dollar that stands in no word: $1 is a parameter, $tag$ and $$ open a literal. */
static const uint8_t *read_dollar(struct sql_scan *scan, const uint8_t *at)
{
    uint8_t begins = classes[*at] & CLASS_BEGINS;

    scan->tag_length = 0;
    if (begins == CLASS_LETTER || begins == CLASS_DOLLAR)
        scan->state = STATE_DOLLAR_TAG;
    else
        scan->state = STATE_BETWEEN;
    return at;
}

static const uint8_t *read_dollar_tag(struct sql_scan *scan, const uint8_t *at)
{
    uint8_t begins = classes[*at] & CLASS_BEGINS;

    if (begins == CLASS_DOLLAR) {
        scan->state = STATE_DOLLAR_BODY;
        return at + 1;
    }
    if (begins != CLASS_LETTER && begins != CLASS_DIGIT) {
        scan->state = STATE_BETWEEN; /* a lone dollar, which the server refuses */
        return at;
    }
    if (scan->tag_length == sizeof(scan->tag)) {
        scan->signs |= SQL_SIGN_OTHER; /* too long to know again: read its body as statements */
        scan->state = STATE_WORD;
        scan->word_length = 0;
        return at;
    }
    scan->tag[scan->tag_length++] = (char)*at;
    return at + 1;
}

static const uint8_t *read_dollar_body(struct sql_scan *scan, const uint8_t *at, const uint8_t *end)
{
    const uint8_t *dollar = memchr(at, '$', (size_t)(end - at));

    if (dollar == NULL)
        return end;
    scan->state = STATE_DOLLAR_END;
    scan->tag_matched = 0;
    return dollar + 1;
}

static const uint8_t *read_dollar_end(struct sql_scan *scan, const uint8_t *at)
{
    bool is_whole = scan->tag_matched == scan->tag_length;

    if (*at == '$') { /* the end, or another dollar that may begin it */
        if (is_whole)
            scan->state = STATE_BETWEEN;
        scan->tag_matched = 0;
    } else if (!is_whole && (char)*at == scan->tag[scan->tag_matched]) {
        scan->tag_matched++;
    } else {
        scan->state = STATE_DOLLAR_BODY;
    }
    return at + 1;
}

static const uint8_t *read_on(struct sql_scan *scan, const uint8_t *at, const uint8_t *end)
{
    switch ((enum state)scan->state) {
    case STATE_BETWEEN:
        return read_between(scan, at, end);
    case STATE_WORD:
        return read_word(scan, at, end);
    case STATE_UNICODE_MARK:
        return read_unicode_mark(scan, at);
    case STATE_NAME:
        return read_name(scan, at, end);
    case STATE_NAME_QUOTE:
        return read_name_quote(scan, at);
    case STATE_LITERAL:
        return read_literal(scan, at, end);
    case STATE_ESCAPE_LITERAL:
        return read_escape_literal(scan, at, end);
    case STATE_ESCAPE_LITERAL_BACKSLASH:
        return read_escape_literal_backslash(scan, at);
    case STATE_ESCAPE_LITERAL_QUOTE: /* two are a quote in it */
        scan->state = *at == '\'' ? STATE_ESCAPE_LITERAL : STATE_BETWEEN;
        return *at == '\'' ? at + 1 : at;
    case STATE_DASH:
    case STATE_SLASH:
        return read_operator(scan, at);
    case STATE_LINE_COMMENT:
        return read_line_comment(scan, at, end);
    case STATE_COMMENT:
        return read_comment(scan, at, end);
    case STATE_COMMENT_STAR:
    case STATE_COMMENT_SLASH:
        return read_comment_mark(scan, at);
    case STATE_DOLLAR:
        return read_dollar(scan, at);
    case STATE_DOLLAR_TAG:
        return read_dollar_tag(scan, at);
    case STATE_DOLLAR_BODY:
        return read_dollar_body(scan, at, end);
    case STATE_DOLLAR_END:
        return read_dollar_end(scan, at);
    }
    return end;
}

/* The buffers are left as they are: they count only as far as their lengths say. */
void sql_scan_start(struct sql_scan *scan)
{
    scan->signs = 0;
    scan->comment_depth = 0;
    scan->state = STATE_BETWEEN;
    scan->statement = STATEMENT_EMPTY;
    scan->previous = PREVIOUS_ANY;
    scan->escape = ESCAPE_NONE;
    scan->word_length = 0;
    scan->tag_length = 0;
    scan->tag_matched = 0;
    scan->is_unicode_name = false;
    scan->has_unicode_name = false;
}

void sql_scan_feed(struct sql_scan *scan, const uint8_t *bytes, size_t length)
{
    if (length == 0)
        return;
    for (const uint8_t *at = bytes, *end = bytes + length; at < end;)
        at = read_on(scan, at, end);
}

uint32_t sql_scan_finish(struct sql_scan *scan)
{
    if (scan->state == STATE_WORD || scan->state == STATE_UNICODE_MARK)
        word_ended(scan);
    else if (scan->state == STATE_NAME_QUOTE)
        name_ended(scan);
    return scan->signs;
}

uint32_t sql_signs(const char *text, size_t length)
{
    struct sql_scan scan;

    sql_scan_start(&scan);
    sql_scan_feed(&scan, (const uint8_t *)text, length);
    return sql_scan_finish(&scan);
}
