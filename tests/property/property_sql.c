/*
 * property_sql.c - no sign is missed or imagined, however the text is cut and whatever it is wrapped in.
 *
 * Texts are strings of fragments that are worst for a lexer: quotes, dollars, comment marks, backslashes, bytes that are
 * not ASCII, and the words that mean something.  Three things are claimed.  The signs of a text do not depend on
 * where the network cut it.  A statement with a sign has none inside a literal, a comment or a dollar
 * quote, while the same statement after that literal and a semicolon has all of it.  And what is remembered of a text is
 * never told of another one that differs in its digits only, unless it is true of that too.
 */
#include "proto/sql.h"
#include "proto/sql_memo.h"

#include "random.h"

#include <string.h>

#define CUT_TEXTS  100000
#define WRAP_TEXTS 100000
#define MEMO_TEXTS 30000
#define TEXT_SIZE  4096

#define COUNT(table) ((int)(sizeof(table) / sizeof((table)[0])))

struct text {
    size_t length;
    char bytes[TEXT_SIZE];
};

static const char *const fragments[] = {
    "'",
    "''",
    "\"",
    "\"\"",
    "$",
    "$$",
    "$a$",
    "$ab$",
    "$1",
    "/*",
    "*/",
    "/",
    "*",
    "--",
    "-",
    "\n",
    "\r",
    "\\",
    "\\'",
    "E'",
    "e",
    "E",
    "N'",
    "U&\"",
    "U&'",
    "u&",
    "&",
    ";",
    ";",
    "(",
    ")",
    ".",
    ",",
    " ",
    " ",
    "\t",
    "1",
    "a",
    "b",
    "\xc3\xa9",
    "\x83\\",
    "\xff",
    "_",
    "SET ",
    "set",
    "local ",
    "LOCAL",
    "RESET ",
    "transaction ",
    "CONSTRAINTS ",
    "LISTEN ",
    "PREPARE ",
    "DECLARE ",
    "with ",
    "HOLD ",
    "for ",
    "LOAD ",
    "DO ",
    "CALL ",
    "DISCARD ",
    "BEGIN ",
    "START ",
    "COMMIT ",
    "and ",
    "no ",
    "chain ",
    "CREATE ",
    "or ",
    "replace ",
    "temp ",
    "TEMPORARY ",
    "INTO ",
    "insert ",
    "pg_temp",
    "pg_advisory_lock",
    "_shared",
    "set_config",
    "nextval",
    "dblink_connect",
    "UESCAPE ",
    "averyveryverylongidentifierthatisnearlyfifty",
};

/* Statements whose text holds no quote, backslash, comment or dollar, so that any wrapping can hold it. */
static const struct carrier {
    const char *text;
    uint32_t signs;
} carriers[] = {
    {"SET search_path = x", SQL_SIGN_SET},
    {"RESET ALL", SQL_SIGN_SET | SQL_SIGN_RESET},
    {"SELECT set_config(a, b, false)", SQL_SIGN_CONFIG},
    {"LISTEN x", SQL_SIGN_LISTEN},
    {"PREPARE p AS SELECT 1", SQL_SIGN_PREPARE | SQL_SIGN_STATEMENT},
    {"EXECUTE p", SQL_SIGN_STATEMENT | SQL_SIGN_EXECUTE},
    {"EXPLAIN EXECUTE p", SQL_SIGN_STATEMENT | SQL_SIGN_EXECUTE},
    {"CREATE TABLE t AS EXECUTE p", SQL_SIGN_STATEMENT | SQL_SIGN_EXECUTE | SQL_SIGN_CREATE},
    {"DEALLOCATE p", SQL_SIGN_DEALLOCATE | SQL_SIGN_UNDO | SQL_SIGN_STATEMENT},
    {"DEALLOCATE ALL", SQL_SIGN_DEALLOCATE | SQL_SIGN_UNDO},
    {"SET seed = 1", SQL_SIGN_SET | SQL_SIGN_SPOIL},
    {"SET LOCAL work_mem = 1", SQL_SIGN_LOCAL},
    {"SET LOCAL work_mem TO DEFAULT", SQL_SIGN_LOCAL | SQL_SIGN_LOCAL_RESET},
    {"ALTER ROLE x SET work_mem = 1", SQL_SIGN_DEFAULTS},
    {"CREATE TEMP TABLE t (a int)", SQL_SIGN_TEMP | SQL_SIGN_CREATE},
    {"SELECT 1 INTO TEMPORARY t", SQL_SIGN_TEMP | SQL_SIGN_CREATE},
    {"CREATE TABLE pg_temp.t (a int)", SQL_SIGN_TEMP | SQL_SIGN_CREATE},
    {"SELECT pg_advisory_lock(1)", SQL_SIGN_LOCK},
    {"DECLARE c CURSOR WITH HOLD FOR SELECT 1", SQL_SIGN_HOLD},
    {"LOAD x", SQL_SIGN_LOAD},
    {"INSERT INTO t VALUES (nextval(s))", SQL_SIGN_SEQUENCE | SQL_SIGN_INSERT | SQL_SIGN_WRITE},
    {"DO x", SQL_SIGN_CODE},
    {"CALL p()", SQL_SIGN_CODE | SQL_SIGN_FUNCTION},
    {"DISCARD ALL", SQL_SIGN_DISCARD | SQL_SIGN_RESET},
    {"SELECT dblink_connect(x)", SQL_SIGN_OTHER | SQL_SIGN_SPOIL | SQL_SIGN_FUNCTION},
    {"BEGIN", SQL_SIGN_TRANSACTION},
    {"COMMIT AND CHAIN", SQL_SIGN_TRANSACTION},
};

/* What makes text out of a statement, and bits of text that it can hold without ending. */
static const struct wrapping {
    const char *before;
    const char *after;
    const char *fillers[6];
} wrappings[] = {
    {"'", "'", {"''", "\"", "--", "/*", "$$", "\\n"}},
    {"N'", "'", {"''", "\"", "--", "*/", "$a$", "\n"}},
    {"U&'", "'", {"''", "\"", "\\0041", "/*", "$$", "\xc3\xa9"}},
    {"E'", "'", {"''", "\\'", "\\\\", "/*", "--", "\\n"}},
    {"$$", "$$", {"'", "\"", "$a", "--", "/*", "\\"}},
    {"$a$", "$a$", {"'", "$$ ", "$ab$", "$A$", "*/", "$a "}},
    {"--", "\n", {"'", "\"", "$$", "/*", "*/", "\\"}},
    {"/*", "*/", {"'", "\"", "$$", "--", "/* x */", "/*/**/*/"}},
    {"/* /*", "*/ */", {"'", "\"", "$a$", "-- ", "/**/", " * / "}},
};

static void append(struct text *text, const char *more)
{
    size_t length = strlen(more);

    if (length > sizeof(text->bytes) - text->length)
        return;
    memcpy(text->bytes + text->length, more, length);
    text->length += length;
}

static void make_from_fragments(struct text *text)
{
    int count = random_below(40);

    text->length = 0;
    for (int i = 0; i < count; i++)
        append(text, fragments[random_below(COUNT(fragments))]);
}

static uint32_t signs_in_pieces(const struct text *text)
{
    int longest = 1 + random_below(random_chance(50) ? 3 : 40);
    struct sql_scan scan;
    size_t at = 0;

    memset(&scan, random_below(256), sizeof(scan)); /* what was there before must not matter */
    sql_scan_start(&scan);
    while (at < text->length) {
        size_t piece = (size_t)random_below(longest + 1);

        if (piece > text->length - at)
            piece = text->length - at;
        sql_scan_feed(&scan, (const uint8_t *)text->bytes + at, piece);
        at += piece;
    }
    return sql_scan_finish(&scan);
}

static void check_cuts(void)
{
    struct text text;

    make_from_fragments(&text);
    uint32_t whole = sql_signs(text.bytes, text.length);
    uint32_t pieces = signs_in_pieces(&text);
    CHECK(pieces == whole, "0x%x in pieces, 0x%x whole: %.*s", pieces, whole, (int)text.length,
          text.bytes);
}

static void fill(struct text *text, const struct wrapping *wrapping)
{
    for (int i = random_below(4); i > 0; i--)
        append(text, wrapping->fillers[random_below(COUNT(wrapping->fillers))]);
}

/* Spaces around the statement keep it from joining a mark before or after it. */
static void wrap(struct text *text, const struct wrapping *wrapping, const struct carrier *carrier)
{
    append(text, wrapping->before);
    fill(text, wrapping);
    append(text, " ; ");
    append(text, carrier->text);
    append(text, " ; ");
    fill(text, wrapping);
    append(text, " ");
    append(text, wrapping->after);
}

static void check_wrapping(void)
{
    const struct carrier *carrier = &carriers[random_below(COUNT(carriers))];
    struct text text = {.length = 0};

    append(&text, "SELECT ");
    for (int i = 1 + random_below(3); i > 0; i--) {
        wrap(&text, &wrappings[random_below(COUNT(wrappings))], carrier);
        append(&text, ", ");
    }
    append(&text, "a");
    uint32_t wrapped = sql_signs(text.bytes, text.length);
    CHECK(wrapped == 0, "0x%x: %.*s", wrapped, (int)text.length, text.bytes);

    append(&text, random_chance(50) ? ";" : " ; -- x\n/* ; */ (");
    append(&text, carrier->text);
    uint32_t appended = sql_signs(text.bytes, text.length);
    CHECK(appended == carrier->signs, "0x%x, not 0x%x: %.*s", appended, carrier->signs,
          (int)text.length, text.bytes);
    CHECK(signs_in_pieces(&text) == appended, "%.*s", (int)text.length, text.bytes);
}

static void check_memo(void)
{
    static const char *const numbers[] = {"1", " 23", "4 ", "int4(", "$1$", "$a1$", "_5", "\\6"};
    static struct sql_memo memo;
    struct text text = {.length = 0};

    for (int i = random_below(30); i > 0; i--)
        append(&text, random_chance(50) ? numbers[random_below(COUNT(numbers))]
                                        : fragments[random_below(COUNT(fragments))]);
    for (int round = 0; round < 8; round++) {
        for (size_t at = 0; at < text.length; at++) {
            if (text.bytes[at] >= '0' && text.bytes[at] <= '9' && random_chance(30))
                text.bytes[at] = (char)('0' + random_below(10));
        }
        uint32_t remembered = sql_memo_signs(&memo, text.bytes, text.length);
        uint32_t read = sql_signs(text.bytes, text.length);
        CHECK(remembered == read, "0x%x remembered, 0x%x read: %.*s", remembered, read,
              (int)text.length, text.bytes);
    }
}

int main(int argc, char **argv)
{
    random_start(seed_from(argc, argv, 1));
    printf("seed %llu\n", (unsigned long long)random_seed);
    for (random_step = 0; random_step < CUT_TEXTS; random_step++)
        check_cuts();
    for (random_step = 0; random_step < WRAP_TEXTS; random_step++)
        check_wrapping();
    for (random_step = 0; random_step < MEMO_TEXTS; random_step++)
        check_memo();
    printf("%ld checks passed\n", checks_passed);
    return 0;
}
