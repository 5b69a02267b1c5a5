/*
 * test_auth_cache.c - what auth_query said stands in for so long and no longer, and strangers cannot push the users out.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "policy/auth_cache.h"

#define S 1000000LL

static enum auth_cache_found found(const struct auth_cache *cache, const char *key, int64_t now_us,
                                   const char *expected)
{
    const char *secret = "left as it was";
    enum auth_cache_found kind = auth_cache_find(cache, key, now_us, &secret);
    if (expected)
        assert_string_equal(secret, expected);
    else
        assert_null(secret);
    return kind;
}

static void an_answer_stands_in_for_its_time(void **state)
{
    struct auth_cache *cache = auth_cache_new();
    (void)state;
    assert_int_equal(found(cache, "ann", 0, NULL), AUTH_CACHE_NOTHING);
    auth_cache_put(cache, "ann", "secret", 5 * S);
    auth_cache_put(cache, "bob", NULL, 5 * S);
    assert_int_equal(found(cache, "ann", 5 * S, "secret"), AUTH_CACHE_SECRET);
    assert_int_equal(found(cache, "bob", 7 * S, NULL), AUTH_CACHE_NOBODY);
    assert_int_equal(found(cache, "bob", 7 * S + 1, NULL), AUTH_CACHE_NOTHING);
    assert_int_equal(found(cache, "ann", 15 * S, "secret"), AUTH_CACHE_SECRET);
    assert_int_equal(found(cache, "ann", 15 * S + 1, NULL), AUTH_CACHE_NOTHING);
    auth_cache_free(cache);
}

static void the_last_answer_counts(void **state)
{
    struct auth_cache *cache = auth_cache_new();
    (void)state;
    auth_cache_put(cache, "ann", "old", 0);
    auth_cache_put(cache, "ann", "new", 1 * S);
    assert_int_equal(found(cache, "ann", 1 * S, "new"), AUTH_CACHE_SECRET);
    auth_cache_put(cache, "ann", NULL, 2 * S);
    assert_int_equal(found(cache, "ann", 2 * S, NULL), AUTH_CACHE_NOBODY);
    auth_cache_put(cache, "ann", "again", 3 * S);
    assert_int_equal(found(cache, "ann", 3 * S, "again"), AUTH_CACHE_SECRET);
    assert_int_equal(auth_cache_count(cache), 1);
    auth_cache_forget(cache, "ann");
    auth_cache_forget(cache, "ann");
    assert_int_equal(found(cache, "ann", 3 * S, NULL), AUTH_CACHE_NOTHING);
    auth_cache_free(cache);
}

static void strangers_push_no_user_out(void **state)
{
    struct auth_cache *cache = auth_cache_new();
    char name[32];
    (void)state;
    auth_cache_put(cache, "ann", "secret", 0);
    for (int i = 0; i < 5 * AUTH_CACHE_MOST; i++) {
        snprintf(name, sizeof(name), "stranger %d", i);
        auth_cache_put(cache, name, NULL, 0);
    }
    assert_int_equal(auth_cache_count(cache), AUTH_CACHE_MOST + 1);
    assert_int_equal(found(cache, "ann", 0, "secret"), AUTH_CACHE_SECRET);
    assert_int_equal(found(cache, "stranger 0", 0, NULL), AUTH_CACHE_NOTHING);
    assert_int_equal(found(cache, name, 0, NULL), AUTH_CACHE_NOBODY);
    auth_cache_clear(cache);
    assert_int_equal(auth_cache_count(cache), 0);
    auth_cache_free(cache);
}

/* Beside a table that does the same in the simplest way; the names are few enough never to be too many. */
static void random_answers(void **state)
{
    enum { NAMES = 200, STEPS = 100000 };
    struct auth_cache *cache = auth_cache_new();
    struct {
        int kind; /* 0 none, 1 secret, 2 nobody */
        int number;
        int64_t asked_us;
    } model[NAMES] = {0};
    uint64_t random = 88172645463325252u;
    int64_t now_us = 0;
    (void)state;
    for (int step = 0; step < STEPS; step++) {
        char name[16];
        char secret[32];
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        int which = (int)((random >> 8) % NAMES);
        snprintf(name, sizeof(name), "%d", which);
        now_us += (int64_t)(random >> 40) % (S / 10);
        switch (random % 8) {
        case 0:
        case 1:
        case 2:
            model[which].kind = 1 + (int)(random >> 32 & 1);
            model[which].number = step;
            model[which].asked_us = now_us;
            snprintf(secret, sizeof(secret), "secret %d", step);
            auth_cache_put(cache, name, model[which].kind == 1 ? secret : NULL, now_us);
            break;
        case 3:
            model[which].kind = 0;
            auth_cache_forget(cache, name);
            break;
        default: {
            int64_t lasts_us = model[which].kind == 1 ? AUTH_CACHE_SECRET_US : AUTH_CACHE_NOBODY_US;
            bool is_there = model[which].kind != 0 && now_us - model[which].asked_us <= lasts_us;
            snprintf(secret, sizeof(secret), "secret %d", model[which].number);
            enum auth_cache_found kind =
                found(cache, name, now_us, is_there && model[which].kind == 1 ? secret : NULL);
            assert_int_equal(kind, !is_there                ? AUTH_CACHE_NOTHING
                                   : model[which].kind == 1 ? AUTH_CACHE_SECRET
                                                            : AUTH_CACHE_NOBODY);
            break;
        }
        }
        assert_true(auth_cache_count(cache) <= NAMES);
    }
    auth_cache_free(cache);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_answer_stands_in_for_its_time),
        cmocka_unit_test(the_last_answer_counts),
        cmocka_unit_test(strangers_push_no_user_out),
        cmocka_unit_test(random_answers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
