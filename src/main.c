/*
 * main.c - which command: run, check, status, hash-password, import-pgbouncer.
 */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include <event2/event.h>
#include <jansson.h>

#include "admin/console.h"
#include "admin/http.h"
#include "base/environment.h"
#include "base/log.h"
#include "base/memory.h"
#include "base/privileges.h"
#include "base/process.h"
#include "cli/check.h"
#include "cli/hash_password.h"
#include "cli/import_pgbouncer.h"
#include "cli/status.h"
#include "config/config.h"
#include "config/options.h"
#include "config/rules.h"
#include "config/users.h"
#include "net/tls.h"
#include "proxy/proxy.h"
#include "proxy/turn.h"
#include "proxy/upgrade.h"

#define EXIT_BAD_CONFIGURATION 2

static const char usage[] =
    "usage: pgreserve [run] [-c FILE]              run the proxy in the foreground\n"
    "       pgreserve check [-t] [-c FILE]         check the configuration and the upstream\n"
    "       pgreserve status [--json] [--watch[=SECONDS]] [--ascii] [-c FILE] [--url URL]\n"
    "       pgreserve hash-password                make a users file's secret from a password\n"
    "       pgreserve import-pgbouncer FILE        write the pgreserve.ini that matches a "
    "pgbouncer.ini\n"
    "       pgreserve --help | --help-config | --version\n"
    "Without -c the configuration that is built in is used: SUPABASE_URL=... pgreserve just "
    "runs.\n";

static struct config *load(const char *file)
{
    struct config_errors errors = {0};
    struct config *config = config_load(file, true, &errors);
    for (size_t i = 0; i < errors.count; i++)
        fprintf(stderr, "%s\n", errors.items[i]);
    config_errors_free(&errors);
    return config;
}

/* Before these libraries have allocated anything: what they cannot have ends the process as our own does (base/memory.h). */
static void share_memory_policy(void)
{
    event_set_mem_functions(memory_take, memory_resize, free);
    json_set_alloc_funcs(memory_take, free);
}

static struct event_base *new_base(void)
{
    struct event_config *choice = event_config_new();
    event_config_set_flag(choice, EVENT_BASE_FLAG_NOLOCK);
    event_config_set_flag(
        choice, EVENT_BASE_FLAG_NO_CACHE_TIME); /* its clock is looked at by timers alone */
    struct event_base *base = event_base_new_with_config(choice);
    event_config_free(choice);
    return base;
}

static void raise_descriptor_limit(void)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
        limit.rlim_cur = limit.rlim_max;
        if (setrlimit(RLIMIT_NOFILE, &limit) < 0)
            log_event(LOG_LEVEL_WARNING, "the limit of open files could not be raised",
                      LOG_FIELD_TEXT("reason", strerror(errno)),
                      LOG_FIELD_NUMBER("limit", limit.rlim_max));
    }
}

/* Sockets from systemd, or from the process that we replace. */
static bool inherit_sockets(struct proxy *proxy)
{
    char why[256];
    if (!inherit_from_systemd(&proxy->inherited, why, sizeof(why))) {
        log_event(LOG_LEVEL_ERROR, "cannot listen", LOG_FIELD_KIND("reason", why));
        return false;
    }
    return takeover_begin(proxy);
}

/* From here on the process has the rights that it needs, and no more. */
static bool give_up_root(const struct config *config)
{
    char why[256];
    if (geteuid() != 0)
        return true;
    if (!config->user) {
        log_event(LOG_LEVEL_WARNING, "running as root, with every right that nobody needs here",
                  LOG_FIELD_TEXT("hint", "set user in [pgreserve], or start it as another user"));
        return true;
    }
    if (become_user(config->user, why, sizeof(why)))
        return true;
    log_event(LOG_LEVEL_ERROR, "cannot become the configured user",
              LOG_FIELD_TEXT("user", config->user), LOG_FIELD_KIND("reason", why));
    return false;
}

static bool start(struct proxy *proxy)
{
    bool is_ready = inherit_sockets(proxy);
    if (!proxy->takeover) /* else the old process speaks, until we serve */
        notify_open(&proxy->notify, false);
    is_ready = is_ready && proxy_start(proxy) && http_start(proxy) && give_up_root(proxy->config);
    if (is_ready)
        takeover_ready(proxy);
    return is_ready;
}

static int run_command(const char *file, char **arguments)
{
    struct config *config = load(file);
    if (!config)
        return EXIT_BAD_CONFIGURATION;
    log_setup((enum log_level)config->log_level, config->log_format == LOG_FORMAT_JSON);
    signal(SIGPIPE, SIG_IGN);
    share_memory_policy();
    raise_descriptor_limit();
    process_allow_core_dumps(config->core_dumps);
    process_prepare_to_grow();
    log_event(LOG_LEVEL_INFO, "starting", LOG_FIELD_TEXT("version", PGRESERVE_VERSION),
              LOG_FIELD_TEXT("configuration", config->path),
              LOG_FIELD_NUMBER("total_connections", config->total_connections));
    struct event_base *base = new_base();
    struct proxy *proxy = proxy_new(config, base);
    console_install(proxy);
    upgrade_remember(proxy, arguments);
    int status = 1;
    if (start(proxy)) {
        proxy_run(proxy);
        status = proxy->exit_status;
    } else if (proxy->exit_status != 0) {
        status = proxy->exit_status;
    }
    http_stop(proxy);
    proxy_free(proxy);
    event_base_free(base);
    libevent_global_shutdown();
    log_finish();
    log_event(LOG_LEVEL_INFO, "stopped", LOG_FIELD_NUMBER("status", status));
    return status;
}

/* The files that the configuration names, which the start reads (proxy_start). */
static bool check_files(const struct config *config)
{
    struct config_errors errors = {0};
    char reason[256] = "";
    if (config->users_file) {
        struct users *users = users_load(config->users_file, true, &errors);
        if (users)
            users_free(users);
    }
    rules_free(rules_load(config, &errors));
    if (config->tls_client_mode != TLS_CLIENT_DISABLE)
        tls_context_free(tls_context_new(config, reason, sizeof(reason)));
    for (size_t i = 0; i < errors.count; i++)
        fprintf(stderr, "%s\n", errors.items[i]);
    if (*reason)
        fprintf(stderr, "%s: TLS for clients: %s\n", config->path, reason);
    bool is_fine = errors.count == 0 && !*reason;
    config_errors_free(&errors);
    return is_fine;
}

static int check_command(const char *file, bool configuration_only)
{
    struct config *config = load(file);
    if (!config)
        return EXIT_BAD_CONFIGURATION;
    int status = 0;
    if (!check_files(config))
        status = EXIT_BAD_CONFIGURATION;
    else if (configuration_only)
        puts("configuration ok");
    else
        status = check_upstream(config);
    config_free(config);
    return status;
}

static bool asks_help(const char *argument)
{
    return strcmp(argument, "--help") == 0 || strcmp(argument, "-h") == 0;
}

static bool ask_help(int count, char **arguments)
{
    for (int i = 0; i < count; i++) {
        if (asks_help(arguments[i]))
            return true;
    }
    return false;
}

/* 1 of `check` would say that the cap does not hold (contract 3). */
static int usage_status(const char *command)
{
    return strcmp(command, "check") == 0 ? EXIT_BAD_CONFIGURATION : 1;
}

int main(int argc, char **argv)
{
    const char *command = argc > 1 && argv[1][0] != '-' ? argv[1] : "run";
    int first = argc > 1 && argv[1][0] != '-' ? 2 : 1;
    const char *file = NULL;
    bool configuration_only = false;
    environment_set_aside();
    if (strcmp(command, "status") == 0 && ask_help(argc - first, argv + first)) {
        fputs(usage, stdout);
        return 0;
    }
    if (strcmp(command, "status") == 0)
        return status_command(argc - first, argv + first);
    for (int i = first; i < argc; i++) {
        if (asks_help(argv[i])) {
            fputs(usage, stdout);
            return 0;
        }
        if (strcmp(argv[i], "--help-config") == 0) {
            options_print_help(stdout);
            return 0;
        }
        if (strcmp(argv[i], "--options-mdoc") == 0) { /* what `make manual` asks */
            options_print_mdoc(stdout);
            return 0;
        }
        if (strcmp(argv[i], "--version") == 0 || strcmp(argv[i], "-V") == 0) {
            puts("pgreserve " PGRESERVE_VERSION);
            return 0;
        }
        if (strcmp(argv[i], "-c") == 0 && i + 1 < argc)
            file = argv[++i];
        else if (strcmp(argv[i], "-t") == 0 && strcmp(command, "check") == 0)
            configuration_only = true;
        else if (argv[i][0] != '-' && strcmp(command, "import-pgbouncer") == 0 && !file)
            file = argv[i];
        else {
            fprintf(stderr, "pgreserve: unknown argument %s\n%s", argv[i], usage);
            return usage_status(command);
        }
    }
    if (strcmp(command, "run") == 0)
        return run_command(file, argv);
    if (strcmp(command, "check") == 0)
        return check_command(file, configuration_only);
    if (strcmp(command, "hash-password") == 0)
        return hash_password_command();
    if (strcmp(command, "import-pgbouncer") == 0 && file)
        return import_pgbouncer(file, stdout, stderr);
    if (strcmp(command, "import-pgbouncer") == 0)
        fprintf(stderr, "pgreserve: import-pgbouncer needs a file\n%s", usage);
    else
        fprintf(stderr, "pgreserve: unknown command %s\n%s", command, usage);
    return 1;
}
