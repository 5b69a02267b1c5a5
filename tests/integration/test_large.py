"""Big things pass through, right to the byte, in little memory (issue: 64 MB at the peak).

A user would lose: a dump, a load, a big document, or the whole daemon to the kernel's OOM killer.
"""

import hashlib

import pytest

import wire
from proxy import is_sanitized
from waiting import wait_until
from wire import copy_data, copy_done, query


@pytest.fixture
def single(start_proxy):
    proxy = start_proxy(automation={"size": 1, "max_overflow": 0})
    yield proxy
    proxy.assert_little_memory()


def scaled(count):
    """ASan is ten times slower; the bytes teach it nothing new."""
    return count // 10 if is_sanitized() else count


class Digest:
    """Adds up DataRow or CopyData bodies without keeping them."""

    def __init__(self):
        self.hash, self.bytes, self.count = hashlib.md5(), 0, 0

    def add(self, body):
        self.hash.update(body)
        self.bytes += len(body)
        self.count += 1


def drain(client, kind):
    """Reads to ReadyForQuery through one buffered file; a million tiny reads would take minutes."""
    digest, stream = Digest(), client.socket.makefile("rb", buffering=1 << 20)
    while True:
        head = stream.read(5)
        body = stream.read(int.from_bytes(head[1:], "big") - 4)
        if head[:1] == kind:
            digest.add(body)
        elif head[:1] == b"Z":
            return digest
        elif head[:1] == b"E":
            raise wire.ErrorResponse(wire.error_fields(body))


def test_one_gigabyte_of_copy_out_to_a_reader_that_stops(single):
    rows, width = scaled(10_000), 100_000
    with single.wire() as client:
        client.socket.settimeout(120)
        client.send(query(f"COPY (SELECT repeat(chr(97 + n % 26), {width})"
                          f" FROM generate_series(1, {rows}) n) TO STDOUT"))
        client.until("H")
        # the reader stops: the proxy must stop reading too, which shows as a backend stuck in a write
        wait_until(lambda: single.postgres.backends("wait_event = 'ClientWrite'"),
                   "the server to feel the reader's halt", timeout=20)
        with single.wire("adhoc") as other:
            assert other.query("SELECT 'others go on'").value == "others go on"
        digest = drain(client, b"d")
        expected = hashlib.md5()
        for n in range(1, rows + 1):
            expected.update(bytes([97 + n % 26]) * width + b"\n")
        assert digest.bytes == rows * (width + 1) and digest.count == rows
        assert digest.hash.digest() == expected.digest()
        assert client.query("SELECT 'alive'").value == "alive"


def test_hundred_megabytes_of_copy_in(single):
    with single.wire() as client:
        client.socket.settimeout(120)
        client.query("CREATE TEMP TABLE t (n int, word text)")
        client.send(query("COPY t FROM STDIN"))
        client.until("G")
        total = scaled(100)
        for chunk in range(total):
            client.send(b"".join(copy_data(b"%d\t%s\n" % (n, b"x" * 1000))
                                 for n in range(chunk * 1000, chunk * 1000 + 1000)))
        client.send(copy_done())
        assert client.answer().tags == [f"COPY {total * 1000}"]
        answer = client.query("SELECT count(*), sum(n)::text, bool_and(word = repeat('x', 1000)) FROM t")
        count = total * 1000
        assert answer.rows == [[str(count), str(count * (count - 1) // 2), "t"]]


def test_copy_in_to_a_server_that_stalls(single, postgres):
    """The table is locked: bytes pile up in the kernel, not in the proxy."""
    with single.wire() as client, postgres.superuser_connection("app") as locker:
        client.socket.settimeout(60)
        locker.autocommit = False
        locker.cursor().execute("LOCK TABLE things")
        client.query("BEGIN")
        client.send(query("COPY things FROM STDIN"))
        client.socket.settimeout(1)
        row = copy_data(b"5000\t" + b"x" * 60000 + b"\n")
        sent = 0
        try:
            while sent < 100_000_000:
                sent += client.socket.send(row)
        except TimeoutError:
            pass
        assert sent < 100_000_000, "back-pressure reaches the client"
        locker.rollback()
    locker.close()
    single.wait_pool(in_use=0, clients=0)


def test_single_value_of_200_megabytes_out(single):
    size = scaled(200_000_000)
    with single.wire() as client:
        client.socket.settimeout(120)
        client.send(query(f"SELECT repeat('0123456789', {size // 10})"))
        digest = drain(client, b"D")
        assert digest.count == 1 and digest.bytes == size + 6
        expected = hashlib.md5(b"\0\1" + size.to_bytes(4, "big"))
        for _ in range(size // 1_000_000):
            expected.update(b"0123456789" * 100_000)
        assert digest.hash.digest() == expected.digest()


@pytest.mark.parametrize("protocol", ["simple", "extended"])
def test_single_value_of_200_megabytes_in(single, protocol):
    size = scaled(200_000_000)
    piece = b"0123456789" * 100_000
    with single.wire() as client:
        client.socket.settimeout(120)
        if protocol == "simple":
            head, tail = b"SELECT length('", b"')\0"
            client.send(b"Q" + (4 + len(head) + size + len(tail)).to_bytes(4, "big") + head)
        else:
            client.send(wire.parse("", "SELECT length($1::text)"))
            head = b"\0\0" + b"\0\0" + b"\0\1" + size.to_bytes(4, "big")
            tail = b"\0\0"
            client.send(b"B" + (4 + len(head) + size + len(tail)).to_bytes(4, "big") + head)
        for _ in range(size // len(piece)):
            client.send(piece)
        client.send(tail)
        if protocol == "extended":
            client.send(wire.execute(), wire.sync())
        assert client.answer().value == str(size)


def test_many_stopped_readers_take_little_memory(start_proxy):
    proxy = start_proxy(pgreserve={"total_connections": 22},
                        automation={"size": 20, "max_overflow": 0})
    clients = [proxy.wire() for _ in range(20)]
    for client in clients:
        client.send(query("SELECT repeat('x', 1000) FROM generate_series(1, 100000)"))
    wait_until(lambda: len(proxy.postgres.backends("wait_event = 'ClientWrite'")) == 20,
               "all to be stuck", timeout=30)
    proxy.assert_little_memory()
    assert proxy.psql("-Atc", "SELECT 1", pool="adhoc").stdout == "1\n"
    for client in clients:
        client.close()
    proxy.wait_pool(in_use=0, clients=0)
