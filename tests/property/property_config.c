/*
 * property_config.c - whatever stands in the file, it is either in force as written or refused with its line.
 *
 * Two kinds of files.  Good ones are made from the option table, a value within its range for keys drawn at random: each
 * must be accepted, and SHOW CONFIG's walk must give every value back.  Bad ones are good ones with bytes broken
 * at random: they may be taken or refused, but a refusal has at least one line that names the file, the same text
 * gives the same answer twice, and no password is ever quoted.
 */
#include "config/config.h"

#include <string.h>

#include "base/memory.h"
#include "config/options.h"
#include "random.h"

#define GOOD_FILES 3000
#define BAD_FILES  6000
#define FILE_BYTES 8192

struct file {
    char text[FILE_BYTES];
    size_t length;
};

static struct file file;
/* What was written, by the option's place in the table: pool "p" only. */
static char written[100][64];

static void put(const char *text)
{
    size_t length = strlen(text);
    if (file.length + length < FILE_BYTES) {
        memcpy(file.text + file.length, text, length + 1);
        file.length += length;
    }
}

static void duration(char *out, size_t size, int64_t max_us)
{
    static const struct {
        const char *unit;
        int64_t us;
    } units[] = {{"ms", 1000},      {"s", 1000000},    {"", 1000000},
                 {"min", 60000000}, {"h", 3600000000}, {"d", 86400000000}};
    int which = random_below(6);
    int64_t most = max_us / units[which].us;
    int number = most < 1 ? 0 : random_below((int)(most > 1000 ? 1000 : most));
    snprintf(out, size, "%d%s%s", number, *units[which].unit && random_chance(20) ? " " : "",
             units[which].unit);
}

/* A value that the option takes and that no sum forbids. */
static void value_for(const struct option *option, char *out, size_t size)
{
    switch (option->type) {
    case OPTION_INT:
        snprintf(out, size, "%lld", (long long)option->min + random_below(40));
        break;
    case OPTION_BOOL:
        snprintf(out, size, "%s", random_chance(50) ? "on" : "off");
        break;
    case OPTION_DURATION:
        duration(out, size, option->max);
        break;
    case OPTION_NAMES:
        snprintf(out, size, "u%d, u%d", random_below(100), random_below(100));
        break;
    case OPTION_NETWORKS:
        snprintf(out, size, "10.%d.0.0/%d", random_below(256), 16 + random_below(17));
        break;
    default:
        out[0] = '\0';
    }
}

static bool is_drawn(const struct option *option)
{
    if (option->section != OPTION_POOL || strcmp(option->key, "size") == 0 ||
        strcmp(option->key, "reserved") == 0)
        return false;
    char value[64];
    value_for(option, value, sizeof(value));
    return value[0] != '\0' && random_chance(50);
}

static void make_good_file(void)
{
    file.length = 0;
    memset(written, 0, sizeof(written));
    put("[pgreserve]\ntotal_connections = 60\n[database:*]\n"
        "url = postgresql://ann:hunter2@db.example/shop\n[pool:p]\nlisten = 127.0.0.1:6432\n");
    for (size_t i = 0; i < option_count; i++) {
        if (!is_drawn(&options[i]))
            continue;
        char line[160];
        value_for(&options[i], written[i], sizeof(written[i]));
        snprintf(line, sizeof(line), "%s%s=%s%s%s\n", options[i].key, random_chance(50) ? " " : "",
                 random_chance(50) ? " " : "", written[i], random_chance(30) ? "  ; why" : "");
        put(line);
    }
}

static bool compare(void *arg, const char *key, const char *value, const char *def,
                    bool is_changeable)
{
    int *seen = arg;
    (void)is_changeable;
    if (strncmp(key, "pool:p.", 7) != 0)
        return true;
    const struct option *option = option_find(OPTION_POOL, key + 7);
    CHECK(option, "%s", key);
    const char *expected = written[option - options];
    if (*expected)
        CHECK(strcmp(value, expected) == 0, "%s is %s, not %s", key, value, expected);
    else if (strcmp(key + 7, "listen") != 0)
        CHECK(strcmp(value, def) == 0, "%s is %s by default, not %s", key, value, def);
    ++*seen;
    return true;
}

static void try_good_file(void)
{
    struct config_errors errors = {0};
    int seen = 0;
    make_good_file();
    struct config *config = config_parse("good.ini", file.text, &errors);
    CHECK(config, "%s\n%s", errors.count ? errors.items[0] : "no error", file.text);
    config_visit(config, compare, &seen);
    CHECK(seen > 20, "%d keys of the pool", seen);
    config_free(config);
    config_errors_free(&errors);
}

static void break_file(void)
{
    static const char worst[] = "[]=;:${}\n\r\t \"',#\\0123456789-.\x01\xff%sau";
    for (int i = 1 + random_below(6); i > 0; i--) {
        size_t at = (size_t)random_below((int)file.length);
        switch (random_below(3)) {
        case 0:
            file.text[at] = worst[random_below((int)sizeof(worst) - 1)];
            break;
        case 1:
            memmove(file.text + at, file.text + at + 1, file.length - at);
            file.length--;
            break;
        default:
            if (file.length + 2 < FILE_BYTES) {
                memmove(file.text + at + 1, file.text + at, file.length - at + 1);
                file.text[at] = worst[random_below((int)sizeof(worst) - 1)];
                file.length++;
            }
        }
    }
}

static bool quotes_the_password(const struct config_errors *errors)
{
    for (size_t i = 0; i < errors->count; i++) {
        if (strstr(errors->items[i], "hunter2"))
            return true;
    }
    return false;
}

static void try_bad_file(void)
{
    struct config_errors errors = {0};
    struct config_errors again = {0};
    make_good_file();
    break_file();
    struct config *config = config_parse("bad.ini", file.text, &errors);
    struct config *second = config_parse("bad.ini", file.text, &again);
    CHECK((config == NULL) == (second == NULL), "two answers to\n%s", file.text);
    CHECK(errors.count == again.count, "two answers to\n%s", file.text);
    CHECK(config || errors.count > 0, "refused without a word:\n%s", file.text);
    CHECK(!config || errors.count == 0, "taken and complained of:\n%s", file.text);
    for (size_t i = 0; i < errors.count; i++)
        CHECK(strncmp(errors.items[i], "bad.ini", 7) == 0, "%s", errors.items[i]);
    /* a key that the damage has made of the url's line is quoted with its value, as any value is: the url's never */
    CHECK(!strstr(file.text, "\nurl = postgresql://ann:hunter2@") || !quotes_the_password(&errors),
          "the password is shown:\n%s", file.text);
    config_free(config);
    config_free(second);
    config_errors_free(&errors);
    config_errors_free(&again);
}

int main(int argc, char **argv)
{
    CHECK(option_count <= sizeof(written) / sizeof(written[0]), "%zu options", option_count);
    random_start(seed_from(argc, argv, 20240601));
    for (random_step = 0; random_step < GOOD_FILES; random_step++)
        try_good_file();
    for (random_step = 0; random_step < BAD_FILES; random_step++)
        try_bad_file();
    printf("%ld checks held\n", checks_passed);
    return 0;
}
