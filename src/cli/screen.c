/*
 * screen.c - a terminal that is redrawn in place: see screen.h.
 *
 * Signals only set flags and are let through nowhere but in ppoll, so that none is missed between the look at the flags and
 * the wait.  Lines longer than the terminal is wide are cut by the terminal itself: it is told not to wrap.
 */
#include "cli/screen.h"

#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "base/clock.h"

#define ENTER                                                                                      \
    "\033[?1049h\033[?25l\033[?7l\033[H\033[2J" /* alternate screen, no cursor, no wrapping */
#define LEAVE "\033[?7h\033[?25h\033[?1049l"

static bool is_terminal;
static sigset_t outside; /* the signal mask while we wait */
static volatile sig_atomic_t is_over;
static volatile sig_atomic_t wants_sleep;
static volatile sig_atomic_t is_resized;

static void on_signal(int number)
{
    if (number == SIGTSTP)
        wants_sleep = 1;
    else if (number == SIGWINCH)
        is_resized = 1;
    else
        is_over = 1;
}

static void put(const char *text)
{
    fputs(text, stdout);
    fflush(stdout);
}

void screen_open(bool on_terminal)
{
    static const int caught[] = {SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGTSTP, SIGWINCH};
    struct sigaction action = {.sa_handler = on_signal};
    sigset_t held;
    is_terminal = on_terminal;
    sigemptyset(&held);
    for (size_t i = 0; i < sizeof(caught) / sizeof(caught[0]); i++) {
        if (caught[i] == SIGTSTP && !is_terminal)
            continue;
        sigaddset(&held, caught[i]);
        sigaction(caught[i], &action, NULL);
    }
    sigprocmask(SIG_BLOCK, &held, &outside);
    if (is_terminal)
        put(ENTER);
}

void screen_draw(const char *text)
{
    struct winsize size = {0};
    if (!is_terminal) {
        put(text);
        return;
    }
    int rows = ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_row > 0 ? size.ws_row : 24;
    fputs("\033[H", stdout);
    for (int row = 0; row < rows && *text; row++) {
        size_t length = strcspn(text, "\n");
        printf("%.*s\033[K%s", (int)length, text, row + 1 < rows ? "\r\n" : "");
        text += length + (text[length] == '\n');
    }
    put("\033[J");
}

/* Gives the terminal back while the program is stopped. */
static void sleep_until_continued(void)
{
    wants_sleep = 0;
    put(LEAVE);
    raise(SIGSTOP);
    put(ENTER);
}

bool screen_wait(double seconds)
{
    int64_t until_us = clock_now_us() + (int64_t)(seconds * (double)CLOCK_S);
    while (!is_over) {
        int64_t left_us = until_us - clock_now_us();
        if (left_us <= 0)
            return true;
        struct timespec left = {left_us / CLOCK_S, left_us % CLOCK_S * 1000};
        ppoll(NULL, 0, &left, &outside);
        if (wants_sleep && !is_over) {
            sleep_until_continued();
            return !is_over;
        }
        if (is_resized) {
            is_resized = 0;
            return !is_over;
        }
    }
    return false;
}

void screen_close(void)
{
    if (is_terminal)
        put(LEAVE);
}
