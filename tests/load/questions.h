/*
 * questions.h - questions whose answers only the asker can get, and whether an answer is the one.
 *
 * Pure: bytes out are put into a buffer, messages in are given whole.  Chance is a function of the seed.
 */
#ifndef LOAD_QUESTIONS_H
#define LOAD_QUESTIONS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buffer.h"

#define QUESTIONS_EXPECTED_MAX 64
#define QUESTIONS_MARK_BYTES   64
#define QUESTIONS_NAMES        4 /* of prepared statements */

enum expect { EXPECT_ROWS, EXPECT_COPY, EXPECT_DONE, EXPECT_ERROR, EXPECT_READY };

/* One part of an answer. */
struct expected {
    enum expect what;
    int left;                        /* rows that still come */
    int repeat;                      /* a row is the text so many times */
    char state;                      /* of a ReadyForQuery */
    char text[QUESTIONS_MARK_BYTES]; /* of each row, or within an error's message */
};

/* Who asks, on one connection. */
struct asker {
    int id;
    struct expected expected[QUESTIONS_EXPECTED_MAX]; /* a ring: all that is still to come */
    int first;
    int count;
    int steps; /* left of a transaction; 0: in none */
    bool is_prepared[QUESTIONS_NAMES];
    int preparing;   /* the name whose Parse is on its way; -1: none */
    bool is_excused; /* an error has ended this part of the question, up to its ReadyForQuery */
    bool may_be_hit; /* a cancel of its own is about */
    char setting[QUESTIONS_MARK_BYTES];
};

enum answer {
    ANSWER_RIGHT,     /* a part of it; or a message that says nothing */
    ANSWER_COMPLETE,  /* the last part */
    ANSWER_CANCELLED, /* by itself */
    ANSWER_REFUSED, /* an error that may come at any time; what the session holds is not known any more */
    ANSWER_LOST, /* a FATAL that says so */
    ANSWER_WRONG
};

extern long questions_answered; /* rows, errors and commands that were what they had to be */
extern long questions_transactions;

void questions_seed(uint64_t seed);
/* 0 to `count` - 1; and true so often in a thousand. */
int questions_below(int count);
bool questions_chance(int of_a_thousand);

/* A new connection: nothing is prepared, nothing set. */
void questions_begin(struct asker *asker, int id);
/* The next question, at the end of `out`; true for one that takes a while, which is worth a cancel. */
bool questions_ask(struct asker *asker, struct buffer *out);
/* Compares a message with what must come next.  ANSWER_WRONG has said what was wrong on stderr. */
enum answer questions_check(struct asker *asker, char kind, const uint8_t *body, size_t length);

#endif
