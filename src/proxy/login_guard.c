/*
 * login_guard.c - looks at what a server asks during a login, before libpq reads it: see login_guard.h.
 *
 * In the clear by MSG_PEEK, through TLS by SSL_peek on libpq's own SSL; both leave everything where it is.  Only while libpq
 * awaits a request for proof: before that it speaks TLS, and afterwards only how much the server says can do harm, which is
 * counted as the kernel has it, TLS or not.  A login takes 1 kB, one with a chain of certificates some ten.
 */
#include "proxy/login_guard.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include <openssl/err.h>
#include <openssl/ssl.h>

#define LOGIN_BYTES_MAX (256u << 10)

/* The number of bytes that can be read at once, at most `room`; 0: none yet; -1: an end or an error, which is libpq's to see. */
static ssize_t peek(PGconn *conn, uint8_t *bytes, size_t room)
{
    SSL *ssl = PQsslInUse(conn) ? PQsslStruct(conn, "OpenSSL") : NULL;
    if (!ssl) {
        ssize_t got = recv(PQsocket(conn), bytes, room, MSG_PEEK | MSG_DONTWAIT);
        if (got > 0)
            return got;
        return got < 0 && (errno == EAGAIN || errno == EINTR) ? 0 : -1;
    }
    ERR_clear_error();
    int got = SSL_peek(ssl, bytes, (int)room);
    if (got > 0)
        return got;
    int reason = SSL_get_error(ssl, got);
    ERR_clear_error();
    return reason == SSL_ERROR_WANT_READ || reason == SSL_ERROR_WANT_WRITE ? 0 : -1;
}

/* Whether no more will come in than is there.  A look at the bytes does not tell: it does not reach the end behind them. */
static bool has_ended(PGconn *conn)
{
    struct pollfd at = {.fd = PQsocket(conn), .events = POLLRDHUP};
    return poll(&at, 1, 0) > 0 && (at.revents & (POLLRDHUP | POLLHUP | POLLERR));
}

enum sasl_guard_verdict login_guard_look(struct server *server, char *why, size_t why_bytes)
{
    uint8_t bytes[SASL_GUARD_MESSAGE_MAX];
    if (PQstatus(server->conn) != CONNECTION_AWAITING_RESPONSE) {
        server->guard = (struct sasl_guard){0}; /* the next host begins anew */
        return SASL_GUARD_PASS;
    }
    bool is_all = has_ended(server->conn);
    ssize_t got = peek(server->conn, bytes, sizeof(bytes));
    if (got < 0)
        return SASL_GUARD_PASS;
    enum sasl_guard_verdict verdict = sasl_guard_judge(&server->guard, bytes, (size_t)got);
    if (verdict == SASL_GUARD_MORE && is_all) {
        snprintf(why, why_bytes, "server closed the connection unexpectedly");
        return SASL_GUARD_REFUSE;
    }
    if (verdict == SASL_GUARD_REFUSE && server->guard.iterations > 0)
        snprintf(why, why_bytes, "the server asks for more than %d iterations of SCRAM",
                 SASL_GUARD_ITERATIONS_MAX);
    else if (verdict == SASL_GUARD_REFUSE)
        snprintf(why, why_bytes, "the server does not ask for a proof in the protocol's way");
    return verdict;
}

bool login_guard_is_brief(struct server *server)
{
    int waiting = 0;
    if (ioctl(PQsocket(server->conn), FIONREAD, &waiting) == 0 && waiting > 0)
        server->login_bytes += (size_t)waiting; /* what libpq leaves is counted again: a few kB */
    return server->login_bytes <= LOGIN_BYTES_MAX;
}
