/*
 * process.h - what the system says of this process.
 */
#ifndef BASE_PROCESS_H
#define BASE_PROCESS_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/resource.h>

struct process_figures {
    double cpu_seconds; /* user and system */
    int64_t resident_bytes;
    int64_t virtual_bytes;
    int64_t open_fds;
    int64_t max_fds; /* INT64_MAX: no limit */
};

/* Reads them; a figure that cannot be had (no /proc) is 0. */
void process_figures_read(struct process_figures *figures);

/* Whether a crash may leave a core behind.  It would hold every password that the process knows. */
void process_allow_core_dumps(bool is_allowed);

/* To be called at the start: keeps open what process_may_grow() reads, for when it is needed there may be no descriptor. */
void process_prepare_to_grow(void);
/* From now on the process may take so many bytes of memory more, and no more: what asks for that gets none.  Of all threads, so
 * `most_bytes` is to be more than the others can want meanwhile.  Returns what process_may_grow_freely() is to be given soon. */
struct rlimit process_may_grow(int64_t most_bytes);
void process_may_grow_freely(const struct rlimit *before);

/* The number that an environment variable holds, as a service manager sets them; 0 when there is none, or it is no number
 * or below 0. */
int64_t process_variable(const char *name);

#endif
