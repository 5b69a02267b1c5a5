/*
 * import_setting.c - one setting of PgBouncer's, read and written: see import_inside.h.
 *
 * A value is written only where our own parser takes it and where it can stand in a file of ours; everything else becomes a note.
 */
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "cli/import_inside.h"
#include "cli/pgbouncer_database.h"
#include "config/config_parse.h"

const char *import_given(const struct import *import, const char *key)
{
    return pgbouncer_file_find(&import->file, "pgbouncer", key);
}

const char *import_given_or(const struct import *import, const char *key, const char *def)
{
    const char *value = import_given(import, key);
    return value && *value ? value : def;
}

int import_number(const struct import *import, const char *key, int def)
{
    const char *value = import_given(import, key);
    return value && *value ? atoi(value) : def;
}

void import_note(struct import *import, const char *key, const char *why)
{
    const char *value = import_given(import, key);
    pgbouncer_write_comment(import->notes_out, "%s = %s: %s.", key, value ? value : "", why);
}

/* Whether our own parser would take it. */
static bool is_valid(const struct option *option, const char *value, char *why, size_t why_bytes)
{
    struct config config = {0};
    struct config_pool pool = {0};
    void *base = option->section == OPTION_POOL ? (void *)&pool : (void *)&config;
    if (option->section == OPTION_DATABASE)
        return true;
    bool ok = value_parse(option, base, value, why, why_bytes);
    value_free(option, base);
    return ok;
}

void import_copied(struct import *import, const struct pgbouncer_key *key)
{
    const char *value = import_given(import, key->key);
    const struct option *option = option_find(key->section, key->ours);
    char why[256];
    if (!option) {
        if (value && *value)
            import_note(import, key->key, "this version of pgreserve has no such setting");
        return;
    }
    if (!value || !*value) {
        if (key->def)
            fprintf(import->out, "%s = %s\n", key->ours, key->def);
        return;
    }
    if (!is_valid(option, value, why, sizeof(why))) {
        char *text = memory_printf("as %s it %s", key->ours, why);
        import_note(import, key->key, text);
        free(text);
    } else if (!pgbouncer_fits(value)) {
        import_note(import, key->key, "the value cannot stand in this file: see pgreserve.ini(5)");
    } else {
        fprintf(import->out, "%s = %s\n", key->ours, value);
    }
}

void import_section(struct import *import, enum option_section section)
{
    for (size_t i = 0; i < pgbouncer_key_count; i++) {
        const struct pgbouncer_key *key = &pgbouncer_keys[i];
        if (key->meaning == PGBOUNCER_COPIED && key->section == section)
            import_copied(import, key);
    }
}
