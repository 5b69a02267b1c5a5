/*
 * hba_parse.c - one line of pg_hba.conf: see hba.h.
 *
 * TYPE DATABASE USER [ADDRESS [MASK]] METHOD [OPTION=VALUE ...].  What PostgreSQL would refuse is refused here; so is what it
 * would do and pgreserve cannot, for a line that is passed over would hand its clients to the next one.
 */
#include <netdb.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "config/hba.h"

struct parsing {
    struct hba_rule *rule;
    const struct rule_line *line;
    size_t next; /* field */
    struct config_errors *errors;
};

#define REFUSE(parsing, ...)                                                                       \
    rule_error((parsing)->errors, (parsing)->line->file, (parsing)->line->number, __VA_ARGS__)

static const struct rule_field *next_field(struct parsing *parsing)
{
    if (parsing->next == parsing->line->count)
        return NULL;
    return &parsing->line->fields[parsing->next++];
}

/* The next field, which has one word; NULL after an error. */
static const char *next_one(struct parsing *parsing, const char *what)
{
    const struct rule_field *field = next_field(parsing);
    if (!field || field->count != 1) {
        REFUSE(parsing, field ? "one %s, please, not a list" : "the line ends before its %s", what);
        return NULL;
    }
    return field->words[0].text;
}

/* ---- type, databases, users ---- */

static bool take_type(struct parsing *parsing)
{
    static const struct {
        const char *name;
        enum hba_type type;
    } types[] = {{"local", HBA_LOCAL},           {"host", HBA_HOST},
                 {"hostssl", HBA_HOSTSSL},       {"hostnossl", HBA_HOSTNOSSL},
                 {"hostgssenc", HBA_HOSTGSSENC}, {"hostnogssenc", HBA_HOSTNOGSSENC}};
    const char *word = next_one(parsing, "connection type");
    for (size_t i = 0; word && i < sizeof(types) / sizeof(types[0]); i++) {
        if (strcmp(word, types[i].name) == 0) {
            parsing->rule->type = types[i].type;
            return true;
        }
    }
    return word && REFUSE(parsing,
                          "%s is no connection type: there are local, host, hostssl, hostnossl, "
                          "hostgssenc and hostnogssenc",
                          word);
}

static bool take_name(struct parsing *parsing, struct hba_names *names,
                      const struct rule_word *word)
{
    char why[256];
    struct hba_name *name = &names->items[names->count++];
    *name = (struct hba_name){memory_strdup(word->text), word->is_quoted, NULL};
    if (word->text[0] != '/')
        return true;
    name->pattern = name_pattern_new(word->text + 1, why, sizeof(why));
    return name->pattern || REFUSE(parsing, "the expression %s: %s", word->text, why);
}

static bool needs_roles(const struct rule_word *word, bool is_database)
{
    if (is_database)
        return rule_word_is(word, "samerole") || rule_word_is(word, "samegroup");
    return !word->is_quoted && word->text[0] == '+';
}

static bool take_names(struct parsing *parsing, struct hba_names *names, bool is_database)
{
    const struct rule_field *field = next_field(parsing);
    bool ok = true;
    if (!field)
        return REFUSE(parsing, "the line ends before its %s", is_database ? "database" : "user");
    names->items = memory_alloc((field->count + 1) * sizeof(*names->items));
    for (size_t i = 0; i < field->count; i++) {
        const struct rule_word *word = &field->words[i];
        if (needs_roles(word, is_database))
            ok = REFUSE(parsing,
                        "%s: pgreserve does not know who is a member of a role: name the %s",
                        word->text, is_database ? "databases" : "users");
        else
            ok = take_name(parsing, names, word) && ok;
    }
    return ok;
}

/* ---- address ---- */

/* An address in numbers, in any form that PostgreSQL takes; how many bytes it has, or 0. */
static size_t numeric(const char *text, int *family, uint8_t bytes[16])
{
    struct addrinfo hints = {.ai_flags = AI_NUMERICHOST, .ai_socktype = SOCK_STREAM};
    struct addrinfo *found = NULL;
    size_t length = 0;
    if (getaddrinfo(text, NULL, &hints, &found) != 0)
        return 0;
    *family = found->ai_family;
    if (found->ai_family == AF_INET) {
        length = 4;
        memcpy(bytes, &((const struct sockaddr_in *)(void *)found->ai_addr)->sin_addr, length);
    } else if (found->ai_family == AF_INET6) {
        length = 16;
        memcpy(bytes, &((const struct sockaddr_in6 *)(void *)found->ai_addr)->sin6_addr, length);
    }
    freeaddrinfo(found);
    return length;
}

static bool take_bits(struct parsing *parsing, const char *text, size_t length)
{
    char *end;
    long bits = *text ? strtol(text, &end, 10) : -1;
    if (bits < 0 || *end || bits > (long)length * 8)
        return REFUSE(parsing, "/%s: the bits of this address are 0 to %zu", text, length * 8);
    for (size_t i = 0; i < length; i++, bits -= 8)
        parsing->rule->network.mask[i] = (uint8_t)(0xff00 >> (bits > 8 ? 8 : bits > 0 ? bits : 0));
    return true;
}

static bool take_mask(struct parsing *parsing, const char *address)
{
    struct hba_network *network = &parsing->rule->network;
    int family;
    const struct rule_field *field = next_field(parsing);
    if (!field)
        return REFUSE(parsing, "%s has no mask: write %s/BITS, or the mask behind it", address,
                      address);
    if (field->count != 1)
        return REFUSE(parsing, "one mask, please, not a list");
    const char *text = field->words[0].text;
    if (!numeric(text, &family, network->mask))
        return REFUSE(parsing, "%s is no mask: write %s/BITS, or a mask like 255.255.255.0", text,
                      address);
    return family == network->family ||
           REFUSE(parsing, "the mask %s is not of the address's kind", text);
}

static bool take_network(struct parsing *parsing, const char *text)
{
    struct hba_network *network = &parsing->rule->network;
    char address[128];
    const char *slash = strchr(text, '/');
    size_t length = slash ? (size_t)(slash - text) : strlen(text);
    size_t bytes = 0;
    if (length < sizeof(address)) {
        memcpy(address, text, length);
        address[length] = '\0';
        bytes = numeric(address, &network->family, network->address);
    }
    if (bytes == 0)
        return REFUSE(parsing,
                      "%s is no address: names of hosts are not looked up, write the address as "
                      "10.0.0.0/8, or all, samehost or samenet",
                      text);
    return slash ? take_bits(parsing, slash + 1, bytes) : take_mask(parsing, address);
}

static bool take_address(struct parsing *parsing)
{
    static const struct {
        const char *name;
        enum hba_from from;
    } words[] = {
        {"all", HBA_FROM_ALL}, {"samehost", HBA_FROM_SAMEHOST}, {"samenet", HBA_FROM_SAMENET}};
    const struct rule_field *field = next_field(parsing);
    if (!field || field->count != 1)
        return REFUSE(parsing, field ? "one address, please, not a list"
                                     : "the line ends before its address");
    for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++) {
        if (rule_word_is(&field->words[0], words[i].name)) {
            parsing->rule->from = words[i].from;
            return true;
        }
    }
    return take_network(parsing, field->words[0].text);
}

/* ---- method, options ---- */

static bool take_method(struct parsing *parsing)
{
    static const struct {
        const char *name;
        enum hba_method method;
    } methods[] = {{"trust", HBA_TRUST}, {"reject", HBA_REJECT},
                   {"md5", HBA_MD5},     {"scram-sha-256", HBA_SCRAM_SHA_256},
                   {"cert", HBA_CERT},   {"password", HBA_PASSWORD},
                   {"peer", HBA_PEER},   {"ident", HBA_PEER}};
    struct hba_rule *rule = parsing->rule;
    const char *word = next_one(parsing, "method");
    size_t i = 0;
    if (!word)
        return false;
    while (i < sizeof(methods) / sizeof(methods[0]) && strcmp(word, methods[i].name) != 0)
        i++;
    /* ident on a unix socket is peer, as in PostgreSQL; elsewhere it believes what the client's machine says. */
    if (i == sizeof(methods) / sizeof(methods[0]) ||
        (strcmp(word, "ident") == 0 && rule->type != HBA_LOCAL))
        return REFUSE(parsing,
                      "%s is not supported: there are trust, reject, scram-sha-256, md5, password, "
                      "cert and peer",
                      word);
    rule->method = methods[i].method;
    if (rule->method == HBA_PEER && rule->type != HBA_LOCAL)
        return REFUSE(parsing, "peer is for unix sockets: its line begins with local");
    if (rule->method == HBA_CERT && rule->type != HBA_HOSTSSL)
        return REFUSE(parsing, "cert needs TLS: its line begins with hostssl");
    if (rule->method == HBA_CERT)
        rule->clientcert = HBA_CLIENTCERT_VERIFY_FULL;
    return true;
}

static bool take_clientcert(struct parsing *parsing, const char *value)
{
    struct hba_rule *rule = parsing->rule;
    bool is_full = strcmp(value, "verify-full") == 0;
    if (rule->type != HBA_HOSTSSL)
        return REFUSE(parsing, "clientcert needs TLS: its line begins with hostssl");
    if (!is_full && strcmp(value, "verify-ca") != 0)
        return REFUSE(parsing, "clientcert=%s: there are verify-ca and verify-full", value);
    if (!is_full && rule->method == HBA_CERT)
        return REFUSE(parsing, "clientcert with cert is verify-full");
    rule->clientcert = is_full ? HBA_CLIENTCERT_VERIFY_FULL : HBA_CLIENTCERT_VERIFY_CA;
    return true;
}

static bool take_clientname(struct parsing *parsing, const char *value)
{
    if (parsing->rule->type != HBA_HOSTSSL)
        return REFUSE(parsing, "clientname needs TLS: its line begins with hostssl");
    if (strcmp(value, "CN") != 0 && strcmp(value, "DN") != 0)
        return REFUSE(parsing, "clientname=%s: there are CN and DN", value);
    parsing->rule->wants_dn = *value == 'D';
    return true;
}

static bool take_map(struct parsing *parsing, const char *value)
{
    struct hba_rule *rule = parsing->rule;
    if (rule->method != HBA_PEER && rule->method != HBA_CERT)
        return REFUSE(parsing, "map is for the methods peer and cert");
    free(rule->map);
    rule->map = *value ? memory_strdup(value) : NULL;
    return true;
}

static bool take_option(struct parsing *parsing, const char *word)
{
    static const struct {
        const char *name;
        bool (*take)(struct parsing *parsing, const char *value);
    } known[] = {
        {"map", take_map}, {"clientcert", take_clientcert}, {"clientname", take_clientname}};
    const char *equals = strchr(word, '=');
    if (!equals)
        return REFUSE(parsing, "%s: an option is NAME=VALUE", word);
    for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++) {
        size_t length = strlen(known[i].name);
        if (length == (size_t)(equals - word) && memcmp(word, known[i].name, length) == 0)
            return known[i].take(parsing, equals + 1);
    }
    return REFUSE(parsing, "%.*s is no option here: there are map, clientcert and clientname",
                  (int)(equals - word), word);
}

static bool take_options(struct parsing *parsing)
{
    const struct rule_field *field;
    bool ok = true;
    while ((field = next_field(parsing))) {
        for (size_t i = 0; i < field->count; i++)
            ok = take_option(parsing, field->words[i].text) && ok;
    }
    return ok;
}

bool hba_rule_parse(struct hba_rule *rule, const struct rule_line *line,
                    struct config_errors *errors)
{
    struct parsing parsing = {.rule = rule, .line = line, .errors = errors};
    rule->file = memory_strdup(line->file);
    rule->line = line->number;
    return take_type(&parsing) && take_names(&parsing, &rule->databases, true) &&
           take_names(&parsing, &rule->users, false) &&
           (rule->type == HBA_LOCAL || take_address(&parsing)) && take_method(&parsing) &&
           take_options(&parsing);
}
