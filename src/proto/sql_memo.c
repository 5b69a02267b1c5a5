/*
 * sql_memo.c - the signs of texts that come again and again: see sql_memo.h.
 *
 * The key is made of the length and of three samples of eight bytes, not of every byte: it only says where to look.  A
 * text is copied when its key comes for the second time, so that texts with literals in them, each of which comes once,
 * cost their key alone.  What it bought: a transaction whose Parse has a text of 87 bytes took
 * 5,080 instructions of ours in place of 6,070.
 *
 * Digits do not count in the key, and where they spell a number they may be others: what a text is a sign of never depends
 * on a number's value, for no table of words has one that begins with a digit.  A digit behind a letter, an underscore, a
 * dollar or half of a character is part of something else, and counts: int4() is a function, and $a1$ ends at $a1$ only.
 */
#include "proto/sql_memo.h"

#include <stdbool.h>
#include <string.h>

#include "proto/sql.h"

#define SAMPLE_BYTES 8

static uint64_t sample(const char *at)
{
    uint64_t word;
    memcpy(&word, at, sizeof(word));
    return word;
}

/* The same for all texts that differ in digits only (and in what stands beside them in ASCII). */
static uint64_t sample_less_digits(const char *at)
{
    static const uint64_t ones = 0x0101010101010101u;
    uint64_t word = sample(at);
    uint64_t apart = (word & (0xf0 * ones)) ^ ('0' * ones); /* 0 where a digit may stand */
    uint64_t marks = (apart - ones) & ~apart & (0x80 * ones);
    return word & ~((marks >> 7) * 0x0f);
}

static uint32_t key_of(const char *text, size_t length)
{
    static const uint64_t odd =
        0x9e3779b97f4a7c15u; /* 2^64 over the golden ratio: spreads the bits */
    uint64_t key = sample_less_digits(text) * odd;
    key = (key ^ sample_less_digits(text + length / 2 - SAMPLE_BYTES / 2)) * odd;
    key = (key ^ sample_less_digits(text + length - SAMPLE_BYTES)) * odd;
    key = (key ^ length) * odd;
    return (uint32_t)(key >> 32);
}

static bool is_digit(char byte)
{
    return byte >= '0' && byte <= '9';
}

/* Whether the digit there spells a number: nothing that goes on in a word stands before its digits. */
static bool is_in_number(const char *text, size_t at)
{
    while (at > 0 && is_digit(text[at - 1]))
        at--;
    if (at == 0)
        return true;
    uint8_t before = (uint8_t)text[at - 1];
    uint8_t small = before | 0x20;
    return before < 0x80 && !(small >= 'a' && small <= 'z') && before != '_' && before != '$';
}

/* Where the texts differ next; `length`, when they do not. */
static size_t next_difference(const char *text, const char *other, size_t at, size_t length)
{
    while (length - at >= SAMPLE_BYTES && sample(text + at) == sample(other + at))
        at += SAMPLE_BYTES;
    if (length - at < SAMPLE_BYTES &&
        sample(text + length - SAMPLE_BYTES) == sample(other + length - SAMPLE_BYTES))
        return length;
    while (at < length && text[at] == other[at])
        at++;
    return at;
}

/* Whether the texts, both of this length (a sample's at least), are the same but for the digits of numbers. */
static bool is_same_kind(const char *text, const char *other, size_t length)
{
    size_t at = 0;
    while ((at = next_difference(text, other, at, length)) < length) {
        if (!is_digit(text[at]) || !is_digit(other[at]) || !is_in_number(text, at))
            return false;
        while (at < length && is_digit(text[at]) && is_digit(other[at]))
            at++;
    }
    return true;
}

uint32_t sql_memo_signs(struct sql_memo *memo, const char *text, size_t length)
{
    if (length < SAMPLE_BYTES || length > SQL_MEMO_BYTES)
        return sql_signs(text, length);
    uint32_t key = key_of(text, length);
    struct sql_memo_entry *entry = &memo->entries[key % SQL_MEMO_ENTRIES];
    if (entry->length == length &&
        (memcmp(entry->text, text, length) == 0 || is_same_kind(entry->text, text, length)))
        return entry->signs;
    uint32_t signs = sql_signs(text, length);
    uint32_t *seen =
        &memo->seen[key / SQL_MEMO_ENTRIES % (sizeof(memo->seen) / sizeof(memo->seen[0]))];
    if (*seen == key) {
        entry->signs = signs;
        entry->length = (uint16_t)length;
        memcpy(entry->text, text, length);
    }
    *seen = key;
    return signs;
}
