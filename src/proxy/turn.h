/*
 * turn.h - the loop's turns: wait for events, deal with all there are, and wait again.
 */
#ifndef PROXY_TURN_H
#define PROXY_TURN_H

struct proxy;

/* Serves until the proxy has stopped (its exit_status says how). */
void proxy_run(struct proxy *proxy);

#endif
