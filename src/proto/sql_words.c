/*
 * sql_words.c - what a word of SQL means, at its place in the statement.
 *
 * sql.c splits the text; here each word is looked up in two tables, by length or by how it begins.  Names of
 * functions and schemas count anywhere, for a call may stand anywhere.  Keywords count at their place
 * alone, for most of them are also good names of tables and columns (UPDATE t SET a = 1, SELECT temp):
 * the first word says what the statement is, and a small state says what its later words may change.
 */
#include "proto/sql_words.h"

#include <string.h>

enum statement {
    STATEMENT_EMPTY, /* nothing but parentheses yet */
    STATEMENT_SET,
    STATEMENT_SETTING,   /* SET and its first word, or RESET: role and default matter */
    STATEMENT_SET_LOCAL, /* and its first word: default matters */
    STATEMENT_SET_SCOPE, /* SET LOCAL, TRANSACTION, CONSTRAINTS: unless a dot follows, as in SET local.x */
    STATEMENT_PREPARE,
    STATEMENT_PREPARE_TRANSACTION, /* unless a word follows: then that is the statement's name */
    STATEMENT_DECLARE,
    STATEMENT_ALTER,    /* likewise, or ROLE, USER: their settings matter */
    STATEMENT_DEFAULTS, /* ALTER and one of these: SET or RESET may follow */
    STATEMENT_DATABASE, /* CREATE, ALTER, DROP: DATABASE may follow */
    STATEMENT_END,      /* COMMIT, END, ROLLBACK, ABORT */
    STATEMENT_DEALLOCATE,
    STATEMENT_EXPLAIN, /* EXECUTE may follow, behind options */
    STATEMENT_OTHER    /* only names and TEMP matter from here */
};

/* What a word is to the words around it. */
enum role {
    ROLE_NONE,
    ROLE_SET,
    ROLE_LOCAL,       /* SET LOCAL; also stands before TEMP */
    ROLE_CONSTRAINTS, /* SET CONSTRAINTS */
    ROLE_TRANSACTION, /* SET TRANSACTION, PREPARE TRANSACTION */
    ROLE_PREPARE,
    ROLE_DECLARE,
    ROLE_WITH,
    ROLE_HOLD,
    ROLE_FOR, /* the end of DECLARE's own words */
    ROLE_END,
    ROLE_NO,
    ROLE_CHAIN,
    ROLE_CREATE, /* CREATE, INTO: TEMP may follow */
    ROLE_INTO,
    ROLE_FILLER, /* what may stand between them and TEMP */
    ROLE_INSERT, /* its INTO makes no table */
    ROLE_TEMP,
    ROLE_UESCAPE,
    ROLE_RESET,
    ROLE_ROLE,    /* ROLE, AUTHORIZATION */
    ROLE_DEFAULT, /* DEFAULT in SET */
    ROLE_DATABASE,
    ROLE_CHANGE, /* DROP */
    ROLE_ALTER,
    ROLE_USER,     /* of ALTER */
    ROLE_RELATION, /* COPY, AS: a name follows, and its parenthesis is no call's */
    ROLE_RECURSIVE,
    ROLE_DEALLOCATE,
    ROLE_ALL, /* of DEALLOCATE */
    ROLE_EXPLAIN,
    ROLE_EXECUTE,
    ROLE_SESSION,
    ROLE_SEED,    /* the setting that is setseed() */
    ROLE_SETTINGS /* the view whose UPDATE is set_config() */
};

/* Whether a parenthesis after a name is that of a list of columns. */
enum relation { RELATION_NONE, RELATION_EXPECTED, RELATION_NAMED };

/* The schema that a name was given with. */
enum qualifier { QUALIFIER_NONE, QUALIFIER_CATALOG, QUALIFIER_OTHER };

/* The words that mean something, by length; a row ends with an empty one.  The letters that they begin with stand before
 * them: most words of a text are names, and most are done with at that look. */
#define LONGEST_KNOWN 15
#define FIRST(letter) (1u << ((letter) - 'a'))
struct meaning {
    char word[LONGEST_KNOWN + 1];
    uint32_t role;
    uint32_t first;    /* signs when the statement begins with it */
    uint32_t anywhere; /* signs as a name, quoted or not, with or without a schema or arguments */
};
static const struct meaning nothing;
static const struct {
    uint32_t letters;
    struct meaning words[14];
} meanings[LONGEST_KNOWN + 1] = {
    [2] = {FIRST('a') | FIRST('d') | FIRST('n') | FIRST('o'),
           {{"do", ROLE_NONE, SQL_SIGN_CODE, 0},
            {"or", ROLE_FILLER, 0, 0},
            {"no", ROLE_NO, 0, 0},
            {"as", ROLE_RELATION, 0, 0}}},
    [3] = {FIRST('a') | FIRST('e') | FIRST('f') | FIRST('s'),
           {{"set", ROLE_SET, 0, 0},
            {"end", ROLE_END, 0, 0},
            {"for", ROLE_FOR, 0, 0},
            {"all", ROLE_ALL, 0, 0}}},
    [4] = {FIRST('c') | FIRST('d') | FIRST('h') | FIRST('i') | FIRST('l') | FIRST('r') |
               FIRST('s') | FIRST('t') | FIRST('u') | FIRST('w'),
           {{"into", ROLE_INTO, 0, 0},
            {"with", ROLE_WITH, 0, 0},
            {"hold", ROLE_HOLD, 0, 0},
            {"temp", ROLE_TEMP, 0, 0},
            {"role", ROLE_ROLE, 0, 0},
            {"seed", ROLE_SEED, 0, 0},
            {"user", ROLE_USER, 0, 0},
            {"copy", ROLE_RELATION, SQL_SIGN_INSERT | SQL_SIGN_WRITE, 0},
            {"drop", ROLE_CHANGE, SQL_SIGN_UNDO, 0},
            {"call", ROLE_NONE, SQL_SIGN_CODE, 0},
            {"load", ROLE_NONE, SQL_SIGN_LOAD, 0}}},
    [5] = {FIRST('a') | FIRST('b') | FIRST('c') | FIRST('l') | FIRST('m') | FIRST('r') |
               FIRST('s') | FIRST('t'),
           {{"local", ROLE_LOCAL, 0, 0},
            {"abort", ROLE_END, 0, 0},
            {"table", ROLE_RELATION, 0, 0},
            {"alter", ROLE_ALTER, 0, 0},
            {"chain", ROLE_CHAIN, 0, 0},
            {"close", ROLE_NONE, SQL_SIGN_UNDO, 0},
            {"merge", ROLE_INSERT, 0, SQL_SIGN_INSERT | SQL_SIGN_WRITE},
            {"reset", ROLE_RESET, SQL_SIGN_SET | SQL_SIGN_RESET, 0},
            {"begin", ROLE_NONE, SQL_SIGN_TRANSACTION, 0},
            {"start", ROLE_NONE, SQL_SIGN_TRANSACTION, 0}}},
    [6] = {FIRST('c') | FIRST('d') | FIRST('g') | FIRST('i') | FIRST('l') | FIRST('s') | FIRST('u'),
           {{"insert", ROLE_INSERT, 0, SQL_SIGN_INSERT | SQL_SIGN_WRITE},
            {"update", ROLE_NONE, 0, SQL_SIGN_WRITE},
            {"delete", ROLE_NONE, 0, SQL_SIGN_WRITE},
            {"create", ROLE_CREATE, 0, 0},
            {"commit", ROLE_END, 0, 0},
            {"global", ROLE_FILLER, 0, 0},
            {"listen", ROLE_NONE, SQL_SIGN_LISTEN, 0},
            {"setval", ROLE_NONE, 0, SQL_SIGN_SEQUENCE}}},
    [7] = {FIRST('c') | FIRST('d') | FIRST('e') | FIRST('l') | FIRST('n') | FIRST('p') |
               FIRST('r') | FIRST('s') | FIRST('t') | FIRST('u'),
           {{"prepare", ROLE_PREPARE, 0, 0},
            {"declare", ROLE_DECLARE, 0, 0},
            {"execute", ROLE_EXECUTE, SQL_SIGN_STATEMENT | SQL_SIGN_EXECUTE, 0},
            {"explain", ROLE_EXPLAIN, 0, 0},
            {"default", ROLE_DEFAULT, 0, 0},
            {"replace", ROLE_FILLER, 0, 0},
            {"uescape", ROLE_UESCAPE, 0, 0},
            {"trigger", ROLE_NONE, 0, SQL_SIGN_TRIGGER},
            {"session", ROLE_SESSION, 0, 0},
            {"discard", ROLE_NONE, SQL_SIGN_DISCARD | SQL_SIGN_RESET, 0},
            {"setseed", ROLE_NONE, 0, SQL_SIGN_SET | SQL_SIGN_SPOIL},
            {"nextval", ROLE_NONE, 0, SQL_SIGN_SEQUENCE},
            {"currval", ROLE_NONE, 0, SQL_SIGN_SEQUENCE | SQL_SIGN_CURRVAL},
            {"lastval", ROLE_NONE, 0, SQL_SIGN_SEQUENCE | SQL_SIGN_CURRVAL}}},
    [8] = {FIRST('d') | FIRST('r') | FIRST('t') | FIRST('u'),
           {{"rollback", ROLE_END, 0, 0},
            {"database", ROLE_DATABASE, 0, 0},
            {"truncate", ROLE_NONE, SQL_SIGN_WRITE, 0},
            {"unlisten", ROLE_NONE, SQL_SIGN_UNDO, 0}}},
    [9] = {FIRST('r') | FIRST('s') | FIRST('t'),
           {{"temporary", ROLE_TEMP, 0, 0},
            {"recursive", ROLE_RECURSIVE, 0, 0},
            {"set_limit", ROLE_NONE, 0, SQL_SIGN_SET}}}, /* pg_trgm's threshold, a setting */
    [10] = {FIRST('d') | FIRST('s'),
            {{"set_config", ROLE_NONE, 0, SQL_SIGN_CONFIG},
             {"deallocate", ROLE_DEALLOCATE, SQL_SIGN_DEALLOCATE | SQL_SIGN_UNDO, 0}}},
    [11] = {FIRST('c') | FIRST('p') | FIRST('t'),
            {{"transaction", ROLE_TRANSACTION, 0, 0},
             {"constraints", ROLE_CONSTRAINTS, 0, 0},
             {"pg_settings", ROLE_SETTINGS, 0, 0}}},
    [13] = {FIRST('a'), {{"authorization", ROLE_ROLE, 0, 0}}},
    [15] = {FIRST('c'), {{"current_setting", ROLE_NONE, 0, SQL_SIGN_NAMES}}},
};

/* Names by how they begin. */
#define BEGINS(text)    text, sizeof(text) - 1
#define SHORTEST_PREFIX 4
static const struct {
    const char *text;
    size_t length;
    uint32_t signs;
} prefixes[] = {
    {BEGINS("pg_temp"), SQL_SIGN_TEMP},
    {BEGINS("pg_advisory_lock"), SQL_SIGN_LOCK},
    {BEGINS("pg_advisory_unlock"), SQL_SIGN_UNDO},
    {BEGINS("pg_prepared_statement"), SQL_SIGN_LOOK},
    {BEGINS("pg_try_advisory_lock"), SQL_SIGN_LOCK},
    {BEGINS("pg_create_logical_replication_slot"), SQL_SIGN_OTHER | SQL_SIGN_SPOIL},
    {BEGINS("pg_create_physical_replication_slot"), SQL_SIGN_OTHER | SQL_SIGN_SPOIL},
    {BEGINS("pg_copy_logical_replication_slot"), SQL_SIGN_OTHER | SQL_SIGN_SPOIL},
    {BEGINS("pg_copy_physical_replication_slot"), SQL_SIGN_OTHER | SQL_SIGN_SPOIL},
    {BEGINS("pg_replication_origin_session_setup"), SQL_SIGN_OTHER | SQL_SIGN_SPOIL},
    {BEGINS("pg_backup_start"),
     SQL_SIGN_OTHER | SQL_SIGN_SPOIL}, /* the backup ends with the session */
    {BEGINS("pg_start_backup"),
     SQL_SIGN_OTHER | SQL_SIGN_SPOIL}, /* its name before PostgreSQL 15 */
    {BEGINS("dblink_connect"), SQL_SIGN_OTHER | SQL_SIGN_SPOIL},
    {BEGINS("dbms_"), SQL_SIGN_OTHER | SQL_SIGN_SPOIL}, /* orafce: output buffers, pipes, alerts */
    {BEGINS("hypopg_"), SQL_SIGN_OTHER | SQL_SIGN_SPOIL}, /* hypothetical indexes */
    {BEGINS("pgv_"), SQL_SIGN_OTHER | SQL_SIGN_SPOIL},    /* pg_variables */
};

static const struct meaning *word_meaning(const char *word, size_t length)
{
    if (length > LONGEST_KNOWN || word[0] < 'a' || word[0] > 'z' ||
        !(meanings[length].letters & FIRST(word[0])))
        return &nothing;
    for (const struct meaning *meaning = meanings[length].words; meaning->word[0] != 0; meaning++)
        if (meaning->word[0] == word[0] && memcmp(meaning->word, word, length) == 0)
            return meaning;
    return &nothing;
}

static uint32_t prefix_signs(const char *word, size_t length)
{
    if (length < SHORTEST_PREFIX || (word[0] != 'p' && word[0] != 'd' && word[0] != 'h'))
        return 0; /* most words: the table's texts begin with these letters */
    for (size_t i = 0; i < sizeof(prefixes) / sizeof(prefixes[0]); i++)
        if (memcmp(word, prefixes[i].text, SHORTEST_PREFIX) == 0 && length >= prefixes[i].length &&
            memcmp(word, prefixes[i].text, prefixes[i].length) == 0)
            return prefixes[i].signs;
    return 0;
}

/* SET ROLE, SET SESSION AUTHORIZATION, RESET ROLE; SET x TO DEFAULT, SET TIME ZONE LOCAL; SET seed. */
static uint32_t setting_signs(const struct meaning *word)
{
    if (word->role == ROLE_SEED)
        return SQL_SIGN_SPOIL;
    if (word->role == ROLE_ROLE)
        return SQL_SIGN_ROLE;
    return word->role == ROLE_DEFAULT || word->role == ROLE_LOCAL ? SQL_SIGN_RESET : 0;
}

/* Moves the statement on by one word: the first decides what it is, or says that the next one does. */
static enum statement statement_after(struct sql_scan *scan, const struct meaning *word)
{
    switch ((enum statement)scan->statement) {
    case STATEMENT_EMPTY:
        scan->signs |= word->first;
        return word->role == ROLE_SET                                   ? STATEMENT_SET
               : word->role == ROLE_PREPARE                             ? STATEMENT_PREPARE
               : word->role == ROLE_DECLARE                             ? STATEMENT_DECLARE
               : word->role == ROLE_END                                 ? STATEMENT_END
               : word->role == ROLE_RESET                               ? STATEMENT_SETTING
               : word->role == ROLE_ALTER                               ? STATEMENT_ALTER
               : word->role == ROLE_DEALLOCATE                          ? STATEMENT_DEALLOCATE
               : word->role == ROLE_EXPLAIN                             ? STATEMENT_EXPLAIN
               : word->role == ROLE_CREATE || word->role == ROLE_CHANGE ? STATEMENT_DATABASE
                                                                        : STATEMENT_OTHER;
    case STATEMENT_SET:
        if (word->role == ROLE_LOCAL)
            scan->signs |= SQL_SIGN_LOCAL;
        if (word->role == ROLE_LOCAL || word->role == ROLE_TRANSACTION ||
            word->role == ROLE_CONSTRAINTS)
            return STATEMENT_SET_SCOPE;
        scan->signs |= SQL_SIGN_SET | setting_signs(word);
        return STATEMENT_SETTING;
    case STATEMENT_SETTING:
        if (word->role != ROLE_SEED || scan->previous == ROLE_SESSION)
            scan->signs |= setting_signs(word);
        return STATEMENT_SETTING;
    case STATEMENT_SET_SCOPE:
        if (word->role == ROLE_SEED)
            scan->signs |= SQL_SIGN_SET | SQL_SIGN_SPOIL; /* what it has seeded stays so */
        return STATEMENT_SET_LOCAL;
    case STATEMENT_SET_LOCAL:
        if (word->role == ROLE_DEFAULT || word->role == ROLE_LOCAL)
            scan->signs |= SQL_SIGN_LOCAL_RESET;
        return STATEMENT_SET_LOCAL;
    case STATEMENT_ALTER:
        if (word->role == ROLE_DATABASE)
            scan->signs |= SQL_SIGN_DATABASE;
        return word->role == ROLE_DATABASE || word->role == ROLE_ROLE || word->role == ROLE_USER
                   ? STATEMENT_DEFAULTS
                   : STATEMENT_OTHER;
    case STATEMENT_DEFAULTS:
        if (word->role == ROLE_SET || word->role == ROLE_RESET)
            scan->signs |= SQL_SIGN_DEFAULTS;
        return STATEMENT_DEFAULTS;
    case STATEMENT_DATABASE:
        if (word->role == ROLE_DATABASE)
            scan->signs |= SQL_SIGN_DATABASE;
        else if (scan->previous == ROLE_CREATE)
            scan->signs |= SQL_SIGN_CREATE;
        return STATEMENT_OTHER;
    case STATEMENT_PREPARE:
        if (word->role == ROLE_TRANSACTION)
            return STATEMENT_PREPARE_TRANSACTION;
        scan->signs |= SQL_SIGN_PREPARE | SQL_SIGN_STATEMENT;
        return STATEMENT_OTHER;
    case STATEMENT_PREPARE_TRANSACTION:
        scan->signs |= SQL_SIGN_PREPARE | SQL_SIGN_STATEMENT;
        return STATEMENT_OTHER;
    case STATEMENT_DEALLOCATE:
        if (word->role != ROLE_ALL)
            scan->signs |= SQL_SIGN_STATEMENT;
        return word->role == ROLE_PREPARE && scan->previous == ROLE_DEALLOCATE
                   ? STATEMENT_DEALLOCATE /* unless that is the name */
                   : STATEMENT_OTHER;
    case STATEMENT_EXPLAIN:
        if (word->role == ROLE_EXECUTE)
            scan->signs |= SQL_SIGN_STATEMENT | SQL_SIGN_EXECUTE;
        else if (word->role == ROLE_CREATE)
            scan->signs |= SQL_SIGN_CREATE;
        return STATEMENT_EXPLAIN;
    case STATEMENT_DECLARE:
        if (word->role == ROLE_HOLD && scan->previous == ROLE_WITH)
            scan->signs |= SQL_SIGN_HOLD;
        return word->role == ROLE_FOR ? STATEMENT_OTHER : STATEMENT_DECLARE;
    case STATEMENT_END: /* COMMIT AND CHAIN opens the next block */
        if (word->role == ROLE_CHAIN && scan->previous != ROLE_NO)
            scan->signs |= SQL_SIGN_TRANSACTION;
        return STATEMENT_END;
    default:
        return STATEMENT_OTHER;
    }
}

/* What to remember of a word: CREATE OR REPLACE LOCAL and SELECT INTO GLOBAL count as CREATE. */
static enum role previous_after(struct sql_scan *scan, enum role role)
{
    switch (role) {
    case ROLE_INTO:
        if (scan->previous == ROLE_INSERT)
            return ROLE_NONE;
        scan->signs |= SQL_SIGN_CREATE;
        return ROLE_CREATE;
    case ROLE_FILLER:
    case ROLE_LOCAL:
        return scan->previous == ROLE_CREATE ? ROLE_CREATE : ROLE_NONE;
    default:
        return role;
    }
}

/* Follows whether the next parenthesis belongs to a table or an alias: INSERT INTO t (..), COPY t (..), WITH c (..),
 * x AS a (..). */
static void follow_name(struct sql_scan *scan, enum role role, bool is_quoted)
{
    bool begins_relation = role == ROLE_RELATION || role == ROLE_WITH || role == ROLE_RECURSIVE ||
                           (role == ROLE_INTO && scan->previous == ROLE_INSERT);
    if (begins_relation)
        scan->relation = RELATION_EXPECTED;
    else if (scan->relation == RELATION_EXPECTED)
        scan->relation = RELATION_NAMED;
    else if (!scan->is_after_dot)
        scan->relation = RELATION_NONE;
    if (!scan->is_after_dot)
        scan->qualifier = QUALIFIER_NONE;
    scan->is_after_dot = false;
    scan->is_after_name = true;
    scan->is_quoted_name = is_quoted;
}

/* A name before a parenthesis: a call, unless it is known for something else. */
static void call_begins(struct sql_scan *scan)
{
    bool is_known = !scan->is_quoted_name && scan->qualifier != QUALIFIER_OTHER &&
                    sql_is_known_function(scan->word, scan->word_length);
    if (scan->relation != RELATION_NAMED && !is_known)
        scan->signs |= SQL_SIGN_FUNCTION;
    scan->relation = RELATION_NONE;
}

/* A word or a quoted name has ended; the latter stands as it is written and is never a keyword. */
void sql_word_ended(struct sql_scan *scan, bool is_quoted)
{
    const struct meaning *word = word_meaning(scan->word, scan->word_length);

    scan->signs |= word->anywhere;
    if (word->role == ROLE_SETTINGS && (scan->signs & SQL_SIGN_WRITE))
        scan->signs |= SQL_SIGN_SET;
    scan->signs |= prefix_signs(scan->word, scan->word_length);
    if (is_quoted)
        word = &nothing;
    if (word->role == ROLE_TEMP && scan->previous == ROLE_CREATE)
        scan->signs |= SQL_SIGN_TEMP;
    if (word->role == ROLE_EXECUTE && scan->previous == ROLE_RELATION)
        scan->signs |= SQL_SIGN_STATEMENT | SQL_SIGN_EXECUTE; /* CREATE TABLE t AS EXECUTE */
    if (word->role == ROLE_UESCAPE && scan->has_unicode_name)
        scan->signs |= SQL_SIGN_OTHER; /* the name was spelt with escapes unknown to us */
    if (scan->statement != STATEMENT_OTHER)
        scan->statement = (uint8_t)statement_after(scan, word);
    follow_name(scan, word->role, is_quoted);
    scan->previous = (uint8_t)previous_after(scan, word->role);
}

static bool is_catalog(const struct sql_scan *scan)
{
    static const char name[] = "pg_catalog";
    return scan->word_length == sizeof(name) - 1 && memcmp(scan->word, name, sizeof(name) - 1) == 0;
}

void sql_mark_read(struct sql_scan *scan, uint8_t mark)
{
    if (mark == '.' && scan->statement == STATEMENT_SET_SCOPE)
        scan->signs |= SQL_SIGN_SET;
    else if (mark ==
             '\\') /* no token of the server's: half of a character, so a name was misread */
        scan->signs |= SQL_SIGN_OTHER;
    if (mark == '(' && scan->is_after_name)
        call_begins(scan);
    if (mark == '.' && scan->is_after_name)
        scan->qualifier = is_catalog(scan) ? QUALIFIER_CATALOG : QUALIFIER_OTHER;
    scan->is_after_dot = mark == '.' && scan->is_after_name;
    scan->is_after_name = false;
    scan->previous = ROLE_NONE;
}

void sql_statement_ended(struct sql_scan *scan)
{
    scan->statement = STATEMENT_EMPTY;
    scan->previous = ROLE_NONE;
    scan->relation = RELATION_NONE;
    scan->is_after_name = false;
    scan->is_after_dot = false;
}
