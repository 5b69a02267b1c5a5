/*
 * fuzz_hba.c - pg_hba.conf and pg_ident.conf, which an operator's mistake may fill with anything, and the names that clients
 * bring to them.
 *
 * The first byte says which.  Then come texts, each with its zero: two names, the file, and files "1", "2" ... that it may
 * include.  What is refused is refused with a reason; what is read can be asked about anybody.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>

#include "config/hba.h"
#include "config/ident.h"

#include "fuzz.h"

#define TEXTS 8

struct texts {
    char *items[TEXTS];
    size_t count;
};

static char *read_text(void *arg, const char *path)
{
    const struct texts *texts = arg;
    size_t number = path[0] >= '0' && path[0] <= '9' && !path[1] ? (size_t)(path[0] - '0') : TEXTS;
    if (number + 2 < texts->count)
        return strdup(texts->items[number + 2]);
    errno = ENOENT;
    return NULL;
}

static char **list_texts(void *arg, const char *path)
{
    char **names = calloc(3, sizeof(*names));
    (void)arg;
    (void)path;
    if (names) {
        names[0] = strdup(".hidden");
        names[1] = strdup("x.conf");
    }
    return names;
}

static void ask(const struct hba *hba, const char *database, const char *user)
{
    static struct hba_network here[] = {{AF_INET, {127, 0, 0, 1}, {255}},
                                        {AF_INET6, {[15] = 1}, {255, 255}}};
    struct hba_networks interfaces = {here, 2};
    static const char *const addresses[] = {"127.0.0.1", "10.1.2.3", "::1", "::ffff:10.1.2.3"};
    for (unsigned i = 0; i < 4 * 8; i++) {
        struct sockaddr_in in = {.sin_family = AF_INET};
        struct sockaddr_in6 in6 = {.sin6_family = AF_INET6};
        bool is_in = inet_pton(AF_INET, addresses[i % 4], &in.sin_addr) == 1;
        inet_pton(AF_INET6, addresses[i % 4], &in6.sin6_addr);
        struct hba_client client = {.is_unix = i & 4,
                                    .has_tls = i & 8,
                                    .is_physical_replication = i & 16,
                                    .address = is_in ? (const struct sockaddr *)&in
                                                     : (const struct sockaddr *)&in6,
                                    .database = database,
                                    .user = user,
                                    .interfaces = &interfaces};
        const struct hba_rule *rule = hba_find(hba, &client);
        fuzz_claim(!rule || (rule->type == HBA_LOCAL) == client.is_unix, "its own kind of line");
        fuzz_claim(!rule || rule->type != HBA_HOSTSSL || client.has_tls, "TLS where it is wanted");
        fuzz_claim(!rule || rule->method != HBA_CERT || client.has_tls, "a certificate needs TLS");
        fuzz_claim(!rule || rule->type != HBA_HOSTGSSENC, "nobody has GSSAPI");
    }
}

static void play_hba(struct texts *texts, const struct rule_source *source)
{
    struct config_errors errors = {0};
    struct hba *hba = hba_read("0", source, &errors);
    fuzz_claim((hba == NULL) == (errors.count > 0), "refused with a reason, else without one");
    for (size_t i = 0; hba && i < hba->count; i++)
        hba_rule_reaches_out(&hba->rules[i]);
    if (hba)
        ask(hba, texts->items[0], texts->items[1]);
    hba_free(hba);
    config_errors_free(&errors);
}

static void play_ident(struct texts *texts, const struct rule_source *source)
{
    struct config_errors errors = {0};
    struct ident *ident = ident_read("0", source, &errors);
    fuzz_claim((ident == NULL) == (errors.count > 0), "refused with a reason, else without one");
    if (ident) {
        ident_allows(ident, "m", texts->items[0], texts->items[1]);
        fuzz_claim(!ident_allows(ident, "no map of this name", "x", "x"),
                   "an unknown map is no map");
    }
    ident_free(ident);
    config_errors_free(&errors);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t length)
{
    struct fuzz_input input = {bytes, length};
    struct texts texts = {0};
    struct rule_source source = {read_text, list_texts, &texts};
    uint8_t what = fuzz_byte(&input);
    while (texts.count < TEXTS && (input.left > 0 || texts.count < 3)) {
        const uint8_t *zero = input.left ? memchr(input.bytes, 0, input.left) : NULL;
        size_t size = zero ? (size_t)(zero - input.bytes) : input.left;
        const uint8_t *piece;
        fuzz_piece(&input, size, &piece);
        texts.items[texts.count++] = fuzz_text(piece, size);
        fuzz_byte(&input);
    }
    if (what & 1)
        play_ident(&texts, &source);
    else
        play_hba(&texts, &source);
    for (size_t i = 0; i < texts.count; i++)
        free(texts.items[i]);
    return 0;
}
