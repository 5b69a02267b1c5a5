/*
 * utf8.c - text of unknown origin made fit for UTF-8: see utf8.h.
 *
 * Names and queries come from clients in whatever encoding they like, or cut in mid-character.
 */
#include "base/utf8.h"

#include <string.h>

#include "base/memory.h"

/* The forms of a character by the ranges of its first and second byte (Unicode, table 3-7); what follows is 80 to BF. */
static const struct {
    unsigned char first_low, first_high;
    unsigned char second_low, second_high;
    size_t bytes;
} forms[] = {
    {0x01, 0x7f, 0x00, 0x00, 1}, {0xc2, 0xdf, 0x80, 0xbf, 2}, {0xe0, 0xe0, 0xa0, 0xbf, 3},
    {0xe1, 0xec, 0x80, 0xbf, 3}, {0xed, 0xed, 0x80, 0x9f, 3}, {0xee, 0xef, 0x80, 0xbf, 3},
    {0xf0, 0xf0, 0x90, 0xbf, 4}, {0xf1, 0xf3, 0x80, 0xbf, 4}, {0xf4, 0xf4, 0x80, 0x8f, 4},
};

size_t utf8_character_bytes(const char *text)
{
    const unsigned char *at = (const unsigned char *)text;
    for (size_t i = 0; i < sizeof(forms) / sizeof(forms[0]); i++) {
        if (at[0] < forms[i].first_low || at[0] > forms[i].first_high)
            continue;
        if (forms[i].bytes > 1 && (at[1] < forms[i].second_low || at[1] > forms[i].second_high))
            return 0;
        for (size_t j = 2; j < forms[i].bytes; j++) {
            if ((at[j] & 0xc0) != 0x80)
                return 0;
        }
        return forms[i].bytes;
    }
    return 0;
}

char *utf8_clean(const char *text, size_t bytes)
{
    size_t length = strnlen(text, bytes);
    char *clean = memory_alloc(length + 1);
    size_t used = 0;
    while (*text && used < length) {
        size_t character = utf8_character_bytes(text);
        if (character > length - used)
            break;
        if (character == 0)
            clean[used++] = '?';
        else
            memcpy(clean + used, text, character);
        used += character;
        text += character > 0 ? character : 1;
    }
    return clean;
}
