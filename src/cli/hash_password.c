/*
 * hash_password.c - `pgreserve hash-password`: see hash_password.h.
 */
#include "cli/hash_password.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <termios.h>
#include <unistd.h>

#include "config/password.h"

/* The line, however long, without its end; NULL when there is none, or an empty one. */
static char *read_line(size_t *length)
{
    struct termios before;
    struct termios silent;
    char *line = NULL;
    size_t room = 0;
    bool is_terminal = isatty(0) && tcgetattr(0, &before) == 0;
    if (is_terminal) {
        fputs("Password: ", stderr);
        silent = before;
        silent.c_lflag &= (tcflag_t)~ECHO;
        tcsetattr(0, TCSAFLUSH, &silent);
    }
    ssize_t got = getline(&line, &room, stdin);
    if (is_terminal) {
        tcsetattr(0, TCSAFLUSH, &before);
        fputc('\n', stderr);
    }
    *length = got > 0 ? (size_t)got : 0;
    if (*length > 0 && line[*length - 1] == '\n')
        --*length;
    if (*length > 0 && line[*length - 1] == '\r')
        --*length;
    if (*length > 0) {
        line[*length] = '\0';
        return line;
    }
    free(line);
    return NULL;
}

static int print_verifier(const char *password, size_t length)
{
    char text[256];
    struct scram_verifier verifier;
    if (strlen(password) != length) {
        fprintf(stderr, "pgreserve: no client can send a password with a zero byte in it\n");
        return 1;
    }
    if (!password_verifier(&verifier, password)) {
        fprintf(stderr, "pgreserve: no random bytes\n");
        return 1;
    }
    scram_verifier_format(&verifier, text, sizeof(text));
    puts(text);
    return 0;
}

int hash_password_command(void)
{
    size_t length;
    char *password = read_line(&length);
    if (!password) {
        fprintf(stderr, "pgreserve: no password on stdin\n");
        return 1;
    }
    int status = print_verifier(password, length);
    explicit_bzero(password, length);
    free(password);
    return status;
}
