/*
 * aside.c - what takes long on the way to a client's proof, done in a thread: see login.h.
 *
 * To check a password in clear takes a millisecond or more, and who the user at a socket's other end is the system may have to
 * ask a directory server: the loop, and with it everybody else, must wait for neither.  The threads are not those that resolve
 * names and cancel queries, so that a crowd of strangers keeps those from nothing; there are few, so that it does not take
 * the machine's cores either.  A client has one such job at most, and nothing it sends is read meanwhile.
 */
#include <stdatomic.h>
#include <stdlib.h>

#include "base/clock.h"
#include "base/memory.h"
#include "net/worker.h"
#include "proxy/login.h"
#include "proxy/proxy.h"

#define THREADS 2

enum job_state { JOB_WAITS, JOB_RUNS, JOB_HAS_RUN };

struct aside_job {
    LIST_ENTRY(aside_job) link;
    struct client *client; /* NULL: it has left */
    const struct aside *what;
    void *arg;
    atomic_int state; /* enum job_state */
};

static void job_free(struct aside_job *job)
{
    LIST_REMOVE(job, link);
    job->what->release(job->arg);
    free(job);
}

static void work(void *arg)
{
    struct aside_job *job = arg;
    atomic_store(&job->state, JOB_RUNS);
    job->what->work(job->arg);
    atomic_store(&job->state, JOB_HAS_RUN);
}

static void done(void *arg)
{
    struct aside_job *job = arg;
    struct client *client = job->client;
    if (client) {
        aside_forget(client);
        client->proxy->now_us = clock_now_us();
        if (client->state == CLIENT_AUTHENTICATING)
            job->what->done(client, job->arg);
        proxy_read_later(client);
    }
    job_free(job);
}

void aside_run(struct client *client, const struct aside *what, void *arg)
{
    struct proxy *proxy = client->proxy;
    struct aside_job *job = memory_alloc(sizeof(*job));
    job->client = client;
    job->what = what;
    job->arg = arg;
    atomic_init(&job->state, JOB_WAITS);
    LIST_INSERT_HEAD(&proxy->asides, job, link);
    client->is_aside = true;
    client->aside = job;
    if (!proxy->aside_workers)
        proxy->aside_workers = workers_new(proxy->base, THREADS);
    workers_submit(proxy->aside_workers, work, done, job);
}

void aside_forget(struct client *client)
{
    if (!client->is_aside)
        return;
    client->aside->client = NULL;
    client->aside = NULL;
    client->is_aside = false;
}

void asides_free(struct proxy *proxy)
{
    struct aside_job *job;
    struct aside_job *next;
    if (proxy->aside_workers)
        workers_free(proxy->aside_workers);
    proxy->aside_workers = NULL;
    for (job = LIST_FIRST(&proxy->asides); job; job = next) {
        next = LIST_NEXT(job, link);
        if (atomic_load(&job->state) !=
            JOB_RUNS) /* else it is its thread's for as long as that hangs */
            job_free(job);
    }
    LIST_INIT(&proxy->asides);
}
