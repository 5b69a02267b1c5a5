/*
 * config_change.c - a configuration like another but for a few values: SET on the console.
 *
 * The entries of the one in force are copied, the changed values put in, and the whole is built and checked as if it had
 * been read from a file: what a file could not say, SET cannot either.
 */
#include <string.h>

#include "base/memory.h"
#include "config/config_parse.h"

static struct entry *entry_for(struct reading *reading, const struct config_change *change)
{
    for (size_t i = 0; i < reading->count; i++) {
        struct entry *entry = &reading->entries[i];
        if (strcmp(entry->section, change->section) == 0 && strcmp(entry->key, change->key) == 0)
            return entry;
    }
    struct entry *entry = &reading->entries[reading->count++];
    *entry = (struct entry){.section = memory_strdup(change->section),
                            .key = memory_strdup(change->key)};
    return entry;
}

struct config *config_changed(const struct config *config, const struct config_change *changes,
                              size_t count, struct config_errors *errors)
{
    const struct reading *current = config->raw;
    struct reading *reading = memory_alloc(sizeof(*reading));
    size_t before = errors->count;
    reading->name = memory_strdup(config->path);
    reading->errors = errors;
    reading->entries = memory_alloc((current->count + count) * sizeof(*reading->entries));
    for (size_t i = 0; i < current->count; i++) {
        const struct entry *entry = &current->entries[i];
        reading->entries[reading->count++] =
            (struct entry){.section = memory_strdup(entry->section),
                           .key = memory_strdup(entry->key),
                           .value = memory_strdup(entry->value),
                           .line = entry->line};
    }
    for (size_t i = 0; i < current->section_count; i++)
        reading_section(reading, current->sections[i].name, current->sections[i].line);
    for (size_t i = 0; i < count; i++) {
        reading_section(reading, changes[i].section, 0);
        struct entry *entry = entry_for(reading, &changes[i]);
        memory_free_secret(entry->value);
        entry->value = memory_strdup(changes[i].value);
        entry->line = 0;
    }
    return config_from_reading(reading, before);
}
