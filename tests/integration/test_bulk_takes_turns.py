"""Who moves a great deal of data takes turns with everybody else.

A user would lose: all work for as long as one dump, load or forgotten result takes, wherever the daemon is slower than the server and
the client at the ends of it.
"""

import threading

import pytest

from faulty import Faults
from waiting import wait_until
from wire import query

ROWS, ROW_BYTES = 1000, 100_000


@pytest.fixture
def slow(start_proxy, tmp_path):
    """A daemon for which every 64 kB take 3 ms, which makes 5 s for all; the server and its clients are faster."""
    faults = Faults(tmp_path)
    proxy = start_proxy(environment=faults.environment, automation={"size": 2, "max_overflow": 0})
    faults.slow_reads(0.003)
    return proxy


def ask_others(proxy):
    for pool in ("automation", "adhoc"):
        with proxy.wire(pool) as other:
            for _ in range(5):
                assert other.query("SELECT 'in between'").value == "in between"


class Reader(threading.Thread):
    """Reads as fast as it can; `bytes` says how far it is."""

    def __init__(self, client):
        super().__init__(daemon=True)
        self.client, self.bytes, self.end = client, 0, b""
        self.start()

    def run(self):
        while not self.end.endswith(b"Z\0\0\0\5I"):
            part = self.client.socket.recv(1 << 20)
            assert part
            self.bytes += len(part)
            self.end = (self.end + part)[-6:]


def test_a_large_result(slow):
    with slow.wire() as client:
        client.socket.settimeout(60)
        client.send(query(f"SELECT repeat('x', {ROW_BYTES}) FROM generate_series(1, {ROWS})"))
        reader = Reader(client)
        wait_until(lambda: reader.bytes, "the first of it")
        ask_others(slow)
        seen = reader.bytes
        reader.join()
        assert seen < ROWS * ROW_BYTES / 2 and reader.bytes > ROWS * ROW_BYTES


def test_a_large_statement(slow):
    begun = threading.Event()
    sent = []

    def send(client):
        for _ in range(ROWS):
            client.send(b"x" * ROW_BYTES)
            sent.append(ROW_BYTES)
            begun.set()

    with slow.wire() as client:
        client.socket.settimeout(60)
        head, tail = b"SELECT length('", b"')\0"
        client.send(b"Q" + (4 + len(head) + ROWS * ROW_BYTES + len(tail)).to_bytes(4, "big") + head)
        sender = threading.Thread(target=send, args=(client,), daemon=True)
        sender.start()
        assert begun.wait(30)
        ask_others(slow)
        assert len(sent) < ROWS / 2
        sender.join()
        client.send(tail)
        assert client.answer().value == str(ROWS * ROW_BYTES)


def test_what_is_left_of_a_result_that_nobody_reads(slow):
    """Its client has gone; the query is cancelled, and what is on its way is read without it."""
    for _ in range(5):
        client = slow.wire()
        client.send(query(f"SELECT repeat('x', {ROW_BYTES}) FROM generate_series(1, {ROWS})"))
        client.until("D")
        client.close()
        ask_others(slow)
    slow.wait_pool(in_use=0, clients=0)
