/*
 * test_resolve.c - what blocks is done aside, and its results come back in the loop (net/worker, net/resolve).
 *
 * Names are looked up for real: `localhost` and one that cannot exist (RFC 6761 reserves `.invalid`).
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <dirent.h>
#include <pthread.h>
#include <semaphore.h>
#include <unistd.h>

#include "base/memory.h"
#include "net/resolve.h"

static struct event_base *base;
static struct workers *workers;
static char *answer; /* "HOSTS|HOSTADDRS|PORTS" or the error */
static int answers;

static int set_up(void **state)
{
    (void)state;
    base = event_base_new();
    workers = workers_new(base, 2);
    answers = 0;
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    workers_free(workers);
    event_base_free(base);
    free(answer);
    answer = NULL;
    return 0;
}

static void on_resolved(void *arg, const char *hosts, const char *hostaddrs, const char *ports,
                        const char *error)
{
    (void)arg;
    answers++;
    free(answer);
    answer = error ? memory_strdup(error) : memory_printf("%s|%s|%s", hosts, hostaddrs, ports);
}

static const char *resolve(const char *hosts, const char *ports)
{
    answers = 0;
    if (resolve_start(workers, hosts, ports, on_resolved, NULL)) {
        while (answers == 0)
            event_base_loop(base, EVLOOP_ONCE);
    }
    assert_int_equal(answers, 1);
    return answer;
}

static void numbers_and_sockets_need_no_resolver(void **state)
{
    (void)state;
    assert_null(resolve_start(workers, "127.0.0.1", "5432", on_resolved, NULL));
    assert_string_equal(answer, "127.0.0.1|127.0.0.1|5432");
    assert_string_equal(resolve("::1,/run/pg,@abstract", "1,2,3"),
                        "::1,/run/pg,@abstract|::1,,|1,2,3");
    assert_string_equal(resolve("/run/pg", NULL), "/run/pg||");
    assert_string_equal(resolve("10.0.0.1,10.0.0.2", "7"),
                        "10.0.0.1,10.0.0.2|10.0.0.1,10.0.0.2|7,7");
}

static void a_name_is_kept_beside_each_of_its_addresses(void **state)
{
    (void)state;
    const char *text = resolve("localhost", "5432");
    assert_int_equal(strncmp(text, "localhost", 9), 0);
    assert_true(strstr(text, "|127.0.0.1") || strstr(text, "|::1"));
    text = resolve("10.0.0.1,localhost", "1,2");
    assert_int_equal(strncmp(text, "10.0.0.1,localhost", 18), 0);
}

static void a_name_that_does_not_exist_is_named(void **state)
{
    (void)state;
    static const char expected[] = "could not translate host name \"nowhere.invalid\" to address: ";
    const char *text = resolve("nowhere.invalid", "5432");
    assert_int_equal(strncmp(text, expected, sizeof(expected) - 1), 0);
    /* one bad name among several is left out */
    assert_string_equal(resolve("nowhere.invalid,127.0.0.1", "1,2"), "127.0.0.1|127.0.0.1|2");
}

static sem_t may_go;

static void wait_for_leave(void *arg)
{
    (void)arg;
    sem_wait(&may_go);
}

static void leave_for_another(void *arg)
{
    (void)arg;
    sem_post(&may_go);
}

static void count_done(void *arg)
{
    ++*(int *)arg;
}

static void who_cancels_is_not_called(void **state)
{
    (void)state;
    int done = 0;
    struct workers *one = workers_new(base, 1); /* so that what is submitted later ends later */
    struct resolve_job *job = resolve_start(one, "localhost", "1", on_resolved, NULL);
    assert_non_null(job);
    resolve_cancel(job);
    workers_submit(one, wait_for_leave, count_done, &done);
    sem_init(&may_go, 0, 1);
    while (done == 0)
        event_base_loop(base, EVLOOP_ONCE);
    assert_int_equal(answers, 0);
    workers_free(one);
}

static pthread_t loop_thread;

static void note_thread(void *arg)
{
    *(pthread_t *)arg = pthread_self();
}

static void assert_in_loop(void *arg)
{
    (void)arg;
    assert_true(pthread_equal(pthread_self(), loop_thread));
    answers++;
}

static void work_is_done_aside_and_its_end_told_in_the_loop(void **state)
{
    (void)state;
    pthread_t worker = pthread_self();
    loop_thread = pthread_self();
    workers_submit(workers, note_thread, assert_in_loop, &worker);
    while (answers == 0)
        event_base_loop(base, EVLOOP_ONCE);
    assert_false(pthread_equal(worker, loop_thread));
}

static void more_jobs_than_threads_wait_their_turn(void **state)
{
    (void)state;
    int done = 0;
    sem_init(&may_go, 0, 0);
    for (int i = 0; i < 50; i++)
        workers_submit(workers, wait_for_leave, count_done, &done);
    event_base_loop(base, EVLOOP_NONBLOCK);
    assert_int_equal(done, 0);
    for (int i = 0; i < 50; i++)
        sem_post(&may_go);
    while (done < 50)
        event_base_loop(base, EVLOOP_ONCE);
    assert_int_equal(done, 50);
}

static void two_jobs_at_once_have_a_thread_each(void **state)
{
    (void)state;
    int done = 0;
    sem_init(&may_go, 0, 1);
    workers_submit(workers, wait_for_leave, count_done, &done);
    while (done < 1)
        event_base_loop(base, EVLOOP_ONCE); /* one thread, idle by now or soon */
    workers_submit(workers, wait_for_leave, count_done, &done);
    workers_submit(workers, leave_for_another, count_done, &done);
    while (done < 3)
        event_base_loop(base, EVLOOP_ONCE);
}

/* Its entry is gone when the kernel counts it no more. */
static int count_threads(void)
{
    int count = 0;
    DIR *tasks = opendir("/proc/self/task");
    assert_non_null(tasks);
    while (readdir(tasks))
        count++;
    closedir(tasks);
    return count - 2; /* "." and ".." */
}

static void wait_to_be_alone(void)
{
    for (int tries = 0; count_threads() > 1 && tries < 1000; tries++)
        usleep(10000);
    assert_int_equal(count_threads(), 1);
}

static void threads_without_work_leave(void **state)
{
    (void)state;
    int done = 0;
    wait_to_be_alone();
    sem_init(&may_go, 0, 0);
    workers_submit(workers, wait_for_leave, count_done, &done);
    assert_int_equal(count_threads(), 2);
    sem_post(&may_go);
    wait_to_be_alone();
    sem_init(&may_go, 0, 1); /* and come back */
    workers_submit(workers, wait_for_leave, count_done, &done);
    while (done < 2)
        event_base_loop(base, EVLOOP_ONCE);
}

static void unfinished_work_is_never_reported(void **state)
{
    (void)state;
    int done = 0;
    sem_init(&may_go, 0, 0);
    for (int i = 0; i < 5; i++)
        workers_submit(workers, wait_for_leave, count_done, &done);
    sem_post(&may_go);
    sem_post(&may_go);
    workers_free(workers);
    event_base_loop(base, EVLOOP_NONBLOCK);
    assert_int_equal(done, 0);
    workers = workers_new(base, 1);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(numbers_and_sockets_need_no_resolver),
        TEST(a_name_is_kept_beside_each_of_its_addresses),
        TEST(a_name_that_does_not_exist_is_named),
        TEST(who_cancels_is_not_called),
        TEST(work_is_done_aside_and_its_end_told_in_the_loop),
        TEST(more_jobs_than_threads_wait_their_turn),
        TEST(two_jobs_at_once_have_a_thread_each),
        TEST(threads_without_work_leave),
        TEST(unfinished_work_is_never_reported),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
