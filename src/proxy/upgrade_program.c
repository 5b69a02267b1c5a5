/*
 * upgrade_program.c - which program an upgrade starts, and how: see upgrade.c.
 */
#include <spawn.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/environment.h"
#include "base/memory.h"
#include "proxy/upgrade.h"
#include "proxy/upgrade_inside.h"

#define CHANNEL_FD 3 /* in the new process */

/* The path of the program as it was called: /proc/self/exe would be the old file, when another lies there now. */
static char *find_program(const char *name)
{
    const char *path = getenv("PATH");
    if (strchr(name, '/')) {
        char *directory = *name == '/' ? NULL : getcwd(NULL, 0);
        char *program = directory ? memory_printf("%s/%s", directory, name) : memory_strdup(name);
        free(directory);
        return program;
    }
    char *folders = memory_strdup(path ? path : "/usr/local/bin:/usr/bin:/bin");
    char *at = folders;
    char *program = NULL;
    for (char *folder; !program && (folder = strsep(&at, ":"));) {
        program = memory_printf("%s/%s", *folder ? folder : ".", name);
        if (access(program, X_OK) < 0) {
            free(program);
            program = NULL;
        }
    }
    free(folders);
    return program;
}

void upgrade_remember(struct proxy *proxy, char **arguments)
{
    proxy->program = find_program(arguments[0]);
    proxy->arguments = arguments;
}

/* The environment with the channel's number in it, and without what was there of an earlier one; free() the list alone. */
static char **environment_with(char *variable)
{
    size_t kept = 0;
    char **list = environment_list();
    for (size_t i = 0; list[i]; i++) {
        if (strncmp(list[i], UPGRADE_VARIABLE "=", sizeof(UPGRADE_VARIABLE)) != 0)
            list[kept++] = list[i];
    }
    list[kept] = variable;
    list[kept + 1] = NULL;
    return list;
}

pid_t upgrade_spawn(const struct proxy *proxy, int channel_fd, int *error)
{
    char variable[sizeof(UPGRADE_VARIABLE) + 16];
    posix_spawn_file_actions_t files;
    posix_spawnattr_t attributes;
    sigset_t all;
    sigset_t none;
    pid_t pid = 0;
    snprintf(variable, sizeof(variable), "%s=%d", UPGRADE_VARIABLE, CHANNEL_FD);
    char **environment = environment_with(variable);
    sigfillset(&all);
    sigemptyset(&none);
    posix_spawn_file_actions_init(&files);
    posix_spawn_file_actions_adddup2(&files, channel_fd, CHANNEL_FD);
    posix_spawnattr_init(&attributes);
    posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETSIGMASK);
    posix_spawnattr_setsigdefault(&attributes, &all);
    posix_spawnattr_setsigmask(&attributes, &none);
    *error = posix_spawn(&pid, proxy->program, &files, &attributes, proxy->arguments, environment);
    posix_spawnattr_destroy(&attributes);
    posix_spawn_file_actions_destroy(&files);
    free(environment);
    return *error == 0 ? pid : 0;
}
