/*
 * reset.c - which start-up settings a text may have reset: see reset.h.
 *
 * One statement is read to the letter, without comments and quotes; of anything else it is only asked whether it names a
 * setting of the base, as a word anywhere in it.
 */
#include "policy/reset.h"

#include <ctype.h>
#include <string.h>
#include <strings.h>

#define WORDS_MAX 6 /* SET SESSION name TO DEFAULT, and what is one too many */

static bool is_of_word(char c)
{
    return isalnum((unsigned char)c) || c == '_' || c == '$' || (unsigned char)c >= 0x80;
}

bool reset_mentions(const char *text, size_t length, const char *word)
{
    size_t bytes = strcspn(word, "."); /* my . own is my.own */
    for (size_t at = 0; bytes > 0 && at + bytes <= length; at++) {
        if ((at == 0 || !is_of_word(text[at - 1])) &&
            (at + bytes == length || !is_of_word(text[at + bytes])) &&
            strncasecmp(text + at, word, bytes) == 0)
            return true;
    }
    return false;
}

struct word {
    const char *text;
    size_t length;
};

/* The words of a lone statement; 0 when it is none, or has what is not read here. */
static size_t split(const char *text, size_t length, struct word words[WORDS_MAX])
{
    size_t count = 0;
    size_t at = 0;
    while (at < length) {
        size_t begin = at;
        if (isspace((unsigned char)text[at])) {
            at++;
            continue;
        }
        if (text[at] == ';')
            return strspn(text + at, "; \t\r\n\f\v") >= length - at ? count : 0;
        if (text[at] == '=')
            at++;
        else
            while (at < length && (is_of_word(text[at]) || text[at] == '.'))
                at++;
        if (at == begin || count == WORDS_MAX)
            return 0;
        words[count++] = (struct word){text + begin, at - begin};
    }
    return count;
}

static bool is_word(const struct word *word, const char *text)
{
    return word->length == strlen(text) && strncasecmp(word->text, text, word->length) == 0;
}

/* TIME ZONE from words[at] on. */
static bool is_time_zone(const struct word *words, size_t count, size_t at)
{
    return at + 1 < count && is_word(&words[at], "time") && is_word(&words[at + 1], "zone");
}

static uint8_t find(const struct settings *base, const struct word *name)
{
    const char *value;
    uint8_t number = 0;
    for (const char *at = NULL; (at = settings_next(base, at, &value)); number++) {
        if (number == RESET_ALL)
            return RESET_SOME;
        if (is_word(name, at))
            return number;
    }
    return RESET_NOTHING;
}

static uint8_t find_time_zone(const struct settings *base)
{
    return find(base, &(struct word){"TimeZone", strlen("TimeZone")});
}

/* RESET_SOME when it is no lone statement. */
static uint8_t of_lone(const struct settings *base, const struct word *words, size_t count)
{
    if (count == 2 && (is_word(&words[0], "reset") || is_word(&words[0], "discard")) &&
        is_word(&words[1], "all"))
        return RESET_ALL;
    if (count == 2 && is_word(&words[0], "reset"))
        return find(base, &words[1]);
    if (count == 3 && is_word(&words[0], "reset") && is_time_zone(words, count, 1))
        return find_time_zone(base);
    if (count < 4 || !is_word(&words[0], "set"))
        return RESET_SOME;
    size_t at = is_word(&words[1], "session") || is_word(&words[1], "local") ? 2 : 1;
    if (count != at + 3)
        return RESET_SOME;
    bool is_default = is_word(&words[at + 2], "default");
    if (is_time_zone(words, count, at))
        return is_default || is_word(&words[at + 2], "local") ? find_time_zone(base) : RESET_SOME;
    bool is_set = is_word(&words[at + 1], "to") || is_word(&words[at + 1], "=");
    return is_default && is_set ? find(base, &words[at]) : RESET_SOME;
}

/* By a name that it has in the grammar alone. */
static bool mentions_another_name(const char *text, size_t length, const char *name)
{
    return (strcasecmp(name, "TimeZone") == 0 && reset_mentions(text, length, "zone")) ||
           (strcasecmp(name, "client_encoding") == 0 && reset_mentions(text, length, "names"));
}

uint8_t reset_of(const struct settings *base, const char *text, size_t length)
{
    struct word words[WORDS_MAX];
    const char *value;
    size_t count = split(text, length, words);
    uint8_t lone = count > 0 ? of_lone(base, words, count) : RESET_SOME;
    if (lone != RESET_SOME)
        return base->count > 0 ? lone : RESET_NOTHING;
    if (reset_mentions(text, length, "all") || memchr(text, '&', length)) /* U&"..." */
        return RESET_SOME;
    for (const char *name = NULL; (name = settings_next(base, name, &value));) {
        if (reset_mentions(text, length, name) || mentions_another_name(text, length, name))
            return RESET_SOME;
    }
    return RESET_NOTHING;
}
