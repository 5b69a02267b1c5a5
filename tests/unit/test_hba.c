/*
 * test_hba.c - pg_hba.conf: how its lines are read, which are refused, and which one decides.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>

#include <cmocka.h>

#include "base/memory.h"
#include "config/hba.h"
#include "config/rules.h"

/* ---- files that are not there ---- */

static struct {
    const char *name;
    const char *text;
} files[8];

static char *read_file(void *arg, const char *path)
{
    (void)arg;
    for (size_t i = 0; i < 8 && files[i].name; i++) {
        if (strcmp(files[i].name, path) == 0)
            return memory_strdup(files[i].text);
    }
    errno = ENOENT;
    return NULL;
}

static char **list_files(void *arg, const char *path)
{
    char **names = memory_alloc(9 * sizeof(*names));
    size_t count = 0;
    size_t length = strlen(path);
    (void)arg;
    for (size_t i = 0; i < 8 && files[i].name; i++) {
        if (strncmp(files[i].name, path, length) == 0 && files[i].name[length] == '/')
            names[count++] = memory_strdup(files[i].name + length + 1);
    }
    if (count > 0)
        return names;
    free(names);
    errno = ENOENT;
    return NULL;
}

static const struct rule_source source = {read_file, list_files, NULL};

static struct hba *hba;
static struct config_errors errors;

static int tear_down(void **state)
{
    (void)state;
    hba_free(hba);
    hba = NULL;
    config_errors_free(&errors);
    memset(files, 0, sizeof(files));
    return 0;
}

static void add_file(const char *name, const char *text)
{
    size_t i = 0;
    while (files[i].name)
        i++;
    files[i].name = name;
    files[i].text = text;
}

static void read_rules(const char *text)
{
    hba_free(hba);
    config_errors_free(&errors);
    files[0].name = "/etc/hba";
    files[0].text = text;
    hba = hba_read("/etc/hba", &source, &errors);
}

static void accept_rules(const char *text)
{
    read_rules(text);
    if (errors.count > 0)
        print_error("%s\n", errors.items[0]);
    assert_non_null(hba);
    assert_int_equal(errors.count, 0);
}

/* Exactly this error, up to where `expected` ends. */
static void assert_refused(const char *text, const char *expected)
{
    read_rules(text);
    assert_null(hba);
    assert_int_equal(errors.count, 1);
    if (strncmp(errors.items[0], expected, strlen(expected)) != 0)
        print_error("%s\n", errors.items[0]);
    assert_int_equal(strncmp(errors.items[0], expected, strlen(expected)), 0);
}

/* ---- clients ---- */

static union {
    struct sockaddr any;
    struct sockaddr_in in;
    struct sockaddr_in6 in6;
} address;

static struct hba_networks interfaces;

static struct hba_client from(const char *text, const char *database, const char *user)
{
    struct hba_client client = {
        .address = &address.any, .database = database, .user = user, .interfaces = &interfaces};
    memset(&address, 0, sizeof(address));
    if (strcmp(text, "unix") == 0) {
        client.is_unix = true;
    } else if (strchr(text, ':')) {
        address.in6.sin6_family = AF_INET6;
        assert_int_equal(inet_pton(AF_INET6, text, &address.in6.sin6_addr), 1);
    } else {
        address.in.sin_family = AF_INET;
        assert_int_equal(inet_pton(AF_INET, text, &address.in.sin_addr), 1);
    }
    return client;
}

/* The number of the line that decides; 0: none. */
static int line_for(const char *text, const char *database, const char *user)
{
    struct hba_client client = from(text, database, user);
    const struct hba_rule *rule = hba_find(hba, &client);
    return rule ? rule->line : 0;
}

static int line_over_tls(const char *text)
{
    struct hba_client client = from(text, "app", "ann");
    client.has_tls = true;
    const struct hba_rule *rule = hba_find(hba, &client);
    return rule ? rule->line : 0;
}

/* ---- which line ---- */

static void the_first_line_that_fits_decides(void **state)
{
    (void)state;
    accept_rules("# a comment\n"
                 "local   all  all                 peer\n"
                 "\n"
                 "host    app  ann  10.0.0.0/8     reject # and another\n"
                 "host    app  ann,bob  0.0.0.0/0  md5\n"
                 "host    all  all  ::1/128        scram-sha-256\n");
    assert_int_equal(hba->count, 4);
    assert_int_equal(line_for("unix", "app", "ann"), 2);
    assert_int_equal(line_for("10.1.2.3", "app", "ann"), 4);
    assert_int_equal(line_for("10.1.2.3", "app", "bob"), 5);
    assert_int_equal(line_for("11.1.2.3", "app", "ann"), 5);
    assert_int_equal(line_for("11.1.2.3", "dev", "ann"), 0);
    assert_int_equal(line_for("::1", "dev", "carol"), 6);
    assert_int_equal(line_for("::2", "app", "ann"), 0);
}

static void masks_are_bits_or_addresses(void **state)
{
    (void)state;
    accept_rules("host all all 192.168.12.10/30 trust\n"
                 "host all all 10.9.0.0 255.0.255.0 trust\n"
                 "host all all fe80::/10 trust\n"
                 "host all all 2001:db8:: ffff:ffff:: trust\n"
                 "host all all 0.0.0.0/32 trust\n");
    assert_int_equal(line_for("192.168.12.8", "a", "b"), 1);
    assert_int_equal(line_for("192.168.12.11", "a", "b"), 1);
    assert_int_equal(line_for("192.168.12.12", "a", "b"), 0);
    assert_int_equal(line_for("10.77.0.9", "a", "b"), 2);
    assert_int_equal(line_for("10.77.1.9", "a", "b"), 0);
    assert_int_equal(line_for("febf::1", "a", "b"), 3);
    assert_int_equal(line_for("fec0::1", "a", "b"), 0);
    assert_int_equal(line_for("2001:db8:1::", "a", "b"), 4);
    assert_int_equal(line_for("::ffff:192.168.12.9", "a", "b"), 1); /* an IPv4 client of *:6432 */
}

static void connection_types(void **state)
{
    (void)state;
    accept_rules("hostgssenc all all all trust\n"
                 "hostssl all all 127.0.0.1/32 trust\n"
                 "hostnossl all all 127.0.0.1/32 trust\n"
                 "hostnogssenc all all 127.0.0.2/32 trust\n"
                 "host all all 127.0.0.3/32 trust\n");
    assert_int_equal(line_over_tls("127.0.0.1"), 2);
    assert_int_equal(line_for("127.0.0.1", "app", "ann"), 3);
    assert_int_equal(line_for("127.0.0.2", "app", "ann"), 4);
    assert_int_equal(line_over_tls("127.0.0.2"), 4);
    assert_int_equal(line_over_tls("127.0.0.3"), 5);
    assert_int_equal(line_for("unix", "app", "ann"), 0);
}

static void words_of_the_database_field(void **state)
{
    (void)state;
    accept_rules("local sameuser  all trust\n"
                 "local \"sameuser\",\"all\" all trust\n"
                 "local dev,replication all trust\n"
                 "local \"replication\" all trust\n"
                 "local /^x[0-9]+$ all trust\n"
                 "local all carol trust\n");
    assert_int_equal(line_for("unix", "ann", "ann"), 1);
    assert_int_equal(line_for("unix", "sameuser", "ann"), 2);
    assert_int_equal(line_for("unix", "all", "ann"), 2);
    assert_int_equal(line_for("unix", "dev", "ann"), 3);
    assert_int_equal(line_for("unix", "replication", "ann"), 4);
    assert_int_equal(line_for("unix", "x17", "ann"), 5);
    assert_int_equal(line_for("unix", "x17y", "ann"), 0);
    assert_int_equal(line_for("unix", "x17y", "carol"), 6);
    struct hba_client standby = from("unix", "", "carol");
    standby.is_physical_replication = true;
    assert_int_equal(hba_find(hba, &standby)->line, 3); /* neither all nor sameuser nor a name */
}

static void quotes(void **state)
{
    (void)state;
    accept_rules("local \"a b\",\"c,d\" \"e#f\",\"g\"\"h\" trust\n"
                 "local all \"all\" trust\n"
                 "local x\"y z\"w al\"l\" trust\n"
                 "local , ,p, q all trust\n");
    assert_int_equal(line_for("unix", "a b", "e#f"), 1);
    assert_int_equal(line_for("unix", "c,d", "g\"h"), 1);
    assert_int_equal(line_for("unix", "c", "e"), 0);
    assert_int_equal(line_for("unix", "anything", "all"), 2);
    assert_int_equal(line_for("unix", "xy zw", "ann"),
                     3); /* al"l" is a keyword: no quote begins it */
    assert_int_equal(line_for("unix", "p", "ann"), 4);
    assert_int_equal(line_for("unix", "q", "ann"), 4);
}

static void lines_go_on_behind_a_backslash(void **state)
{
    (void)state;
    accept_rules("local \\\n"
                 "  app \\\r\n"
                 "  ann peer map=x # a comment \\\n"
                 "goes on too\n"
                 "local dev \"a\\\n"
                 "b\" trust\r\n"
                 "local all last trust \\");
    assert_int_equal(hba->count, 3);
    assert_int_equal(hba->rules[0].line, 1);
    assert_string_equal(hba->rules[0].map, "x");
    assert_int_equal(line_for("unix", "dev", "ab"), 5);
    assert_int_equal(line_for("unix", "dev", "last"), 7);
}

static void words_of_other_files(void **state)
{
    (void)state;
    add_file("/etc/hba", "");
    add_file("/etc/names", "ann bob, # us\n\"c d\"\n@more/names\n");
    add_file("/etc/more/names", "eve\n@none\n");
    add_file("/etc/more/none", "# nobody\n");
    accept_rules("local @names @/etc/names trust\n"
                 "local all \"@names\" trust\n"
                 "local @more/none all trust\n");
    assert_int_equal(line_for("unix", "c d", "eve"), 1);
    assert_int_equal(line_for("unix", "bob", "ann"), 1);
    assert_int_equal(line_for("unix", "bob", "@names"), 2);
    assert_int_equal(line_for("unix", "none", "x"), 0);
}

static void other_files_in_place_of_a_line(void **state)
{
    (void)state;
    add_file("/etc/hba", "");
    add_file("/etc/one", "local all ann trust\n");
    add_file("/etc/d/10.conf", "local all bob trust\n");
    add_file("/etc/d/.20.conf", "local wrong\n");
    add_file("/etc/d/README", "local wrong\n");
    accept_rules("include one\ninclude_if_exists nothing\ninclude_dir d\n");
    assert_int_equal(hba->count, 2);
    assert_string_equal(hba->rules[0].file, "/etc/one");
    assert_string_equal(hba->rules[1].file, "/etc/d/10.conf");
    assert_int_equal(line_for("unix", "x", "bob"), 1);
    assert_refused("include two\n", "/etc/hba:1: /etc/two cannot be read: No such file");
    assert_refused("local all all trust\ninclude_dir e\n", "/etc/hba:2: directory /etc/e cannot");
}

static void files_that_name_each_other_come_to_an_end(void **state)
{
    (void)state;
    add_file("/etc/hba", "");
    add_file("/etc/loop", "local all ann trust\ninclude loop\n");
    add_file("/etc/names", "a @names @names\n");
    assert_refused("include loop\n", "/etc/loop:2: /etc/loop: files name each other more than 10");
    read_rules("local @names all trust\n");
    assert_null(hba);
    assert_true(errors.count > 0);
}

static void interfaces_of_this_machine(void **state)
{
    (void)state;
    struct hba_network here[] = {{AF_INET, {10, 0, 0, 7}, {255, 255, 255, 0}},
                                 {AF_INET6, {0xfd, [15] = 1}, {0xff, 0xff}}};
    accept_rules(
        "host all all samehost trust\nhost all all samenet md5\nhost all all all reject\n");
    assert_true(hba_asks_interfaces(hba));
    interfaces = (struct hba_networks){here, 2};
    assert_int_equal(line_for("10.0.0.7", "a", "b"), 1);
    assert_int_equal(line_for("10.0.0.8", "a", "b"), 2);
    assert_int_equal(line_for("10.0.1.7", "a", "b"), 3);
    assert_int_equal(line_for("fd00::1", "a", "b"), 1);
    assert_int_equal(line_for("fd00:0:1::", "a", "b"), 2);
    interfaces = (struct hba_networks){0};
    assert_int_equal(line_for("10.0.0.7", "a", "b"), 3);
    accept_rules("host all all all trust\n");
    assert_false(hba_asks_interfaces(hba));
}

/* ---- what a line says ---- */

static void methods_and_options(void **state)
{
    (void)state;
    accept_rules("hostssl all all all cert map=m clientname=DN\n"
                 "hostssl all all all scram-sha-256 clientcert=verify-ca\n"
                 "hostssl all all all trust clientcert=verify-full,clientname=CN\n"
                 "local all all ident\n"
                 "local all all peer \"map=a b\"\n"
                 "local all all peer map=\n"
                 "host all all all password\n");
    const struct hba_rule *rule = hba->rules;
    assert_int_equal(rule[0].method, HBA_CERT);
    assert_int_equal(rule[0].clientcert, HBA_CLIENTCERT_VERIFY_FULL);
    assert_string_equal(rule[0].map, "m");
    assert_true(rule[0].wants_dn);
    assert_int_equal(rule[1].method, HBA_SCRAM_SHA_256);
    assert_int_equal(rule[1].clientcert, HBA_CLIENTCERT_VERIFY_CA);
    assert_int_equal(rule[2].clientcert, HBA_CLIENTCERT_VERIFY_FULL);
    assert_false(rule[2].wants_dn);
    assert_int_equal(rule[3].method, HBA_PEER);
    assert_string_equal(rule[4].map, "a b");
    assert_null(rule[5].map);
    assert_int_equal(rule[6].method, HBA_PASSWORD);
}

static void what_is_wrong_is_refused_with_its_line(void **state)
{
    (void)state;
    static const struct {
        const char *line;
        const char *why;
    } wrong[] = {
        {"remote all all all trust", "remote is no connection type"},
        {"local,host all all trust", "one connection type, please"},
        {"host", "the line ends before its database"},
        {"host all", "the line ends before its user"},
        {"host all all", "the line ends before its address"},
        {"host all all 10.0.0.0/8", "the line ends before its method"},
        {"local all all", "the line ends before its method"},
        {"host all all 10.0.0.1 trust", "trust is no mask"},
        {"host all all 10.0.0.1", "10.0.0.1 has no mask"},
        {"host all all 10.0.0.0/33 trust", "/33: the bits of this address are 0 to 32"},
        {"host all all 10.0.0.0/ trust", "/: the bits of this address"},
        {"host all all 10.0.0.0/8x trust", "/8x: the bits of this address"},
        {"host all all ::/129 trust", "/129: the bits of this address are 0 to 128"},
        {"host all all 10.0.0.0 ffff:: trust", "the mask ffff:: is not of the address's kind"},
        {"host all all db.example trust", "db.example is no address: names of hosts are not"},
        {"host all all .example trust", ".example is no address"},
        {"host all all \"all\" trust", "all is no address"},
        {"host all all all,all trust", "one address, please"},
        {"host samerole all all trust", "samerole: pgreserve does not know who is a member"},
        {"host samegroup all all trust", "samegroup: pgreserve does not know"},
        {"host all ann,+staff all trust", "+staff: pgreserve does not know"},
        {"host all /( all trust", "the expression /(: "},
        {"host all all all ldap ldapserver=x", "ldap is not supported: there are trust"},
        {"host all all all ident", "ident is not supported"},
        {"host all all all peer", "peer is for unix sockets"},
        {"host all all all cert", "cert needs TLS"},
        {"local all all cert", "cert needs TLS"},
        {"host all all all trust clientcert=verify-ca", "clientcert needs TLS"},
        {"hostssl all all all trust clientcert=1", "clientcert=1: there are verify-ca"},
        {"hostssl all all all cert clientcert=verify-ca", "clientcert with cert is verify-full"},
        {"hostssl all all all cert clientname=SAN", "clientname=SAN: there are CN and DN"},
        {"host all all all md5 map=x", "map is for the methods peer and cert"},
        {"local all all peer maps=x", "maps is no option here"},
        {"local all all peer x", "x: an option is NAME=VALUE"},
        {"local all all \"trust", "a quote is not closed"},
    };
    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
        char *text = memory_printf("local all all peer\n%s\n", wrong[i].line);
        char *expected = memory_printf("/etc/hba:2: %s", wrong[i].why);
        assert_refused(text, expected);
        free(expected);
        free(text);
    }
    assert_refused("", "/etc/hba: there is no line in it");
    assert_refused("# nothing\n\n", "/etc/hba: there is no line in it");
    read_rules("local all all\nlocal all all what\n");
    assert_int_equal(errors.count, 2);
}

static void words_have_a_bound(void **state)
{
    (void)state;
    char *word = memory_alloc(RULE_WORD_MAX + 2);
    memset(word, 'x', RULE_WORD_MAX);
    char *text = memory_printf("local all %s trust\n", word);
    accept_rules(text);
    assert_int_equal(line_for("unix", "a", word), 1);
    free(text);
    word[RULE_WORD_MAX] = 'x';
    text = memory_printf("local all %s trust\n", word);
    assert_refused(text, "/etc/hba:1: a word is longer than 1024 bytes: xxxxxxxxxx");
    free(text);
    free(word);
}

static void lines_that_reach_beyond_this_machine(void **state)
{
    (void)state;
    accept_rules("local all all trust\nhost all all 127.0.0.0/8 trust\n"
                 "host all all 127.0.0.1/32 trust\nhost all all ::1/128 trust\n"
                 "host all all samehost trust\nhostgssenc all all all trust\n"
                 "host all all all trust\nhost all all samenet trust\nhost all all ::/0 trust\n"
                 "host all all 0.0.0.0/0 trust\nhost all all 127.0.0.1/7 trust\n");
    for (size_t i = 0; i < hba->count; i++)
        assert_int_equal(hba_rule_reaches_out(&hba->rules[i]), i >= 6);
}

/* ---- against the rest of the configuration ---- */

static void refused_with(const char *ini, const char *rules_text, const char *expected)
{
    struct config_errors wrong = {0};
    struct config *config = config_parse("x.ini", ini, &wrong);
    assert_non_null(config);
    files[0].name = "/etc/hba";
    files[0].text = rules_text;
    struct rules *rules = rules_read(config, &source, &wrong);
    if (expected) {
        assert_null(rules);
        assert_int_equal(wrong.count, 1);
        assert_int_equal(strncmp(wrong.items[0], expected, strlen(expected)), 0);
    } else {
        assert_non_null(rules);
    }
    rules_free(rules);
    config_free(config);
    config_errors_free(&wrong);
}

#define POOL(listen)                                                                               \
    "[database:*]\nurl = postgresql://ann@db.example/x\n[pool:a]\nsize = 5\nlisten = " listen "\n" \
    "[auth]\nhba_file = /etc/hba\n"

static void what_the_configuration_must_have(void **state)
{
    (void)state;
    refused_with(POOL("127.0.0.1:1"), "local all all peer\n", NULL);
    refused_with(POOL("127.0.0.1:1"), "local all all peer map=x\n",
                 "/etc/hba:1: map=x needs [auth] ident_file");
    refused_with(POOL("127.0.0.1:1"), "local all all md5\n",
                 "/etc/hba:1: no way to tell who a client is");
    refused_with(POOL("127.0.0.1:1") "users_file = /etc/users\n", "local all all md5\n", NULL);
    refused_with(POOL("127.0.0.1:1"), "host all all all trust\n", NULL);
    refused_with(POOL("0.0.0.0:1"), "host all all 127.0.0.1/32 trust\n", NULL);
    refused_with(POOL("0.0.0.0:1"), "host all all all trust\n",
                 "/etc/hba:1: trust lets anyone in who comes from there, and pool a listens");
    refused_with(POOL("0.0.0.0:1\ni_know_this_is_open = yes"), "host all all all trust\n", NULL);
    refused_with(POOL("127.0.0.1:1"), "hostssl all all all cert\n", NULL); /* without TLS: nobody */
    refused_with(POOL("127.0.0.1:1") "[tls]\nclient_mode = prefer\nclient_cert_file = c\n"
                                     "client_key_file = k\n",
                 "hostssl all all all cert\n",
                 "/etc/hba:1: checking clients' certificates needs [tls] client_ca_file");
}

#define TEST(name) cmocka_unit_test_teardown(name, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(the_first_line_that_fits_decides),
        TEST(masks_are_bits_or_addresses),
        TEST(connection_types),
        TEST(words_of_the_database_field),
        TEST(quotes),
        TEST(lines_go_on_behind_a_backslash),
        TEST(words_of_other_files),
        TEST(other_files_in_place_of_a_line),
        TEST(files_that_name_each_other_come_to_an_end),
        TEST(interfaces_of_this_machine),
        TEST(methods_and_options),
        TEST(what_is_wrong_is_refused_with_its_line),
        TEST(words_have_a_bound),
        TEST(lines_that_reach_beyond_this_machine),
        TEST(what_the_configuration_must_have),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
