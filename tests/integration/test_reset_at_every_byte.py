"""The network ends a client's connection by a reset, at every single byte of a conversation, in either direction.

A user would lose: a row written twice or not at all after a COMMIT was confirmed, another client's answer, a backend that
stays busy for ever, or, byte by byte, every descriptor of the daemon.
"""

import itertools
import select
import socket
import struct
import threading

import wire
from load import Sampler
from server import PASSWORD, ROLE, free_port
from waiting import wait_until
from wire import Wire

AT_ONCE = 8  # conversations
CAP = 8  # of the small default (proxy.py)
RESET = struct.pack("ii", 1, 0)


class Scissors:
    """Relays to `port`; of each connection so many bytes pass in one direction, then both its ends are reset.

    `positions` gives (direction, bytes) for one connection after the other; when it has no more, nothing is cut.
    """

    def __init__(self, port, positions):
        self.target_port, self.positions = port, positions
        self.port = free_port()
        self.cuts = 0           # connections ended by us
        self.passed = {"up": 0, "down": 0}  # the most bytes that one went without being cut
        self.is_done = threading.Event()
        self.lock = threading.Lock()
        self.listener = socket.create_server(("127.0.0.1", self.port), backlog=200)
        threading.Thread(target=self._accept, daemon=True).start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()

    def _accept(self):
        while True:
            try:
                near, _ = self.listener.accept()
            except OSError:
                return
            with self.lock:
                cut = next(self.positions, None)
            if not cut:
                self.is_done.set()
            threading.Thread(target=self._relay, args=(near, cut), daemon=True).start()

    def _relay(self, near, cut):
        with near, socket.create_connection(("127.0.0.1", self.target_port)) as far:
            left = {"up": None, "down": None}
            if cut:
                left[cut[0]] = cut[1]
            passed = {"up": 0, "down": 0}
            try:
                self._pass_bytes(near, far, left, passed)
            except OSError:
                pass
            if 0 in left.values():
                with self.lock:
                    self.cuts += 1
                for end in (near, far):
                    end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
            else:
                with self.lock:
                    self.passed = {way: max(self.passed[way], passed[way]) for way in passed}

    @staticmethod
    def _pass_bytes(near, far, left, passed):
        roads = {near: (far, "up"), far: (near, "down")}
        while roads and 0 not in left.values():
            for source in select.select(list(roads), [], [])[0]:
                target, way = roads[source]
                part = source.recv(65536 if left[way] is None else left[way])
                if not part:
                    del roads[source]
                    target.shutdown(socket.SHUT_WR)
                    continue
                target.sendall(part)
                passed[way] += len(part)
                if left[way] is not None:
                    left[way] -= len(part)
                if left[way] == 0:
                    return


class Marks:
    """What the conversations wrote, and what they were told of it."""

    def __init__(self, postgres):
        self.postgres = postgres
        self.numbers = itertools.count(1)
        self.confirmed = []
        self.wrong = []
        self.whole = self.broken = 0
        postgres.sql("DROP TABLE IF EXISTS marks")
        with postgres.superuser_connection("app") as connection, connection.cursor() as cursor:
            cursor.execute(f"SET ROLE {ROLE}")
            cursor.execute("DROP TABLE IF EXISTS marks")
            cursor.execute("CREATE TABLE marks (mark text NOT NULL)")
        connection.close()

    def expect(self, answer, value, mark):
        if answer.errors:
            raise wire.Closed(str(answer.errors))
        if value is not None and answer.value != value:
            self.wrong.append((mark, value, answer.value))

    def converse(self, port):
        """A login, a query in each protocol, a transaction, a COPY.  An end may come at any moment."""
        mark = str(next(self.numbers))
        try:
            with Wire(port) as client:
                client.login(ROLE, PASSWORD, "app")
                self.expect(client.query(f"SELECT 'simple {mark}'"), f"simple {mark}", mark)
                self.expect(client.ask(wire.extended("SELECT $1::text", (f"extended {mark}",))), f"extended {mark}", mark)
                self.expect(client.query("BEGIN"), None, mark)
                self.expect(client.query(f"INSERT INTO marks VALUES ('row {mark}')"), None, mark)
                answer = client.query("COMMIT")
                self.expect(answer, None, mark)
                if answer.tags == ["COMMIT"]:
                    self.confirmed.append(f"row {mark}")
                client.send(wire.query("COPY marks FROM STDIN"))
                if client.until("GE")[-1].kind == "E":
                    raise wire.Closed("no COPY")
                client.send(wire.copy_data(f"copy {mark}\n".encode()), wire.copy_done())
                self.expect(client.answer(), None, mark)
                self.confirmed.append(f"copy {mark}")
                client.send(wire.terminate())
            self.whole += 1
        except (OSError, wire.Closed, wire.ErrorResponse):
            self.broken += 1

    def check(self):
        assert not self.wrong, f"answers to somebody else's question: {self.wrong[:5]}"
        with self.postgres.superuser_connection("app") as connection, connection.cursor() as cursor:
            cursor.execute("SELECT mark, count(*) FROM marks GROUP BY mark")
            counts = dict(cursor.fetchall())
        connection.close()
        twice = [mark for mark, count in counts.items() if count > 1]
        lost = [mark for mark in self.confirmed if mark not in counts]
        assert not twice and not lost, f"run twice: {twice[:5]}, confirmed and lost: {lost[:5]}"


def bytes_of_a_conversation(port, marks):
    """How many go each way when nothing is cut."""
    with Scissors(port, iter(())) as scissors:
        marks.converse(scissors.port)
        wait_until(lambda: scissors.passed["down"], "the conversation to end")
        assert marks.whole == 1
        return scissors.passed


def play(marks, scissors, port):
    """Conversations side by side until every position has been cut at."""
    def work():
        while not scissors.is_done.is_set():
            marks.converse(port)

    threads = [threading.Thread(target=work) for _ in range(AT_ONCE)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def assert_at_rest(proxy, descriptors):
    proxy.wait_pool(in_use=0, waiting=0, clients=0)
    assert [row for row in proxy.show("CLIENTS") if row["database"] == "app"] == []
    assert all(row["state"] == "idle" for row in proxy.show("SERVERS")), proxy.show("SERVERS")
    wait_until(lambda: proxy.descriptors() <= descriptors, f"{descriptors} descriptors, as before")
    with proxy.wire() as client:
        assert client.query("SELECT 'served'").value == "served"


def test_a_reset_at_every_byte_harms_nobody_else(proxy, postgres):
    marks = Marks(postgres)
    sizes = bytes_of_a_conversation(proxy.port(), marks)
    positions = iter([(way, at) for way in ("up", "down") for at in range(1, sizes[way] + 1)])
    with Scissors(proxy.port(), positions) as scissors, Sampler(postgres) as sampler:
        most = proxy.descriptors() + CAP  # its backends may all be open afterwards
        play(marks, scissors, scissors.port)
        assert_at_rest(proxy, most)
        assert sampler.stop()["all"] <= CAP
        assert scissors.cuts >= sizes["up"] + sizes["down"] - 2 * AT_ONCE, "nearly all were cut before their own end"
    marks.check()
    assert marks.broken > 100 and marks.whole > 0
