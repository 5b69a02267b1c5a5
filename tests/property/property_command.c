/*
 * property_command.c - a console's text is read without harm, and what was quoted comes back as it was.
 *
 * Two kinds of text.  Words made at random, quoted, with blanks, comments and semicolons between, must come back word for word.
 * Bytes at random from what the reader looks at may mean anything, but reading them comes to an end, uses
 * every byte once, and its words are no longer than the text.
 */
#include "admin/command.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#include "random.h"

#define GOOD_TEXTS 100000
#define BAD_TEXTS  300000
#define TEXT_BYTES 512

static char text[TEXT_BYTES];
static size_t length;

static void put(char byte)
{
    if (length + 1 < TEXT_BYTES)
        text[length++] = byte;
    text[length] = '\0';
}

static void put_text(const char *more)
{
    while (*more)
        put(*more++);
}

static void put_blanks(bool is_needed)
{
    static const char *const blanks[] = {" ", "\t", "\n", "/* a 'comment; \" */",
                                         "-- to the end ';\n"};
    for (int i = random_below(3) + is_needed; i > 0; i--)
        put_text(blanks[random_below(5)]);
}

static void put_quoted(const char *word)
{
    char quote = random_chance(50) ? '\'' : '"';
    put(quote);
    for (; *word; word++) {
        if (*word == quote)
            put(quote);
        put(*word);
    }
    put(quote);
}

static void make_word(char *word)
{
    static const char bytes[] = "abcXYZ019_'\"=;-/* \t\n.@:";
    int count = random_below(10);
    for (int i = 0; i < count; i++)
        *word++ = bytes[random_below(sizeof(bytes) - 1)];
    *word = '\0';
}

/* Whether it may stand without quotes. */
static bool is_plain(const char *word)
{
    for (const char *at = word; *at; at++) {
        if (!isalnum((unsigned char)*at) && !strchr("_.@:", *at))
            return false;
    }
    return *word != '\0';
}

static void forget(struct command *command)
{
    if (command->count > 0)
        free(command->words[0]);
}

static void check_good(void)
{
    char words[8][16];
    int count = 1 + random_below(8);
    length = 0;
    put_blanks(false);
    for (int i = 0; i < count; i++) {
        make_word(words[i]);
        if (is_plain(words[i]) && random_chance(70))
            put_text(words[i]);
        else
            put_quoted(words[i]);
        put_blanks(i + 1 < count);
    }
    put_text("; the next one");
    if (length + 1 >= TEXT_BYTES)
        return;
    struct command command = {0};
    char *at = text;
    command_read(&command, &at);
    CHECK(!command.is_unbalanced, "unbalanced: %s", text);
    CHECK(command.count == count, "%d words, not %d: %s", command.count, count, text);
    for (int i = 0; i < count; i++)
        CHECK(strcmp(command.words[i], words[i]) == 0, "<%s> is not <%s> in %s", command.words[i],
              words[i], text);
    CHECK(strcmp(at, " the next one") == 0, "left over: %s", at);
    forget(&command);
}

static void check_bad(void)
{
    static const char bytes[] = "ab'\"'\"=;;--/**/ \n\t\x01\xff";
    int count = 1 + random_below(80);
    length = 0;
    for (int i = 0; i < count; i++)
        put(bytes[random_below(sizeof(bytes) - 1)]);
    char *at = text;
    while (*at) {
        struct command command = {0};
        const char *before = at;
        command_read(&command, &at);
        CHECK(at > before && at <= text + length, "from %ld to %ld of %zu in %s",
              (long)(before - text), (long)(at - text), length, text);
        size_t sum = 0;
        for (int i = 0; i < command.count; i++)
            sum += strlen(command.words[i]);
        CHECK(sum <= (size_t)(at - before), "longer than its text: %s", before);
        CHECK(command.count <= COMMAND_WORDS_MAX, "too many words");
        forget(&command);
    }
}

int main(int argc, char **argv)
{
    uint64_t seed = seed_from(argc, argv, 20240607);
    random_start(seed);
    for (int i = 0; i < GOOD_TEXTS; i++, random_step++)
        check_good();
    for (int i = 0; i < BAD_TEXTS; i++, random_step++)
        check_bad();
    printf("property_command: seed %llu\n%ld checks passed\n", (unsigned long long)seed,
           checks_passed);
    return 0;
}
