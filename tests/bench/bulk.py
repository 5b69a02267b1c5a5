"""COPY of many bytes, out and in: megabytes a second, and the proxy's CPU seconds for each gigabyte.

A client of our own that does next to nothing with the bytes, so that the proxy is what is short: it reads into one
buffer and looks at the last bytes only, and sends what it made beforehand.  COPY in goes WHERE false: the server reads
every row and keeps none, so that no disk is in the way.
"""

import socket
import ssl
import time

import parties
from parties import server

import wire  # noqa: E402  (parties has found it)

END = b"Z\0\0\0\5I"
GB = 1e9

ROWS = {"large": ("repeat('x', 8000)", 8001), "small": ("n, n * 7, 'row ' || n", 25)}


def open_socket(port, tls):
    connection = socket.create_connection(("127.0.0.1", port))
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if tls:
        connection.sendall(wire.SSL_REQUEST)
        if connection.recv(1) != b"S":
            raise OSError("it does not speak TLS")
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        connection = context.wrap_socket(connection)
    connection.sendall(wire.startup(user=server.ROLE, database="app", application_name="bench"))
    read_to_end(connection)
    return connection


def read_to_end(connection):
    """Bytes up to a ReadyForQuery; all of them when there are few, for an error is there to be read."""
    buffer, total, tail = bytearray(1 << 18), 0, b""
    while not tail.endswith(END):
        got = connection.recv_into(buffer)
        if got == 0:
            raise OSError("closed")
        total += got
        tail = (tail + bytes(buffer[max(0, got - 300):got]))[-300:]
    if b"SERROR\0" in tail:
        raise OSError(tail[tail.index(b"SERROR\0"):-6].decode(errors="replace"))
    return total


def make_table(upstream):
    connection = upstream.superuser_connection("app")
    with connection.cursor() as cursor:
        cursor.execute("CREATE UNLOGGED TABLE bulk (line text); GRANT ALL ON bulk TO PUBLIC")
    connection.close()


def copy_out(connection, rows, size):
    expression, row_bytes = ROWS[rows]
    connection.sendall(wire.query(f"COPY (SELECT {expression} FROM generate_series(1, {size // row_bytes}) n)"
                                  " TO STDOUT"))
    return read_to_end(connection)


def copy_in(connection, rows, size):
    line = b"x" * 8000 + b"\n" if rows == "large" else b"123456 864192 row 123456\n"
    piece = line * ((65536 if rows == "large" else 8192) // len(line))
    message = wire.copy_data(piece)
    several = message * max(1, 262144 // len(message))
    connection.sendall(wire.query("COPY bulk FROM STDIN WHERE false"))
    if connection.recv(4096)[:1] != b"G":
        raise OSError("no CopyInResponse")
    sent = 0
    while sent < size:
        connection.sendall(several)
        sent += len(several)
    connection.sendall(wire.copy_done())
    read_to_end(connection)
    return sent


def measure(party, direction, rows, tls, size):
    connection = open_socket(party.port, tls)
    try:
        copy = copy_out if direction == "out" else copy_in
        copy(connection, rows, size // 64)
        before, started = party.cpu_seconds(), time.monotonic()
        total = copy(connection, rows, size)
        seconds = time.monotonic() - started
        used = party.cpu_seconds() - before
        connection.sendall(wire.terminate())
    finally:
        connection.close()
    return {"mb_per_s": total / 1e6 / seconds, "cpu_s_per_gb": used * GB / total}
