/*
 * fuzz_outstanding.c - what a backend owes, under any order of messages sent and answered.
 *
 * The queue must stay within its bound, and a server that says what nobody asked for must leave it confused or empty,
 * never wrong in memory.
 */
#include "proto/outstanding.h"

#include "fuzz.h"

static void step(struct outstanding *outstanding, struct fuzz_input *input)
{
    static const char entries[] = "UVWtxikujby";
    static const char injections[] = "pnarmlg";
    uint8_t what = fuzz_byte(input);
    uint8_t type = fuzz_byte(input);
    switch (what % 5) {
    case 0:
        if (outstanding->count < OUTSTANDING_MAX)
            outstanding_sent(outstanding, type);
        break;
    case 1:
        outstanding_sent_as(outstanding,
                            (enum outstanding_entry)entries[type % (sizeof(entries) - 1)]);
        break;
    case 2:
        if (!outstanding->is_open && !outstanding->is_skipping)
            outstanding_injected(
                outstanding,
                (enum outstanding_injection)injections[type % (sizeof(injections) - 1)]);
        break;
    default:
        outstanding_answered(outstanding, type);
        break;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t length)
{
    struct fuzz_input input = {bytes, length};
    struct outstanding outstanding = {0};
    while (input.left > 0) {
        step(&outstanding, &input);
        fuzz_claim(outstanding.count <= OUTSTANDING_MAX + 16, "%u are owed", outstanding.count);
        if (outstanding_is_empty(&outstanding))
            fuzz_claim(!outstanding_has_sync(&outstanding), "a Sync is owed while nothing is");
        outstanding_injection(&outstanding);
        outstanding_is_quiet(&outstanding);
    }
    outstanding_free(&outstanding);
    return 0;
}
