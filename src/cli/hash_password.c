/*
 * hash_password.c - `pgreserve hash-password`: see hash_password.h.
 */
#include "cli/hash_password.h"

#include <stdio.h>
#include <string.h>
#include <termios.h>
#include <unistd.h>

#include "config/password.h"

static int read_line(char *out, int size)
{
    struct termios before;
    struct termios silent;
    int is_terminal = isatty(0) && tcgetattr(0, &before) == 0;
    if (is_terminal) {
        fputs("Password: ", stderr);
        silent = before;
        silent.c_lflag &= (tcflag_t)~ECHO;
        tcsetattr(0, TCSAFLUSH, &silent);
    }
    char *got = fgets(out, size, stdin);
    if (is_terminal) {
        tcsetattr(0, TCSAFLUSH, &before);
        fputc('\n', stderr);
    }
    if (got)
        out[strcspn(out, "\r\n")] = '\0';
    return got && *out;
}

int hash_password_command(void)
{
    char password[1024];
    char text[256];
    struct scram_verifier verifier;
    if (!read_line(password, sizeof(password))) {
        fprintf(stderr, "pgreserve: no password on stdin\n");
        return 1;
    }
    if (!password_verifier(&verifier, password)) {
        fprintf(stderr, "pgreserve: no random bytes\n");
        return 1;
    }
    explicit_bzero(password, sizeof(password));
    scram_verifier_format(&verifier, text, sizeof(text));
    puts(text);
    return 0;
}
