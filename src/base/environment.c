/*
 * environment.c - what the environment says, without libpq hearing it: see environment.h.
 *
 * libpq fills what a connection string leaves open from some thirty variables: PGOPTIONS would set parameters for everybody's
 * sessions, PGHOST and PGTARGETSESSIONATTRS lead elsewhere, PGSSLMODE weaken TLS, and no file would show it.  `${VAR}` in the file
 * is the only way in (contract 4).  So all of them go, the names that a later libpq brings too, and are kept for `${PGUSER}`
 * in a file and for the program that an upgrade starts, which is to find what we found.
 */
#include "base/environment.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"

extern char **environ;

static char **aside; /* "NAME=value" each, as the kernel put them there */
static size_t aside_count;

static bool is_libpqs(const char *variable)
{
    return strncmp(variable, "PG", 2) == 0 && strncmp(variable, "PGRESERVE_", 10) != 0;
}

void environment_set_aside(void)
{
    size_t kept = 0;
    for (size_t i = 0; environ && environ[i]; i++) {
        if (!is_libpqs(environ[i])) {
            environ[kept++] = environ[i];
            continue;
        }
        aside = memory_resize(aside, (aside_count + 1) * sizeof(*aside));
        aside[aside_count++] = environ[i];
    }
    if (environ)
        environ[kept] = NULL;
}

void environment_put_back(void)
{
    for (size_t i = 0; i < aside_count; i++)
        putenv(aside[i]);
    free(aside);
    aside = NULL;
    aside_count = 0;
}

const char *environment_get(const char *name)
{
    size_t length = strlen(name);
    for (size_t i = 0; i < aside_count; i++) {
        if (strncmp(aside[i], name, length) == 0 && aside[i][length] == '=')
            return aside[i] + length + 1;
    }
    return getenv(name);
}

char **environment_list(void)
{
    size_t count = 0;
    while (environ && environ[count])
        count++;
    char **list = memory_alloc((count + aside_count + 2) * sizeof(*list));
    if (count > 0)
        memcpy(list, environ, count * sizeof(*list));
    if (aside_count > 0)
        memcpy(list + count, aside, aside_count * sizeof(*list));
    return list;
}
