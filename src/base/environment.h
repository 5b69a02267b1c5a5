/*
 * environment.h - what the environment says, without libpq hearing it.
 */
#ifndef BASE_ENVIRONMENT_H
#define BASE_ENVIRONMENT_H

/* Takes libpq's variables, PGHOST, PGOPTIONS and whatever else begins with PG, out of the process's environment and keeps
 * them.  PGRESERVE_... stays: that is ours.  To be called at the start, while there is one thread. */
void environment_set_aside(void);
/* Puts them back, for a connection string that somebody typed as for psql. */
void environment_put_back(void);
/* The value of a variable, set aside or not; NULL when it is not set.  Lives as long as the process. */
const char *environment_get(const char *name);
/* The whole environment as the process was given it, "NAME=value" each, NULL behind the last, with room for one more before
 * that; free() the list alone. */
char **environment_list(void);

#endif
