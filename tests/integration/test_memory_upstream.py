"""What a server says, however much of it, takes little of the daemon's memory, and none of the others' time.

The server's side of test_memory_bounds.py: somebody on the road to one database says more than the server did.
A user would lose: every database behind pgreserve to one that floods it.
"""

import struct
import time

import pytest

import wire
from hostile import Meddler, Swallower
from proxy import is_sanitized
from server import PASSWORD, PASSWORD_IN_URL, ROLE
from test_large import scaled
from test_published_vulnerabilities import assert_serves
from waiting import wait_until
from wire import Wire, bind, execute, message, parse, query, text

FLOOD_BYTES = 150_000_000
GIGABYTE = scaled(1_000_000_000)  # PostgreSQL takes messages of 73 million more
PARAMETERS = 50_000
COLUMNS = 200_000  # the message's own count of them has 16 bits


class Flood:
    """Passes everything, but when `place(message)` is true for the first time on a road: then `what(message)` in its place."""

    def __init__(self, place, what):
        self.place, self.what, self.is_over = place, what, False

    def __call__(self, received):
        if not self.is_over and self.place(received):
            self.is_over = True
            return self.what(received)
        return message(received.kind, received.body)


@pytest.fixture
def road(postgres):
    """road(place, what): where a Flood is on the way to the server, as a url."""
    roads = []

    def build(place, what):
        roads.append(Meddler(postgres.port, Flood(place, what)))
        return f"postgresql://{ROLE}:{PASSWORD_IN_URL}@127.0.0.1:{roads[-1].port}/app?sslmode=disable"

    yield build
    for each in roads:
        each.close()


@pytest.fixture
def behind(start_proxy, road):
    """A daemon to whose database `flooded` the road leads, beside a good one."""
    def start(place, what):
        return start_proxy(automation={"timeout": 20, "connect_timeout": 10}, **{"database:*": None},
                           databases={"app": {"url": "${UPSTREAM}"}, "flooded": {"url": road(place, what)}})

    return start


def assert_little_memory(proxy):
    assert_serves(proxy)
    proxy.assert_little_memory()


def is_kind(kind):
    return lambda received: received.kind == kind


def notices(received):
    one = message("N", b"SNOTICE\0VNOTICE\0C00000\0M" + b"x" * 1_000_000 + b"\0\0")
    return one * (FLOOD_BYTES // len(one)) + message(received.kind, received.body)


def parameters(received, count=PARAMETERS):
    return b"".join(message("S", text(f"parameter{n}") + text("v" * 20)) for n in range(count)) + message(received.kind, received.body)


def rows(received):
    """In place of the answer's shape: the shape, and rows that do not end."""
    one = message("D", struct.pack("!Hi", 1, 1_000_000) + b"x" * 1_000_000)
    return message(received.kind, received.body) + one * (FLOOD_BYTES // len(one))


@pytest.mark.parametrize("what", [notices, parameters])
def test_login_that_is_flooded(behind, what):
    """libpq keeps every parameter, so what comes during its part is counted."""
    proxy = behind(is_kind("Z"), what)
    with Wire(proxy.port()) as client:
        with pytest.raises(wire.ErrorResponse) as refused:
            client.login(ROLE, PASSWORD, "flooded")
        assert refused.value.sqlstate == "08001" and "says too much" in refused.value.message
    assert_little_memory(proxy)
    with proxy.wire(database="flooded") as client:  # the next login, which nobody floods
        assert client.query("SELECT 'dry'").value == "dry"


def gigabyte_of(kind, body=b""):
    """In the place of a message: another that does not end for long."""
    def what(received):
        yield kind + struct.pack("!I", 1_000_000_000) + body
        time.sleep(0.1)  # libpq has made room by then, and what comes now is met by one call
        piece = b"x" * 250_000_000
        for _ in range(4):
            yield piece

    return what


@pytest.mark.parametrize("kind, place", [(b"N", "K"), (b"E", "K"), (b"A", "Z"), (b"S", "Z"), (b"N", "R")])
def test_login_with_one_huge_message(behind, kind, place):
    """libpq makes room for the whole of it, and reads for as long as there is something to read."""
    proxy = behind(is_kind(place), gigabyte_of(kind))
    with Wire(proxy.port()) as client:
        with pytest.raises(wire.ErrorResponse) as refused:
            client.login(ROLE, PASSWORD, "flooded")
        assert refused.value.sqlstate == "08001"
    assert_little_memory(proxy)
    with proxy.wire(database="flooded") as client:
        assert client.query("SELECT 'dry'").value == "dry"


@pytest.mark.skipif(is_sanitized(), reason="its malloc() is not to be refused anything")
def test_question_with_one_huge_answer(start_proxy, road):
    proxy = start_proxy(**{"database:*": {"url": road(is_kind("T"), gigabyte_of(b"T"))}})
    wait_until(lambda: "login to upstream failed" in proxy.log(), "the flood to be met")
    assert_little_memory(proxy)


def test_question_at_the_end_of_a_login_that_is_flooded(start_proxy, road):
    """The first login asks what kind of server it is, by libpq, which keeps whole answers."""
    proxy = start_proxy(**{"database:*": {"url": road(is_kind("T"), rows)}})
    wait_until(lambda: "says too much during the login" in proxy.log(), "the flood to be met")
    assert_little_memory(proxy)


def says(word):
    return lambda received: received.kind == "D" and word in received.body


def test_row_description_of_columns_without_number(behind):
    """It is the client's to judge."""
    columns = b"".join(text(f"c{n}") + struct.pack("!IhIhih", 0, 0, 25, -1, -1, 0) for n in range(COLUMNS))
    shape = message("T", struct.pack("!H", COLUMNS % 65536) + columns)
    proxy = behind(says(b"flood me"), lambda received: shape + message(received.kind, received.body))
    with proxy.wire(database="flooded") as client:
        client.send(query("SELECT 'flood me'"))
        messages = client.until("Z")
        assert [each.kind for each in messages] == ["T", "T", "D", "C", "Z"] and messages[1].body == shape[5:]
        assert client.query("SELECT 'dry'").value == "dry"
    assert_little_memory(proxy)


def test_parameters_in_an_answer(behind):
    """Each is passed on; what a client was told last is remembered of as many as a server has."""
    proxy = behind(says(b"flood me"), parameters)
    with proxy.wire(database="flooded") as client:
        answer = client.query("SELECT 'flood me'")
        assert answer.kinds.count("S") == PARAMETERS and answer.value == "flood me"
        assert client.query("SELECT 'dry'").value == "dry"
        assert_serves(proxy)
    assert_little_memory(proxy)


def test_settings_that_a_session_never_made(behind):
    """The question what it holds is answered with a setting, again and again."""
    proxy = behind(says(b"my.own"), lambda received: message(received.kind, received.body) * (FLOOD_BYTES // len(received.body)))
    with proxy.wire(database="flooded") as client:
        client.query("SET my.own = 'mine'")
        assert client.query("SHOW my.own").value == "mine"
    assert_little_memory(proxy)


def test_one_value_of_a_gigabyte_out(behind):
    piece = b"x" * 1_000_000

    def value(received):
        yield b"D" + struct.pack("!IHI", 4 + 2 + 4 + GIGABYTE, 1, GIGABYTE)
        for _ in range(GIGABYTE // len(piece)):
            yield piece

    proxy = behind(says(b"flood me"), value)
    with proxy.wire(database="flooded") as client:
        client.send(query("SELECT 'flood me'"))
        client.until("T")
        head = client.read_exactly(5 + 2 + 4)
        assert head == b"D" + struct.pack("!IHI", 4 + 2 + 4 + GIGABYTE, 1, GIGABYTE)
        for _ in range(GIGABYTE // len(piece)):
            assert client.read_exactly(len(piece)) == piece
        assert client.answer().tags == ["SELECT 1"]
        assert client.query("SELECT 'dry'").value == "dry"
    assert_little_memory(proxy)


def test_one_value_of_a_gigabyte_in(start_proxy, postgres):
    """The server's part is played: it would take three gigabytes of memory for it itself."""
    piece = b"x" * 1_000_000
    with Swallower(postgres.port, bind("", "", ["in its place"])) as road:
        url = f"postgresql://{ROLE}:{PASSWORD_IN_URL}@127.0.0.1:{road.port}/app?sslmode=disable"
        proxy = start_proxy(**{"database:*": {"url": url}})
        with proxy.wire() as client:
            client.socket.settimeout(60)
            client.send(parse("", "SELECT $1::text"))
            client.send(b"B" + struct.pack("!I2xHHI", 4 + 2 + 2 + 2 + 4 + GIGABYTE + 2, 0, 1, GIGABYTE))
            for _ in range(GIGABYTE // len(piece)):
                client.send(piece)
            assert client.ask(struct.pack("!H", 0), execute()).value == "in its place"
            assert road.swallowed == GIGABYTE + 12
        assert_little_memory(proxy)
        proxy.stop()
