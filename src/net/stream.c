/*
 * stream.c - one descriptor's bytes: see stream.h.
 *
 * A read that returns fewer bytes than were asked for has emptied a plain socket, so that the next edge will tell of
 * more; only when the kernel has said that the peer closed must it be read once more to see the end.  That saves the
 * second recv() of every message.  TLS has to be read until it wants more.
 */
#include "net/stream.h"

#include <errno.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <openssl/err.h>
#include <openssl/x509.h>

static void on_event(evutil_socket_t fd, short what, void *arg);

bool stream_open(struct stream *stream, struct event_base *base, int fd, SSL *ssl,
                 stream_callback callback, void *arg)
{
    *stream = (struct stream){.fd = fd, .ssl = ssl, .callback = callback, .arg = arg};
    event_assign(&stream->read_event, base, fd, EV_READ | EV_CLOSED | EV_ET | EV_PERSIST, on_event,
                 stream);
    if (event_add(&stream->read_event, NULL) == 0)
        return true;
    stream->fd = -1;
    return false;
}

static void stream_break(struct stream *stream, int error)
{
    stream->is_broken = true;
    stream->error = error;
    stream->may_read = false;
}

void stream_yield(struct stream *stream)
{
    static const struct timeval at_once = {0, 0};
    if (event_add(&stream->read_event, &at_once) < 0)
        event_active(&stream->read_event, EV_READ, 0);
}

/* libevent has taken the event away when its time came.  Adding it tells anew of what the socket has, an end included. */
static void listen_again(struct stream *stream)
{
    if (event_add(&stream->read_event, NULL) < 0)
        stream_break(stream, errno != 0 ? errno : ENOMEM);
}

/* Bytes could not be written and are lost, so that nothing may follow them.  That does not end reading: what the peer said
 * last is there to read, and behind it stream_read finds the end.  No edge may follow, and whoever wrote may be busy with
 * another connection by now, so the owner is called to look. */
static void give_up_writing(struct stream *stream, int error)
{
    stream->may_read = true;
    stream->saw_close = true;
    event_active(&stream->read_event, EV_READ, 0);
    if (stream->error == 0)
        stream->error = error != 0 ? error : EIO;
    buffer_free(&stream->out);
}

/* Few streams ever have to wait with a write, so that its event is made when one does: 128 bytes of every client.  Without
 * it nobody would ever write the rest. */
static void arm_write(struct stream *stream)
{
    if (stream->write_event || stream->error != 0)
        return;
    stream->write_event = event_new(event_get_base(&stream->read_event), stream->fd,
                                    EV_WRITE | EV_ET, on_event, stream);
    if (stream->write_event && event_add(stream->write_event, NULL) == 0)
        return;
    give_up_writing(stream, errno);
    if (stream->write_event)
        event_free(stream->write_event);
    stream->write_event = NULL;
}

static void disarm_write(struct stream *stream)
{
    if (stream->write_event)
        event_free(stream->write_event);
    stream->write_event = NULL;
}

/* In OpenSSL's words, which are static: why the peer's certificate is refused, else the error. */
static const char *tls_reason(const SSL *ssl)
{
    long verdict = SSL_get_verify_result(ssl);
    if (verdict != X509_V_OK)
        return X509_verify_cert_error_string(verdict);
    return ERR_reason_error_string(ERR_peek_last_error());
}

/* What an SSL call that failed means: true when it only has to wait. */
static bool tls_has_to_wait(struct stream *stream, int result)
{
    int reason = SSL_get_error(stream->ssl, result);
    int error = errno;
    if (reason == SSL_ERROR_SSL)
        stream->tls_reason = tls_reason(stream->ssl);
    ERR_clear_error();
    if (reason == SSL_ERROR_WANT_READ)
        return true;
    if (reason == SSL_ERROR_WANT_WRITE) {
        arm_write(stream);
        return true;
    }
    if (reason == SSL_ERROR_ZERO_RETURN)
        stream_break(stream, 0);
    else
        stream_break(stream, reason == SSL_ERROR_SYSCALL ? error : EPROTO);
    return false;
}

enum count { COUNT_RECEIVED, COUNT_SENT };

static void count(const struct stream *stream, enum count which, size_t bytes)
{
    if (stream->counts)
        stream->counts[which] += bytes;
}

/* Nothing is there to read.  Where writing was given up while the peer lives, for lack of memory or buffers say, there is
 * nothing to wait for either; a peer that has closed is met at its end. */
static ssize_t read_later(struct stream *stream)
{
    if (stream->error != 0 && stream->error != EPIPE) {
        stream_break(stream, stream->error);
        return STREAM_END;
    }
    stream->may_read = false;
    return STREAM_AGAIN;
}

static ssize_t tls_read(struct stream *stream, void *bytes, size_t size)
{
    int chunk = size > INT32_MAX ? INT32_MAX : (int)size;
    ERR_clear_error();
    int got = SSL_read(stream->ssl, bytes, chunk);
    if (got > 0) {
        count(stream, COUNT_RECEIVED, (size_t)got);
        return got;
    }
    return tls_has_to_wait(stream, got) ? read_later(stream) : STREAM_END;
}

/* recv() and send(), but that nobody can cancel them: once there has been a second thread (worker.h) glibc gets ready for that
 * before each call and after it: 60 ns for a send and a recv that take 710. */
static struct sockaddr *const nobody = NULL; /* the peer's address is neither asked for nor given */
static socklen_t *const no_length = NULL;

static ssize_t socket_recv(int fd, void *bytes, size_t size)
{
    return syscall(SYS_recvfrom, fd, bytes, size, 0, nobody, no_length);
}

static ssize_t socket_send(int fd, const void *bytes, size_t size)
{
    return syscall(SYS_sendto, fd, bytes, size, MSG_NOSIGNAL, nobody, 0);
}

ssize_t stream_read(struct stream *stream, void *bytes, size_t size)
{
    if (stream->is_broken)
        return STREAM_END;
    if (stream->ssl)
        return tls_read(stream, bytes, size);
    ssize_t got;
    do {
        got = socket_recv(stream->fd, bytes, size);
    } while (got < 0 && errno == EINTR);
    if (got > 0) {
        if ((size_t)got < size && !stream->saw_close)
            stream->may_read = false;
        count(stream, COUNT_RECEIVED, (size_t)got);
        return got;
    }
    if (got < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
        return read_later(stream);
    stream_break(stream, got < 0 ? errno : 0);
    return STREAM_END;
}

bool stream_is_dead(const struct stream *stream)
{
    struct pollfd at = {.fd = stream->fd};
    return poll(&at, 1, 0) > 0 && (at.revents & (POLLERR | POLLHUP));
}

/* How many of the bytes went; 0 when the socket is full, -1 when it is broken. */
static ssize_t write_some(struct stream *stream, const void *bytes, size_t size)
{
    if (stream->ssl) {
        int chunk = size > (1 << 20) ? (1 << 20) : (int)size;
        ERR_clear_error();
        int sent = SSL_write(stream->ssl, bytes, chunk);
        if (sent > 0) {
            count(stream, COUNT_SENT, (size_t)sent);
            return sent;
        }
        return tls_has_to_wait(stream, sent) ? 0 : -1;
    }
    ssize_t sent;
    do {
        sent = socket_send(stream->fd, bytes, size);
    } while (sent < 0 && errno == EINTR);
    if (sent >= 0) {
        count(stream, COUNT_SENT, (size_t)sent);
        return sent;
    }
    if (errno == EAGAIN || errno == EWOULDBLOCK)
        return 0;
    return -1;
}

bool stream_flush(struct stream *stream)
{
    while (buffer_length(&stream->out) > 0) {
        if (stream->is_broken || stream->error != 0)
            return false;
        ssize_t sent = write_some(stream, buffer_bytes(&stream->out), buffer_length(&stream->out));
        if (sent < 0) {
            give_up_writing(stream, errno);
            return false;
        }
        if (sent == 0) {
            arm_write(stream);
            return stream->error == 0;
        }
        buffer_consume(&stream->out, (size_t)sent);
    }
    return true;
}

bool stream_write(struct stream *stream, const void *bytes, size_t size)
{
    if (stream->is_broken || stream->error != 0)
        return false;
    if (buffer_length(&stream->out) > 0) {
        buffer_append(&stream->out, bytes, size);
        return stream->write_event || stream_flush(stream);
    }
    const uint8_t *at = bytes;
    while (size > 0) {
        ssize_t sent = write_some(stream, at, size);
        if (sent < 0) {
            give_up_writing(stream, errno);
            return false;
        }
        if (sent == 0) {
            buffer_append(&stream->out, at, size);
            arm_write(stream);
            return stream->error == 0;
        }
        at += sent;
        size -= (size_t)sent;
    }
    return true;
}

void stream_queue(struct stream *stream, const void *bytes, size_t size)
{
    if (!stream->is_broken && stream->error == 0)
        buffer_append(&stream->out, bytes, size);
}

bool stream_write_buffer(struct stream *stream, struct buffer *buffer)
{
    bool is_ok = stream_write(stream, buffer_bytes(buffer), buffer_length(buffer));
    buffer_free(buffer);
    return is_ok;
}

void stream_queue_buffer(struct stream *stream, struct buffer *buffer)
{
    stream_queue(stream, buffer_bytes(buffer), buffer_length(buffer));
    buffer_free(buffer);
}

static void shake_hands(struct stream *stream)
{
    ERR_clear_error();
    int done = SSL_accept(stream->ssl);
    if (done == 1)
        stream->is_shaking_hands = false;
    else if (tls_has_to_wait(stream, done) && stream->error != 0)
        stream_break(stream, stream->error); /* it cannot be waited for */
}

void stream_start_tls(struct stream *stream, SSL *ssl)
{
    stream->ssl = ssl;
    stream->is_shaking_hands = true;
    shake_hands(stream);
}

static void on_event(evutil_socket_t fd, short what, void *arg)
{
    struct stream *stream = arg;
    (void)fd;
    if (what & EV_TIMEOUT)
        listen_again(stream);
    if (what & EV_WRITE)
        disarm_write(stream);
    if (what & (EV_READ | EV_CLOSED))
        stream->may_read = true;
    if (what & EV_CLOSED)
        stream->saw_close = true;
    if (stream->is_shaking_hands && !stream->is_broken)
        shake_hands(stream);
    else if (what & EV_WRITE) {
        stream_flush(stream);
        if (stream->ssl)
            stream->may_read = true;
    }
    stream->callback(stream, stream->arg);
}

void stream_pause(struct stream *stream)
{
    event_del(&stream->read_event);
    disarm_write(stream);
}

void stream_resume(struct stream *stream)
{
    event_add(&stream->read_event, NULL);
    if (stream_backlog(stream) > 0)
        arm_write(stream);
    stream->may_read = true;
}

void stream_shutdown(struct stream *stream)
{
    if (stream->fd >= 0)
        shutdown(stream->fd, SHUT_WR);
}

void stream_close(struct stream *stream, bool close_fd)
{
    if (stream->fd < 0)
        return;
    event_del(&stream->read_event);
    disarm_write(stream);
    buffer_free(&stream->out);
    if (close_fd)
        close(stream->fd);
    stream->fd = -1;
    stream->is_broken = true;
    stream->may_read = false;
}
