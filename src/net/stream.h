/*
 * stream.h - one descriptor's bytes, plain or TLS: read, write, back-pressure.
 *
 * Events are edge-triggered and persistent: an edge sets `may_read`, and the owner reads when it has somewhere to
 * put the bytes; nothing is re-armed.  What the socket does not take at once waits in `out` and goes when it
 * can; the owner looks at stream_backlog() and stops reading from the other side.  Knows nothing of PostgreSQL.
 */
#ifndef NET_STREAM_H
#define NET_STREAM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include <event2/event.h>
#include <event2/event_struct.h>
#include <openssl/ssl.h>

#include "base/buffer.h"

struct stream;
/* Something may be read, or `out` has drained, or the other side has closed: look at the stream. */
typedef void (*stream_callback)(struct stream *stream, void *arg);

struct stream {
    int fd;                 /* -1 when closed */
    bool may_read;          /* an edge came and reading has not met the end of it */
    bool saw_close;         /* the kernel says that the peer has closed: read on to the end */
    bool is_broken;         /* an error or the end was met: nothing more can be read or written */
    bool is_shaking_hands;  /* TLS not yet up */
    int error;              /* errno of what ended it, or its writing; 0: an orderly end */
    const char *tls_reason; /* OpenSSL's words for what ended the handshake, static; NULL: none */
    SSL *ssl;               /* NULL when plain; the owner frees it */
    uint64_t *counts; /* bytes received, then sent, that every read and write adds to; NULL: none */
    struct event read_event;
    struct event *write_event; /* made when a write first has to wait, gone when it went on */
    struct buffer out;
    stream_callback callback;
    void *arg;
};

/* Reads that one callback should make at most, before it yields: a megabyte or, by TLS, a quarter of one. */
#define STREAM_READS_AT_ONCE 16

#define STREAM_END   (-1) /* stream_read: the end or an error */
#define STREAM_AGAIN 0    /* stream_read: nothing there now; an edge will tell */

/* Takes over a non-blocking descriptor.  False when the event cannot be had. */
bool stream_open(struct stream *stream, struct event_base *base, int fd, SSL *ssl,
                 stream_callback callback, void *arg);
/* Reads up to `size` bytes: their count, STREAM_AGAIN or STREAM_END. */
ssize_t stream_read(struct stream *stream, void *bytes, size_t size);
/* After a read that emptied the socket: have it read once more.  A reset that came in one event with the last bytes shows
 * only so (the kernel's EPOLLERR reaches us as readable, and no edge follows).  Who awaits no answer from us
 * needs it; the others are found out when the answer is written. */
static inline void stream_look_again(struct stream *stream)
{
    stream->may_read = !stream->is_broken;
}
/* Leaves what there is to read for later: the callback comes again when the others that are ready have had theirs.  For who
 * would go on as long as the other side is the faster one. */
void stream_yield(struct stream *stream);
/* Whether both directions are over, by a reset or because the peer has closed it: what cannot be told while nothing is
 * read, for the kernel's EPOLLERR reaches us as readable.  An end of the peer's writing alone (shutdown) is not that.  One system
 * call. */
bool stream_is_dead(const struct stream *stream);
/* Writes now what can be written, keeps the rest.  False when the stream is broken. */
bool stream_write(struct stream *stream, const void *bytes, size_t size);
/* Keeps the bytes, to leave in the same write as the next ones. */
void stream_queue(struct stream *stream, const void *bytes, size_t size);
/* The same two with all that a buffer holds, which is empty and owns nothing afterwards. */
bool stream_write_buffer(struct stream *stream, struct buffer *buffer);
void stream_queue_buffer(struct stream *stream, struct buffer *buffer);
/* Tries to write what waits. */
bool stream_flush(struct stream *stream);
static inline size_t stream_backlog(const struct stream *stream)
{
    return buffer_length(&stream->out);
}
/* Begins the server's side of a TLS handshake on a plain stream; the callback comes when it is done (is_shaking_hands
 * false) or has failed (is_broken). */
void stream_start_tls(struct stream *stream, SSL *ssl);
/* No callback comes until stream_resume(), which then has whatever came meanwhile looked at. */
void stream_pause(struct stream *stream);
void stream_resume(struct stream *stream);
/* Says to the peer that nothing more will come: it sees EOF. */
void stream_shutdown(struct stream *stream);
/* Takes the events away; with `close_fd` closes the descriptor too. */
void stream_close(struct stream *stream, bool close_fd);

#endif
