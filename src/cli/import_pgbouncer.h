/*
 * import_pgbouncer.h - `pgreserve import-pgbouncer FILE`: a pgbouncer.ini as a pgreserve.ini.
 */
#ifndef CLI_IMPORT_PGBOUNCER_H
#define CLI_IMPORT_PGBOUNCER_H

#include <stdio.h>

#define IMPORT_OK         0
#define IMPORT_UNREADABLE 1
#define IMPORT_UNUSABLE                                                                            \
    2 /* written, but `pgreserve check -t` would refuse it: the mistakes are on `err` */

/* Writes the pgreserve.ini that matches the pgbouncer.ini `path` to `out`, and to `err` what must be done by hand before it
 * can be used.  Returns one of the above, which is the command's exit status. */
int import_pgbouncer(const char *path, FILE *out, FILE *err);

#endif
