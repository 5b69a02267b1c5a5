/*
 * log_fold.c - repeated events of one kind become one line with a count: see log_fold.h.
 */
#include "base/log_fold.h"

#include <stdio.h>
#include <string.h>

static void write_held(struct log_fold_entry *entry, log_fold_writer writer, void *arg)
{
    if (entry->count > 0)
        writer(arg, entry->level, entry->body, entry->count,
               (double)(entry->last_us - entry->since_us) / 1e6);
    entry->count = 0;
}

static struct log_fold_entry *find(struct log_fold *fold, int level, const char *kind)
{
    for (int i = 0; i < FOLD_KINDS; i++) {
        struct log_fold_entry *entry = &fold->entries[i];
        if (entry->kind[0] && entry->level == level &&
            strncmp(entry->kind, kind, FOLD_KIND_BYTES - 1) == 0)
            return entry;
    }
    return NULL;
}

/* A free place, or that of the kind that was quiet longest. */
static struct log_fold_entry *make_room(struct log_fold *fold, log_fold_writer writer, void *arg)
{
    struct log_fold_entry *oldest = &fold->entries[0];
    for (int i = 0; i < FOLD_KINDS; i++) {
        struct log_fold_entry *entry = &fold->entries[i];
        if (!entry->kind[0])
            return entry;
        if (entry->last_us < oldest->last_us)
            oldest = entry;
    }
    write_held(oldest, writer, arg);
    return oldest;
}

bool log_fold_take(struct log_fold *fold, int level, const char *kind, const char *body,
                   int64_t now_us, log_fold_writer writer, void *arg)
{
    struct log_fold_entry *entry = find(fold, level, kind);
    bool is_over = entry && now_us - entry->since_us >= FOLD_WINDOW_US;
    bool goes_on = entry && entry->count > 0;
    if (is_over && goes_on) {
        write_held(entry, writer, arg);
        entry->since_us = now_us;
    }
    if (entry && (!is_over || goes_on)) {
        entry->count++;
        entry->last_us = now_us;
        snprintf(entry->body, sizeof(entry->body), "%s", body);
        return false;
    }
    if (!entry)
        entry = make_room(fold, writer, arg);
    snprintf(entry->kind, sizeof(entry->kind), "%s", kind);
    entry->level = level;
    entry->since_us = now_us;
    entry->last_us = now_us;
    return true;
}

void log_fold_flush(struct log_fold *fold, int64_t now_us, bool everything, log_fold_writer writer,
                    void *arg)
{
    for (int i = 0; i < FOLD_KINDS; i++) {
        struct log_fold_entry *entry = &fold->entries[i];
        if (!entry->kind[0] || (!everything && now_us - entry->since_us < FOLD_WINDOW_US))
            continue;
        bool goes_on = entry->count > 0;
        write_held(entry, writer, arg);
        entry->since_us = now_us; /* the next ones are counted from here */
        if (!goes_on)
            entry->kind[0] = '\0';
    }
}
