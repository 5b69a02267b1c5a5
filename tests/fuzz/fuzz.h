/*
 * fuzz.h - what the fuzz targets share.
 *
 * A target is a file fuzz_NAME.c with the one function that libFuzzer calls.  It is linked twice: by `make fuzz` with
 * libFuzzer, which invents inputs for a bounded time, and by `make test` with fuzz_main.c, which plays those of
 * corpus/NAME/.  A claim that does not hold ends the process.
 */
#ifndef FUZZ_FUZZ_H
#define FUZZ_FUZZ_H

#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t length);

/* Ends the process with these words unless `truth` holds; not assert(), which a build may leave out. */
__attribute__((format(printf, 2, 3))) static inline void fuzz_claim(int truth, const char *words,
                                                                    ...)
{
    va_list arguments;
    if (truth)
        return;
    va_start(arguments, words);
    fputs("claim does not hold: ", stderr);
    vfprintf(stderr, words, arguments);
    fputc('\n', stderr);
    va_end(arguments);
    abort();
}

/* The input as a zero-terminated text of its own size, so that a sanitizer sees the first byte beyond; free() it. */
static inline char *fuzz_text(const uint8_t *bytes, size_t length)
{
    char *text = malloc(length + 1);
    if (!text)
        abort();
    memcpy(text, bytes, length);
    text[length] = '\0';
    return text;
}

/* The input read as numbers and pieces; zeros after its end. */
struct fuzz_input {
    const uint8_t *bytes;
    size_t left;
};

static inline uint8_t fuzz_byte(struct fuzz_input *input)
{
    if (input->left == 0)
        return 0;
    input->left--;
    return *input->bytes++;
}

static inline uint8_t fuzz_below(struct fuzz_input *input, uint8_t limit)
{
    return (uint8_t)(fuzz_byte(input) % limit);
}

/* The next piece, at most `most` bytes of it; its length. */
static inline size_t fuzz_piece(struct fuzz_input *input, size_t most, const uint8_t **piece)
{
    size_t length = most < input->left ? most : input->left;
    *piece = input->bytes;
    input->bytes += length;
    input->left -= length;
    return length;
}

#endif
