"""What one client sends, however it is shaped, takes little of the daemon's memory (issue: 64 MB at the peak).

test_large.py has the big things that people do; here are the shapes that nobody needs and anybody can send.
A user would lose: the whole daemon, and with it everybody's sessions, to one client.
"""

import resource
import struct
import threading

import pytest

import wire
from proxy import MEMORY_LIMIT_KB, is_sanitized
from server import ROLE
from test_large import scaled
from waiting import wait_until
from wire import Wire, bind, close, copy_data, copy_done, execute, parse, query, sync

KEPT_TEXT = 30_000  # a text of this length is still kept for its client (proxy/prepare.c, STATEMENT_MAX)


@pytest.fixture
def small(start_proxy):
    """A daemon that still serves when the test is over, and has taken little memory."""
    proxy = start_proxy(automation={"size": 3, "max_overflow": 0})
    yield proxy
    for pool in ("automation", "adhoc"):
        with proxy.wire(pool) as client:
            assert client.query("SELECT 'still here'").value == "still here"
    proxy.assert_little_memory()


class Sending(threading.Thread):
    """Sends in a thread of its own, for the other side may stop reading until its answers are taken."""

    def __init__(self, client, chunks):
        super().__init__(daemon=True)
        self.client, self.chunks = client, chunks
        self.start()

    def run(self):
        try:
            for chunk in self.chunks:
                self.client.socket.sendall(chunk)
        except OSError:
            pass  # the reader sees the end, and says so


def test_one_gigabyte_of_copy_in(small):
    """The server reads and judges the rows, and keeps none."""
    head = copy_data(b"PGCOPY\n\xff\r\n\0" + struct.pack("!II", 0, 0))
    row = copy_data(struct.pack("!HiIi", 2, 4, 1, 65_000) + b"x" * 65_000)
    with small.wire() as client:
        client.socket.settimeout(120)
        client.query("CREATE TEMP TABLE t (n int, word bytea)")
        client.send(query("COPY t FROM STDIN WITH (FORMAT binary) WHERE n = 0"))
        client.until("G")
        client.send(head)
        for _ in range(scaled(1_000_000_000) // (20 * len(row))):
            client.send(row * 20)
        client.send(copy_data(struct.pack("!h", -1)), copy_done())
        assert client.answer().tags == ["COPY 0"]


def test_bind_of_every_parameter_that_there_can_be(small):
    count, end = 65_535, "x" * scaled(1000)
    values = [f"{n:05}{end}" for n in range(count)]
    with small.wire() as client:
        client.socket.settimeout(60)
        places = ",".join(f"${n}" for n in range(1, count + 1))
        answer = client.ask(parse("many", f"SELECT cardinality(a), a[1], a[{count}] FROM (SELECT ARRAY[{places}] OFFSET 0) s(a)"),
                            bind("", "many", values), execute())
        assert answer.rows == [[str(count), values[0], values[-1]]]


@pytest.mark.parametrize("name", ["", "named"])
def test_statements_that_are_replaced_before_they_are_answered(small, name):
    """Each is kept until the server has taken it, and a server keeps its short answers back until it has many."""
    count, end = 2000, "x" * KEPT_TEXT
    clients = [small.wire() for _ in range(3)]
    senders = []
    for client in clients:
        chunks = [close("S", name) + parse(name, f"SELECT {n}, '{end}'") for n in range(count)]
        senders.append(Sending(client, chunks + [bind("", name), execute(), sync()]))
    for client in clients:
        answer = client.answer()
        assert answer.kinds == "31" * count + "2DCZ" and answer.rows == [[str(count - 1), end]]
        client.close()
    for sender in senders:
        sender.join()


@pytest.mark.parametrize("name", ["", "named"])
def test_bind_that_has_a_long_statement_sent_again(small, name):
    """25 bytes from the client, 30,000 to the server: as often as it likes."""
    count = 4000
    with small.wire() as client:
        client.socket.settimeout(60)
        client.ask(parse(name, f"SELECT length('{'x' * KEPT_TEXT}')"))
        with small.wire() as other:  # whose unnamed statement takes the place of this one's
            other.ask(parse("", "SELECT 'mine'"), bind(), execute())
        sender = Sending(client, [(bind("", name) + execute() + sync()) * count])
        for _ in range(count):
            assert client.answer().value == str(KEPT_TEXT)
        sender.join()


def test_names_of_statements_without_end(small):
    """Beyond what is kept of a client's names it is tied to its backend, where they are the server's."""
    count = 12_000
    with small.wire() as client:
        client.socket.settimeout(60)
        sender = Sending(client, [b"".join(parse(f"s{n}", f"SELECT {n}") for n in range(count)) + sync()])
        assert client.answer().kinds == "1" * count + "Z"
        sender.join()
        for n in (0, 1, 9_999, 10_000, count - 1):
            assert client.ask(bind("", f"s{n}"), execute()).value == str(n)
        small.wait_pool(pinned=1)
    small.wait_pool(pinned=0, in_use=0)


def test_texts_of_statements_without_end(small):
    count = 600
    with small.wire() as client:
        client.socket.settimeout(60)
        texts = [f"SELECT {n}, '{'x' * KEPT_TEXT}'" for n in range(count)]
        sender = Sending(client, [parse(f"s{n}", text) for n, text in enumerate(texts)] + [sync()])
        assert client.answer().kinds == "1" * count + "Z"
        sender.join()
        for n in (0, count // 2, count - 1):
            assert client.ask(bind("", f"s{n}"), execute()).rows[0][0] == str(n)


def test_statements_of_all_clients_together(start_proxy):
    """Each keeps within its own bound; what is beyond that of all ties a client to its backend, which keeps it."""
    if is_sanitized():
        pytest.skip("300 MB of texts are too slow here, and teach nothing new")
    proxy = start_proxy(automation={"size": 3, "max_overflow": 0})
    count, end = 260, "x" * KEPT_TEXT
    crowd = [proxy.wire() for _ in range(40)]
    for number, client in enumerate(crowd):
        client.socket.settimeout(60)
        sender = Sending(client, [parse(f"s{n}", f"SELECT {number}, {n} /* {end} */") + sync() for n in range(count)])
        assert all(client.answer().kinds == "1Z" for _ in range(count))
        sender.join()
        if proxy.pool()["pinned"]:
            break
    assert 30 < number < 39, "the bound of all is met, and not before"
    for n in (0, count - 1):
        assert client.ask(bind("", f"s{n}"), execute()).rows == [[str(number), str(n)]]
        assert crowd[0].ask(bind("", f"s{n}"), execute()).rows == [["0", str(n)]]
    assert "take more than 256 MB" in proxy.log()
    assert proxy.peak_memory_kb() < (256 << 10) + MEMORY_LIMIT_KB
    for each in crowd:
        each.close()


def set_many(client, count, value):
    """In one transaction, so that the server is asked once what has come of it."""
    client.query("BEGIN")
    for n in range(count):
        client.query(f"SET my.s{n} = '{value}{n}'")
    client.query("COMMIT")


def test_settings_without_end(small):
    """A session that has more of them than is carried about keeps its backend, and they are the server's to keep."""
    count, value = 60, "v" * 25_000
    with small.wire() as client:
        set_many(client, count, value)
        small.wait_pool(pinned=1)
        for n in (0, count // 2, count - 1):
            assert client.query(f"SHOW my.s{n}").value == f"{value}{n}"
        with small.wire() as other:
            assert other.query("SELECT current_setting('my.s0', true)").rows[0][0] in (None, "")
        client.query(";".join(f"RESET my.s{n}" for n in range(count)))
        small.wait_pool(pinned=0, in_use=0)
        set_many(client, count, value)
    small.wait_pool(pinned=0, in_use=0)
    with small.wire() as heir:  # on the backend that the other has left
        for n in (0, count // 2, count - 1):
            assert heir.query(f"SELECT current_setting('my.s{n}', true)").rows[0][0] in (None, "")


def test_settings_of_many_clients(small):
    """What each of them has set, within that, is kept for it while it has no backend."""
    clients = [small.wire() for _ in range(100)]
    for number, client in enumerate(clients):
        set_many(client, 50, f"{number}{'v' * 1000}-")
    small.wait_pool(pinned=0, in_use=0)
    for number, client in enumerate(clients):
        assert client.query("SHOW my.s7").value == f"{number}{'v' * 1000}-7"
        client.close()


def test_messages_of_many_clients_that_never_end(start_proxy):
    """Each is a byte short of whole, and as long as one may be that is waited for."""
    proxy = start_proxy(automation={"size": 3, "max_overflow": 0})
    crowd = [proxy.wire() for _ in range(200)]
    half = query("SELECT '" + "x" * KEPT_TEXT + "'")[:-1]
    for client in crowd:
        client.send(half)
    with proxy.wire() as client:
        assert client.query("SELECT 'others go on'").value == "others go on"
    for number, client in enumerate(crowd):
        if number % 10 == 0:
            client.send(b"\0")
            assert len(client.answer().value) == KEPT_TEXT
    proxy.assert_little_memory()
    for client in crowd:
        client.close()


@pytest.fixture
def many_descriptors():
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    if before[1] < 5000:
        pytest.skip("too few descriptors are allowed here")
    resource.setrlimit(resource.RLIMIT_NOFILE, (before[1], before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


@pytest.mark.skipif(is_sanitized(), reason="thousands of clients are too slow here, and teach nothing new")
def test_messages_that_all_clients_have_begun_together(start_proxy, many_descriptors):
    """Long statements of thousands that wait, and then halves of others: each gets its answer, and memory has a bound."""
    proxy = start_proxy(auth={"method": "trust"}, automation={"size": 3, "max_overflow": 0, "timeout": 300})
    holders = proxy.hold(count=3)
    waiters = [proxy.wire() for _ in range(3000)]
    for number, client in enumerate(waiters):
        client.send(query(f"SELECT length('{'x' * 60_000}') + {number}"))
    proxy.wait_pool(waiting=len(waiters), timeout=30)
    late = [proxy.wire() for _ in range(800)]
    for number, client in enumerate(late):
        whole = query(f"SELECT length('{'x' * KEPT_TEXT}') + {number}")
        if number % 2:
            whole = parse(f"s{number}", whole[5:-1].decode()) + bind("", f"s{number}") + execute() + sync()
        client.rest = whole[-20:]
        client.send(whole[:-20])
    assert proxy.show("POOLS")
    for holder in holders:
        holder.close()
    for number, client in enumerate(waiters):
        assert client.answer().value == str(60_000 + number)
        client.close()
    for number, client in enumerate(late):
        client.send(client.rest)
    for number, client in enumerate(late):
        assert client.answer().value == str(KEPT_TEXT + number)
    assert proxy.pool()["pinned"] == 0, "what others sent changes nothing but the time"
    for client in late:
        client.close()
    proxy.wait_pool(clients=0)
    assert proxy.peak_memory_kb() < (128 << 10) + MEMORY_LIMIT_KB
    assert "messages that wait are read in small pieces" in proxy.log()


def test_start_up_packets_that_never_end(start_proxy):
    """Each is a byte short of whole, and as long as it may be."""
    proxy = start_proxy()
    packet = wire.startup(user=ROLE, database="app", application_name="x" * 9900)[:-1]
    crowd = [Wire(proxy.port()) for _ in range(900)]
    for client in crowd:
        client.send(packet)
    wait_until(lambda: any(row["list"] == "login_clients" and int(row["items"]) >= len(crowd)
                           for row in proxy.show("LISTS")), "the crowd to be there")
    with proxy.wire() as client:
        assert client.query("SELECT 'in'").value == "in"
    proxy.assert_little_memory()
    for client in crowd:
        client.close()


def test_tables_of_the_console_asked_for_without_reading_them(start_proxy):
    """3,000 questions of 20 bytes come in one read; each answer has a row for every client."""
    proxy = start_proxy()
    crowd = [proxy.wire() for _ in range(100)]
    count = 3000
    with proxy.wire("admin", database="pgreserve") as ops:
        ops.socket.settimeout(60)
        sender = Sending(ops, [query("SHOW CLIENTS") * count])
        with proxy.wire() as client:
            assert client.query("SELECT 'others go on'").value == "others go on"
        rows, stream = 0, ops.socket.makefile("rb", buffering=1 << 20)
        while count > 0:
            head = stream.read(5)
            stream.read(int.from_bytes(head[1:], "big") - 4)
            rows += head[:1] == b"D"
            count -= head[:1] == b"Z"
        sender.join()
        assert rows >= 3000 * len(crowd)
    proxy.assert_little_memory()
    for client in crowd:
        client.close()


def rows(proxy):
    return {table: len(proxy.show(table)) for table in ("POOLS", "DATABASES", "USERS", "STATS")}


@pytest.mark.parametrize("method", ["trust", "scram-sha-256"])
def test_names_that_nobody_has_without_end(start_proxy, method):
    """Of users, databases and applications, let in or refused: nothing is kept of them once they are gone."""
    proxy = start_proxy(auth={"method": method, "max_failures": 0}, automation={"size": 3, "max_overflow": 0})
    proxy.wire().close()
    before, memory = rows(proxy), proxy.peak_memory_kb()
    for n in range(1500):
        names = {"user": f"user{n}" + "y" * 500, "application_name": f"application{n}" + "y" * 5000, "database": "app"}
        if n % 30 == 0:
            names["database"] = f"database{n}" + "y" * 40
        with Wire(proxy.port()) as client:
            client.send(wire.startup(**names))
            if method == "trust" and n % 30:
                client.until("Z")
                continue
            if method != "trust":
                client.until("R")
                client.send(wire.message("p", b"SCRAM-SHA-256\0\0\0\0\x20n,,n=,r=abcdefghijklmnopqrstuvwx"))
                client.until("R")
                client.send(wire.message("p", b"c=biws,r=wrong,p=AAAA"))
            client.final_error()
    proxy.wait_pool(clients=0)
    wait_until(lambda: rows(proxy) == before, "the names to be forgotten", timeout=30)
    if not is_sanitized():
        assert proxy.peak_memory_kb() - memory < 4000
