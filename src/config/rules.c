/*
 * rules.c - hba_file and ident_file, read together: see rules.h.
 *
 * A line of PostgreSQL's can ask for what this configuration does not have.  Such a line is an error at the start and at a
 * reload, not a surprise at somebody's login.
 */
#include "config/rules.h"

#include <dirent.h>
#include <stdlib.h>

#include "base/file.h"
#include "base/memory.h"
#include "config/config_parse.h"

/* ---- the files ---- */

static char *read_rules(void *arg, const char *path)
{
    (void)arg;
    return file_read_regular(path, RULE_BYTES_MAX);
}

static char **list_directory(void *arg, const char *path)
{
    struct dirent **entries;
    (void)arg;
    int count = scandir(path, &entries, NULL, alphasort);
    if (count < 0)
        return NULL;
    char **names = memory_alloc(((size_t)count + 1) * sizeof(*names));
    for (int i = 0; i < count; i++) {
        names[i] = memory_strdup(entries[i]->d_name);
        free(entries[i]);
    }
    free(entries);
    return names;
}

/* ---- against the configuration ---- */

static bool asks_password(const struct hba_rule *rule)
{
    return rule->method == HBA_MD5 || rule->method == HBA_SCRAM_SHA_256 ||
           rule->method == HBA_PASSWORD;
}

static void check_rule(const struct config *config, const struct hba_rule *rule,
                       struct config_errors *errors)
{
    char door[128];
    if (rule->map && !config->ident_file)
        rule_error(errors, rule->file, rule->line, "map=%s needs [auth] ident_file", rule->map);
    if (rule->clientcert && config->tls_client_mode != TLS_CLIENT_DISABLE &&
        !config->tls_client_ca_file)
        rule_error(errors, rule->file, rule->line,
                   "checking clients' certificates needs [tls] client_ca_file");
    if (asks_password(rule) && !config_knows_passwords(config))
        rule_error(errors, rule->file, rule->line,
                   "no way to tell who a client is: give [auth] users_file or auth_query, or the "
                   "upstream's user and password");
    if (rule->method == HBA_TRUST && !rule->clientcert && hba_rule_reaches_out(rule) &&
        config_open_door(config, door, sizeof(door)))
        rule_error(errors, rule->file, rule->line,
                   "trust lets anyone in who comes from there, and %s listens beyond loopback: use "
                   "scram-sha-256, or say i_know_this_is_open = yes",
                   door);
}

struct rules *rules_read(const struct config *config, const struct rule_source *source,
                         struct config_errors *errors)
{
    size_t before = errors->count;
    struct rules *rules = memory_alloc(sizeof(*rules));
    if (config->hba_file)
        rules->hba = hba_read(config->hba_file, source, errors);
    if (config->ident_file)
        rules->ident = ident_read(config->ident_file, source, errors);
    for (size_t i = 0; rules->hba && i < rules->hba->count; i++)
        check_rule(config, &rules->hba->rules[i], errors);
    if (rules->hba && errors->count == before)
        return rules;
    rules_free(rules);
    return NULL;
}

struct rules *rules_load(const struct config *config, struct config_errors *errors)
{
    static const struct rule_source files = {read_rules, list_directory, NULL};
    return rules_read(config, &files, errors);
}

void rules_free(struct rules *rules)
{
    if (!rules)
        return;
    hba_free(rules->hba);
    ident_free(rules->ident);
    free(rules);
}
