/*
 * privileges.h - giving up root.
 */
#ifndef BASE_PRIVILEGES_H
#define BASE_PRIVILEGES_H

#include <stdbool.h>
#include <stddef.h>

/* Becomes this user of the system for good, with that user's groups and no others.  False with a text in `why`. */
bool become_user(const char *name, char *why, size_t why_bytes);

#endif
