/*
 * process.c - what the system says of this process: see process.h.
 */
#include "base/process.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

static double seconds_of(const struct timeval *time)
{
    return (double)time->tv_sec + (double)time->tv_usec / 1e6;
}

static void read_memory(struct process_figures *figures)
{
    long long total;
    long long resident;
    FILE *file = fopen("/proc/self/statm", "re");
    if (!file)
        return;
    if (fscanf(file, "%lld %lld", &total, &resident) == 2) {
        figures->virtual_bytes = total * sysconf(_SC_PAGESIZE);
        figures->resident_bytes = resident * sysconf(_SC_PAGESIZE);
    }
    (void)fclose(file);
}

/* Linux 6.2 and later give the number as the directory's size; before that it is 0, and with 10,000 clients the
 * walk over the entries takes milliseconds. */
static int64_t count_descriptors(void)
{
    struct stat about;
    if (stat("/proc/self/fd", &about) == 0 && about.st_size > 0)
        return about.st_size;
    DIR *directory = opendir("/proc/self/fd");
    int64_t count = 0;
    if (!directory)
        return 0;
    for (const struct dirent *entry = readdir(directory); entry; entry = readdir(directory))
        count += entry->d_name[0] != '.';
    closedir(directory);
    return count - 1; /* the directory's own */
}

void process_figures_read(struct process_figures *figures)
{
    struct rusage usage;
    struct rlimit limit;
    *figures = (struct process_figures){0};
    if (getrusage(RUSAGE_SELF, &usage) == 0)
        figures->cpu_seconds = seconds_of(&usage.ru_utime) + seconds_of(&usage.ru_stime);
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0)
        figures->max_fds = limit.rlim_cur > (rlim_t)INT64_MAX ? INT64_MAX : (int64_t)limit.rlim_cur;
    read_memory(figures);
    figures->open_fds = count_descriptors();
}

/* A limit of 0 is for files only: a core that goes to a program (core(5), `|`) is dumped whatever the limit, unless that is
 * exactly 1, which stands for "this is such a program itself" and is too small for any file.  The hard limit stays, so that
 * a reload can change its mind. */
void process_allow_core_dumps(bool is_allowed)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_CORE, &limit) < 0)
        return;
    limit.rlim_cur = is_allowed || limit.rlim_max < 1 ? limit.rlim_max : 1;
    (void)setrlimit(RLIMIT_CORE, &limit);
}

#ifdef __has_feature
#define HAS_FEATURE(name) __has_feature(name)
#else
#define HAS_FEATURE(name) 0
#endif

static int statm = -1;

void process_prepare_to_grow(void)
{
    if (statm < 0)
        statm = open("/proc/self/statm", O_RDONLY | O_CLOEXEC);
}

/* What RLIMIT_DATA is held against, or little more; -1 when it cannot be told. */
static int64_t data_bytes(void)
{
    char text[256];
    long long data;
    process_prepare_to_grow();
    ssize_t length = pread(statm, text, sizeof(text) - 1, 0);
    text[length > 0 ? length : 0] = '\0';
    return sscanf(text, "%*s %*s %*s %*s %*s %lld", &data) == 1 ? data * sysconf(_SC_PAGESIZE) : -1;
}

/* The address sanitizer ends the process where malloc() would return nothing: there it does nothing. */
struct rlimit process_may_grow(int64_t most_bytes)
{
#if defined(__SANITIZE_ADDRESS__) || HAS_FEATURE(address_sanitizer)
    most_bytes = INT64_MAX / 2;
#endif
    struct rlimit before = {RLIM_INFINITY, RLIM_INFINITY};
    struct rlimit limit;
    int64_t data = data_bytes();
    if (getrlimit(RLIMIT_DATA, &before) < 0 || data < 0)
        return before;
    limit = before;
    if (limit.rlim_cur == RLIM_INFINITY || limit.rlim_cur > (rlim_t)(data + most_bytes))
        limit.rlim_cur = (rlim_t)(data + most_bytes);
    (void)setrlimit(RLIMIT_DATA, &limit);
    return before;
}

void process_may_grow_freely(const struct rlimit *before)
{
    (void)setrlimit(RLIMIT_DATA, before);
}

int64_t process_variable(const char *name)
{
    const char *text = getenv(name);
    char *end;
    if (!text || !*text)
        return 0;
    long long number = strtoll(text, &end, 10);
    return *end || number < 0 ? 0 : number;
}
