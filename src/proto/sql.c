/*
 * sql.c - reads SQL text as PostgreSQL's own lexer would, looking for what makes session state.
 *
 * Each byte is looked at once.  A state says in which lexical structure the reader stands (a word, a
 * literal, a comment, a dollar quote), one function per state reads on from there and returns where it
 * stopped, so that a piece may end anywhere.  Words are folded to lower case into a small buffer as they
 * are read; when one ends, sql_words.c says what it means.
 *
 * What matters is text that the server would run.  A text that it refuses is refused whole, before any
 * of it runs, so the reader may be careless about what is an error to the server.  Where the text alone
 * cannot tell (a backslash before a quote depends on standard_conforming_strings; the last byte of a
 * character may look like a backslash in SJIS, BIG5, GBK) it sets SQL_SIGN_OTHER and reads on.
 *
 * The rules are scan.l's of PostgreSQL 15 (src/backend/parser), and its older releases' where they differ.
 */
#include "proto/sql_words.h"

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

enum escape {
    ESCAPE_NONE,
    ESCAPE_BACKSLASH, /* the last byte was a backslash (plain literals) */
    ESCAPE_HIGH,      /* the last byte was not ASCII (E'...') */
    ESCAPE_HIGH_RUN   /* backslashes after such a byte: the first may be half of a character */
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
};

static void word_ends(struct sql_scan *scan, bool is_quoted)
{
    scan->state = STATE_BETWEEN;
    scan->is_unicode_name = false;
    sql_word_ended(scan, is_quoted);
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
    scan->word[0] = '\0'; /* of "" too: a word's first byte is looked at before its length */
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
    char *word = scan->word + scan->word_length;
    size_t room = sizeof(scan->word) - scan->word_length;
    const uint8_t *kept_end = (size_t)(end - at) > room ? at + room : end;

    for (; at < kept_end; at++) { /* one bound, one table: most bytes of most texts pass here */
        uint8_t class = classes[*at];

        if (!(class & CLASS_IN_WORD))
            break;
        *word++ = (char)(*at | (class & CLASS_UPPER));
    }
    scan->word_length = (uint8_t)(word - scan->word);
    if (at == kept_end) {
        while (at < end && (classes[*at] & CLASS_IN_WORD)) /* a long word's rest */
            at++;
    }
    if (at == end)
        return at;
    if (scan->word_length == 1 && is_literal_prefix(scan, *at))
        return at + 1;
    word_ends(scan, false);
    return at;
}

static const uint8_t *read_between(struct sql_scan *scan, const uint8_t *at, const uint8_t *end)
{
    while (at < end) {
        uint8_t begins = classes[*at] & CLASS_BEGINS;

        if (begins == CLASS_LETTER) {
            scan->state = STATE_WORD;
            scan->word_length = 0;
            at = read_word(scan, at, end);
            if (scan->state != STATE_BETWEEN)
                return at;
            continue;
        }
        at++;
        switch (begins) {
        case CLASS_SPACE:
        case CLASS_DIGIT:
            continue;
        case CLASS_SEMICOLON:
            sql_statement_ended(scan);
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
        default:
            sql_mark_read(scan, at[-1]);
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
    word_ends(scan, false);
    sql_mark_read(scan, '&');
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
        word_ends(scan, true);
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
    sql_mark_read(scan, scan->state == STATE_DASH ? '-' : '/');
    scan->state = STATE_BETWEEN;
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
    sql_statement_ended(scan);
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
        word_ends(scan, false);
    else if (scan->state == STATE_NAME_QUOTE)
        word_ends(scan, true);
    return scan->signs;
}

uint32_t sql_signs(const char *text, size_t length)
{
    struct sql_scan scan;

    sql_scan_start(&scan);
    sql_scan_feed(&scan, (const uint8_t *)text, length);
    return sql_scan_finish(&scan);
}
