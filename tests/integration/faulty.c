/*
 * faulty.c - a machine that is out of something: preloaded into the daemon (faulty.py builds and drives it).
 *
 * A file, mapped by the test and by the daemon, says which calls are counted, the how manieth of them fails, with what, and
 * how many fail after it.  It also says by how much the clocks are wrong, and how slow reading is.  Of malloc and its like, those of the
 * program itself and those of its libraries are two kinds, for the program ends when it gets nothing (base/memory.h).
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <link.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#define LARGE 16384

enum kind { OWN_MEMORY, LIBRARY_MEMORY, SEND, RECV, ACCEPT, SOCKET, EPOLL_CTL, THREAD };

/* Eight bytes each; faulty.py has the same. */
struct control {
    _Atomic int64_t kinds; /* bits */
    _Atomic int64_t at;    /* the first that fails; 1 is the next */
    _Atomic int64_t count; /* how many fail */
    _Atomic int64_t error;
    _Atomic int64_t calls;
    _Atomic int64_t failed;
    _Atomic int64_t wall_s;      /* by how much the clock of the wall is wrong */
    _Atomic int64_t monotonic_s; /* and the one that should only ever go on */
    _Atomic int64_t slow_us;     /* a large read takes so long: the machine is slower than those whom it serves */
};

static struct control nothing;
static struct control *control = &nothing;
static uintptr_t program_begin;
static uintptr_t program_end;

static int find_program(struct dl_phdr_info *info, size_t size, void *arg)
{
    (void)size;
    (void)arg;
    for (int i = 0; i < info->dlpi_phnum; i++) {
        uintptr_t begin = info->dlpi_addr + info->dlpi_phdr[i].p_vaddr;
        if (info->dlpi_phdr[i].p_type != PT_LOAD)
            continue;
        if (program_begin == 0 || begin < program_begin)
            program_begin = begin;
        if (begin + info->dlpi_phdr[i].p_memsz > program_end)
            program_end = begin + info->dlpi_phdr[i].p_memsz;
    }
    return 1; /* the program comes first */
}

__attribute__((constructor)) static void begin(void)
{
    const char *path = getenv("FAULTY_CONTROL");
    int fd = path ? open(path, O_RDWR | O_CLOEXEC) : -1;
    dl_iterate_phdr(find_program, NULL);
    if (fd < 0)
        return;
    void *at = mmap(NULL, sizeof(struct control), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    close(fd);
    if (at != MAP_FAILED)
        control = at;
}

static bool fails(enum kind kind)
{
    if (!(control->kinds & (int64_t)1 << kind))
        return false;
    int64_t number = ++control->calls;
    if (number < control->at || number >= control->at + control->count)
        return false;
    control->failed++;
    errno = (int)control->error;
    return true;
}

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

/* ---- memory ---- */

#ifndef SANITIZED
extern void *__libc_malloc(size_t size);
extern void *__libc_calloc(size_t count, size_t size);
extern void *__libc_realloc(void *old, size_t size);

static bool has_none(void *caller)
{
    uintptr_t at = (uintptr_t)caller;
    return fails(at >= program_begin && at < program_end ? OWN_MEMORY : LIBRARY_MEMORY);
}

void *malloc(size_t size)
{
    return has_none(__builtin_return_address(0)) ? NULL : __libc_malloc(size);
}

void *calloc(size_t count, size_t size)
{
    return has_none(__builtin_return_address(0)) ? NULL : __libc_calloc(count, size);
}

void *realloc(void *old, size_t size)
{
    return has_none(__builtin_return_address(0)) ? NULL : __libc_realloc(old, size);
}
#endif

/* ---- the kernel ---- */

ssize_t send(int fd, const void *bytes, size_t size, int flags)
{
    return fails(SEND) ? -1 : REAL(send)(fd, bytes, size, flags);
}

static bool is_socket(int fd)
{
    struct stat at;
    return fstat(fd, &at) == 0 && S_ISSOCK(at.st_mode);
}

ssize_t write(int fd, const void *bytes, size_t size)
{
    return is_socket(fd) && fails(SEND) ? -1 : REAL(write)(fd, bytes, size);
}

ssize_t read(int fd, void *bytes, size_t size)
{
    return is_socket(fd) && fails(RECV) ? -1 : REAL(read)(fd, bytes, size);
}

static ssize_t slowly(ssize_t got)
{
    if (got >= LARGE && control->slow_us > 0)
        usleep((useconds_t)control->slow_us);
    return got;
}

ssize_t recv(int fd, void *bytes, size_t size, int flags)
{
    return fails(RECV) ? -1 : slowly(REAL(recv)(fd, bytes, size, flags));
}

/* The way in which the daemon itself sends and receives. */
long syscall(long number, ...)
{
    long with[6];
    va_list arguments;
    va_start(arguments, number);
    for (int i = 0; i < 6; i++)
        with[i] = va_arg(arguments, long);
    va_end(arguments);
    if ((number == SYS_sendto && fails(SEND)) || (number == SYS_recvfrom && fails(RECV)))
        return -1;
    long result = REAL(syscall)(number, with[0], with[1], with[2], with[3], with[4], with[5]);
    return number == SYS_recvfrom ? slowly(result) : result;
}

int accept4(int fd, struct sockaddr *restrict address, socklen_t *restrict length, int flags)
{
    return fails(ACCEPT) ? -1 : REAL(accept4)(fd, address, length, flags);
}

int socket(int domain, int type, int protocol)
{
    return fails(SOCKET) ? -1 : REAL(socket)(domain, type, protocol);
}

int epoll_ctl(int set, int what, int fd, struct epoll_event *event)
{
    return what != EPOLL_CTL_DEL && fails(EPOLL_CTL) ? -1 : REAL(epoll_ctl)(set, what, fd, event);
}

int pthread_create(pthread_t *restrict thread, const pthread_attr_t *restrict attributes, void *(*run)(void *),
                   void *restrict arg)
{
    return fails(THREAD) ? errno : REAL(pthread_create)(thread, attributes, run, arg);
}

/* ---- the clocks ---- */

int clock_gettime(clockid_t clock, struct timespec *at)
{
    static __typeof__(&clock_gettime) real;
    if (!real)
        real = REAL(clock_gettime);
    int result = real(clock, at);
    if (result == 0 && clock == CLOCK_REALTIME)
        at->tv_sec += control->wall_s;
    if (result == 0 && (clock == CLOCK_MONOTONIC || clock == CLOCK_MONOTONIC_COARSE))
        at->tv_sec += control->monotonic_s;
    return result;
}

int gettimeofday(struct timeval *restrict at, void *restrict zone)
{
    struct timespec now;
    (void)zone;
    if (clock_gettime(CLOCK_REALTIME, &now) != 0)
        return -1;
    at->tv_sec = now.tv_sec;
    at->tv_usec = now.tv_nsec / 1000;
    return 0;
}

time_t time(time_t *at)
{
    struct timespec now = {0};
    clock_gettime(CLOCK_REALTIME, &now);
    if (at)
        *at = now.tv_sec;
    return now.tv_sec;
}
