/*
 * fuzz_sql.c - the scanner of statements' texts: the same signs wherever the network cuts the text.
 */
#include "proto/sql.h"
#include "proto/sql_names.h"

#include "fuzz.h"

static void on_name(void *arg, const char *name)
{
    size_t *names = arg;
    ++*names;
    fuzz_claim(!name || strlen(name) < SQL_NAME_MAX, "a name is bounded");
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t length)
{
    struct fuzz_input input = {bytes, length};
    size_t step = 1 + (size_t)fuzz_below(&input, 16);
    char *text = fuzz_text(input.bytes, input.left);
    size_t text_length = strlen(text);
    uint32_t whole = sql_signs(text, text_length);
    struct sql_scan scan;
    size_t names = 0;
    sql_scan_start(&scan);
    for (size_t at = 0; at < text_length; at += step) {
        size_t piece = text_length - at < step ? text_length - at : step;
        sql_scan_feed(&scan, (const uint8_t *)text + at, piece);
    }
    uint32_t cut = sql_scan_finish(&scan);
    fuzz_claim(cut == whole, "signs %x in whole, %x in pieces of %zu", whole, cut, step);
    sql_names(text, text_length, on_name, &names);
    fuzz_claim(names <= text_length, "no more names than bytes");
    free(text);
    return 0;
}
