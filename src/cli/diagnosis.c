/*
 * diagnosis.c - what the doctor says: see diagnosis.h.
 *
 *     max_connections                        60
 *     kept for superusers                    -3  superuser_reserved_connections
 *     used by others now                     -7  4 supabase_admin (realtime), 3 authenticator
 *     largest cap that can hold              48
 */
#include "cli/diagnosis.h"

#include <string.h>

#define POOLS_MAX 64

static void put_line(const char *what, int number, const char *why)
{
    printf("  %-36s %5d%s%s\n", what, number, *why ? "  " : "", why);
}

void diagnosis_configuration(const struct config *config, bool is_running)
{
    printf("configuration ok: %s\n", config->path);
    put_line("total_connections", config->total_connections, "");
    for (size_t i = 0; i < config->pool_count; i++) {
        const struct config_pool *pool = &config->pools[i];
        printf("  pool %-31s %5d  size %d, max_overflow %d, reserved %d\n", pool->name,
               pool->size + pool->max_overflow, pool->size, pool->max_overflow, pool->reserved);
    }
    printf("%s\n", is_running ? "The daemon is running: it is asked through, nothing is opened "
                                "beyond its cap."
                              : "The daemon is not running: the upstream is asked directly.");
}

/* ---- one upstream ---- */

static void put_users(const struct facts *facts, bool is_running)
{
    if (facts->user_count == 0)
        return;
    printf("  %s:\n",
           is_running ? "who has connections now, pgreserve's own among them" : "who has them");
    for (int i = 0; i < facts->user_count; i++) {
        const struct facts_user *user = &facts->users[i];
        printf("    %5d  ", user->connections);
        facts_put_text(stdout, user->user);
        if (*user->application) {
            fputs(" (", stdout);
            facts_put_text(stdout, user->application);
            putchar(')');
        }
        putchar('\n');
    }
    if (facts->others_unlisted > 0)
        printf("    %5d  others\n", facts->others_unlisted);
}

static void put_limit(const char *what, int limit, int others, bool is_exempt)
{
    char why[64] = "";
    if (limit == LIMITS_NONE)
        return;
    if (is_exempt)
        snprintf(why, sizeof(why), "a superuser is exempt");
    else if (others > 0)
        snprintf(why, sizeof(why), "%d of them used by others now", others);
    put_line(what, limit, why);
}

static void put_warnings(const struct facts *facts, const struct config_database *database)
{
    const struct limits_server *limits = &facts->limits;
    if (limits->is_superuser)
        printf("The user is a superuser: pgreserve could take even the slots that are kept for a "
               "rescue.\nUse an ordinary role, with which %d are left.\n",
               limits->max_connections - limits->kept_for_superusers - limits->kept_for_members -
                   limits->others);
    else if (limits->is_member)
        printf("The user is a member of pg_use_reserved_connections and may use those slots "
               "too.\n");
    if (!facts->sees_all)
        printf("The user may not look at others' sessions: a few processes of the server's own may "
               "be counted.\nGRANT pg_read_all_stats makes the figure exact.\n");
    if (!database->user)
        printf("The section names no user: each client's own role has a limit of its own, which is "
               "not looked at here.\n");
}

void diagnosis_facts(const struct facts *facts, const struct limits_verdict *verdict,
                     const struct config_database *database, bool is_running)
{
    static const char *const bounds[] = {"", "by the role's CONNECTION LIMIT",
                                         "by the database's CONNECTION LIMIT",
                                         "by the pooler's own limit"};
    const struct limits_server *limits = &facts->limits;
    printf("\n[database:%s] database ", database->name);
    facts_put_text(stdout, facts->database);
    fputs(", user ", stdout);
    facts_put_text(stdout, facts->user);
    fputs(", PostgreSQL ", stdout);
    facts_put_text(stdout, facts->version);
    putchar('\n');
    put_line("max_connections", limits->max_connections, "");
    if (!limits->is_superuser) {
        put_line("kept for superusers", -limits->kept_for_superusers,
                 "superuser_reserved_connections");
        if (limits->kept_for_members > 0 && !limits->is_member)
            put_line("kept for privileged roles", -limits->kept_for_members,
                     "reserved_connections");
    }
    put_line("used by others now", -limits->others, "");
    put_limit("role's CONNECTION LIMIT", limits->role_limit, limits->others_of_role,
              limits->is_superuser);
    put_limit("database's CONNECTION LIMIT", limits->database_limit, limits->others_of_database,
              limits->is_superuser);
    put_limit("pooler's limit", limits->pooler_limit, 0, false);
    put_line("largest cap that can hold", verdict->largest, bounds[verdict->bound]);
    put_users(facts, is_running);
    put_warnings(facts, database);
}

void diagnosis_ceiling(const json_t *ceiling)
{
    if (json_is_integer(ceiling))
        printf("The daemon has been told that the upstream is full when it had %d connections "
               "there.\n",
               (int)json_integer_value(ceiling));
}

/* ---- the verdict ---- */

static int sum_reserved(const struct config *config)
{
    int sum = 0;
    for (size_t i = 0; i < config->pool_count; i++)
        sum += config->pools[i].reserved;
    return sum;
}

static void put_pool_lines(const struct config_pool *pool, const struct limits_pool *fitting)
{
    bool is_same = pool->size == fitting->size && pool->max_overflow == fitting->max_overflow &&
                   pool->reserved == fitting->reserved;
    if (is_same)
        return;
    printf("\n    [pool:%s]\n", pool->name);
    if (pool->size != fitting->size)
        printf("    size = %d\n", fitting->size);
    if (pool->max_overflow != fitting->max_overflow)
        printf("    max_overflow = %d\n", fitting->max_overflow);
    if (pool->reserved != fitting->reserved)
        printf("    reserved = %d\n", fitting->reserved);
}

static void put_environment(const struct config *config, const struct limits_pool *fitting,
                            int largest)
{
    printf("\nor, for the built-in configuration, in the environment:\n\n    "
           "DB_TOTAL_CONNECTIONS=%d",
           largest);
    for (size_t i = 0; i < config->pool_count; i++) {
        if (strcmp(config->pools[i].name, "automation") == 0)
            printf(" DB_POOL_SIZE=%d DB_MAX_OVERFLOW=%d", fitting[i].size, fitting[i].max_overflow);
        else if (strcmp(config->pools[i].name, "adhoc") == 0)
            printf(" DB_RESERVED=%d", fitting[i].reserved);
    }
    putchar('\n');
}

static void put_proposal(const struct config *config, int largest)
{
    struct limits_pool fitting[POOLS_MAX] = {{0}};
    size_t count = config->pool_count < POOLS_MAX ? config->pool_count : POOLS_MAX;
    for (size_t i = 0; i < count; i++)
        fitting[i] = (struct limits_pool){config->pools[i].size, config->pools[i].max_overflow,
                                          config->pools[i].reserved};
    if (!limits_fit(fitting, count, config->total_connections, largest)) {
        printf("That is not even one connection for each pool: free connections at the upstream "
               "first.\n");
        return;
    }
    printf("Write instead:\n\n    [pgreserve]\n    total_connections = %d\n", largest);
    for (size_t i = 0; i < count; i++)
        put_pool_lines(&config->pools[i], &fitting[i]);
    if (strcmp(config->path, "built-in configuration") == 0)
        put_environment(config, fitting, largest);
}

bool diagnosis_verdict(const struct config *config, int largest)
{
    int total = config->total_connections;
    int reserved = sum_reserved(config);
    if (total <= largest) {
        printf("\nIt holds: total_connections = %d, and the largest cap that can hold is %d.\n",
               total, largest);
        if (reserved > 0)
            printf("The reservation of %d is safe: no other pool can take it.\n", reserved);
        return true;
    }
    printf("\nIt does not hold: total_connections = %d, but the largest cap that can hold is %d, "
           "%d fewer.\n",
           total, largest, total - largest);
    if (reserved > 0)
        printf("The reservation of %d is not safe: the other pools may take %d first, which leaves "
               "it %d until they give some back.\n",
               reserved, total - reserved < largest ? total - reserved : largest,
               largest - (total - reserved) > 0 ? largest - (total - reserved) : 0);
    put_proposal(config, largest);
    return false;
}
