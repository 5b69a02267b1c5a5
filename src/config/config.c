/*
 * config.c - from entries of the file to the configuration that the program runs by.
 *
 * Every value goes through the option table: defaults first, then the file's.  A [database:NAME] inherits from
 * [database:*] what it leaves empty, save a password that is not for its server; its url is taken apart by libpq.  Whatever is wrong is collected, and the whole is
 * refused when there is anything.  The entries stay with the config, for SHOW CONFIG.
 */
#include "config/config.h"

#include <arpa/inet.h>
#include <errno.h>
#include <libpq-fe.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/memory.h"
#include "config/config_parse.h"

extern const char conf_pgreserve_ini[];

#define CONFIG_FILE_MAX (8u << 20)

static const char built_in[] = "built-in configuration";

/* ---- sections ---- */

/* Which kind of section this is; the part behind the colon goes to `name`. */
static bool section_kind(const char *section, enum option_section *kind, const char **name)
{
    static const struct {
        const char *title;
        enum option_section kind;
    } plain[] = {{"pgreserve", OPTION_PGRESERVE},
                 {"admin", OPTION_ADMIN},
                 {"auth", OPTION_AUTH},
                 {"tls", OPTION_TLS}};
    *name = NULL;
    for (size_t i = 0; i < sizeof(plain) / sizeof(plain[0]); i++) {
        if (strcmp(section, plain[i].title) == 0) {
            *kind = plain[i].kind;
            return true;
        }
    }
    if (strncmp(section, "pool:", 5) == 0 && section[5]) {
        *kind = OPTION_POOL;
        *name = section + 5;
        return true;
    }
    if (strncmp(section, "database:", 9) == 0 && section[9]) {
        *kind = OPTION_DATABASE;
        *name = section + 9;
        return true;
    }
    return false;
}

static void set_defaults(enum option_section section, void *base)
{
    char why[128];
    for (size_t i = 0; i < option_count; i++) {
        if (options[i].section == section)
            value_parse(&options[i], base, options[i].def, why, sizeof(why));
    }
}

static struct config_pool *pool_of(struct config *config, const char *name)
{
    for (size_t i = 0; i < config->pool_count; i++) {
        if (strcmp(config->pools[i].name, name) == 0)
            return &config->pools[i];
    }
    config->pools = memory_resize(config->pools, (config->pool_count + 1) * sizeof(*config->pools));
    struct config_pool *pool = &config->pools[config->pool_count++];
    *pool = (struct config_pool){.name = memory_strdup(name)};
    set_defaults(OPTION_POOL, pool);
    return pool;
}

static void database_named(struct config *config, const char *name)
{
    for (size_t i = 0; i < config->database_count; i++) {
        if (strcmp(config->databases[i].name, name) == 0)
            return;
    }
    config->databases =
        memory_resize(config->databases, (config->database_count + 1) * sizeof(*config->databases));
    config->databases[config->database_count++] =
        (struct config_database){.name = memory_strdup(name)};
}

static void apply_section(struct config *config, struct reading *reading,
                          const struct section *section)
{
    enum option_section kind;
    const char *name;
    if (!section_kind(section->name, &kind, &name)) {
        reading_error(reading, section->line,
                      "[%s] is not a section: there are pgreserve, database:NAME, pool:NAME, "
                      "admin, auth and tls",
                      section->name);
        reading->is_incomplete = true;
    } else if (kind == OPTION_POOL) {
        pool_of(config, name);
    } else if (kind == OPTION_DATABASE) {
        database_named(config, name);
    }
}

static bool may_be_empty(const struct option *option)
{
    return option->type == OPTION_TEXT || option->type == OPTION_NAMES ||
           option->type == OPTION_NETWORKS || option->type == OPTION_ADDRESSES;
}

static void apply_entry(struct config *config, struct reading *reading, struct entry *entry)
{
    enum option_section kind;
    const char *name;
    char why[256];
    if (!section_kind(entry->section, &kind, &name))
        return;
    const struct option *option = option_find(kind, entry->key);
    if (!option) {
        reading_error(reading, entry->line, "%s is not a key of [%s]: see pgreserve --help-config",
                      entry->key, entry->section);
        return;
    }
    if (kind == OPTION_DATABASE || entry->is_unknown)
        return;
    void *base = kind == OPTION_POOL ? (void *)pool_of(config, name) : (void *)config;
    if (!*entry->value && !may_be_empty(option)) {
        reading_error(reading, entry->line, "%s has no value: give one or leave the line out",
                      entry->key);
        entry->is_unknown = true;
    } else if (!value_parse(option, base, entry->value, why, sizeof(why))) {
        reading_error(reading, entry->line, "%s = %s %s", entry->key, entry->value, why);
        entry->is_unknown = true;
        value_free(option, base); /* of a list, what was good */
    }
}

/* ---- databases ---- */

static struct entry *find_entry(const struct reading *reading, const char *database,
                                const char *key)
{
    for (size_t i = 0; i < reading->count; i++) {
        struct entry *entry = &reading->entries[i];
        if (strncmp(entry->section, "database:", 9) == 0 && *entry->value &&
            strcmp(entry->section + 9, database) == 0 && strcmp(entry->key, key) == 0)
            return entry;
    }
    return NULL;
}

static void replace(char **where, const char *value)
{
    memory_free_secret(*where);
    *where = memory_strdup(value);
}

static void add_keyword(struct config_database *database, const char *keyword, const char *value)
{
    size_t count = 0;
    while (database->keywords && database->keywords[count])
        count++;
    database->keywords = memory_resize(database->keywords, (count + 2) * sizeof(char *));
    database->values = memory_resize(database->values, (count + 2) * sizeof(char *));
    database->keywords[count] = memory_strdup(keyword);
    database->values[count] = memory_strdup(value);
    database->keywords[count + 1] = NULL;
    database->values[count + 1] = NULL;
}

static void apply_url(struct config_database *database, struct reading *reading, struct entry *url)
{
    char *error = NULL;
    if (url->is_unknown)
        return;
    PQconninfoOption *parts = PQconninfoParse(url->value, &error);
    if (!parts) {
        url->is_unknown = true;
        /* libpq quotes the text, password and all, in some of its messages: only what cannot hold it is shown */
        reading_error(reading, url->line,
                      "url is not a libpq connection string: "
                      "postgresql://user:password@host:port/database");
        PQfreemem(error);
        return;
    }
    for (PQconninfoOption *part = parts; part->keyword; part++) {
        if (!part->val || !*part->val)
            continue;
        if (strcmp(part->keyword, "dbname") == 0)
            replace(&database->dbname, part->val);
        else if (strcmp(part->keyword, "user") == 0)
            replace(&database->user, part->val);
        else if (strcmp(part->keyword, "password") == 0)
            replace(&database->password, part->val);
        else if (strcmp(part->keyword, "host") == 0)
            replace(&database->hosts, part->val);
        else if (strcmp(part->keyword, "hostaddr") == 0)
            replace(&database->hostaddrs, part->val);
        else if (strcmp(part->keyword, "port") == 0)
            replace(&database->ports, part->val);
        else
            add_keyword(database, part->keyword, part->val);
    }
    for (PQconninfoOption *part = parts; part->keyword; part++) {
        if (part->val && strstr(part->keyword, "password"))
            explicit_bzero(part->val, strlen(part->val));
    }
    PQconninfoFree(parts);
}

static bool same_words(const char *a, const char *b, const char *otherwise)
{
    return strcmp(a ? a : otherwise, b ? b : otherwise) == 0;
}

static bool same_server(const struct config_database *a, const struct config_database *b)
{
    return same_words(a->hosts, b->hosts, "") && same_words(a->hostaddrs, b->hostaddrs, "") &&
           same_words(a->ports, b->ports, "5432") &&
           same_words(config_url_value(a, "service"), config_url_value(b, "service"), "");
}

/* Whom to log in as.  A url of the section's own says it all when it names somebody; and the password of [database:*] is for the
 * server of [database:*], not for whoever may sit at another address. */
static void resolve_credentials(struct config_database *database, const struct reading *reading,
                                const struct config_database *star, bool is_own_url)
{
    const struct entry *user = find_entry(reading, database->name, "user");
    const struct entry *password = find_entry(reading, database->name, "password");
    bool names_user = is_own_url && database->user;
    bool names_password = is_own_url && database->password;
    if (!user && !names_user)
        user = find_entry(reading, "*", "user");
    if (!password && !names_user && !names_password &&
        (!is_own_url || (star && same_server(database, star))))
        password = find_entry(reading, "*", "password");
    if (user)
        replace(&database->user, user->value);
    if (password)
        replace(&database->password, password->value);
}

/* `star` is that of [database:*], resolved; NULL when there is none, or when this is it. */
static void resolve_database(struct config_database *database, struct reading *reading,
                             const struct config_database *star)
{
    struct entry *own_url = find_entry(reading, database->name, "url");
    struct entry *url = own_url ? own_url : find_entry(reading, "*", "url");
    const struct entry *dbname = find_entry(reading, database->name, "dbname");
    bool is_star = strcmp(database->name, "*") == 0;
    if (url)
        apply_url(database, reading, url);
    if (!is_star && !own_url)
        replace(&database->dbname, NULL);
    if (dbname)
        replace(&database->dbname, dbname->value);
    resolve_credentials(database, reading, star, own_url && !is_star);
    database->dbname_is_forced = !is_star && database->dbname;
    database->has_upstream = url || dbname || database->user || database->password;
}

static void resolve_databases(struct config *config, struct reading *reading)
{
    struct config_database *star = NULL;
    for (size_t i = 0; i < config->database_count; i++) {
        if (strcmp(config->databases[i].name, "*") == 0)
            star = &config->databases[i];
    }
    if (star)
        resolve_database(star, reading, NULL);
    for (size_t i = 0; i < config->database_count; i++) {
        if (&config->databases[i] != star)
            resolve_database(&config->databases[i], reading, star);
    }
}

/* ---- loading ---- */

static struct config *build(struct reading *reading)
{
    struct config *config = memory_alloc(sizeof(*config));
    config->path = memory_strdup(reading->name);
    set_defaults(OPTION_PGRESERVE, config);
    set_defaults(OPTION_ADMIN, config);
    set_defaults(OPTION_AUTH, config);
    set_defaults(OPTION_TLS, config);
    for (size_t i = 0; i < reading->section_count; i++)
        apply_section(config, reading, &reading->sections[i]);
    for (size_t i = 0; i < reading->count; i++)
        apply_entry(config, reading, &reading->entries[i]);
    resolve_databases(config, reading);
    config->raw = reading;
    config_check(config, reading);
    reading->errors = NULL;
    return config;
}

static struct config *when_right(struct config *config, const struct config_errors *errors,
                                 size_t before)
{
    if (config && errors->count == before)
        return config;
    config_free(config);
    return NULL;
}

struct config *config_from_reading(struct reading *reading, size_t before)
{
    const struct config_errors *errors = reading->errors;
    return when_right(build(reading), errors, before);
}

static struct config *parse(const char *name, const char *text, struct config_errors *errors)
{
    struct reading *reading = memory_alloc(sizeof(*reading));
    reading->name = memory_strdup(name);
    reading->errors = errors;
    reading_read(reading, text);
    return build(reading);
}

struct config *config_parse(const char *name, const char *text, struct config_errors *errors)
{
    size_t before = errors->count;
    return when_right(parse(name, text, errors), errors, before);
}

struct config *config_load(const char *path, bool may_wait, struct config_errors *errors)
{
    size_t before = errors->count;
    return when_right(config_load_anyhow(path, may_wait, errors), errors, before);
}

struct config *config_load_anyhow(const char *path, bool may_wait, struct config_errors *errors)
{
    if (!path)
        return parse(built_in, conf_pgreserve_ini, errors);
    char *text =
        may_wait ? file_read(path, CONFIG_FILE_MAX) : file_read_at_once(path, CONFIG_FILE_MAX);
    if (!text) {
        struct reading reading = {.name = path, .errors = errors};
        reading_error(&reading, 0, "cannot be read: %s", file_reason(errno));
        return NULL;
    }
    struct config *config = parse(path, text, errors);
    memory_free_secret(text);
    return config;
}

static void free_words(char **words)
{
    for (size_t i = 0; words && words[i]; i++)
        memory_free_secret(words[i]);
    free(words);
}

void config_free(struct config *config)
{
    if (!config)
        return;
    for (size_t i = 0; i < option_count; i++) {
        if (options[i].section == OPTION_POOL) {
            for (size_t j = 0; j < config->pool_count; j++)
                value_free(&options[i], &config->pools[j]);
        } else if (options[i].section != OPTION_DATABASE) {
            value_free(&options[i], config);
        }
    }
    for (size_t i = 0; i < config->pool_count; i++)
        free(config->pools[i].name);
    free(config->pools);
    for (size_t i = 0; i < config->database_count; i++) {
        struct config_database *database = &config->databases[i];
        free(database->name);
        free(database->dbname);
        free(database->user);
        memory_free_secret(database->password);
        free(database->hosts);
        free(database->hostaddrs);
        free(database->ports);
        free_words(database->keywords);
        free_words(database->values);
    }
    free(config->databases);
    struct reading *reading = config->raw;
    if (reading) {
        reading_free(reading);
        free((char *)reading->name);
        free(reading);
    }
    free(config->path);
    free(config);
}

void config_errors_free(struct config_errors *errors)
{
    for (size_t i = 0; i < errors->count; i++)
        free(errors->items[i]);
    free(errors->items);
    *errors = (struct config_errors){0};
}

/* ---- asking ---- */

const struct config_database *config_find_database(const struct config *config, const char *name)
{
    const struct config_database *any = NULL;
    for (size_t i = 0; i < config->database_count; i++) {
        if (strcmp(config->databases[i].name, name) == 0)
            return &config->databases[i];
        if (strcmp(config->databases[i].name, "*") == 0)
            any = &config->databases[i];
    }
    return any;
}

const char *config_url_value(const struct config_database *database, const char *keyword)
{
    for (size_t i = 0; database && database->keywords && database->keywords[i]; i++) {
        if (strcmp(database->keywords[i], keyword) == 0)
            return database->values[i];
    }
    return NULL;
}

const struct config_pool *config_find_pool(const struct config *config, const char *name)
{
    for (size_t i = 0; i < config->pool_count; i++) {
        if (strcmp(config->pools[i].name, name) == 0)
            return &config->pools[i];
    }
    return NULL;
}

bool config_names_contain(const struct config_names *names, const char *name)
{
    for (size_t i = 0; i < names->count; i++) {
        if (strcmp(names->items[i], name) == 0)
            return true;
    }
    return false;
}

bool config_names_allow(const struct config_names *names, const char *name)
{
    return names->count == 0 || config_names_contain(names, "*") ||
           (names->count == 1 && strcmp(names->items[0], "any") == 0) ||
           config_names_contain(names, name);
}

static bool network_holds(const struct config_network *network, int family, const uint8_t *address)
{
    if (network->family != family)
        return false;
    unsigned whole = network->bits / 8;
    unsigned rest = network->bits % 8;
    if (memcmp(network->address, address, whole) != 0)
        return false;
    return rest == 0 || (network->address[whole] ^ address[whole]) >> (8 - rest) == 0;
}

bool config_networks_allow(const struct config_networks *networks, const struct sockaddr *address)
{
    return networks->count == 0 || address->sa_family == AF_UNIX ||
           address->sa_family == AF_UNSPEC || config_networks_contain(networks, address);
}

bool config_networks_contain(const struct config_networks *networks, const struct sockaddr *address)
{
    int family = address->sa_family;
    const uint8_t *bytes = (const uint8_t *)&((const struct sockaddr_in *)address)->sin_addr;
    if (family == AF_INET6) {
        const struct in6_addr *in6 = &((const struct sockaddr_in6 *)address)->sin6_addr;
        bytes = in6->s6_addr;
        if (IN6_IS_ADDR_V4MAPPED(in6)) {
            family = AF_INET;
            bytes += 12;
        }
    }
    for (size_t i = 0; i < networks->count; i++) {
        if (network_holds(&networks->items[i], family, bytes))
            return true;
    }
    return false;
}

static const char *text_in_force(const struct config *config, const char *section,
                                 const struct option *option)
{
    const struct reading *reading = config->raw;
    for (size_t i = 0; reading && i < reading->count; i++) {
        if (strcmp(reading->entries[i].section, section) == 0 &&
            strcmp(reading->entries[i].key, option->key) == 0)
            return reading->entries[i].value;
    }
    return option->def;
}

static bool visit_section(const struct config *config, enum option_section kind,
                          const char *section, config_visitor visitor, void *arg)
{
    for (size_t i = 0; i < option_count; i++) {
        if (options[i].section != kind)
            continue;
        char *key = kind == OPTION_PGRESERVE ? memory_strdup(options[i].key)
                                             : memory_printf("%s.%s", section, options[i].key);
        const char *value = text_in_force(config, section, &options[i]);
        if (options[i].type == OPTION_SECRET && *value)
            value = "********";
        bool go_on = visitor(arg, key, value, options[i].def, options[i].is_changeable);
        free(key);
        if (!go_on)
            return false;
    }
    return true;
}

void config_visit(const struct config *config, config_visitor visitor, void *arg)
{
    bool go_on = visit_section(config, OPTION_PGRESERVE, "pgreserve", visitor, arg);
    for (size_t i = 0; go_on && i < config->database_count; i++) {
        char *section = memory_printf("database:%s", config->databases[i].name);
        go_on = visit_section(config, OPTION_DATABASE, section, visitor, arg);
        free(section);
    }
    for (size_t i = 0; go_on && i < config->pool_count; i++) {
        char *section = memory_printf("pool:%s", config->pools[i].name);
        go_on = visit_section(config, OPTION_POOL, section, visitor, arg);
        free(section);
    }
    if (go_on && visit_section(config, OPTION_ADMIN, "admin", visitor, arg) &&
        visit_section(config, OPTION_AUTH, "auth", visitor, arg))
        visit_section(config, OPTION_TLS, "tls", visitor, arg);
}

static void keep_one(struct config *next, const struct config *current, const char *section,
                     const struct option *option, void *base, config_reporter reporter, void *arg)
{
    const char *now = text_in_force(current, section, option);
    char why[256];
    if (strcmp(now, text_in_force(next, section, option)) == 0)
        return;
    char *line =
        memory_printf("%s in [%s] needs a restart; it stays %s", option->key, section, now);
    reporter(arg, line);
    free(line);
    value_free(option, base);
    value_parse(option, base, now, why, sizeof(why));
    struct reading *reading = next->raw;
    for (size_t i = 0; i < reading->count; i++) {
        if (strcmp(reading->entries[i].section, section) == 0 &&
            strcmp(reading->entries[i].key, option->key) == 0)
            replace(&reading->entries[i].value, now);
    }
}

void config_keep_unchangeable(struct config *next, const struct config *current,
                              config_reporter reporter, void *arg)
{
    for (size_t i = 0; i < option_count; i++) {
        const struct option *option = &options[i];
        if (option->is_changeable)
            continue;
        if (option->section == OPTION_PGRESERVE)
            keep_one(next, current, "pgreserve", option, next, reporter, arg);
        if (option->section == OPTION_ADMIN)
            keep_one(next, current, "admin", option, next, reporter, arg);
        for (size_t j = 0; option->section == OPTION_POOL && j < next->pool_count; j++) {
            if (!config_find_pool(current, next->pools[j].name))
                continue;
            char *section = memory_printf("pool:%s", next->pools[j].name);
            keep_one(next, current, section, option, &next->pools[j], reporter, arg);
            free(section);
        }
    }
}
