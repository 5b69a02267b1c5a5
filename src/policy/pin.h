/*
 * pin.h - what ties a client to its backend in transaction mode (contract 5, "State that cannot move").
 *
 * A client's pins are a mask of these reasons; no pin, and its backend is free at the end of the transaction.
 */
#ifndef POLICY_PIN_H
#define POLICY_PIN_H

#include <stddef.h>
#include <stdint.h>

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

/* One word or two for people: "listen", "temp table". */
const char *pin_name(enum pin pin);
/* The names of all reasons in the mask (bit i is enum pin i), joined by ", "; "" for none.  Always terminated, cut
 * at `bytes`. */
void pin_names(uint32_t pins, char *out, size_t bytes);

#endif
