/*
 * status.h - `pgreserve status`: the running daemon's figures (contract 3, 8).
 */
#ifndef CLI_STATUS_H
#define CLI_STATUS_H

/* Takes the command's own arguments (behind "status").  Returns the exit status: 0 healthy, 1 high load, 2 exhausted or
 * upstream down, 3 daemon unreachable. */
int status_command(int argc, char **argv);

#endif
