/*
 * fuzz_config.c - the configuration file and the users file, which an operator's mistake may fill with anything.
 *
 * The first byte says which.  What is refused is refused with a reason; a configuration that passes can be walked, and
 * changed at run time.
 */
#include "config/config.h"
#include "config/users.h"

#include "fuzz.h"

static bool on_option(void *arg, const char *key, const char *value, const char *def,
                      bool is_changeable)
{
    size_t *count = arg;
    (void)is_changeable;
    fuzz_claim(key && value && def, "an option is complete");
    ++*count;
    return true;
}

static void on_unchangeable(void *arg, const char *line)
{
    (void)arg;
    fuzz_claim(*line != '\0', "a report says something");
}

static void walk(struct config *config)
{
    static const struct config_change change = {"pgreserve", "total_connections", "61"};
    struct config_errors errors = {0};
    size_t count = 0;
    config_visit(config, on_option, &count);
    fuzz_claim(count > 0, "there are options");
    config_find_database(config, "app");
    struct config *next = config_changed(config, &change, 1, &errors);
    fuzz_claim((next == NULL) == (errors.count > 0), "refused with a reason, else without one");
    config_errors_free(&errors);
    if (!next)
        return;
    config_keep_unchangeable(next, config, on_unchangeable, NULL);
    config_free(next);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t length)
{
    struct fuzz_input input = {bytes, length};
    struct config_errors errors = {0};
    uint8_t what = fuzz_byte(&input);
    char *text = fuzz_text(input.bytes, input.left);
    if (what & 1) {
        struct users *users = users_parse("users", text, &errors);
        fuzz_claim(users || errors.count > 0, "a users file is refused with a reason");
        if (users) {
            users_find(users, "postgres");
            users_free(users);
        }
    } else {
        struct config *config = config_parse("pgreserve.ini", text, &errors);
        fuzz_claim((config == NULL) == (errors.count > 0), "refused with a reason");
        if (config) {
            walk(config);
            config_free(config);
        }
    }
    config_errors_free(&errors);
    free(text);
    return 0;
}
