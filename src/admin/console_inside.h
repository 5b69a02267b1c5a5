/*
 * console_inside.h - inside the console: what its two protocols share.
 */
#ifndef ADMIN_CONSOLE_INSIDE_H
#define ADMIN_CONSOLE_INSIDE_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>

#include "admin/command.h"

/* A prepared statement, or a portal made of one. */
struct named {
    char *name;
    char *text;
    struct wire_formats formats; /* of a portal's results */
    uint32_t sent;               /* rows of it that have been fetched */
    TAILQ_ENTRY(named) link;
};
TAILQ_HEAD(named_list, named);

struct console {
    struct client *client;
    struct named_list statements;
    struct named_list portals;
    int statement_count;
    int portal_count;
    bool is_skipping; /* an error in the extended protocol: up to Sync */
    bool is_simple;   /* by which protocol the waiting command was asked */
    enum command_wait wait;
    char *wait_word;
    const char *wait_tag;
    int64_t wait_since_us;
    struct event *timer;
};

/* Sends and frees what was built, if the client is still there. */
void console_send(struct client *client, struct buffer *out);
void console_count_command(struct proxy *proxy);
/* Frees the command's words and its target. */
void console_forget_words(struct command *command);
/* Answers the command when what it waits for has come; takes its target over. */
void console_wait(struct console *console, struct command *command, bool is_simple);

/* ---- extended.c ---- */

/* Deals with a message of the extended protocol.  False when its type is none of them. */
bool extended_message(struct console *console, uint8_t type, const uint8_t *bytes, size_t length,
                      struct buffer *out);
/* Frees all statements and portals. */
void extended_free(struct console *console);

#endif
