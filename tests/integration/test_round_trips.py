"""No round trip is added to a transaction, however far away the upstream is (contract 1.6).

A relay between pgreserve and the server lets one exchange pass: what pgreserve says until the server has begun to
answer, and that answer.  Whatever would be said after that is held back.  A client that has its whole answer then was
served in one round trip; one that was not waits in vain, and no clock is asked.
"""

import contextlib
import socket
import threading

import pytest

from faults import Link
from waiting import wait_until
from wire import bind, execute, extended, parse, query, sync


class OneExchange(Link):
    """A link that can be made to let one exchange pass on each connection."""

    def __init__(self, target_port):
        self.turn = threading.Condition()
        self.is_limited = False
        self.answered = {}  # connection: has the server begun to answer?
        self.held = 0
        self.said = 0  # how often something came from pgreserve
        super().__init__(target_port)

    def _serve(self, near):
        far = socket.create_connection(("127.0.0.1", self.target_port))
        for end in (near, far):
            end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with self.lock:
            self.pairs.append((near, far))
        threading.Thread(target=self._carry, args=(far, near, near, self._note_answer), daemon=True).start()
        self._carry(near, far, near, self._wait_turn)

    def _carry(self, source, target, connection, before):
        try:
            while part := source.recv(65536):
                before(connection)
                target.sendall(part)
            target.shutdown(socket.SHUT_WR)
        except OSError:
            pass

    def _wait_turn(self, connection):
        with self.turn:
            self.said += 1
            if self.is_limited and self.answered.get(connection):
                self.held += 1
                self.turn.wait_for(lambda: not self.is_limited)
            self.answered.setdefault(connection, False)

    def _note_answer(self, connection):
        with self.turn:
            if connection in self.answered:
                self.answered[connection] = True

    @contextlib.contextmanager
    def one_exchange(self):
        with self.turn:
            self.answered.clear()
            self.is_limited = True
        try:
            yield
        finally:
            with self.turn:
                self.is_limited = False
                self.turn.notify_all()


@pytest.fixture
def far(postgres, start_proxy):
    """far(**pool) starts pgreserve behind the relay with one backend; gives both."""
    with contextlib.ExitStack() as stack:
        def start(**pool):
            link = stack.enter_context(OneExchange(postgres.port))
            proxy = start_proxy(
                automation={"size": 1, "max_overflow": 0, "pre_ping": "off", **pool}, upstream_port=link.port,
                **{"database:*": {"url": "${UPSTREAM}?sslmode=disable"}})
            proxy.wait_pool(available=1)
            return link, proxy

        yield start


def value_in_one(link, proxy, client, *messages):
    """The answer to these, which takes one exchange; before it the backend is at rest."""
    proxy.wait_pool(available=1, in_use=0)
    with link.one_exchange():
        client.send(*messages)
        return client.answer()


def pings(proxy):
    line = next(line for line in proxy.get("/metrics").splitlines()
                if line.startswith('pgreserve_pool_pings_total{pool="automation"'))
    return float(line.split()[-1])


@pytest.mark.parametrize("mode", ["transaction", "statement"])
@pytest.mark.parametrize("messages", [query("SELECT 7"), extended("SELECT 7") + sync()], ids=["simple", "extended"])
def test_a_query(far, mode, messages):
    link, proxy = far(mode=mode)
    client = proxy.wire()
    assert value_in_one(link, proxy, client, messages).value == "7"


def test_the_relay_tells_two_exchanges_from_one(far):
    """Else the rest of this file could not fail."""
    link, proxy = far()
    client = proxy.wire()
    proxy.wait_pool(available=1, in_use=0)
    with link.one_exchange():
        assert client.query("SELECT 1").value == "1"
        client.send(query("SELECT 2"))
        wait_until(lambda: link.held == 1, "the second exchange to be held back")
    assert client.answer().value == "2"


def test_settings_that_differ_from_client_to_client(far):
    link, proxy = far()
    clients = {zone: proxy.wire() for zone in ("Asia/Tokyo", "Europe/Vienna")}
    for zone, client in clients.items():
        client.query(f"SET TimeZone = '{zone}'; SET work_mem = '7MB'")
    for _ in range(2):
        for zone, client in clients.items():
            assert value_in_one(link, proxy, client, query("SHOW TimeZone")).value == zone
            assert value_in_one(link, proxy, client, extended("SHOW TimeZone"), sync()).value == zone


def test_settings_of_the_start_up_packet(far):
    link, proxy = far()
    clients = {zone: proxy.wire(TimeZone=zone, options="-c work_mem=9MB") for zone in ("Asia/Tokyo", "UTC")}
    for _ in range(2):
        for zone, client in clients.items():
            assert value_in_one(link, proxy, client, query("SHOW TimeZone")).value == zone


def test_a_prepared_statement_that_the_backend_lacks(far):
    link, proxy = far(max_prepared_statements=1)
    client = proxy.wire()
    for name in ("one", "two"):
        client.ask(parse(name, f"SELECT '{name}'"))
    for _ in range(2):
        for name in ("one", "two"):
            answer = value_in_one(link, proxy, client, bind("", name) + execute() + sync())
            assert answer.value == name


def test_a_connection_that_is_pinged_while_it_is_free(far):
    link, proxy = far(pre_ping="on", pre_ping_idle="1s")
    client = proxy.wire()
    client.query("SELECT 1")
    before = pings(proxy)
    wait_until(lambda: pings(proxy) > before, "a ping")
    assert value_in_one(link, proxy, client, query("SELECT 7")).value == "7"


@pytest.mark.parametrize("dirt", ["CREATE TEMPORARY TABLE left_behind (n int)", "LISTEN left_behind",
                                  "SELECT pg_advisory_lock(7)", "PREPARE left_behind AS SELECT 1", "BEGIN"])
def test_after_a_client_that_left_something_behind(far, dirt):
    link, proxy = far()
    client = proxy.wire()
    dirty = proxy.wire()
    dirty.query(dirt)
    dirty.close()
    assert value_in_one(link, proxy, client, query("SELECT 7")).value == "7"


def test_a_full_pool_lets_no_exchange_pass_between_two_waiters(far):
    """The backend that the first client gives up has the second one's query when its answer leaves, and so on: no
    more exchanges than clients, in one pipeline of waiters."""
    link, proxy = far()
    holder, waiters = proxy.wire(), [proxy.wire() for _ in range(3)]
    holder.query("BEGIN")
    for client in waiters:
        client.send(query("SELECT 7"))
    proxy.wait_pool(waiting=3)
    before = link.said
    holder.query("COMMIT")
    for client in waiters:
        assert client.answer().value == "7"
    assert link.said - before == 4, "COMMIT and three queries, and nothing of ours between them"
