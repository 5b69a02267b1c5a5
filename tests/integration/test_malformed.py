"""Messages that no honest client sends, after login: they end their own connection, with 08P01.

Nobody else notices, nothing is allocated for a length that lies, and the backend that the offender had
goes back clean.
"""

import struct

import pytest

import wire
from server import PASSWORD, ROLE
from wire import ErrorResponse, Wire, bind, execute, message, parse, query, startup, sync


@pytest.fixture
def single(start_proxy):
    return start_proxy(automation={"size": 1, "max_overflow": 0})


def assert_others_are_fine(proxy):
    with proxy.wire() as other:
        assert other.query("SELECT 'fine'").value == "fine"
    proxy.wait_pool(in_use=0, waiting=0, clients=0)


def raw(kind, length, body=b""):
    return kind.encode("latin-1") + struct.pack("!I", length & 0xFFFFFFFF) + body


@pytest.mark.parametrize("before", [None, "BEGIN"], ids=["idle", "in a transaction"])
@pytest.mark.parametrize("bytes_sent", [
    raw("Q", 0), raw("Q", 3), raw("Q", -1), raw("S", 3), raw("P", 0), raw("X", 0),
    raw("\0", 4), raw("z", 4), raw("\xff", 8, b"xxxx"), raw("!", 4),
], ids=lambda sent: sent.hex())
def test_impossible_length_or_type(single, before, bytes_sent):
    with single.wire() as client:
        if before:
            client.query(before)
        client.send(bytes_sent)
        error = client.final_error()
        assert (error.severity, error.sqlstate) == ("FATAL", "08P01")
    assert_others_are_fine(single)


@pytest.mark.parametrize("kind", ["S", "H", "c", "X", "D", "C", "E", "p"])
def test_length_beyond_any_sense_for_its_type(single, kind):
    with single.wire() as client:
        client.send(raw(kind, 1_500_000_000, b"xxxx"))
        error = client.final_error()
        assert (error.severity, error.sqlstate) == ("FATAL", "08P01")
    assert_others_are_fine(single)


FIRST = startup(user=ROLE, database="app")
NO_END = struct.pack("!II", 16, wire.PROTOCOL_3_0) + b"user\0me\0"
SASL = b"SCRAM-SHA-256\0" + struct.pack("!I", 4)


@pytest.mark.parametrize("step, sent, what, count", [
    ("session", raw("z", 4), "invalid frontend message type 122", 4),
    ("session", raw("\xff", 99), "invalid frontend message type 255", 99),
    ("session", raw("Q", 3), "invalid length of a message of type Q", 3),
    ("session", raw("S", -1), "invalid length of a message of type S", 0xFFFFFFFF),
    ("console", raw("Q", 2), "invalid message length on the admin console", 2),
    ("console", raw("Q", 1 << 30), "invalid message length on the admin console", 1 << 30),
    ("console", raw("z", 9, b"12345"), "unexpected message type 122 on the admin console", 9),
    ("console", message("P", b"no end"), "malformed Parse message", 10),
    ("console", message("B", b"\0\0\0\0"), "malformed Bind message", 8),
    ("console", message("D", b"S"), "malformed Describe message", 5),
    ("console", message("E", b"\0"), "malformed Execute message", 5),
    ("console", message("C", b""), "malformed Close message", 4),
    ("start-up", struct.pack("!II", 20000, wire.PROTOCOL_3_0), "invalid length of startup packet", 20000),
    ("start-up", struct.pack("!II", 8, wire.PROTOCOL_3_0), "invalid length of startup packet", 8),
    ("start-up", NO_END, "invalid startup packet layout: expected terminator as last byte", 16),
    ("start-up", wire.SSL_REQUEST + FIRST, "received unencrypted data after SSL request", len(FIRST)),
    ("start-up", wire.GSSENC_REQUEST + FIRST, "received unencrypted data after GSSAPI encryption request", len(FIRST)),
    ("password", raw("Q", 5), "expected password response, got message type 81", 5),
    ("password", message("p", b"none"), "client selected an invalid SASL authentication mechanism", 8),
    ("password", message("p", SASL + b"n"), "malformed SASLInitialResponse: wrong length", 4 + len(SASL) + 1),
    ("password", message("p", SASL + b"n,,n"), "malformed SCRAM message", 4 + len(SASL) + 4),
], ids=str)
def test_what_was_wrong_and_how_many_bytes_it_had(proxy, step, sent, what, count):
    if step in ("session", "console"):
        client = proxy.wire(*("admin", ROLE, PASSWORD, "pgreserve") if step == "console" else ())
    else:
        client = Wire(proxy.port())
    with client:
        if step == "password":
            client.send(FIRST)
            assert client.receive().kind == "R"
        client.send(sent)
        error = ErrorResponse(wire.error_fields(next(m.body for m in iter(client.receive, None) if m.kind == "E")))
        assert (error.sqlstate, error.message) == ("08P01", f"{what}, {count} bytes")


def test_huge_announced_query_takes_no_memory(single):
    before = single.peak_memory_kb()
    clients = [single.wire() for _ in range(20)]
    for client in clients:
        client.send(raw("Q", 0x3FFFFFFF, b"SELECT 1"))
    assert_peak = single.peak_memory_kb() - before
    assert assert_peak < 32 * 1024
    for client in clients:
        client.close()
    assert_others_are_fine(single)


@pytest.mark.parametrize("sent", [
    message("B", b"no terminator"),
    message("P", b""),
    message("P", b"name-without-end"),
    message("D", b""),
    message("D", b"Xname\0"),
    message("C", b"?x\0"),
    message("E", b"portal-without-end"),
    message("E", b"\0"),
    message("Q", b"no terminator"),
    message("F", b"\0"),
    message("B", b"\0\0\xff\xff\xff\xff"),
    message("P", b"s\0SELECT") + wire.bind("", "s") + wire.describe("S", "s") + wire.close("S", "s"),
    message("P", b"\0SELECT 1\0\xff\xff"),
], ids=lambda sent: sent.hex()[:24])
def test_broken_body(single, sent):
    """PostgreSQL answers 08P01, as an error or as the end; either is fine, a hang is not."""
    with single.wire() as client:
        client.send(sent, sync())
        last = client.until("EZ")[-1]
        if last.kind == "E":
            fields = wire.error_fields(last.body)
            assert fields["C"] in ("08P01", "42P01", "26000", "34000", "22023", "XX000"), fields
    assert_others_are_fine(single)


def test_broken_body_in_a_transaction_leaves_nothing_behind(single):
    with single.wire() as client:
        client.query("BEGIN")
        client.send(message("B", b"no terminator"), sync())
        client.until("EZ")
    assert_others_are_fine(single)


def test_copy_messages_outside_copy_are_ignored_as_postgresql_does(single):
    with single.wire() as client:
        client.send(wire.copy_data(b"x"), wire.copy_done(), wire.copy_fail("x"), query("SELECT 1"))
        assert client.answer().value == "1"
    assert_others_are_fine(single)


def test_password_message_after_login(single):
    with single.wire() as client:
        client.send(message("p", b"secret\0"))
        assert client.final_error().sqlstate == "08P01"
    assert_others_are_fine(single)


def test_query_in_the_middle_of_an_extended_pipeline(single):
    with single.wire() as client:
        client.send(parse("", "SELECT 1"), bind(), query("SELECT 2"))
        assert client.answer().rows == [["2"]]
    assert_others_are_fine(single)


def test_extended_messages_without_sync_then_goodbye(single):
    with single.wire() as client:
        client.send(parse("", "SELECT 1"), bind(), execute(), wire.terminate())
        client.until_closed()
    assert_others_are_fine(single)


def test_endless_ignored_messages_do_not_fill_memory(single):
    with single.wire() as client:
        client.send(wire.extended("SELECT 1/0"))
        before = single.peak_memory_kb()
        junk = parse("", "SELECT " + "1 + " * 20000 + "1")
        for _ in range(200):
            client.send(junk)
        client.send(sync())
        assert client.answer().error.sqlstate == "22012"
        assert single.peak_memory_kb() - before < 32 * 1024
    assert_others_are_fine(single)


def test_random_bytes_after_login(single):
    import random
    dice = random.Random(20)
    for _ in range(30):
        with wire.Wire(single.port()) as client:
            client.login(ROLE, PASSWORD, "app")
            try:
                client.send(dice.randbytes(dice.randrange(1, 400)))
            except OSError:
                pass
    assert_others_are_fine(single)


def test_mutated_conversations(single):
    """Honest conversations with one byte changed: anything may be answered, nothing may break."""
    import random
    dice = random.Random(21)
    honest = (query("SELECT 1") + wire.extended("SELECT $1::int", (1,), statement="s", portal="p")
              + sync() + wire.close("S", "s") + sync() + query("BEGIN; SELECT 2; COMMIT"))
    for _ in range(60):
        mutated = bytearray(honest)
        mutated[dice.randrange(len(mutated))] = dice.randrange(256)
        with wire.Wire(single.port(), timeout=20) as client:
            client.login(ROLE, PASSWORD, "app")
            try:
                client.send(bytes(mutated), wire.terminate())
            except OSError:
                pass
    assert_others_are_fine(single)
