/*
 * auth_clear.c - a password in clear, held against what is known of it, in a thread (aside.c): each form of secret takes a
 * derivation of a millisecond or more.
 */
#include <stdlib.h>
#include <string.h>

#include <openssl/crypto.h>

#include "base/memory.h"
#include "proto/scram.h"
#include "proxy/login.h"
#include "proxy/proxy.h"

struct password_check {
    char *user;
    char *secret; /* NULL: there is no such user */
    char *password;
    bool is_right;
};

/* A password in clear.  Whatever is kept of it, and whether there is such a user, one derivation is made: the time that it
 * takes tells neither. */
static void check_password(void *arg)
{
    static const uint8_t salt[16];
    struct password_check *check = arg;
    struct scram_verifier verifier;
    if (!check->secret || !scram_verifier_parse(&verifier, check->secret))
        scram_verifier_derive(&verifier, check->password, salt, sizeof(salt), SCRAM_ITERATIONS);
    OPENSSL_cleanse(&verifier, sizeof(verifier));
    check->is_right =
        check->secret && password_matches_secret(check->secret, check->user, check->password);
    memory_wipe_stack();
}

static void password_checked(struct client *client, void *arg)
{
    const struct password_check *check = arg;
    auth_clear_checked(client, check->is_right, check->password);
}

static void password_check_free(void *arg)
{
    struct password_check *check = arg;
    free(check->user);
    memory_free_secret(check->secret);
    memory_free_secret(check->password);
    free(check);
}

void auth_check_clear(struct client *client, const char *secret, const char *password)
{
    static const struct aside aside = {check_password, password_checked, password_check_free};
    struct password_check *check = memory_alloc(sizeof(*check));
    check->user = memory_strdup(client->user);
    check->secret = secret ? memory_strdup(secret) : NULL;
    check->password = memory_strdup(password);
    aside_run(client, &aside, check);
}
