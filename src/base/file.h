/*
 * file.h - reads a file that may hold secrets.
 */
#ifndef BASE_FILE_H
#define BASE_FILE_H

#include <errno.h>
#include <stddef.h>

#define FILE_NOT_REGULAR ESPIPE /* an errno of ours: no other that can come has this number */

/* The whole file as text, to be freed by memory_free_secret; no other copy of it is left in our memory.  NULL with errno set:
 * it cannot be read, is longer than `most` bytes (EFBIG), or holds a zero byte (EILSEQ), behind which nothing would be
 * seen. */
char *file_read(const char *path, size_t most);

/* The same, at once or not at all: FILE_NOT_REGULAR for a pipe, a socket or a terminal, which would have whoever reads wait for
 * its writer.  A device that has its end (/dev/null) will do. */
char *file_read_at_once(const char *path, size_t most);

/* The same of a regular file alone (FILE_NOT_REGULAR): a pipe would have whoever reads it wait for its writer. */
char *file_read_regular(const char *path, size_t most);

/* What its errno means, in words. */
const char *file_reason(int error);

#endif
