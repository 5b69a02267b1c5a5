/*
 * screen.h - a terminal that is redrawn in place, and left as it was found (`status --watch`).
 *
 * Drawn on the alternate screen, so that whatever stood there comes back.  INT, TERM, HUP and QUIT end the watch; TSTP gives
 * the terminal back while the program sleeps; WINCH asks for another drawing.
 */
#ifndef CLI_SCREEN_H
#define CLI_SCREEN_H

#include <stdbool.h>

/* Catches the signals; with `is_terminal` takes the alternate screen too. */
void screen_open(bool is_terminal);
/* Draws the text, as many lines of it as there are, over what stands there. */
void screen_draw(const char *text);
/* Waits; false when a signal has ended the watch. */
bool screen_wait(double seconds);
void screen_close(void);

#endif
