/*
 * value.c - texts to values: numbers, durations, lists, addresses, networks.
 */
#include <arpa/inet.h>
#include <ctype.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/memory.h"
#include "config/config_parse.h"

static bool parse_bool(const char *text, bool *out)
{
    static const char *const yes[] = {"on", "yes", "true", "1", NULL};
    static const char *const no[] = {"off", "no", "false", "0", NULL};
    for (size_t i = 0; yes[i]; i++) {
        if (strcasecmp(text, yes[i]) == 0 || strcasecmp(text, no[i]) == 0) {
            *out = strcasecmp(text, yes[i]) == 0;
            return true;
        }
    }
    return false;
}

static bool parse_duration(const char *text, int64_t *out_us)
{
    static const struct {
        const char *unit;
        double us;
    } units[] = {{"us", 1},     {"ms", 1e3},   {"s", 1e6},    {"", 1e6},
                 {"min", 60e6}, {"h", 3600e6}, {"d", 86400e6}};
    char *end;
    if ((!isdigit((unsigned char)*text) && *text != '.') || strpbrk(text, "xX"))
        return false; /* strtod() reads words and hexadecimal, too */
    double number = strtod(text, &end);
    while (*end == ' ')
        end++;
    for (size_t i = 0; i < sizeof(units) / sizeof(units[0]); i++) {
        if (strcmp(end, units[i].unit) == 0 && number * units[i].us < 1e17) {
            *out_us = (int64_t)(number * units[i].us + 0.5);
            return true;
        }
    }
    return false;
}

/* Cuts the next item of a comma-separated list; NULL at the end. */
static char *next_item(char **at)
{
    while (*at) {
        char *item = strsep(at, ",");
        while (isspace((unsigned char)*item))
            item++;
        size_t length = strlen(item);
        while (length > 0 && isspace((unsigned char)item[length - 1]))
            item[--length] = '\0';
        if (length > 0)
            return item;
    }
    return NULL;
}

static bool parse_port(const char *text, uint16_t *port)
{
    char *end;
    long number = strtol(text, &end, 10);
    if (!*text || *end || number < 1 || number > 65535)
        return false;
    *port = (uint16_t)number;
    return true;
}

static bool parse_address(char *text, struct config_address *address)
{
    *address = (struct config_address){0};
    if (strncmp(text, "unix:", 5) == 0) {
        char *colon = strrchr(text + 5, ':');
        address->is_unix = true;
        if (colon && parse_port(colon + 1, &address->port))
            *colon = '\0';
        address->path = memory_strdup(text + 5);
        return text[5] == '/';
    }
    char *colon = strrchr(text, ':');
    if (!colon || !parse_port(colon + 1, &address->port))
        return false;
    *colon = '\0';
    size_t length = strlen(text);
    if (length > 2 && text[0] == '[' && text[length - 1] == ']') {
        text[length - 1] = '\0';
        text++;
    } else if (strchr(text, ':')) {
        return false; /* an IPv6 address needs its brackets */
    }
    address->host = memory_strdup(*text ? text : "*");
    return true;
}

static bool parse_addresses(const char *text, struct config_address_list *list)
{
    char *copy = memory_strdup(text);
    char *at = copy;
    bool ok = true;
    uint16_t port = 0;
    for (char *item; (item = next_item(&at));) {
        list->items = memory_resize(list->items, (list->count + 1) * sizeof(*list->items));
        ok &= parse_address(item, &list->items[list->count++]);
    }
    for (size_t i = 0; i < list->count && !port; i++)
        port = list->items[i].is_unix ? 0 : list->items[i].port;
    for (size_t i = 0; i < list->count; i++) {
        if (list->items[i].is_unix && !list->items[i].port)
            list->items[i].port = port ? port : 5432;
    }
    free(copy);
    return ok;
}

static void parse_names(const char *text, struct config_names *names)
{
    char *copy = memory_strdup(text);
    char *at = copy;
    for (char *item; (item = next_item(&at));) {
        names->items = memory_resize(names->items, (names->count + 1) * sizeof(*names->items));
        names->items[names->count++] = memory_strdup(item);
    }
    free(copy);
}

static bool parse_network(char *text, struct config_network *network)
{
    char *slash = strchr(text, '/');
    char *end = NULL;
    if (slash)
        *slash = '\0';
    *network = (struct config_network){.family = strchr(text, ':') ? AF_INET6 : AF_INET};
    if (inet_pton(network->family, text, network->address) != 1)
        return false;
    long most = network->family == AF_INET6 ? 128 : 32;
    long bits = slash ? strtol(slash + 1, &end, 10) : most;
    if ((slash && (*end || end == slash + 1)) || bits < 0 || bits > most)
        return false;
    network->bits = (unsigned)bits;
    return true;
}

static bool parse_networks(const char *text, struct config_networks *networks)
{
    char *copy = memory_strdup(text);
    char *at = copy;
    bool ok = true;
    for (char *item; ok && (item = next_item(&at));) {
        if (strcmp(item, "*") == 0 || strcmp(item, "any") == 0)
            continue;
        networks->items =
            memory_resize(networks->items, (networks->count + 1) * sizeof(*networks->items));
        ok = parse_network(item, &networks->items[networks->count++]);
    }
    free(copy);
    return ok;
}

static bool parse_choice(const struct option *option, const char *text, int *out, char *why,
                         size_t why_bytes)
{
    size_t used = (size_t)snprintf(why, why_bytes, "is not one of");
    for (int i = 0; option->choices[i]; i++) {
        if (strcasecmp(text, option->choices[i]) == 0) {
            *out = i;
            return true;
        }
        if (used < why_bytes)
            used += (size_t)snprintf(why + used, why_bytes - used, "%s %s", i ? "," : "",
                                     option->choices[i]);
    }
    return false;
}

static bool parse_int(const struct option *option, const char *text, int *out, char *why,
                      size_t why_bytes)
{
    char *end;
    long number = strtol(text, &end, 10);
    snprintf(why, why_bytes, "is not a number from %lld to %lld", (long long)option->min,
             (long long)option->max);
    if (!*text || *end || number < option->min || number > option->max)
        return false;
    *out = (int)number;
    return true;
}

bool value_parse(const struct option *option, void *base, const char *text, char *why,
                 size_t why_bytes)
{
    void *field = (char *)base + option->offset;
    int64_t duration;
    switch (option->type) {
    case OPTION_INT:
        return parse_int(option, text, field, why, why_bytes);
    case OPTION_PIN:
        if (strcasecmp(text, "allow") == 0 || strcasecmp(text, "deny") == 0) {
            *(int *)field = strcasecmp(text, "deny") == 0 ? 0 : -1;
            return true;
        }
        if (parse_int(option, text, field, why, why_bytes))
            return true;
        snprintf(why, why_bytes, "is neither allow nor deny nor a number of clients");
        return false;
    case OPTION_BOOL:
        snprintf(why, why_bytes, "is neither on nor off");
        return parse_bool(text, field);
    case OPTION_DURATION:
        snprintf(
            why, why_bytes,
            "is not a duration from 0 to %lld s: a number with ms, s, min, h, d, or bare seconds",
            (long long)option->max / 1000000);
        if (!parse_duration(text, &duration) || duration > option->max)
            return false;
        *(int64_t *)field = duration;
        return true;
    case OPTION_CHOICE:
        return parse_choice(option, text, field, why, why_bytes);
    case OPTION_ADDRESSES:
        snprintf(why, why_bytes, "is not a list of HOST:PORT, [IPv6]:PORT or unix:/directory");
        return parse_addresses(text, field);
    case OPTION_NAMES:
        parse_names(text, field);
        return true;
    case OPTION_NETWORKS:
        snprintf(why, why_bytes, "is not a list of networks such as 10.0.0.0/8");
        value_free(option, base); /* the default's */
        return parse_networks(text, field);
    case OPTION_TEXT:
    case OPTION_SECRET:
        free(*(char **)field);
        *(char **)field = *text ? memory_strdup(text) : NULL;
        return true;
    }
    return false;
}

void value_free(const struct option *option, void *base)
{
    void *field = (char *)base + option->offset;
    if (option->type == OPTION_ADDRESSES) {
        struct config_address_list *list = field;
        for (size_t i = 0; i < list->count; i++) {
            free(list->items[i].host);
            free(list->items[i].path);
        }
        free(list->items);
        *list = (struct config_address_list){0};
    } else if (option->type == OPTION_NAMES) {
        struct config_names *names = field;
        for (size_t i = 0; i < names->count; i++)
            free(names->items[i]);
        free(names->items);
        *names = (struct config_names){0};
    } else if (option->type == OPTION_NETWORKS) {
        struct config_networks *networks = field;
        free(networks->items);
        *networks = (struct config_networks){0};
    } else if (option->type == OPTION_TEXT || option->type == OPTION_SECRET) {
        memory_free_secret(*(char **)field);
        *(char **)field = NULL;
    }
}
