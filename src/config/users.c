/*
 * users.c - PgBouncer's userlist.txt: see users.h.
 */
#include "config/users.h"

#include <ctype.h>
#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/hash.h"
#include "base/memory.h"

#define USERS_FILE_MAX (64u << 20)

struct user {
    char *name;
    char *secret;
    UT_hash_handle hh;
};

struct users {
    struct user *by_name;
};

static void add_error(struct config_errors *errors, char *text)
{
    errors->items = memory_resize(errors->items, (errors->count + 1) * sizeof(*errors->items));
    errors->items[errors->count++] = text;
}

struct users *users_new(void)
{
    return memory_alloc(sizeof(struct users));
}

void users_add(struct users *users, const char *name, const char *secret)
{
    struct user *user;
    HASH_FIND_STR(users->by_name, name, user);
    if (!user) {
        user = memory_alloc(sizeof(*user));
        user->name = memory_strdup(name);
        HASH_ADD_KEYPTR(hh, users->by_name, user->name, strlen(user->name), user);
    }
    memory_free_secret(user->secret);
    user->secret = memory_strdup(secret);
}

void users_free(struct users *users)
{
    struct user *user;
    struct user *next;
    if (!users)
        return;
    HASH_ITER (hh, users->by_name, user, next) {
        HASH_DEL(users->by_name, user);
        free(user->name);
        memory_free_secret(user->secret);
        free(user);
    }
    free(users);
}

static struct user *find(const struct users *users, const char *name)
{
    struct user *user;
    HASH_FIND_STR(users->by_name, name, user);
    return user;
}

const char *users_find(const struct users *users, const char *name)
{
    const struct user *user = find(users, name);
    return user && *user->secret ? user->secret : NULL;
}

bool users_has(const struct users *users, const char *name)
{
    return find(users, name) != NULL;
}

size_t users_count(const struct users *users)
{
    return HASH_COUNT(users->by_name);
}

/* A quoted word in place: its beginning, or NULL; `*at` moves behind it. */
static char *quoted_word(char **at)
{
    char *in = *at;
    while (isspace((unsigned char)*in))
        in++;
    if (*in++ != '"')
        return NULL;
    char *word = in;
    char *out = in;
    for (; *in; in++) {
        if (*in == '"' && in[1] != '"')
            break;
        if (*in == '"')
            in++;
        *out++ = *in;
    }
    if (*in != '"')
        return NULL;
    *at = in + 1;
    *out = '\0';
    return word;
}

static void parse_line(struct users *users, char *line, const char *name, int number,
                       struct config_errors *errors)
{
    char *at = line;
    while (isspace((unsigned char)*at))
        at++;
    if (!*at || *at == ';' || *at == '#')
        return;
    char *user = quoted_word(&at);
    char *secret = user ? quoted_word(&at) : NULL;
    while (secret && isspace((unsigned char)*at))
        at++;
    if (!user || !*user || !secret) {
        add_error(errors, memory_printf("%s:%d: a line is \"user\" \"password\"", name, number));
        return;
    }
    if (find(users, user))
        add_error(errors, memory_printf("%s:%d: user \"%s\" stands twice", name, number, user));
    else
        users_add(users, user, secret);
}

struct users *users_parse(const char *name, const char *text, struct config_errors *errors)
{
    struct users *users = users_new();
    char *copy = memory_strdup(text);
    size_t length = strlen(copy);
    char *at = copy;
    size_t before = errors->count;
    int number = 0;
    for (char *line; (line = strsep(&at, "\n"));)
        parse_line(users, line, name, ++number, errors);
    explicit_bzero(copy, length); /* it is in pieces by now */
    free(copy);
    if (errors->count == before)
        return users;
    users_free(users);
    return NULL;
}

struct users *users_load(const char *path, bool may_wait, struct config_errors *errors)
{
    char *text =
        may_wait ? file_read(path, USERS_FILE_MAX) : file_read_at_once(path, USERS_FILE_MAX);
    if (!text) {
        add_error(errors, memory_printf("%s: cannot be read: %s", path, file_reason(errno)));
        return NULL;
    }
    struct users *users = users_parse(path, text, errors);
    memory_free_secret(text);
    return users;
}

void users_visit(const struct users *users, users_visitor visitor, void *arg)
{
    for (const struct user *user = users->by_name; user; user = user->hh.next)
        visitor(arg, user->name, user->secret);
}
