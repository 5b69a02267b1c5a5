/*
 * pin.c - what ties a client to its backend: see pin.h.
 */
#include "policy/pin.h"

#include <stdio.h>

static const char *const names[PIN_COUNT] = {
    [PIN_SETTING] = "setting",
    [PIN_LISTEN] = "listen",
    [PIN_PREPARE] = "prepare",
    [PIN_TEMP] = "temp table",
    [PIN_LOCK] = "lock",
    [PIN_HOLD] = "cursor",
    [PIN_LOAD] = "load",
    [PIN_SEQUENCE] = "sequence",
    [PIN_ROLE] = "role",
    [PIN_REQUEST] = "requested",
    [PIN_STATEMENTS] = "statements",
    [PIN_COPY_BOTH] = "replication",
    [PIN_OTHER] = "other",
};

const char *pin_name(enum pin pin)
{
    return names[pin];
}

void pin_names(uint32_t pins, char *out, size_t bytes)
{
    size_t used = 0;
    out[0] = '\0';
    for (unsigned i = 0; i < PIN_COUNT && used < bytes; i++) {
        if (pins & 1u << i)
            used += (size_t)snprintf(out + used, bytes - used, "%s%s", used ? ", " : "", names[i]);
    }
}
