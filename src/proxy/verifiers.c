/*
 * verifiers.c - SCRAM verifiers of the plain passwords that we know.
 *
 * Deriving one takes a millisecond, so it is done once.  Who could measure that millisecond would learn that the user exists:
 * so all are derived in a worker as soon as the passwords are known, and those that a reload does not change are kept, for a
 * new salt would tell the same.
 */
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "config/password.h"
#include "proxy/login.h"
#include "proxy/proxy.h"

#define VERIFIERS_MOST 20000

struct verifier {
    char *key; /* user, a line feed, password: no name has a line feed that matters */
    struct scram_verifier verifier;
    UT_hash_handle hh;
};

/* Passwords whose verifiers a worker derives. */
struct verifiers_job {
    struct proxy *proxy;
    struct job_item {
        char *key;
        bool is_derived;
        struct scram_verifier verifier;
    } * items;
    size_t count;
    atomic_bool is_unwanted;
};

static char *key_of(const char *user, const char *secret)
{
    return memory_printf("%s\n%s", user, secret);
}

static void verifier_free(struct proxy *proxy, struct verifier *verifier)
{
    HASH_DEL(proxy->verifiers, verifier);
    memory_free_secret(verifier->key);
    explicit_bzero(&verifier->verifier, sizeof(verifier->verifier));
    free(verifier);
}

static void forget_all(struct proxy *proxy)
{
    struct verifier *verifier;
    struct verifier *next;
    HASH_ITER (hh, proxy->verifiers, verifier, next)
        verifier_free(proxy, verifier);
}

static void add(struct proxy *proxy, char *key, const struct scram_verifier *derived)
{
    if (HASH_COUNT(proxy->verifiers) >= VERIFIERS_MOST)
        forget_all(proxy);
    struct verifier *verifier = memory_alloc(sizeof(*verifier));
    verifier->key = key;
    verifier->verifier = *derived;
    HASH_ADD_KEYPTR(hh, proxy->verifiers, verifier->key, strlen(verifier->key), verifier);
}

static struct verifier *find(const struct proxy *proxy, const char *key)
{
    struct verifier *verifier;
    HASH_FIND_STR(proxy->verifiers, key, verifier);
    return verifier;
}

void verifiers_derive(struct proxy *proxy, const char *user, const char *secret,
                      struct scram_verifier *verifier)
{
    char *key = key_of(user, secret);
    const struct verifier *known = find(proxy, key);
    if (known) {
        *verifier = known->verifier;
        memory_free_secret(key);
        return;
    }
    if (!password_verifier(verifier, secret))
        scram_verifier_mock(verifier, user, proxy->secret);
    add(proxy, key, verifier);
}

/* ---- aside ---- */

static void job_free(struct verifiers_job *job)
{
    for (size_t i = 0; i < job->count; i++)
        memory_free_secret(job->items[i].key);
    if (job->items)
        explicit_bzero(job->items, job->count * sizeof(*job->items));
    free(job->items);
    free(job);
}

static void work(void *arg)
{
    struct verifiers_job *job = arg;
    for (size_t i = 0; i < job->count && !atomic_load(&job->is_unwanted); i++) {
        struct job_item *item = &job->items[i];
        item->is_derived = password_verifier(&item->verifier, strchr(item->key, '\n') + 1);
    }
}

static void done(void *arg)
{
    struct verifiers_job *job = arg;
    struct proxy *proxy = job->proxy;
    proxy->verifiers_job = NULL;
    for (size_t i = 0; i < job->count && !atomic_load(&job->is_unwanted); i++) {
        struct job_item *item = &job->items[i];
        if (!item->is_derived || find(proxy, item->key))
            continue;
        add(proxy, item->key, &item->verifier);
        item->key = NULL;
    }
    bool is_late = atomic_load(&job->is_unwanted);
    job_free(job);
    if (is_late)
        verifiers_refresh(proxy); /* passwords were read again meanwhile */
}

struct gathering {
    struct proxy *proxy;
    struct verifiers_job *job;
    struct verifier *kept; /* a table of its own */
};

static void gather(void *arg, const char *user, const char *secret)
{
    struct gathering *gathering = arg;
    struct verifiers_job *job = gathering->job;
    struct scram_verifier parsed;
    if (md5_is_secret(secret) || scram_verifier_parse(&parsed, secret))
        return;
    char *key = key_of(user, secret);
    struct verifier *known = find(gathering->proxy, key);
    if (known) {
        HASH_DEL(gathering->proxy->verifiers, known);
        HASH_ADD_KEYPTR(hh, gathering->kept, known->key, strlen(known->key), known);
    }
    if (known || job->count >= VERIFIERS_MOST / 2) {
        memory_free_secret(key);
        return;
    }
    if ((job->count & (job->count + 1)) == 0)
        job->items = memory_resize(job->items, (job->count + 1) * 2 * sizeof(*job->items));
    job->items[job->count++] = (struct job_item){.key = key};
}

void verifiers_refresh(struct proxy *proxy)
{
    const struct config *config = proxy->config;
    if (proxy->verifiers_job) {
        atomic_store(&proxy->verifiers_job->is_unwanted, true); /* when it is done, once more */
        return;
    }
    struct gathering gathering = {.proxy = proxy, .job = memory_alloc(sizeof(*gathering.job))};
    gathering.job->proxy = proxy;
    if (proxy->users)
        users_visit(proxy->users, gather, &gathering);
    for (size_t i = 0; i < config->database_count && !proxy->users; i++) {
        if (config->databases[i].user && config->databases[i].password)
            gather(&gathering, config->databases[i].user, config->databases[i].password);
    }
    forget_all(proxy);
    proxy->verifiers = gathering.kept;
    if (gathering.job->count == 0) {
        job_free(gathering.job);
        return;
    }
    proxy->verifiers_job = gathering.job;
    workers_submit(proxy->workers, work, done, gathering.job);
}

void verifiers_stop(struct proxy *proxy)
{
    if (proxy->verifiers_job)
        atomic_store(&proxy->verifiers_job->is_unwanted, true);
}

void verifiers_free(struct proxy *proxy)
{
    forget_all(proxy);
    if (proxy->verifiers_job)
        job_free(proxy->verifiers_job);
    proxy->verifiers_job = NULL;
}
