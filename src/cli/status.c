/*
 * status.c - `pgreserve status`: see status.h.
 *
 * daemon.c asks, draw.c draws, screen.c keeps the terminal; here are the arguments, the choice of doors and the exit
 * status, which scripts and health checks go by.
 */
#include "cli/status.h"

#include <langinfo.h>
#include <locale.h>
#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/environment.h"
#include "cli/daemon.h"
#include "cli/draw.h"
#include "cli/screen.h"
#include "config/config.h"

#define UNREACHABLE   3
#define WATCH_DEFAULT 2.0
#define WATCH_MOST    86400.0
#define WATCH_LEAST   0.05
#define WHY_BYTES     2048

struct arguments {
    bool as_json;
    bool is_ascii;
    double watch; /* seconds between two drawings; 0: once */
    char *url;
    const char *file;
};

static bool take_watch(struct arguments *arguments, const char *text)
{
    char *rest;
    arguments->watch = strtod(text, &rest);
    if (rest != text && (*rest == '\0' || strcmp(rest, "s") == 0) &&
        arguments->watch >= WATCH_LEAST && arguments->watch <= WATCH_MOST)
        return true;
    fprintf(stderr, "pgreserve: --watch takes seconds from %g to %g, not \"%s\"\n", WATCH_LEAST,
            WATCH_MOST, text);
    return false;
}

static bool take_arguments(struct arguments *arguments, int argc, char **argv)
{
    for (int i = 0; i < argc; i++) {
        char *word = argv[i];
        bool has_next = i + 1 < argc;
        if (strcmp(word, "--json") == 0)
            arguments->as_json = true;
        else if (strcmp(word, "--ascii") == 0)
            arguments->is_ascii = true;
        else if (strcmp(word, "--watch") == 0)
            arguments->watch = WATCH_DEFAULT;
        else if (strncmp(word, "--watch=", 8) == 0) {
            if (!take_watch(arguments, word + 8))
                return false;
        } else if (strcmp(word, "--url") == 0 && has_next)
            arguments->url = argv[++i];
        else if (strncmp(word, "--url=", 6) == 0)
            arguments->url = word + 6;
        else if (strcmp(word, "-c") == 0 && has_next)
            arguments->file = argv[++i];
        else {
            fprintf(stderr, "pgreserve: status does not know %s\n", word);
            return false;
        }
    }
    return true;
}

/* Where to ask; false after saying why there is nowhere. */
static bool find_doors(struct daemon_doors *doors, const struct arguments *arguments)
{
    struct config_errors errors = {0};
    char why[WHY_BYTES];
    if (arguments->url) {
        environment_put_back(); /* no file says where to ask: PGPASSWORD counts, as for psql */
        bool is_door = daemon_doors_from_url(doors, arguments->url, why, sizeof(why));
        memset(arguments->url, 'x', strlen(arguments->url)); /* `ps` shows it, password and all */
        if (is_door)
            return true;
        fprintf(stderr, "pgreserve: %s", why);
        return false;
    }
    /* the daemon has its secrets from an environment of its own, which need not be ours: only [admin] counts here */
    struct config *config = config_load_anyhow(arguments->file, true, &errors);
    if (config)
        daemon_doors_of(doors, config);
    for (size_t i = 0; i < errors.count && doors->count == 0; i++)
        fprintf(stderr, "%s\n", errors.items[i]);
    if (errors.count == 0 && doors->count == 0)
        fprintf(stderr, "pgreserve: the configuration has neither [admin] http nor [admin] listen: "
                        "say --url\n");
    config_errors_free(&errors);
    config_free(config);
    return doors->count > 0;
}

static struct draw_style choose_style(const struct arguments *arguments)
{
    const char *no_colour = getenv("NO_COLOR");
    const char *terminal = getenv("TERM");
    setlocale(LC_CTYPE, "");
    bool is_plain = (no_colour && *no_colour) || !terminal || strcmp(terminal, "dumb") == 0;
    return (struct draw_style){
        .is_ascii = arguments->is_ascii || strcmp(nl_langinfo(CODESET), "UTF-8") != 0,
        .has_colour = isatty(STDOUT_FILENO) && !is_plain,
    };
}

static int exit_status(const json_t *status)
{
    static const struct {
        const char *state;
        int status;
    } states[] = {{"healthy", 0}, {"high_load", 1}};
    const char *state = json_string_value(json_object_get(status, "state"));
    for (size_t i = 0; i < sizeof(states) / sizeof(states[0]); i++) {
        if (state && strcmp(state, states[i].state) == 0)
            return states[i].status;
    }
    return 2;
}

static char *as_text(const json_t *status, const struct arguments *arguments,
                     const struct draw_style *style)
{
    if (!arguments->as_json)
        return draw_status(status, style);
    char *text = NULL;
    size_t bytes = 0;
    FILE *out = open_memstream(&text, &bytes);
    json_dumpf(status, out, JSON_INDENT(2) | JSON_REAL_PRECISION(6));
    fputc('\n', out);
    fclose(out);
    return text;
}

static int show_once(const struct daemon_doors *doors, const struct arguments *arguments,
                     const struct draw_style *style)
{
    char why[WHY_BYTES];
    json_t *status = daemon_ask(doors, why, sizeof(why));
    if (!status) {
        fprintf(stderr, "pgreserve: the daemon cannot be reached\n%s", why);
        return UNREACHABLE;
    }
    char *text = as_text(status, arguments, style);
    fputs(text, stdout);
    free(text);
    int result = exit_status(status);
    json_decref(status);
    return fflush(stdout) == 0 ? result : UNREACHABLE;
}

/* One drawing of the watch: the tree, the history, and what to press. */
static int draw_frame(const struct daemon_doors *doors, const struct arguments *arguments,
                      const struct draw_style *style, struct draw_history *history,
                      bool is_terminal)
{
    char why[WHY_BYTES];
    char *frame = NULL;
    size_t bytes = 0;
    json_t *status = daemon_ask(doors, why, sizeof(why));
    int result = status ? exit_status(status) : UNREACHABLE;
    FILE *out = open_memstream(&frame, &bytes);
    if (status) {
        char *tree = as_text(status, arguments, style);
        draw_history_add(history, status);
        fputs(tree, out);
        free(tree);
    } else {
        fprintf(out, "pgreserve: the daemon cannot be reached\n%s", why);
    }
    if (!arguments->as_json) {
        char *charts = draw_history(history, arguments->watch, style);
        fprintf(out, "%s%s\n", charts, is_terminal ? "Ctrl-C ends the watch" : "");
        free(charts);
    }
    fclose(out);
    screen_draw(frame);
    free(frame);
    json_decref(status);
    return result;
}

static int watch(const struct daemon_doors *doors, const struct arguments *arguments,
                 const struct draw_style *style)
{
    struct draw_history history = {0};
    const char *terminal = getenv("TERM");
    bool is_terminal =
        isatty(STDOUT_FILENO) && terminal && strcmp(terminal, "dumb") != 0 && !arguments->as_json;
    int result;
    screen_open(is_terminal);
    do {
        result = draw_frame(doors, arguments, style, &history, is_terminal);
    } while (!ferror(stdout) && screen_wait(arguments->watch));
    screen_close();
    return result;
}

int status_command(int argc, char **argv)
{
    struct arguments arguments = {0};
    struct daemon_doors doors = {0};
    if (!take_arguments(&arguments, argc, argv))
        return UNREACHABLE;
    int result = UNREACHABLE;
    if (find_doors(&doors, &arguments)) {
        struct draw_style style = choose_style(&arguments);
        result = arguments.watch > 0 ? watch(&doors, &arguments, &style)
                                     : show_once(&doors, &arguments, &style);
    }
    daemon_doors_free(&doors);
    return result;
}
