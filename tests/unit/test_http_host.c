/*
 * test_http_host.c - which Host headers a loopback listener answers: curl and Prometheus by any usual name of it, but no
 * web page that has pointed its own name at 127.0.0.1.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "admin/http_host.h"

static void addresses_are_answered(void **state)
{
    (void)state;
    assert_true(http_host_is_ours("127.0.0.1:6435", "127.0.0.1"));
    assert_true(http_host_is_ours("127.0.0.1", "127.0.0.1"));
    assert_true(http_host_is_ours("[::1]:6435", "::1"));
    assert_true(http_host_is_ours("[::1]", "127.0.0.1"));
    assert_true(http_host_is_ours("10.1.2.3:80", "127.0.0.1"));
}

static void localhost_is_answered(void **state)
{
    (void)state;
    assert_true(http_host_is_ours("localhost", "127.0.0.1"));
    assert_true(http_host_is_ours("LocalHost:6435", "127.0.0.1"));
    assert_true(http_host_is_ours("localhost.:6435", "127.0.0.1"));
    assert_true(http_host_is_ours("db.localhost:6435", "127.0.0.1"));
}

static void the_configured_name_is_answered(void **state)
{
    (void)state;
    assert_true(http_host_is_ours("Ops-Host.internal:6435", "ops-host.internal"));
    assert_false(http_host_is_ours("ops-host.internal.evil.example", "ops-host.internal"));
}

static void a_strangers_name_is_refused(void **state)
{
    (void)state;
    assert_false(http_host_is_ours("evil.example", "127.0.0.1"));
    assert_false(http_host_is_ours("evil.example:6435", NULL));
    assert_false(http_host_is_ours("localhost.evil.example", "127.0.0.1"));
    assert_false(http_host_is_ours("notlocalhost", "127.0.0.1"));
    assert_false(http_host_is_ours("127.0.0.1.evil.example:6435", "127.0.0.1"));
}

static void malformed_headers_are_refused(void **state)
{
    char name[4096];
    (void)state;
    memset(name, 'a', sizeof(name) - 1);
    name[sizeof(name) - 1] = '\0';
    assert_false(http_host_is_ours(name, name));
    assert_false(http_host_is_ours("", "127.0.0.1"));
    assert_false(http_host_is_ours(".", "127.0.0.1"));
    assert_false(http_host_is_ours(":6435", "127.0.0.1"));
    assert_true(http_host_is_ours("localhost:", "127.0.0.1")); /* RFC 3986 allows it */
    assert_false(http_host_is_ours("localhost:64350000", "127.0.0.1"));
    assert_false(http_host_is_ours("127.0.0.1:6435evil.example", "127.0.0.1"));
    assert_false(http_host_is_ours("[::1]:\xff\xff", "127.0.0.1"));
    assert_false(http_host_is_ours("[::1", "127.0.0.1"));
    assert_false(http_host_is_ours("[::1]x", "127.0.0.1"));
}

static void no_header_is_an_old_client(void **state)
{
    (void)state;
    assert_true(http_host_is_ours(NULL, "127.0.0.1"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(addresses_are_answered),
        cmocka_unit_test(localhost_is_answered),
        cmocka_unit_test(the_configured_name_is_answered),
        cmocka_unit_test(a_strangers_name_is_refused),
        cmocka_unit_test(malformed_headers_are_refused),
        cmocka_unit_test(no_header_is_an_old_client),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
