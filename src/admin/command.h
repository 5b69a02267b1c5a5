/*
 * command.h - one command of the console: from its text to its words, and what the words do.
 */
#ifndef ADMIN_COMMAND_H
#define ADMIN_COMMAND_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "admin/show.h"
#include "admin/show_wire.h"
#include "base/buffer.h"
#include "proxy/control.h"
#include "proxy/proxy.h"

#define COMMAND_WORDS_MAX 32

/* What a command waits for before it is complete. */
enum command_wait { WAIT_NOTHING, WAIT_EMPTY, WAIT_RENEWED, WAIT_FLUSHED };

struct command {
    struct client *client;
    struct buffer *out;
    char *words[COMMAND_WORDS_MAX];
    int count;
    bool is_unbalanced; /* a quote is open */
    bool has_failed;    /* an error is in `out` */
    const char *tag;    /* of CommandComplete; set when the command has run */
    enum command_wait wait;
    char *wait_word; /* its target, or NULL for all; whoever waits frees it */
};

/* What a command returns rows of: a table, or one value. */
struct command_result {
    const struct show_table *table;
    struct show_column columns[2]; /* of the value */
    const char *value;
};

/* Takes the next command off `*text`, which is changed, up to its `;` or the end. */
void command_read(struct command *command, char **text);
/* False for a command without rows, or one that is none. */
bool command_result(const struct command *command, struct command_result *result);
/* The columns of a result. */
const struct show_column *command_columns(const struct command_result *result);
/* Whether the word at this place is `word`, in any case. */
bool command_has_word(const struct command *command, int index, const char *word);
/* Sends the rows of a result; as command_run below. */
uint32_t command_send_rows(const struct command *command, const struct command_result *result,
                           const struct wire_formats *formats, uint32_t skip, uint32_t limit);
/* Does what the command says: rows, or errors, go to `out`; no RowDescription and no CommandComplete.  Rows before
 * `skip` are left out and no more than `limit` (0: all) are sent; returns how many were, UINT32_MAX for a result that
 * has more. */
uint32_t command_run(struct command *command, const struct wire_formats *formats, uint32_t skip,
                     uint32_t limit);
void command_fail(struct command *command, const char *sqlstate, const char *message,
                  const char *hint);

#endif
