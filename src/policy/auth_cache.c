/*
 * auth_cache.c - what auth_query last said about a user: see auth_cache.h.
 *
 * Two tables, each in the order of the answers, so that the first entry is the oldest and goes when the table is full.
 */
#include "policy/auth_cache.h"

#include <stdlib.h>
#include <string.h>

#include "base/hash.h"
#include "base/memory.h"

struct entry {
    char *key;
    char *secret; /* NULL: nobody */
    int64_t asked_us;
    UT_hash_handle hh;
};

struct auth_cache {
    struct entry *secrets;
    struct entry *nobodies;
};

struct auth_cache *auth_cache_new(void)
{
    return memory_alloc(sizeof(struct auth_cache));
}

static void forget(struct entry **table, struct entry *entry)
{
    HASH_DEL(*table, entry);
    free(entry->key);
    memory_free_secret(entry->secret);
    free(entry);
}

static struct entry *find(struct entry *table, const char *key)
{
    struct entry *entry;
    HASH_FIND_STR(table, key, entry);
    return entry;
}

static void clear(struct entry **table)
{
    struct entry *entry;
    struct entry *next;
    HASH_ITER (hh, *table, entry, next)
        forget(table, entry);
}

void auth_cache_clear(struct auth_cache *cache)
{
    clear(&cache->secrets);
    clear(&cache->nobodies);
}

void auth_cache_free(struct auth_cache *cache)
{
    if (!cache)
        return;
    auth_cache_clear(cache);
    free(cache);
}

void auth_cache_forget(struct auth_cache *cache, const char *key)
{
    struct entry *entry = find(cache->secrets, key);
    if (entry)
        forget(&cache->secrets, entry);
    entry = find(cache->nobodies, key);
    if (entry)
        forget(&cache->nobodies, entry);
}

void auth_cache_put(struct auth_cache *cache, const char *key, const char *secret, int64_t asked_us)
{
    struct entry **table = secret ? &cache->secrets : &cache->nobodies;
    struct entry *entry = memory_alloc(sizeof(*entry));
    entry->key = memory_strdup(key);
    entry->secret = memory_strdup(secret);
    entry->asked_us = asked_us;
    auth_cache_forget(cache, key);
    if (HASH_COUNT(*table) >= AUTH_CACHE_MOST)
        forget(table, *table);
    HASH_ADD_KEYPTR(hh, *table, entry->key, strlen(entry->key), entry);
}

enum auth_cache_found auth_cache_find(const struct auth_cache *cache, const char *key,
                                      int64_t now_us, const char **secret)
{
    const struct entry *entry = find(cache->secrets, key);
    int64_t lasts_us = entry ? AUTH_CACHE_SECRET_US : AUTH_CACHE_NOBODY_US;
    *secret = NULL;
    if (!entry)
        entry = find(cache->nobodies, key);
    if (!entry || now_us - entry->asked_us > lasts_us)
        return AUTH_CACHE_NOTHING;
    *secret = entry->secret;
    return entry->secret ? AUTH_CACHE_SECRET : AUTH_CACHE_NOBODY;
}

size_t auth_cache_count(const struct auth_cache *cache)
{
    return HASH_COUNT(cache->secrets) + HASH_COUNT(cache->nobodies);
}
