/*
 * privileges.c - giving up root: see privileges.h.
 *
 * Groups first, the user last: afterwards there is no right left to change either.  That it cannot be undone is tried.
 */
#include "base/privileges.h"

#include <errno.h>
#include <grp.h>
#include <pwd.h>
#include <stdio.h>
#include <string.h>
#include <sys/types.h>
#include <unistd.h>

bool become_user(const char *name, char *why, size_t why_bytes)
{
    errno = 0;
    const struct passwd *user = getpwnam(name);
    if (!user) {
        snprintf(why, why_bytes, "%s", errno ? strerror(errno) : "there is no such user");
        return false;
    }
    if (initgroups(name, user->pw_gid) < 0 || setgid(user->pw_gid) < 0 ||
        setuid(user->pw_uid) < 0) {
        snprintf(why, why_bytes, "%s", strerror(errno));
        return false;
    }
    if (user->pw_uid != 0 && setuid(0) == 0) {
        snprintf(why, why_bytes, "the system gave root back");
        return false;
    }
    return true;
}
