/*
 * worker.h - the two things that block (getaddrinfo, PQcancel) done aside by a few threads.
 *
 * A job is a function and an argument; it runs in some worker thread and must touch nothing that the loop
 * touches.  When it has run, `done` is called in the loop's thread.  Threads are started on demand, at most
 * `max_threads`; jobs beyond wait in order.  A thread without a job for a second ends.  At the end, jobs that run are not
 * waited for longer than a moment.
 */
#ifndef NET_WORKER_H
#define NET_WORKER_H

#include <event2/event.h>

struct workers;

struct workers *workers_new(struct event_base *base, int max_threads);
/* Runs `work(arg)` aside, then `done(arg)` in the loop.  `arg` belongs to the job until done. */
void workers_submit(struct workers *workers, void (*work)(void *), void (*done)(void *), void *arg);
/* Stops taking results: `done` of unfinished jobs is never called. */
void workers_free(struct workers *workers);

#endif
