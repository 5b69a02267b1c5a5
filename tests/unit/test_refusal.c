/*
 * test_refusal.c - "full" is told from "down" in every upstream's words (contract 12).
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "policy/refusal.h"

static void full_is_known_in_every_upstreams_words(void **state)
{
    static const struct {
        const char *sqlstate;
        const char *message;
        enum refusal means;
    } said[] = {
        {NULL, "FATAL:  sorry, too many clients already", REFUSAL_FULL_SERVER},
        {NULL,
         "FATAL:  remaining connection slots are reserved for non-replication superuser "
         "connections",
         REFUSAL_FULL_SERVER},
        {NULL,
         "FATAL:  remaining connection slots are reserved for roles with privileges of the "
         "\"pg_use_reserved_connections\" role",
         REFUSAL_FULL_SERVER},
        {NULL,
         "FATAL:  remaining connection slots are reserved for roles with the SUPERUSER attribute",
         REFUSAL_FULL_SERVER},
        {NULL, "FATAL:  too many connections for role \"proxy\"", REFUSAL_FULL_ROLE},
        {NULL, "FATAL:  too many connections for database \"app\"", REFUSAL_FULL_DATABASE},
        {NULL,
         "FATAL:  MaxClientsInSessionMode: max clients reached - in Session mode max clients are "
         "limited to pool_size",
         REFUSAL_FULL_POOLER},
        {NULL, "FATAL:  (EMAXCONNSESSION) max clients reached in session mode",
         REFUSAL_FULL_POOLER},
        {NULL, "FATAL:  Max client connections reached", REFUSAL_FULL_POOLER},
        {NULL, "FATAL:  no more connections allowed (max_client_conn)", REFUSAL_FULL_POOLER},
        {"53300", "FATAL:  trop de connexions", REFUSAL_FULL_SERVER},
    };
    (void)state;
    for (size_t i = 0; i < sizeof(said) / sizeof(said[0]); i++)
        assert_int_equal(refusal_of(said[i].sqlstate, said[i].message), said[i].means);
}

static void everything_else_is_not_full(void **state)
{
    static const char *const said[] = {
        "FATAL:  password authentication failed for user \"proxy\"",
        "FATAL:  database \"app\" does not exist",
        "FATAL:  the database system is starting up",
        "connection to server at \"127.0.0.1\", port 5432 failed: Connection refused",
        "timeout expired (connect_timeout)",
        "FATAL:  Tenant or user not found",
        "",
    };
    (void)state;
    for (size_t i = 0; i < sizeof(said) / sizeof(said[0]); i++)
        assert_int_equal(refusal_of("08001", said[i]), REFUSAL_OTHER);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(full_is_known_in_every_upstreams_words),
        cmocka_unit_test(everything_else_is_not_full),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
