/*
 * turn.h - the loop's turns: wait for events, deal with all there are, and wait again.
 */
#ifndef PROXY_TURN_H
#define PROXY_TURN_H

#include "net/stream.h"
#include "proxy/proxy.h"

/* Serves until the proxy has stopped (its exit_status says how). */
void proxy_run(struct proxy *proxy);

#define TURN_READS_OF_BULK 2

/* Whether a stream that has been read so often in this turn leaves its rest to the next, which tells of it at once.  Who comes
 * near that has much to say, and the sockets' buffers are small: no rest before the next look. */
static inline bool turn_is_over_for(struct proxy *proxy, struct stream *stream, int reads)
{
    if (reads < TURN_READS_OF_BULK)
        return false;
    proxy->gather.is_hurried = true;
    if (reads < STREAM_READS_AT_ONCE)
        return false;
    stream_yield(stream);
    return true;
}

#endif
