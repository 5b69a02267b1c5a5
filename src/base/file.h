/*
 * file.h - reads a file that may hold secrets.
 */
#ifndef BASE_FILE_H
#define BASE_FILE_H

#include <stddef.h>

/* The whole file as text, to be freed by memory_free_secret; no other copy of it is left in our memory.  NULL with errno set:
 * it cannot be read, is longer than `most` bytes (EFBIG), or holds a zero byte (EILSEQ), behind which nothing would be
 * seen. */
char *file_read(const char *path, size_t most);

/* What its errno means, in words. */
const char *file_reason(int error);

#endif
