/*
 * file.c - reads a file that may hold secrets: see file.h.
 *
 * stdio and realloc() would each leave a copy behind: so it is read by read(2), and a buffer that has become too small is
 * wiped.
 */
#include "base/file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/memory.h"

#define PIECE_BYTES 4096

static char *larger(char *old, size_t length, size_t size)
{
    char *text = memory_alloc(size);
    memcpy(text, old, length);
    explicit_bzero(old, length);
    free(old);
    return text;
}

/* Takes `fd`, which is -1 when errno says why. */
static char *read_all(int fd, size_t most)
{
    struct stat about;
    if (fd < 0)
        return NULL;
    size_t size = PIECE_BYTES;
    if (fstat(fd, &about) == 0 && S_ISREG(about.st_mode) && about.st_size > 0 &&
        (size_t)about.st_size <= most)
        size += (size_t)about.st_size;
    char *text = memory_alloc(size);
    size_t length = 0;
    int error = 0;
    while (!error) {
        if (size - length < 2)
            text = larger(text, length, size *= 2);
        ssize_t got = read(fd, text + length, size - length - 1);
        if (got == 0)
            break;
        if (got > 0)
            length += (size_t)got;
        else if (errno != EINTR)
            error = errno;
        if (length > most)
            error = EFBIG;
    }
    close(fd);
    if (!error && memchr(text, 0, length))
        error = EILSEQ;
    if (!error) {
        text[length] = '\0';
        return text;
    }
    explicit_bzero(text, length);
    free(text);
    errno = error;
    return NULL;
}

char *file_read(const char *path, size_t most)
{
    return read_all(open(path, O_RDONLY | O_CLOEXEC), most);
}

char *file_read_at_once(const char *path, size_t most)
{
    struct stat about;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    if (fd >= 0 && fstat(fd, &about) == 0 &&
        S_ISFIFO(about.st_mode)) { /* without a writer it is empty */
        close(fd);
        errno = FILE_NOT_REGULAR;
        return NULL;
    }
    char *text = read_all(fd, most);
    if (!text && (errno == EAGAIN || errno == ENXIO))
        errno = FILE_NOT_REGULAR;
    return text;
}

char *file_read_regular(const char *path, size_t most)
{
    struct stat about;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    if (fd >= 0 && fstat(fd, &about) == 0 && !S_ISREG(about.st_mode)) {
        close(fd);
        errno = S_ISDIR(about.st_mode) ? EISDIR : FILE_NOT_REGULAR;
        return NULL;
    }
    return read_all(fd, most);
}

const char *file_reason(int error)
{
    if (error == FILE_NOT_REGULAR)
        return "it is no regular file";
    return error == EILSEQ ? "it holds a zero byte" : strerror(error);
}
