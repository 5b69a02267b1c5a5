#ifndef CONFIG_OPTIONS_H
#define CONFIG_OPTIONS_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
enum option_section {
    OPTION_PGRESERVE,
    OPTION_DATABASE,
    OPTION_POOL,
    OPTION_ADMIN,
    OPTION_AUTH,
    OPTION_TLS
};
enum option_type {
    OPTION_INT,
    OPTION_BOOL,
    OPTION_DURATION,
    OPTION_TEXT,
    OPTION_SECRET,
    OPTION_CHOICE,
    OPTION_ADDRESSES,
    OPTION_NAMES,
    OPTION_NETWORKS
};
struct option {
    enum option_section section;
    const char *key;
    enum option_type type;
    size_t offset;
    const char *def;
    int64_t min;
    int64_t max;
    const char *const *choices;
    bool is_changeable;
    const char *help;
};
extern const struct option options[];
extern const size_t option_count;
const struct option *option_find(enum option_section section, const char *key);
void options_print_help(FILE *out);
#endif
