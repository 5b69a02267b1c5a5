/*
 * worker.c - jobs that block, done aside by a few threads: see worker.h.
 *
 * A queue under one mutex; threads are started when a job finds none idle, and leave when none has come for a second: as
 * long as a second thread is there the kernel counts a reference for each system call on a descriptor, which every query
 * would pay for.  Finished jobs go to a second queue and an eventfd wakes the loop, which calls their `done`.  Threads block
 * all signals, so that the loop alone gets them.  Where the system gives no thread, jobs wait and it is asked again in a
 * moment.
 */
#include "net/worker.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/queue.h>
#include <time.h>
#include <unistd.h>

#include <openssl/crypto.h>

#include "base/log.h"
#include "base/memory.h"

#define RETRY_US       100000
#define LINGER_SECONDS 1

struct job {
    STAILQ_ENTRY(job) link;
    void (*work)(void *);
    void (*done)(void *);
    void *arg;
};
STAILQ_HEAD(job_list, job);

struct workers {
    pthread_mutex_t lock;
    pthread_cond_t wake;
    pthread_cond_t left;
    struct job_list waiting;
    struct job_list finished;
    int threads;
    int idle;
    int jobs; /* that wait */
    int max_threads;
    bool is_ending;
    int event_fd;
    struct event *event;
    struct event *retry; /* when a job waits and no thread could be had */
};

static void free_jobs(struct job_list *jobs)
{
    struct job *job;
    while ((job = STAILQ_FIRST(jobs))) {
        STAILQ_REMOVE_HEAD(jobs, link);
        free(job);
    }
}

/* With the lock held: takes the next job; NULL when none has come for a while or all is to end. */
static struct job *next_job(struct workers *workers)
{
    struct timespec limit;
    int error = 0;
    clock_gettime(CLOCK_MONOTONIC, &limit);
    limit.tv_sec += LINGER_SECONDS;
    workers->idle++;
    while (!workers->is_ending && STAILQ_EMPTY(&workers->waiting) && error == 0)
        error = pthread_cond_timedwait(&workers->wake, &workers->lock, &limit);
    workers->idle--;
    struct job *job = workers->is_ending ? NULL : STAILQ_FIRST(&workers->waiting);
    if (job) {
        STAILQ_REMOVE_HEAD(&workers->waiting, link);
        workers->jobs--;
    }
    return job;
}

static void *run_worker(void *arg)
{
    struct workers *workers = arg;
    struct job *job;
    pthread_mutex_lock(&workers->lock);
    while ((job = next_job(workers))) {
        pthread_mutex_unlock(&workers->lock);
        job->work(job->arg);
        pthread_mutex_lock(&workers->lock);
        STAILQ_INSERT_TAIL(&workers->finished, job, link);
        uint64_t one = 1;
        if (write(workers->event_fd, &one, sizeof(one)) < 0)
            log_event(LOG_LEVEL_ERROR, "a worker could not wake the loop",
                      LOG_FIELD_KIND("reason", strerror(errno)));
    }
    OPENSSL_thread_stop(); /* its random numbers' state: the process may end before this thread has */
    workers->threads--;
    pthread_cond_signal(&workers->left);
    pthread_mutex_unlock(&workers->lock);
    return NULL;
}

static void on_finished(evutil_socket_t fd, short what, void *arg)
{
    struct workers *workers = arg;
    struct job_list finished = STAILQ_HEAD_INITIALIZER(finished);
    struct job *job;
    uint64_t count;
    (void)what;
    if (read(fd, &count, sizeof(count)) < 0)
        return;
    pthread_mutex_lock(&workers->lock);
    STAILQ_CONCAT(&finished, &workers->finished);
    pthread_mutex_unlock(&workers->lock);
    while ((job = STAILQ_FIRST(&finished))) {
        STAILQ_REMOVE_HEAD(&finished, link);
        job->done(job->arg);
        free(job);
    }
}

static void on_retry(evutil_socket_t fd, short what, void *arg);

struct workers *workers_new(struct event_base *base, int max_threads)
{
    struct workers *workers = memory_alloc(sizeof(*workers));
    pthread_condattr_t monotonic; /* waits must not last as long as a clock is set back */
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_mutex_init(&workers->lock, NULL);
    pthread_cond_init(&workers->wake, &monotonic);
    pthread_cond_init(&workers->left, &monotonic);
    pthread_condattr_destroy(&monotonic);
    STAILQ_INIT(&workers->waiting);
    STAILQ_INIT(&workers->finished);
    workers->max_threads = max_threads;
    workers->event_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    workers->event = event_new(base, workers->event_fd, EV_READ | EV_PERSIST, on_finished, workers);
    event_add(workers->event, NULL);
    workers->retry = evtimer_new(base, on_retry, workers);
    return workers;
}

/* With the lock held. */
static void start_thread(struct workers *workers)
{
    sigset_t all;
    sigset_t before;
    pthread_t thread;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int error = pthread_create(&thread, NULL, run_worker, workers);
    if (error == 0) {
        pthread_detach(thread);
        workers->threads++;
    } else if (workers->threads == 0) {
        struct timeval moment = {0, RETRY_US};
        log_event(LOG_LEVEL_WARNING, "no thread for a job that blocks",
                  LOG_FIELD_KIND("reason", strerror(error)));
        evtimer_add(workers->retry, &moment);
    }
    pthread_sigmask(SIG_SETMASK, &before, NULL);
}

static void on_retry(evutil_socket_t fd, short what, void *arg)
{
    struct workers *workers = arg;
    (void)fd;
    (void)what;
    pthread_mutex_lock(&workers->lock);
    if (workers->threads == 0)
        start_thread(workers);
    pthread_mutex_unlock(&workers->lock);
}

void workers_submit(struct workers *workers, void (*work)(void *), void (*done)(void *), void *arg)
{
    struct job *job = memory_alloc(sizeof(*job));
    *job = (struct job){.work = work, .done = done, .arg = arg};
    pthread_mutex_lock(&workers->lock);
    STAILQ_INSERT_TAIL(&workers->waiting, job, link);
    workers->jobs++;
    if (workers->jobs > workers->idle && workers->threads < workers->max_threads)
        start_thread(workers);
    pthread_cond_signal(&workers->wake);
    pthread_mutex_unlock(&workers->lock);
}

void workers_free(struct workers *workers)
{
    struct timespec limit;
    clock_gettime(CLOCK_MONOTONIC, &limit);
    limit.tv_sec += 1;
    pthread_mutex_lock(&workers->lock);
    workers->is_ending = true;
    pthread_cond_broadcast(&workers->wake);
    while (workers->threads > 0) {
        if (pthread_cond_timedwait(&workers->left, &workers->lock, &limit) != 0)
            break;
    }
    int still_running = workers->threads;
    free_jobs(&workers->waiting);
    free_jobs(&workers->finished);
    pthread_mutex_unlock(&workers->lock);
    event_free(workers->event);
    event_free(workers->retry);
    if (still_running > 0)
        return; /* a job hangs in the network: what it will touch must stay */
    close(workers->event_fd);
    pthread_mutex_destroy(&workers->lock);
    pthread_cond_destroy(&workers->wake);
    pthread_cond_destroy(&workers->left);
    free(workers);
}
