/*
 * questions.c - questions whose answers only the asker can get: see questions.h.
 *
 * Each holds a mark that was never used before.  A prepared statement's name means another text for each neighbour, so
 * that a statement mixed up shows in the answer too.
 */
#include "questions.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proto/build.h"

#define MARK_BYTES QUESTIONS_MARK_BYTES
#define TEXTS      7
#define SHOWN_MAX  20

long questions_answered;
long questions_transactions;

/* ---- chance ---- */

static uint64_t dice = 1;

void questions_seed(uint64_t seed)
{
    dice = seed * 0x9e3779b97f4a7c15u + 1;
}

int questions_below(int count)
{
    dice ^= dice << 13;
    dice ^= dice >> 7;
    dice ^= dice << 17;
    return (int)((dice * 0x2545f4914f6cdd1du >> 16) % (uint64_t)count);
}

bool questions_chance(int of_a_thousand)
{
    return questions_below(1000) < of_a_thousand;
}

/* ---- what must come ---- */

static struct expected *expect(struct asker *asker, enum expect what, const char *text)
{
    if (asker->count == QUESTIONS_EXPECTED_MAX)
        abort();
    struct expected *expected =
        &asker->expected[(asker->first + asker->count++) % QUESTIONS_EXPECTED_MAX];
    *expected = (struct expected){.what = what, .left = 1, .repeat = 1};
    snprintf(expected->text, sizeof(expected->text), "%s", text);
    return expected;
}

static void expect_ready(struct asker *asker, char state)
{
    expect(asker, EXPECT_READY, "")->state = state;
}

static void pop(struct asker *asker)
{
    asker->first = (asker->first + 1) % QUESTIONS_EXPECTED_MAX;
    asker->count--;
}

static void make_mark(const struct asker *asker, char mark[MARK_BYTES])
{
    static long last;
    snprintf(mark, MARK_BYTES, "c%d-%ld-%06x", asker->id, ++last,
             (unsigned)questions_below(1 << 24));
}

/* ---- messages ---- */

__attribute__((format(printf, 2, 3))) static void put_query(struct buffer *out, const char *format,
                                                            ...)
{
    char sql[512];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(sql, sizeof(sql), format, arguments);
    va_end(arguments);
    build_query(out, sql);
}

static void put_parse(struct buffer *out, const char *name, const char *sql)
{
    size_t mark = build_begin(out, 'P');
    build_text(out, name);
    build_text(out, sql);
    build_u16(out, 0);
    build_end(out, mark);
}

static void put_bind(struct buffer *out, const char *name, const char *value)
{
    size_t mark = build_begin(out, 'B');
    build_text(out, "");
    build_text(out, name);
    build_u16(out, 0);
    build_u16(out, 1);
    build_u32(out, (uint32_t)strlen(value));
    buffer_append(out, value, strlen(value));
    build_u16(out, 0);
    build_end(out, mark);
}

static void put_execute(struct buffer *out)
{
    size_t mark = build_begin(out, 'E');
    build_text(out, "");
    build_u32(out, 0);
    build_end(out, mark);
}

/* Describe or Close of a statement or portal. */
static void put_about(struct buffer *out, char type, char what, const char *name)
{
    size_t mark = build_begin(out, type);
    build_u8(out, (uint8_t)what);
    build_text(out, name);
    build_end(out, mark);
}

/* ---- the extended protocol ---- */

static int text_of(const struct asker *asker, int name)
{
    return (asker->id * 3 + name) % TEXTS;
}

static void ask_to_prepare(struct asker *asker, struct buffer *out, int name)
{
    char called[8];
    char sql[80];
    snprintf(called, sizeof(called), "s%d", name);
    snprintf(sql, sizeof(sql), "SELECT $1::text || '.%d'", text_of(asker, name));
    put_parse(out, called, sql);
    if (questions_chance(500))
        put_about(out, 'D', 'S', called);
    build_empty(out, 'S');
    asker->preparing = name;
    expect_ready(asker, 'I');
}

static void execute_prepared(struct asker *asker, struct buffer *out, int name)
{
    char mark[MARK_BYTES];
    char answer[MARK_BYTES + 16];
    char called[8];
    make_mark(asker, mark);
    snprintf(called, sizeof(called), "s%d", name);
    snprintf(answer, sizeof(answer), "%s.%d", mark, text_of(asker, name));
    put_bind(out, called, mark);
    if (questions_chance(200))
        put_about(out, 'D', 'P', "");
    put_execute(out);
    expect(asker, EXPECT_ROWS, answer);
}

static void execute_unnamed(struct asker *asker, struct buffer *out)
{
    char mark[MARK_BYTES];
    make_mark(asker, mark);
    put_parse(out, "", questions_chance(500) ? "SELECT $1::text" : "VALUES ($1::text)");
    put_bind(out, "", mark);
    put_about(out, 'D', 'P', "");
    put_execute(out);
    expect(asker, EXPECT_ROWS, mark);
}

/* An error that quotes the mark. */
static void execute_failing(struct asker *asker, struct buffer *out)
{
    char mark[MARK_BYTES];
    make_mark(asker, mark);
    put_parse(out, "", "SELECT $1::text::int");
    put_bind(out, "", mark);
    put_execute(out);
    expect(asker, EXPECT_ERROR, mark);
}

/* Several Syncs on the way at once; what stands behind an error up to its Sync is skipped. */
static void ask_pipeline(struct asker *asker, struct buffer *out, int syncs, char state)
{
    for (; syncs > 0; syncs--) {
        bool has_failed = false;
        for (int steps = 1 + questions_below(4); steps > 0; steps--) {
            int name = questions_below(QUESTIONS_NAMES);
            if (has_failed) {
                put_execute(out);
            } else if (state == 'I' && questions_chance(60)) {
                execute_failing(asker, out);
                has_failed = true;
            } else if (asker->is_prepared[name] && questions_chance(700)) {
                execute_prepared(asker, out, name);
            } else {
                execute_unnamed(asker, out);
            }
        }
        build_empty(out, 'S');
        expect_ready(asker, state);
    }
}

/* ---- the simple protocol ---- */

static void ask_simple(struct asker *asker, struct buffer *out, char state)
{
    char mark[MARK_BYTES];
    char other[MARK_BYTES];
    int some = 1 + questions_below(50);
    make_mark(asker, mark);
    switch (questions_below(7)) {
    case 0:
        make_mark(asker, other);
        put_query(out, "SELECT '%s'; SELECT '%s'", mark, other);
        expect(asker, EXPECT_ROWS, mark);
        expect(asker, EXPECT_ROWS, other);
        break;
    case 1:
        put_query(out, "SELECT '%s' FROM generate_series(1, %d)", mark, some);
        expect(asker, EXPECT_ROWS, mark)->left = some;
        break;
    case 2:
        some *= questions_chance(50) ? 100 : 1;
        put_query(out, "SELECT repeat('%s', %d)", mark, some);
        expect(asker, EXPECT_ROWS, mark)->repeat = some;
        break;
    case 3:
        put_query(out, "COPY (SELECT '%s' FROM generate_series(1, %d)) TO STDOUT", mark, some);
        expect(asker, EXPECT_COPY, mark)->left = some;
        break;
    default:
        put_query(out, "SELECT '%s'", mark);
        expect(asker, EXPECT_ROWS, mark);
        break;
    }
    expect_ready(asker, state);
}

static void ask_setting(struct asker *asker, struct buffer *out)
{
    if (asker->setting[0] && questions_chance(700)) {
        put_query(out, "SELECT current_setting('answers.mark')");
        expect(asker, EXPECT_ROWS, asker->setting);
    } else {
        make_mark(asker, asker->setting);
        put_query(out, "SET answers.mark = '%s'", asker->setting);
        expect(asker, EXPECT_DONE, "");
    }
    expect_ready(asker, 'I');
}

/* ---- transactions ---- */

static void ask_step(struct asker *asker, struct buffer *out)
{
    if (--asker->steps > 0) {
        if (questions_chance(300))
            ask_pipeline(asker, out, 1 + questions_below(3), 'T');
        else
            ask_simple(asker, out, 'T');
        return;
    }
    put_query(out, questions_chance(700) ? "COMMIT" : "ROLLBACK");
    expect(asker, EXPECT_DONE, "");
    expect_ready(asker, 'I');
    questions_transactions++;
}

static void ask_begin(struct asker *asker, struct buffer *out)
{
    put_query(out, "BEGIN");
    expect(asker, EXPECT_DONE, "");
    expect_ready(asker, 'T');
    asker->steps = 2 + questions_below(4);
}

static void ask_slowly(struct asker *asker, struct buffer *out)
{
    char mark[MARK_BYTES];
    make_mark(asker, mark);
    put_query(out, "SELECT '%s' FROM pg_sleep(0.00%d)", mark, 1 + questions_below(9));
    expect(asker, EXPECT_ROWS, mark);
    expect_ready(asker, 'I');
}

void questions_begin(struct asker *asker, int id)
{
    *asker = (struct asker){.id = id, .preparing = -1};
}

bool questions_ask(struct asker *asker, struct buffer *out)
{
    int lot = questions_below(1000);
    int name = questions_below(QUESTIONS_NAMES);
    if (asker->steps > 0)
        ask_step(asker, out);
    else if (lot < 100 && !asker->is_prepared[name])
        ask_to_prepare(asker, out, name);
    else if (lot < 200)
        ask_begin(asker, out);
    else if (lot < 300)
        ask_setting(asker, out);
    else if (lot < 310)
        ask_slowly(asker, out);
    else if (lot < 600)
        ask_simple(asker, out, 'I');
    else
        ask_pipeline(asker, out, lot < 800 ? 1 : 1 + questions_below(5), 'I');
    return asker->steps == 0 && lot >= 300 && lot < 310;
}

/* ---- answers ---- */

static enum answer wrong(const struct asker *asker, char kind, const uint8_t *body, size_t length)
{
    static int shown;
    const struct expected *expected = &asker->expected[asker->first];
    if (shown++ >= SHOWN_MAX)
        return ANSWER_WRONG;
    fprintf(stderr, "wrong: connection %d got '%c' \"", asker->id, kind);
    for (size_t i = 0; i < length && i < 200; i++)
        fputc(body[i] >= ' ' && body[i] <= '~' ? body[i] : '.', stderr);
    if (asker->count > 0)
        fprintf(stderr, "\", not part %d (%d left) \"%s\" x %d state '%c'\n", expected->what,
                expected->left, expected->text, expected->repeat,
                expected->state ? expected->state : '-');
    else
        fprintf(stderr, "\", and nothing had to come\n");
    return ANSWER_WRONG;
}

static bool is_text(const struct expected *expected, const uint8_t *bytes, size_t length)
{
    size_t each = strlen(expected->text);
    if (length != each * (size_t)expected->repeat)
        return false;
    for (size_t at = 0; at < length; at += each) {
        if (memcmp(bytes + at, expected->text, each) != 0)
            return false;
    }
    return true;
}

/* A DataRow of one column, or a line of COPY. */
static bool is_row(const struct expected *expected, char kind, const uint8_t *body, size_t length)
{
    if (expected->left == 0)
        return false;
    if (expected->what == EXPECT_COPY)
        return kind == 'd' && length > 0 && body[length - 1] == '\n' &&
               is_text(expected, body, length - 1);
    return expected->what == EXPECT_ROWS && kind == 'D' && length >= 6 && read_u16(body) == 1 &&
           read_u32(body + 2) == length - 6 && is_text(expected, body + 6, length - 6);
}

static bool is_one_of(const char *sqlstate, const char *const *list)
{
    for (; *list; list++) {
        if (strcmp(sqlstate, *list) == 0)
            return true;
    }
    return false;
}

static enum answer check_error(struct asker *asker, const uint8_t *body, size_t length)
{
    static const char *const losses[] = {"57P01", "57P02", "57P03", "08006",
                                         "08001", "53300", NULL};
    const struct expected *expected = &asker->expected[asker->first];
    const char *severity = error_field(body, length, 'V');
    const char *sqlstate = error_field(body, length, 'C');
    const char *message = error_field(body, length, 'M');
    if (!severity || !sqlstate || !message)
        return wrong(asker, 'E', body, length);
    if (strcmp(severity, "ERROR") != 0)
        return is_one_of(sqlstate, losses) ? ANSWER_LOST : wrong(asker, 'E', body, length);
    if (asker->count > 0 && expected->what == EXPECT_ERROR && strcmp(sqlstate, "22P02") == 0 &&
        strstr(message, expected->text)) {
        pop(asker);
        questions_answered++;
        return ANSWER_RIGHT;
    }
    bool is_cancelled = strcmp(sqlstate, "57014") == 0 && asker->may_be_hit;
    if (asker->count == 0 || (!is_cancelled && !is_one_of(sqlstate, losses)))
        return wrong(asker, 'E', body, length);
    asker->is_excused = true;
    asker->setting[0] = '\0'; /* perhaps it was about to be set */
    while (asker->count > 0 && asker->expected[asker->first].what != EXPECT_READY)
        pop(asker);
    return is_cancelled && asker->preparing < 0 ? ANSWER_CANCELLED : ANSWER_REFUSED;
}

static enum answer check_ready(struct asker *asker, const uint8_t *body, size_t length)
{
    const struct expected *expected = &asker->expected[asker->first];
    if (expected->what != EXPECT_READY || length != 1)
        return wrong(asker, 'Z', body, length);
    bool is_other = body[0] != (uint8_t)expected->state;
    /* a transaction that has failed, or one that was not begun */
    bool is_failed = is_other && asker->is_excused && (body[0] == 'E' || body[0] == 'I');
    if (is_other && !is_failed)
        return wrong(asker, 'Z', body, length);
    if (asker->preparing >= 0 && !asker->is_excused)
        asker->is_prepared[asker->preparing] = true;
    asker->preparing = -1;
    asker->is_excused = false;
    pop(asker);
    if (is_failed)
        return ANSWER_LOST; /* the rest of it would only be refused */
    return asker->count == 0 ? ANSWER_COMPLETE : ANSWER_RIGHT;
}

enum answer questions_check(struct asker *asker, char kind, const uint8_t *body, size_t length)
{
    struct expected *expected = &asker->expected[asker->first];
    if (strchr("123TtnsSNH", kind) || (kind == 'c' && length == 0))
        return ANSWER_RIGHT;
    if (kind == 'E')
        return check_error(asker, body, length);
    if (asker->count == 0)
        return wrong(asker, kind, body, length);
    if (kind == 'Z')
        return check_ready(asker, body, length);
    if (kind == 'C' && expected->what <= EXPECT_DONE &&
        (expected->what == EXPECT_DONE || expected->left == 0)) {
        pop(asker);
        questions_answered++;
        return ANSWER_RIGHT;
    }
    if (!is_row(expected, kind, body, length))
        return wrong(asker, kind, body, length);
    expected->left--;
    return ANSWER_RIGHT;
}
