/*
 * test_hosts.c - hosts that are still worth a try (net/hosts).
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "net/hosts.h"

static struct hosts hosts;

static int begin(void **state)
{
    (void)state;
    hosts_free(&hosts);
    return 0;
}

static int end(void **state)
{
    return begin(state);
}

static void expect(const char *names, const char *addresses, const char *ports)
{
    if (names)
        assert_string_equal(hosts.names, names);
    else
        assert_null(hosts.names);
    if (addresses)
        assert_string_equal(hosts.addresses, addresses);
    else
        assert_null(hosts.addresses);
    if (ports)
        assert_string_equal(hosts.ports, ports);
    else
        assert_null(hosts.ports);
}

static bool drop(const char *name, const char *address, const char *port)
{
    return hosts_drop(&hosts, hosts_find(&hosts, name, address, port));
}

static void nothing_is_known_of_no_hosts(void **state)
{
    (void)state;
    assert_int_equal(hosts_count(&hosts), 0);
    assert_false(drop("a", "127.0.0.1", "5432"));
    hosts_set(&hosts, NULL, NULL, "5432");
    assert_int_equal(hosts_count(&hosts), 0);
}

static void the_last_one_stays(void **state)
{
    (void)state;
    hosts_set(&hosts, "a", "127.0.0.1", "5432");
    assert_false(drop("a", "127.0.0.1", "5432"));
    expect("a", "127.0.0.1", "5432");
}

static void the_one_that_libpq_is_at_goes(void **state)
{
    (void)state;
    hosts_set(&hosts, "a,a,b,/run", "10.0.0.1,10.0.0.2,10.0.0.3,", "1,1,,4");
    assert_int_equal(hosts_count(&hosts), 4);
    assert_true(drop("a", "10.0.0.2", "1"));
    expect("a,b,/run", "10.0.0.1,10.0.0.3,", "1,,4");
    assert_true(drop("/run", "", "4"));
    expect("a,b", "10.0.0.1,10.0.0.3", "1,");
    assert_true(drop("b", "10.0.0.3", "5432")); /* libpq's default, or PGPORT's */
    expect("a", "10.0.0.1", "1");
    assert_false(drop("a", "10.0.0.1", "1"));
}

static void one_address_has_several_servers(void **state)
{
    (void)state;
    hosts_set(&hosts, "h,h,h", "::1,::1,::1", "1,2,3");
    assert_true(drop("h", "::1", "2"));
    expect("h,h", "::1,::1", "1,3");
}

static void one_port_is_everybodys(void **state)
{
    (void)state;
    hosts_set(&hosts, NULL, "10.0.0.1,10.0.0.2", "6000");
    assert_true(drop("10.0.0.2", "10.0.0.2", "6000"));
    expect(NULL, "10.0.0.1", "6000");
    hosts_set(&hosts, "/a,/b", NULL, NULL);
    assert_true(drop("/b", "", "5432"));
    expect("/a", NULL, NULL);
}

static void an_address_is_the_same_however_it_is_written(void **state)
{
    (void)state;
    hosts_set(&hosts, "a,b,c", "10.0.0.2,2001:DB8:0::5,fe80::1%lo", "1,2,3");
    assert_int_equal(hosts_find(&hosts, "b", "2001:db8::5", "2"), 1);
    assert_int_equal(hosts_find(&hosts, "c", "fe80::1", "3"), 2);
    assert_int_equal(hosts_find(&hosts, "c", "fe80::2", "3"), -1);
}

static void the_first_goes_for_one_that_is_not_known(void **state)
{
    (void)state;
    hosts_set(&hosts, "a,b", "10.0.0.1,10.0.0.2", "1,2");
    assert_true(drop("c", "10.0.0.3", "1"));
    expect("b", "10.0.0.2", "2");
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, begin, end)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(nothing_is_known_of_no_hosts),
        TEST(the_last_one_stays),
        TEST(the_one_that_libpq_is_at_goes),
        TEST(one_address_has_several_servers),
        TEST(one_port_is_everybodys),
        TEST(an_address_is_the_same_however_it_is_written),
        TEST(the_first_goes_for_one_that_is_not_known),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
