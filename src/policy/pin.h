/*
 * pin.h - what ties a client to its backend in transaction mode (contract 5, "State that cannot move").
 *
 * The text of a statement gives signs (proto/sql.h) of what it may leave behind; only the server knows what it did
 * leave.  So most signs become a question: when the transaction is over, one query asks what the session
 * holds now and which settings it changed, and its answer decides.  A client's pins are a mask of reasons (bit i is
 * enum pin i); no pin, no open question, and its backend is free.  A few kinds of state cannot be asked for:
 * these pin at once.
 *
 * Pure: text in, masks and text out.
 */
#ifndef POLICY_PIN_H
#define POLICY_PIN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buffer.h"

enum pin {
    PIN_SETTING,    /* a setting that cannot be carried over */
    PIN_LISTEN,     /* LISTEN */
    PIN_PREPARE,    /* PREPARE in SQL */
    PIN_TEMP,       /* a temporary table, view, sequence, function, type */
    PIN_LOCK,       /* a session-level advisory lock */
    PIN_HOLD,       /* a cursor WITH HOLD */
    PIN_LOAD,       /* LOAD */
    PIN_SEQUENCE,   /* currval(), lastval() may be asked for */
    PIN_ROLE,       /* SET ROLE, SET SESSION AUTHORIZATION */
    PIN_REQUEST,    /* SET pgreserve.pin = on */
    PIN_STATEMENTS, /* protocol-level prepared statements that cannot be shared */
    PIN_COPY_BOTH,  /* replication */
    PIN_OTHER,      /* anything else: when in doubt, pin */
    PIN_COUNT
};
#define PIN_BIT(pin) (1u << (pin))
/* What the server can be asked about. */
#define PINS_ASKABLE                                                                               \
    (PIN_BIT(PIN_SETTING) | PIN_BIT(PIN_LISTEN) | PIN_BIT(PIN_PREPARE) | PIN_BIT(PIN_TEMP) |       \
     PIN_BIT(PIN_LOCK) | PIN_BIT(PIN_HOLD) | PIN_BIT(PIN_ROLE) | PIN_BIT(PIN_REQUEST))

/* One word or two for people: "listen", "temp table". */
const char *pin_name(enum pin pin);
/* The names of all reasons in the mask, joined by ", "; "" for none.  Always terminated, cut at `bytes`. */
void pin_names(uint32_t pins, char *out, size_t bytes);

/* What a statement's signs (a mask of enum sql_sign) mean to a client that has `pins`. */
struct pin_verdict {
    uint32_t pins; /* at once: cannot be asked for */
    uint32_t asks; /* to be asked when the transaction is over */
};
/* `asks_functions`: calls of unknown functions are asked about too.  SQL_SIGN_CONFIG is not looked at: what set_config
 * sets is told by sql_names.h. */
struct pin_verdict pin_judge(uint32_t signs, uint32_t pins, bool asks_functions);
/* Signs that a pool with `pin = deny` refuses: state that would surely tie the backend. */
uint32_t pin_denied(uint32_t signs);

/* Appends the query that asks for what is in `asks`.  Its rows are kind, name, value; read them with pin_read_row.
 * `login_user` is who the backend logged in as.  `customs` are names of custom settings to ask for, each ended by
 * a zero, the list by another; may be NULL. */
void pin_question(struct buffer *sql, uint32_t asks, const char *login_user, const char *customs);

/* One row of the answer. */
enum pin_row {
    PIN_ROW_SETTING, /* name and value of a setting that the session changed */
    PIN_ROW_PIN,     /* *pin is held */
    PIN_ROW_NONE
};
/* Reads a DataRow's body.  `*name` and `*value` point into `copy`, which the caller provides (as long as the body,
 * plus 2).  PIN_ROW_NONE when it is malformed or says nothing. */
enum pin_row pin_read_row(const uint8_t *body, size_t length, char *copy, const char **name,
                          const char **value, enum pin *pin);

#endif
