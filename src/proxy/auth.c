/*
 * auth.c - from a client's first byte to the proof of who it is.
 *
 * SSLRequest, GSSENCRequest and CancelRequest, then the StartupMessage: which database, which user, what the client must
 * prove (trust, md5, SCRAM-SHA-256, certificate; auth_rules.c when hba_file says what, auth_query.c where only the upstream
 * knows the user).  The answer to a wrong user and a wrong password is the same.  Then open.c opens the session.
 */
#include <errno.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/random.h>
#include <unistd.h>

#include <openssl/crypto.h>

#include "base/memory.h"
#include "proto/build.h"
#include "proto/sqlstate.h"
#include "proxy/auth_query.h"
#include "proxy/cancel.h"
#include "proxy/events.h"
#include "proxy/login.h"
#include "proxy/proxy.h"
#include "proxy/settle.h"

#define AUTH_OK            0
#define AUTH_CLEAR_REQUEST 3
#define AUTH_MD5_REQUEST   5
#define AUTH_SASL          10
#define AUTH_SASL_CONTINUE 11
#define AUTH_SASL_FINAL    12
#define PASSWORD_MAX       65535u
#define TLS_CLIENT_HELLO   0x16

enum auth_step { STEP_NONE, STEP_LOOKUP, STEP_CLEAR, STEP_MD5, STEP_SASL_FIRST, STEP_SASL_FINAL };

static void send_authentication(struct client *client, uint32_t code, const void *data,
                                size_t length)
{
    struct buffer message = {0};
    build_authentication(&message, code, data, length);
    /* The last two leave with the parameters and the first ReadyForQuery, in one write. */
    if (code == AUTH_OK || code == AUTH_SASL_FINAL)
        stream_queue_buffer(&client->stream, &message);
    else
        stream_write_buffer(&client->stream, &message);
}

static void fill_random(void *out, size_t length)
{
    uint8_t *at = out;
    while (length > 0) {
        ssize_t got = getrandom(at, length, 0);
        if (got > 0) {
            at += got;
            length -= (size_t)got;
        }
    }
}

/* ---- ready ---- */

static void enter_console(struct client *client)
{
    static const struct {
        const char *name;
        const char *value;
    } parameters[] = {{"server_version", "15.0"},
                      {"client_encoding", "UTF8"},
                      {"server_encoding", "UTF8"},
                      {"DateStyle", "ISO, MDY"},
                      {"TimeZone", "UTC"},
                      {"integer_datetimes", "on"},
                      {"standard_conforming_strings", "on"},
                      {"is_superuser", "on"}};
    struct buffer message = {0};
    for (size_t i = 0; i < sizeof(parameters) / sizeof(parameters[0]); i++)
        build_parameter_status(&message, parameters[i].name, parameters[i].value);
    build_parameter_status(&message, "session_authorization", client->user);
    build_parameter_status(&message, "application_name", client->application_name);
    stream_queue_buffer(&client->stream, &message);
    client_set_state(client, CLIENT_CONSOLE);
    open_ready(client);
}

void auth_succeeded(struct client *client)
{
    auth_forget_secrets(client);
    if (client->pool && !session_may_use_pool(client))
        return;
    if (client->is_stranger) {
        client_fatal(client, SQLSTATE_INVALID_AUTHORIZATION,
                     "user is not allowed on the admin console", NULL, NULL);
        return;
    }
    door_leave(client);
    send_authentication(client, AUTH_OK, NULL, 0);
    if (!client->pool) {
        enter_console(client);
        return;
    }
    client->lane = auth_lane(client);
    settle_begin(client);
    stats_client_login(client);
    client_set_state(client, CLIENT_LOGIN);
    open_begin(client);
}

const char *auth_plain_password(const struct proxy *proxy, const char *user)
{
    const char *password = proxy->users ? users_find(proxy->users, user) : NULL;
    if (password && (md5_is_secret(password) || scram_is_secret(password)))
        return NULL; /* proves who the client is, but cannot log in with it */
    return password;
}

const char *auth_upstream_password(const struct proxy *proxy,
                                   const struct config_database *database, const char *user)
{
    return database->password ? database->password : auth_plain_password(proxy, user);
}

struct lane *auth_lane(struct client *client)
{
    const struct proxy *proxy = client->proxy;
    const struct config_database *database = config_find_database(proxy->config, client->database);
    const char *user = database->user ? database->user : client->user;
    return session_lane(client, database, user, auth_upstream_password(proxy, database, user));
}

/* ---- proof ---- */

static void refuse_password(struct client *client)
{
    char *text = memory_printf("password authentication failed for user \"%s\"", client->user);
    client_fatal(client, SQLSTATE_INVALID_PASSWORD, text, NULL, NULL);
    free(text);
}

const struct config_database *auth_database(const struct client *client)
{
    const struct config *config = client->proxy->config;
    const struct config_database *database =
        config_find_database(config, client->pool ? client->database : "*");
    if (!database && config->database_count > 0)
        database = &config->databases[0];
    return database;
}

const char *auth_own_password(const struct config_database *database, const char *user)
{
    return database->user && strcmp(database->user, user) == 0 ? database->password : NULL;
}

/* What proves that the client is who it says; NULL for a user that is not known. */
static const char *secret_of(const struct client *client)
{
    const struct proxy *proxy = client->proxy;
    if (client->lookup)
        return client->lookup->secret;
    if (proxy->users)
        return users_find(proxy->users, client->user);
    const struct config_database *database = auth_database(client);
    return database ? auth_own_password(database, client->user) : NULL;
}

/* The keys that a login is checked by are as good as a password for whoever pretends to be us. */
void auth_forget_secrets(struct client *client)
{
    aside_forget(client);
    if (client->scram)
        OPENSSL_cleanse(client->scram, sizeof(*client->scram));
    free(client->scram);
    client->scram = NULL;
    auth_query_leave(client);
}

void auth_ask_scram(struct client *client, const char *secret)
{
    static const char plain[] = "SCRAM-SHA-256\0";
    static const char both[] = "SCRAM-SHA-256-PLUS\0SCRAM-SHA-256\0";
    struct scram_exchange *exchange = memory_alloc(sizeof(*exchange));
    client->scram = exchange;
    if (!secret || md5_is_secret(secret))
        scram_verifier_mock(&exchange->verifier, client->user, client->proxy->secret);
    else if (!scram_verifier_parse(&exchange->verifier, secret))
        verifiers_derive(client->proxy, client->user, secret, &exchange->verifier);
    if (client->stream.ssl)
        exchange->certificate_hash_bytes =
            tls_certificate_hash(client->stream.ssl, exchange->certificate_hash);
    exchange->may_bind_channel = exchange->certificate_hash_bytes > 0;
    client->auth_step = STEP_SASL_FIRST;
    if (exchange->may_bind_channel)
        send_authentication(client, AUTH_SASL, both, sizeof(both));
    else
        send_authentication(client, AUTH_SASL, plain, sizeof(plain));
}

static void check_certificate(struct client *client)
{
    char name[256];
    if (client->stream.ssl && tls_peer_common_name(client->stream.ssl, name, sizeof(name)) &&
        strcmp(name, client->user) == 0) {
        auth_succeeded(client);
        return;
    }
    char *text = memory_printf("certificate authentication failed for user \"%s\"", client->user);
    client_fatal(client, SQLSTATE_INVALID_AUTHORIZATION, text, NULL, NULL);
    free(text);
}

/* For the password, by the way that the method and what is known of it allow. */
static void ask_password(struct client *client, enum auth_method method)
{
    const char *secret = secret_of(client);
    switch (method) {
    case AUTH_PASSWORD:
        client->auth_step = STEP_CLEAR;
        send_authentication(client, AUTH_CLEAR_REQUEST, NULL, 0);
        return;
    case AUTH_MD5:
        if (secret && scram_is_secret(secret))
            break;
        fill_random(client->md5_salt, sizeof(client->md5_salt));
        client->auth_step = STEP_MD5;
        send_authentication(client, AUTH_MD5_REQUEST, client->md5_salt, sizeof(client->md5_salt));
        return;
    default:
        break;
    }
    auth_ask_scram(client, secret);
}

void auth_ask_by(struct client *client, enum auth_method method)
{
    switch (method) {
    case AUTH_TRUST:
        auth_succeeded(client);
        return;
    case AUTH_CERT:
        check_certificate(client);
        return;
    default:
        break;
    }
    if (!auth_query_is_needed(client)) {
        ask_password(client, method);
        return;
    }
    client->auth_step = STEP_LOOKUP;
    auth_query_begin(client, method);
}

void auth_ask_proof(struct client *client)
{
    client_set_state(client, CLIENT_AUTHENTICATING);
    if (client->proxy->rules)
        auth_by_rules(client);
    else
        auth_ask_by(client, (enum auth_method)client->proxy->config->auth_method);
}

/* Its password is right; a line of hba_file may have wanted a certificate of that name too. */
static void password_given(struct client *client)
{
    if (client->has_others_certificate)
        refuse_password(client);
    else
        auth_succeeded(client);
}

static void take_sasl_first(struct client *client, const uint8_t *body, size_t length)
{
    char reply[SCRAM_MESSAGE_MAX];
    uint8_t nonce[SCRAM_NONCE_BYTES];
    const uint8_t *end = memchr(body, 0, length);
    size_t name = end ? (size_t)(end - body) + 1 : 0;
    bool is_plus = end && strcmp((const char *)body, "SCRAM-SHA-256-PLUS") == 0;
    if (!end || length - name < 4 ||
        (strcmp((const char *)body, "SCRAM-SHA-256") != 0 &&
         !(is_plus && client->scram->may_bind_channel))) {
        client_protocol_error(client, "client selected an invalid SASL authentication mechanism",
                              length + 4);
        return;
    }
    uint32_t data = read_u32(body + name);
    if (data != length - name - 4) {
        client_protocol_error(client, "malformed SASLInitialResponse: wrong length", length + 4);
        return;
    }
    client->scram->is_plus = is_plus;
    fill_random(nonce, sizeof(nonce));
    if (scram_first(client->scram, body + name + 4, data, nonce, reply) != SCRAM_CONTINUE) {
        client_protocol_error(client, "malformed SCRAM message", length + 4);
        return;
    }
    client->auth_step = STEP_SASL_FINAL;
    send_authentication(client, AUTH_SASL_CONTINUE, reply, strlen(reply));
}

static void take_sasl_final(struct client *client, const uint8_t *body, size_t length)
{
    char reply[SCRAM_MESSAGE_MAX];
    switch (scram_final(client->scram, body, length, reply)) {
    case SCRAM_OK:
        send_authentication(client, AUTH_SASL_FINAL, reply, strlen(reply));
        password_given(client);
        break;
    case SCRAM_MALFORMED:
        client_protocol_error(client, "malformed SCRAM message", length + 4);
        break;
    default:
        auth_query_distrust(client);
        refuse_password(client);
        break;
    }
}

/* What it does not fit came from the cache: the upstream is asked once more. */
static bool asks_anew(struct client *client, enum auth_step step, const char *response)
{
    if (!auth_query_ask_anew(client, (uint8_t)step, response))
        return false;
    if (auth_query_is_open(client))
        client->auth_step = STEP_LOOKUP;
    return true;
}

void auth_clear_checked(struct client *client, bool is_right, const char *password)
{
    if (is_right)
        password_given(client);
    else if (!asks_anew(client, STEP_CLEAR, password))
        refuse_password(client);
}

/* In clear, or md5. */
static void take_text(struct client *client, uint8_t *body, size_t length)
{
    const char *text = (const char *)body;
    const char *secret = secret_of(client);
    bool is_clear = client->auth_step == STEP_CLEAR;
    bool is_text = length > 0 && memchr(body, 0, length) == body + length - 1;
    bool is_empty = is_clear && is_text && length == 1;
    bool is_right = !is_clear && is_text && secret &&
                    md5_password_matches(secret, client->user, client->md5_salt, text);
    bool is_asked_anew = !is_clear && is_text && !is_right && asks_anew(client, STEP_MD5, text);
    if (is_clear && is_text && !is_empty)
        auth_check_clear(client, secret, text);
    OPENSSL_cleanse(body, length); /* or the buffer would keep a password */
    if (is_asked_anew)
        return;
    if (is_empty)
        client_fatal(client, SQLSTATE_INVALID_PASSWORD, "empty password returned by client", NULL,
                     NULL);
    else if (is_right)
        password_given(client);
    else if (!client->is_aside)
        refuse_password(client);
}

void auth_answered(struct client *client)
{
    const struct auth_lookup *lookup = client->lookup;
    client->auth_step = STEP_NONE;
    if (!lookup->response) {
        client_set_state(client, CLIENT_AUTHENTICATING); /* from now on it is waited for */
        ask_password(client, (enum auth_method)lookup->method);
    } else if (lookup->step == STEP_CLEAR) {
        auth_check_clear(client, lookup->secret, lookup->response);
    } else if (lookup->secret && md5_password_matches(lookup->secret, client->user,
                                                      client->md5_salt, lookup->response)) {
        password_given(client);
    } else {
        refuse_password(client);
    }
    proxy_read_later(client); /* what has come meanwhile */
}

static void take_password(struct client *client, uint8_t *body, size_t length)
{
    switch (client->auth_step) {
    case STEP_SASL_FIRST:
        take_sasl_first(client, body, length);
        break;
    case STEP_SASL_FINAL:
        take_sasl_final(client, body, length);
        break;
    default:
        take_text(client, body, length);
        break;
    }
}

/* ---- first bytes ---- */

static bool can_encrypt(const struct client *client)
{
    return client->proxy->tls && client->proxy->config->tls_client_mode != TLS_CLIENT_DISABLE &&
           !client->is_unix && !client->stream.ssl;
}

static bool shake_hands(struct client *client)
{
    SSL *ssl = tls_accept(client->proxy->tls, client->stream.fd);
    if (ssl)
        stream_start_tls(&client->stream, ssl);
    else
        client_close(client);
    return ssl != NULL;
}

/* Behind the request not one byte may have come along in the clear (CVE-2021-23222). */
static size_t start_encryption(struct client *client, size_t taken, size_t length)
{
    bool can = can_encrypt(client);
    client->has_asked_tls = true;
    if (length > taken) {
        client_protocol_error(client, "received unencrypted data after SSL request",
                              length - taken);
        return length;
    }
    if (!stream_write(&client->stream, can ? "S" : "N", 1) || !can)
        return taken;
    return shake_hands(client) ? taken : length;
}

/* Who came with TLS at once cannot read what is said in the clear, nor would PostgreSQL say anything: only the log does. */
static bool refuse_direct(struct client *client, const char *why)
{
    log_client(LOG_LEVEL_INFO, client, "login refused", LOG_FIELD_KIND("reason", why));
    client->is_lingering = true; /* or what it has sent would have the connection reset */
    client_close(client);
    return false;
}

/* Direct TLS (PostgreSQL 17): the connection begins with a ClientHello, which is OpenSSL's to read, so that its first byte is
 * only looked at.  False while there is nothing to be read as a start-up packet, or never will be.  Where there is no TLS
 * nothing need be looked at beforehand: refused_hello() sees it. */
static bool begin_connection(struct client *client)
{
    uint8_t first;
    if (!can_encrypt(client)) {
        client->has_begun = true;
        return true;
    }
    ssize_t got = recv(client->stream.fd, &first, 1, MSG_PEEK | MSG_DONTWAIT);
    if (got < 0 && errno == EAGAIN) {
        client->stream.may_read = false;
        return false;
    }
    client->has_begun = true;
    if (got != 1 || first != TLS_CLIENT_HELLO)
        return true;
    client->is_direct_tls = true;
    client->has_asked_tls = true;
    shake_hands(client);
    return !client->stream.is_shaking_hands && auth_may_read(client);
}

bool auth_may_read(struct client *client)
{
    if (!client->has_begun)
        return begin_connection(client);
    if (client->stream.is_shaking_hands)
        return false;
    if (!client->is_direct_tls || !client->stream.ssl || client->state != CLIENT_STARTUP)
        return true;
    client->is_direct_tls = false;
    return tls_speaks_postgresql(client->stream.ssl) ||
           refuse_direct(client, "direct TLS without the application protocol \"postgresql\"");
}

/* A ClientHello as the first thing said where there is no TLS. */
static bool refused_hello(struct client *client, const uint8_t *bytes)
{
    if (bytes[0] != TLS_CLIENT_HELLO || client->has_asked_tls || client->has_asked_gss)
        return false;
    refuse_direct(client, "direct TLS is not offered here");
    return true;
}

static size_t refuse_gss(struct client *client, size_t taken, size_t length)
{
    client->has_asked_gss = true;
    if (length > taken) {
        client_protocol_error(client, "received unencrypted data after GSSAPI encryption request",
                              length - taken);
        return length;
    }
    stream_write(&client->stream, "N", 1);
    return taken;
}

/* Each may be asked for once, as in PostgreSQL; again it is a version that nobody knows. */
static bool is_first_request(const struct client *client, uint32_t code)
{
    return code == STARTUP_SSL_REQUEST ? !client->has_asked_tls : !client->has_asked_gss;
}

static size_t take_startup(struct client *client, const uint8_t *bytes, size_t length)
{
    if (client->stream.is_shaking_hands || length < 4)
        return 0;
    uint32_t packet = read_u32(bytes);
    if (packet < 8 || packet > STARTUP_PACKET_MAX) {
        client_protocol_error(client, "invalid length of startup packet", packet);
        return length;
    }
    if (length < packet)
        return 0;
    uint32_t code = read_u32(bytes + 4);
    switch (code) {
    case STARTUP_SSL_REQUEST:
        if (is_first_request(client, code))
            return start_encryption(client, packet, length);
        break;
    case STARTUP_GSSENC_REQUEST:
        if (is_first_request(client, code))
            return refuse_gss(client, packet, length);
        break;
    case STARTUP_CANCEL_REQUEST:
        if (packet > 12 && packet <= 12 + 256)
            cancel_request(client->proxy, read_u32(bytes + 8), bytes + 12, packet - 12);
        client_close(client);
        return length;
    default:
        break;
    }
    if (code >> 16 != 3) {
        char text[96];
        snprintf(text, sizeof(text),
                 "unsupported frontend protocol %u.%u: server supports 3.0 to 3.%d", code >> 16,
                 code & 0xffff, STARTUP_MINOR_NEWEST);
        client_fatal(client, SQLSTATE_FEATURE_NOT_SUPPORTED, text, NULL, NULL);
        return length;
    }
    session_start(client, bytes + 4, packet - 4);
    return packet;
}

size_t auth_input(struct client *client, const uint8_t *bytes, size_t length)
{
    if (client->state == CLIENT_STARTUP)
        return refused_hello(client, bytes) ? length : take_startup(client, bytes, length);
    if (length < 5 || client->auth_step == STEP_LOOKUP)
        return 0;
    uint32_t message = read_u32(bytes + 1);
    if (bytes[0] == 'X') {
        client_close(client);
        return length;
    }
    if (bytes[0] != 'p' || message < 4 || message > PASSWORD_MAX - 1) {
        char text[96];
        snprintf(text, sizeof(text), "expected password response, got message type %u", bytes[0]);
        client_protocol_error(client, text, message);
        return length;
    }
    if (length < (size_t)message + 1)
        return 0;
    take_password(client, (uint8_t *)bytes + 5, message - 4);
    return (size_t)message + 1;
}
